/* Random numbers that are the same in every run: splitmix64, from random_state on. */
#ifndef GIMUX_TEST_RANDOM_H
#define GIMUX_TEST_RANDOM_H

#include <stdint.h>

static uint64_t random_state = 1;

static uint64_t
number(void)
{
    random_state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = random_state;

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

#endif
