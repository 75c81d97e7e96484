/* Chance: one stream of random numbers from the seed that is printed, so that a run can be repeated. */
#ifndef GIMUX_CHAOS_CHANCE_H
#define GIMUX_CHAOS_CHANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void chance_seed(uint64_t seed);

uint64_t chance(void);

/* 0 .. n - 1; 0 if n is 0. */
uint64_t chance_below(uint64_t n);

/* first .. last, both included. */
uint64_t chance_between(uint64_t first, uint64_t last);

/* 0 .. n - 1, small ones far more often: as likely below 10 as between 10 and 100. */
uint64_t chance_skewed(uint64_t n);

bool chance_one_in(uint64_t n);

/* A number that looks random, always the same for the same two. */
uint64_t chance_hash(uint64_t a, uint64_t b);

#endif
