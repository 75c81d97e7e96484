/* A histogram of times: how often something took how long. */
#ifndef GIMUX_BASE_HISTOGRAM_H
#define GIMUX_BASE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BOUNDS 19

/* Upper bounds of the buckets in nanoseconds, inclusive: 10, 20, 50 us and so on up to 10 s. */
extern const uint64_t histogram_bounds[HISTOGRAM_BOUNDS];

/* Zero-initialize. */
struct histogram {
    uint64_t counts[HISTOGRAM_BOUNDS + 1]; /* of each bucket alone; the last: above all bounds */
    uint64_t sum;                          /* nanoseconds */
};

/* Counts one time, in nanoseconds. */
void histogram_observe(struct histogram *histogram, uint64_t ns);

#endif
