/* The system's clocks in nanoseconds. */
#ifndef SIM_CLOCK_H
#define SIM_CLOCK_H

#include <stdint.h>
#include <time.h>

#define MILLISECOND INT64_C(1000000)
#define SECOND      INT64_C(1000000000)

/* What CLOCK_MONOTONIC or CLOCK_REALTIME (then Unix time) says now. */
int64_t clock_ns(clockid_t clock);

#endif
