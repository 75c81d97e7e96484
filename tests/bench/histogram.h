/* Latencies, counted in buckets of about 1.6 percent. */
#ifndef GIMUX_BENCH_HISTOGRAM_H
#define GIMUX_BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BITS    6 /* of each power of two */
#define HISTOGRAM_BUCKETS (40u << HISTOGRAM_BITS)

struct histogram {
    uint64_t count;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

static inline void
histogram_add(struct histogram *histogram, uint64_t ns)
{
    unsigned shift = ns >> HISTOGRAM_BITS ? 63u - HISTOGRAM_BITS - (unsigned)__builtin_clzll(ns) : 0;
    uint64_t bucket = ((uint64_t)shift << HISTOGRAM_BITS) + (ns >> shift);

    histogram->buckets[bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1]++;
    histogram->count++;
}

/* The value that `part` (0 to 1) of all are not above, in microseconds; 0 of nothing. */
static inline double
histogram_at(const struct histogram *histogram, double part)
{
    uint64_t wanted = (uint64_t)((double)histogram->count * part), seen = 0;

    for (uint64_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t shift = i >> (HISTOGRAM_BITS + 1) ? (i >> HISTOGRAM_BITS) - 1 : 0;

        seen += histogram->buckets[i];
        if (seen > wanted)
            return (double)((i - (shift << HISTOGRAM_BITS)) << shift) / 1e3;
    }
    return 0;
}

#endif
