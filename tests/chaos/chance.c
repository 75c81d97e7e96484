/* Chance: one stream of random numbers from the seed that is printed, so that a run can be repeated. */
#include "tests/chaos/chance.h"

static uint64_t state;

static uint64_t
mix(uint64_t x) /* splitmix64 */
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

void
chance_seed(uint64_t seed)
{
    state = seed;
}

uint64_t
chance(void)
{
    state += UINT64_C(0x9e3779b97f4a7c15);
    return mix(state);
}

uint64_t
chance_below(uint64_t n)
{
    return n ? chance() % n : 0;
}

uint64_t
chance_between(uint64_t first, uint64_t last)
{
    return first + chance_below(last - first + 1);
}

uint64_t
chance_skewed(uint64_t n)
{
    uint64_t bits = 0;

    while (bits < 63 && (UINT64_C(1) << bits) < n)
        bits++;
    return chance_below(n) >> chance_below(bits + 1);
}

bool
chance_one_in(uint64_t n)
{
    return chance_below(n) == 0;
}

uint64_t
chance_hash(uint64_t a, uint64_t b)
{
    return mix(mix(a + UINT64_C(0x9e3779b97f4a7c15)) + b);
}
