/* When certificates end: days, and each mark told of once. */
#include "mux/svm/expiry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define DAY INT64_C(86400)
#define NOW INT64_C(1900000000)

static void
test_days(void **state)
{
    struct expiry expiry = { 0 };

    (void)state;
    expiry_set(&expiry, NOW, EXPIRY_DAYS_30);
    assert_int_equal(expiry_days(&expiry, NOW - 30 * DAY), 30);
    assert_int_equal(expiry_days(&expiry, NOW - 30 * DAY + 1), 29);
    assert_int_equal(expiry_days(&expiry, NOW - 1), 0);
    assert_int_equal(expiry_days(&expiry, NOW), -1); /* OpenSSL takes it no more */
    assert_int_equal(expiry_days(&expiry, NOW + DAY - 1), -1);
    assert_int_equal(expiry_days(&expiry, NOW + DAY), -2);
}

/* As time passes from mark to mark, each is told of when it is reached, and once. */
static void
test_every_mark_once(void **state)
{
    static const int64_t before[] = { 30 * DAY, 7 * DAY, DAY, 0 };
    struct expiry expiry = { 0 };
    int64_t now = NOW - 100 * DAY;

    (void)state;
    expiry_set(&expiry, NOW, EXPIRY_DAYS_30);
    assert_false(expiry_due(&expiry, now));
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(expiry_next(&expiry, now), NOW - before[i] - now);
        now += expiry_next(&expiry, now);
        assert_false(expiry_due(&expiry, now - 1));
        assert_true(expiry_due(&expiry, now));
        assert_false(expiry_due(&expiry, now));
        assert_false(expiry_due(&expiry, now + 1));
    }
    assert_true(expiry_next(&expiry, now) == INT64_MAX);
    assert_false(expiry_due(&expiry, NOW - 8 * DAY)); /* the clock was set back */
}

/* What is late already is told of once, not for every mark that lies behind. */
static void
test_late(void **state)
{
    struct expiry expiry = { 0 };

    (void)state;
    expiry_set(&expiry, NOW, EXPIRY_DAYS_30);
    assert_true(expiry_due(&expiry, NOW - 5 * DAY));
    assert_false(expiry_due(&expiry, NOW - 5 * DAY));
    assert_int_equal(expiry_next(&expiry, NOW - 5 * DAY), 4 * DAY);
}

static void
test_another_end_starts_afresh(void **state)
{
    struct expiry expiry = { 0 };

    (void)state;
    expiry_set(&expiry, NOW, EXPIRY_DAYS_30);
    assert_true(expiry_due(&expiry, NOW - DAY));
    expiry_set(&expiry, NOW, EXPIRY_DAYS_30); /* the same one, read again */
    assert_false(expiry_due(&expiry, NOW - DAY));
    expiry_set(&expiry, NOW + 2 * DAY, EXPIRY_DAYS_30);
    assert_true(expiry_due(&expiry, NOW - DAY));
}

static void
test_only_the_end_matters(void **state)
{
    struct expiry expiry = { 0 };

    (void)state;
    expiry_set(&expiry, NOW, EXPIRY_END);
    assert_false(expiry_due(&expiry, NOW - 1));
    assert_int_equal(expiry_next(&expiry, NOW - 8 * DAY), 8 * DAY);
    assert_true(expiry_due(&expiry, NOW));
}

static void
test_nothing_that_ends(void **state)
{
    struct expiry expiry = { 0 };

    (void)state;
    assert_false(expiry_due(&expiry, NOW));
    assert_true(expiry_next(&expiry, NOW) == INT64_MAX);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_days),
        cmocka_unit_test(test_every_mark_once),
        cmocka_unit_test(test_late),
        cmocka_unit_test(test_another_end_starts_afresh),
        cmocka_unit_test(test_only_the_end_matters),
        cmocka_unit_test(test_nothing_that_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
