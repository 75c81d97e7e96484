/* The tally of a scenario: what went wrong, by kind, and the first few cases in words. */
#include "tests/chaos/tally.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define SAID_MAX 6

static const char *const names[WRONG_KINDS] = { "lost", "doubled", "unaccounted", "out of order" };

const char *
tally_name(enum wrong kind)
{
    return names[kind];
}

void
tally_add(struct tally *tally, enum wrong kind, uint64_t count, const char *format, ...)
{
    va_list args;
    struct timespec now;
    struct tm utc;
    char clock[16];

    if (count == 0)
        return;
    tally->wrong[kind] += count;
    if (tally->said[kind]++ >= SAID_MAX)
        return;
    clock_gettime(CLOCK_REALTIME, &now); /* to be found in gimuxd's log */
    gmtime_r(&now.tv_sec, &utc);
    strftime(clock, sizeof(clock), "%T", &utc);
    fprintf(stderr, "%s  %s.%03ld %s, %llu: ", isatty(STDERR_FILENO) ? "\r\033[K" : "", clock,
            now.tv_nsec / 1000000, names[kind], (unsigned long long)count);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

bool
tally_is_clean(const struct tally *tally)
{
    for (int kind = 0; kind < WRONG_KINDS; kind++)
        if (tally->wrong[kind] > 0)
            return false;
    return true;
}

int64_t
now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}
