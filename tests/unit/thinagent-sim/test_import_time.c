/* Tests of the times of Windows event logs: which field counts, and what can be read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include <jansson.h>

#include "thinagent-sim/trace/import_time.h"

#define NS_8_29_53 INT64_C(1603355393000000000) /* 2020-10-22T08:29:53Z */
#define MS         INT64_C(1000000)

/* The time of an event with these fields, where NULL is not there. */
static bool
time_of(const char *utc, const char *created, const char *local, const char *collected,
        struct import_time *out)
{
    const char *const names[] = { "UtcTime", "TimeCreated", "EventTime", "@timestamp" };
    const char *const texts[] = { utc, created, local, collected };
    json_t *event = json_object();
    bool good;

    for (size_t i = 0; i < 4; i++)
        if (texts[i])
            json_object_set_new(event, names[i], json_string(texts[i]));
    memset(out, 0, sizeof(*out));
    good = import_time(event, out);
    json_decref(event);
    return good;
}

static void
the_events_time_counts_and_not_the_collectors(void **state)
{
    static const char late[] = "2020-10-22T08:32:08Z"; /* 135 s */
    struct import_time time;

    (void)state;
    assert_true(time_of("2020-10-22 08:29:53.016", NULL, "2020-10-22 04:29:55", late, &time));
    assert_int_equal(time.clock, CLOCK_UTC_TIME);
    assert_true(time.happened == NS_8_29_53 + 16 * MS);
    assert_true(time.sent == time.happened && !time.apart);
    assert_true(time_of(NULL, "2020-10-22T08:29:53.8012345Z", NULL, late, &time));
    assert_int_equal(time.clock, CLOCK_TIME_CREATED);
    assert_true(time.happened == NS_8_29_53 + 801234500);
    assert_true(time_of(NULL, NULL, "2020-10-22 08:29:53", late, &time));
    assert_int_equal(time.clock, CLOCK_EVENT_TIME);
    assert_true(time.happened == NS_8_29_53);
    assert_true(time_of(NULL, NULL, NULL, "2020-10-22T08:29:53Z", &time)); /* nothing else is there */
    assert_int_equal(time.clock, CLOCK_COLLECTOR);
    assert_true(time.happened == NS_8_29_53);
    assert_false(time_of(NULL, NULL, NULL, NULL, &time));
}

