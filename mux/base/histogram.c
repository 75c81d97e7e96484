/* A histogram of times: how often something took how long. */
#include "mux/base/histogram.h"

#define DECADE(ns) (ns), 2 * (ns), 5 * (ns)

const uint64_t histogram_bounds[HISTOGRAM_BOUNDS] = {
    DECADE(UINT64_C(10000)),    DECADE(UINT64_C(100000)),    DECADE(UINT64_C(1000000)),
    DECADE(UINT64_C(10000000)), DECADE(UINT64_C(100000000)), DECADE(UINT64_C(1000000000)),
    UINT64_C(10000000000),
};

#define FIRST_BITS 14 /* of histogram_bounds[0] */

void
histogram_observe(struct histogram *histogram, uint64_t ns)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll(ns | 1);
    unsigned at = 0;

    /* Three bounds make a factor of ten, which is 3.3 bits; so 9 / 10 of the bits is the bucket or one of the
     * two before it. */
    if (bits > FIRST_BITS)
        at = (bits - FIRST_BITS) * 9 / 10;
    if (at > HISTOGRAM_BOUNDS)
        at = HISTOGRAM_BOUNDS;
    while (at < HISTOGRAM_BOUNDS && ns > histogram_bounds[at])
        at++;
    histogram->counts[at]++;
    histogram->sum += ns;
}
