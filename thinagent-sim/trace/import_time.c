/* When an event of a Windows event log happened. */
#include "thinagent-sim/trace/import_time.h"

#include <stddef.h>
#include <string.h>
#include <time.h>

#include "thinagent-sim/clock.h"

#define MINUTE  (60 * SECOND)
#define QUARTER (15 * MINUTE) /* zones are whole numbers of them from UTC */
#define EARLY   (2 * MINUTE)  /* the collector's clock may be behind by that */
#define ZONE    (14 * 60 * MINUTE)

static const char *const names[CLOCKS] = { "UtcTime", "TimeCreated", "EventTime", "@timestamp" };

/* Reads the fraction of a second, if there is one: any number of digits, of which nine count. */
static bool
read_fraction(const char **at, int64_t *ns)
{
    int64_t worth = SECOND / 10;

    *ns = 0;
    if (**at != '.' && **at != ',')
        return true;
    for ((*at)++; **at >= '0' && **at <= '9'; (*at)++, worth /= 10)
        *ns += worth * (**at - '0');
    return (*at)[-1] >= '0' && (*at)[-1] <= '9';
}

/* Reads such as 2020-10-22T08:29:53.801Z, or with a space for the T; without a zone as UTC. */
static bool
read_time(const char *text, bool *has_zone, int64_t *out)
{
    struct tm tm = { 0 };
    struct tm day;
    int64_t seconds;
    int64_t ns;
    const char *at = strptime(text, "%Y-%m-%d", &tm);

    if (!at || (*at != 'T' && *at != ' '))
        return false;
    day = (struct tm){ .tm_year = tm.tm_year, .tm_mon = tm.tm_mon, .tm_mday = tm.tm_mday };
    at = strptime(at + 1, "%H:%M:%S", &tm);
    if (!at || !read_fraction(&at, &ns))
        return false;
    *has_zone = *at != '\0';
    if (*has_zone && (!(at = strptime(at, "%z", &tm)) || *at != '\0'))
        return false;
    timegm(&day); /* changes a day that there is not */
    if (day.tm_mday != tm.tm_mday || day.tm_mon != tm.tm_mon)
        return false;
    seconds = -tm.tm_gmtoff;
    seconds += timegm(&tm);
    if (seconds < 0 || seconds > UINT32_MAX) /* a trace holds no other times */
        return false;
    *out = seconds * SECOND + ns;
    return true;
}

static bool
read_clock(const json_t *event, enum import_clock clock, bool *has_zone, int64_t *out)
{
    const char *text = json_string_value(json_object_get(event, names[clock]));

    return text && read_time(text, has_zone, out);
}

/* The distance of a local time from UTC, by the collector's time, which is at that moment or soon after. */
static int64_t
zone_of(int64_t local, int64_t collected)
{
    int64_t ahead = collected - local + EARLY;
    int64_t quarters = ahead / QUARTER - (ahead % QUARTER < 0);

    return quarters * QUARTER > ZONE || quarters * QUARTER < -ZONE ? 0 : quarters * QUARTER;
}

bool
import_time(const json_t *event, struct import_time *out)
{
    int64_t times[CLOCKS];
    bool there[CLOCKS];
    bool zones[CLOCKS];
    int64_t apart;
    unsigned log;

    for (unsigned i = 0; i < CLOCKS; i++)
        there[i] = read_clock(event, (enum import_clock)i, &zones[i], &times[i]);
    if (there[CLOCK_EVENT_TIME] && !zones[CLOCK_EVENT_TIME] && there[CLOCK_COLLECTOR])
        times[CLOCK_EVENT_TIME] += zone_of(times[CLOCK_EVENT_TIME], times[CLOCK_COLLECTOR]);
    for (log = CLOCK_TIME_CREATED; log < CLOCKS && !there[log]; log++) {
    }
    out->clock = there[CLOCK_UTC_TIME] ? CLOCK_UTC_TIME : (enum import_clock)log;
    if (out->clock == CLOCKS)
        return false;
    out->happened = times[out->clock];
    apart = log < CLOCKS ? out->happened - times[log] : 0;
    out->apart = apart > QUARTER || apart < -QUARTER;
    out->sent = out->apart ? times[log] : out->happened;
    return true;
}

const char *
import_clock_name(enum import_clock clock)
{
    return names[clock];
}
