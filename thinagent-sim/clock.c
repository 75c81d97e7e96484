/* The system's clocks in nanoseconds. */
#include "thinagent-sim/clock.h"

int64_t
clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}
