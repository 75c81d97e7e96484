/* What a run costs: its CPU time, and its instructions where the processor's counters can be read. */
#ifndef GIMUX_MICROBENCH_COUNTER_H
#define GIMUX_MICROBENCH_COUNTER_H

#include <stdbool.h>
#include <stdint.h>

/* CPU time of this process in nanoseconds. */
uint64_t counter_ns(void);

/* Whether instructions can be counted; then counter_instructions tells those of this process in user space
 * so far. */
bool counter_open(void);
uint64_t counter_instructions(void);

#endif
