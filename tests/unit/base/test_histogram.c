/* A histogram of times: which bucket a time goes to. */
#include "mux/base/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

/* In microseconds, as docs/operations.md has them. */
static const uint64_t bounds[] = { 10,     20,      50,      100,     200,     500,    1000,
                                   2000,   5000,    10000,   20000,   50000,   100000, 200000,
                                   500000, 1000000, 2000000, 5000000, 10000000 };

#define BOUNDS (sizeof(bounds) / sizeof(bounds[0]))

static unsigned
bucket_of(uint64_t ns)
{
    unsigned at = 0;

    while (at < BOUNDS && ns > bounds[at] * 1000)
        at++;
    return at;
}

static void
assert_bucket(uint64_t ns)
{
    struct histogram histogram = { .sum = 3 };

    histogram_observe(&histogram, ns);
    for (unsigned i = 0; i <= BOUNDS; i++)
        assert_int_equal(histogram.counts[i], i == bucket_of(ns));
    assert_int_equal(histogram.sum, 3 + ns);
}

/* A bound belongs to the bucket below it. */
static void
test_bounds(void **state)
{
    (void)state;
    assert_int_equal(HISTOGRAM_BOUNDS, BOUNDS);
    for (unsigned i = 0; i < BOUNDS; i++) {
        assert_int_equal(histogram_bounds[i], bounds[i] * 1000);
        assert_bucket(bounds[i] * 1000 - 1);
        assert_bucket(bounds[i] * 1000);
        assert_bucket(bounds[i] * 1000 + 1);
    }
}

static void
test_every_length(void **state)
{
    (void)state;
    assert_bucket(0);
    assert_bucket(UINT64_MAX - 3);
    srandom(1);
    for (unsigned bits = 0; bits < 63; bits++) {
        assert_bucket(UINT64_C(1) << bits);
        assert_bucket((UINT64_C(1) << bits) - 1);
        for (unsigned i = 0; i < 100; i++)
            assert_bucket((UINT64_C(1) << bits) +
                          ((uint64_t)random() << 31 | (uint64_t)random()) % (UINT64_C(1) << bits));
    }
}

static void
test_counts_add_up(void **state)
{
    struct histogram histogram = { .sum = 0 };

    (void)state;
    for (uint64_t i = 1; i <= 100; i++)
        histogram_observe(&histogram, i * 1000);
    assert_int_equal(histogram.counts[0], 10);
    assert_int_equal(histogram.counts[1], 10);
    assert_int_equal(histogram.counts[2], 30);
    assert_int_equal(histogram.counts[3], 50);
    assert_int_equal(histogram.counts[4], 0);
    assert_int_equal(histogram.sum, 5050000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_counts_add_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