static void
local_times_have_the_zone_that_the_collector_shows(void **state)
{
    static const struct {
        const char *local;
        const char *collected;
        int64_t ns;
    } cases[] = {
        { "2020-10-22 04:29:53", "2020-10-22T08:30:03Z", NS_8_29_53 },       /* New York */
        { "2020-10-22 14:14:53", "2020-10-22T08:42:50Z", NS_8_29_53 },       /* Kathmandu, 13 minutes late */
        { "2020-10-22 22:29:53", "2020-10-22T08:29:53Z", NS_8_29_53 },       /* Kiritimati */
        { "2020-10-21 20:29:53", "2020-10-22T08:28:00Z", NS_8_29_53 },       /* it is 113 s behind */
        { "2020-10-22T04:29:53-04:00", "2020-10-22T08:29:53Z", NS_8_29_53 }, /* says it itself */
        { "2020-10-22 08:29:53", "2020-10-29T08:29:53Z", NS_8_29_53 },       /* a week says nothing */
        { "2020-10-22 08:29:53", NULL, NS_8_29_53 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct import_time time;

        assert_true(time_of(NULL, NULL, cases[i].local, cases[i].collected, &time));
        assert_int_equal(time.clock, CLOCK_EVENT_TIME);
        if (time.happened != cases[i].ns)
            fail_msg("%s: %lld", cases[i].local, (long long)time.happened);
    }
}

static void
times_are_read_as_they_are_written(void **state)
{
    static const struct {
        const char *text;
        bool good;
        int64_t ns;
    } cases[] = {
        { "2020-10-22T08:29:53.801Z", true, NS_8_29_53 + 801 * MS },
        { "2020-10-22 08:29:53.8", true, NS_8_29_53 + 800 * MS },
        { "2020-10-22T08:29:53,123456789012Z", true, NS_8_29_53 + 123456789 },
        { "2020-10-22T08:29:53Z", true, NS_8_29_53 },
        { "2020-10-22T10:29:53+0200", true, NS_8_29_53 },
        { "2020-10-22T04:29:53.801-04:00", true, NS_8_29_53 + 801 * MS },
        { "1970-01-01T00:00:00Z", true, 0 },
        { "2106-02-07T06:28:15Z", true, INT64_C(4294967295000000000) },
        { "2020-02-29T00:00:00Z", true, INT64_C(1582934400000000000) },
        { "2106-02-07T06:28:16Z", false, 0 },
        { "2019-02-29T00:00:00Z", false, 0 },
        { "2020-13-01T00:00:00Z", false, 0 },
        { "2020-10-22T24:00:00Z", false, 0 },
        { "2020-10-22T08:29:53.Z", false, 0 },
        { "2020-10-22T08:29:53.801Zulu", false, 0 },
        { "2020-10-22T10:29:53+02", true, NS_8_29_53 },
        { "2020-10-22T08:29:53+2", false, 0 },
        { "2020-10-22T08:29:53+0260", false, 0 },
        { "2020-10-22T08:29", false, 0 },
        { "20-10-22T08:29:53Z", false, 0 },
        { "+2020-10-22T08:29:53Z", false, 0 },
        { "yesterday", false, 0 },
        { "-", false, 0 },
        { "", false, 0 },
        { "0001-01-01T00:00:00Z", false, 0 },
        { "1601-01-01T00:00:00Z", false, 0 },
        { "9999-12-31T23:59:59.9999999Z", false, 0 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct import_time time;
        bool good = time_of(NULL, cases[i].text, NULL, NULL, &time);

        if (good != cases[i].good || time.happened != cases[i].ns)
            fail_msg("%s: %d, %lld", cases[i].text, good, (long long)time.happened);
    }
}

static void
a_time_that_cannot_be_read_is_as_none(void **state)
{
    static const char *const bad[] = { "0001-01-01 00:00:00.000", "9999-12-31 23:59:59", "soon", "-" };
    struct import_time time;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_true(time_of(bad[i], "2020-10-22T08:29:53Z", NULL, "2020-10-22T08:29:59Z", &time));
        assert_int_equal(time.clock, CLOCK_TIME_CREATED);
        assert_true(time_of(bad[i], bad[i], bad[i], "2020-10-22T08:29:53Z", &time));
        assert_int_equal(time.clock, CLOCK_COLLECTOR);
        assert_true(time.happened == NS_8_29_53);
        assert_false(time_of(bad[i], bad[i], bad[i], bad[i], &time));
    }
}

/* Sysmon's clock stands still while a VM is suspended, on some machines. The event keeps its time, but a
 * replay does not wait for days. */
static void
a_clock_that_is_far_off_does_not_set_the_pace(void **state)
{
    struct import_time time;

    (void)state;
    assert_true(time_of("2020-10-17 08:29:53", "2020-10-22T08:29:53Z", NULL, "2020-10-22T08:29:59Z", &time));
    assert_int_equal(time.clock, CLOCK_UTC_TIME);
    assert_true(time.happened == NS_8_29_53 - INT64_C(5 * 86400) * 1000 * MS);
    assert_true(time.sent == NS_8_29_53 && time.apart);
    assert_true(time_of("2020-10-22 08:29:53", NULL, NULL, "2020-10-22T08:44:53Z", &time));
    assert_false(time.apart);
    assert_true(time_of("2020-10-22 08:29:53", NULL, NULL, "2020-10-22T08:44:54Z", &time));
    assert_true(time.apart);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_events_time_counts_and_not_the_collectors),
        cmocka_unit_test(local_times_have_the_zone_that_the_collector_shows),
        cmocka_unit_test(times_are_read_as_they_are_written),
        cmocka_unit_test(a_time_that_cannot_be_read_is_as_none),
        cmocka_unit_test(a_clock_that_is_far_off_does_not_set_the_pace),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
