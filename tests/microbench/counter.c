/* What a run costs: its CPU time, and its instructions where the processor's counters can be read. */
#include "tests/microbench/counter.h"

#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int counter = -1;

uint64_t
counter_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

bool
counter_open(void)
{
    struct perf_event_attr attr = { .type = PERF_TYPE_HARDWARE,
                                    .size = sizeof(attr),
                                    .config = PERF_COUNT_HW_INSTRUCTIONS,
                                    .exclude_kernel = 1,
                                    .exclude_hv = 1 };

    counter = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
    return counter >= 0;
}

uint64_t
counter_instructions(void)
{
    uint64_t count = 0;

    if (read(counter, &count, sizeof(count)) != sizeof(count))
        return 0;
    return count;
}
