/* The ledger of chaos: what it must find wrong, and what it must not. An event is a sequence here; the tenth,
 * the twentieth and so on are muted by an SVM that mutes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/chaos/ledger.h"

/* What tests/chaos/event.c has for real. */
bool
event_is_muted(const struct event_id *id)
{
    return id->sequence % 10 == 0;
}

const char *
event_check(const struct event_id *id, const struct gimux_event *event)
{
    (void)id;
    (void)event;
    return NULL;
}

#define OVERFLOW (1u << GIMUX_GAP_OVERFLOW)
#define DROPS    (OVERFLOW | 1u << GIMUX_GAP_RESTART | 1u << GIMUX_GAP_DRIVER)

static struct tally tally;
static struct stream *stream;
static struct reader reader;

static int
begin(void **state)
{
    (void)state;
    memset(&tally, 0, sizeof(tally));
    for (int kind = 0; kind < WRONG_KINDS; kind++)
        tally.said[kind] = 1000; /* nothing is printed */
    reader = (struct reader){ .index = 1, .name = "svm", .tally = &tally };
    stream = ledger_stream_new(0, 1, GR_LINUX, NULL);
    for (int i = 0; i < 100; i++)
        ledger_made(stream);
    stream->sent = 100;
    return 0;
}

static int
end(void **state)
{
    (void)state;
    ledger_stream_free(stream);
    return 0;
}

static void
deliver(uint64_t first, uint64_t last)
{
    for (uint64_t sequence = first; sequence <= last; sequence++) {
        const struct gimux_event event = { .sequence = sequence };

        ledger_event(stream, &reader, &event);
    }
}

static void
gap(uint64_t first, uint64_t last, enum gimux_gap_reason reason)
{
    const struct gimux_gap gap = { .first = first, .last = last, .reason = reason };

    ledger_gap(stream, &reader, &gap);
}

/* Up to `last`, to the driver. */
static void
acknowledge(uint64_t last, unsigned level)
{
    ledger_acked(stream, &reader, last, level);
    stream->acked = last;
}

static void
assert_wrong(enum wrong kind, uint64_t count)
{
    for (enum wrong other = 0; other < WRONG_KINDS; other++)
        assert_int_equal(tally.wrong[other], other == kind ? count : 0);
    memset(tally.wrong, 0, sizeof(tally.wrong));
}

static void
assert_clean(void)
{
    assert_true(tally_is_clean(&tally));
}

static void
test_all_is_well(void **state)
{
    (void)state;
    deliver(1, 100);
    acknowledge(100, GR_LEVEL_DELIVERED);
    assert_int_equal(ledger_missing(stream, &reader), 0);
    ledger_compare(stream, &reader);
    assert_clean();
}

static void
test_hole(void **state)
{
    (void)state;
    deliver(1, 10);
    deliver(13, 20);
    assert_wrong(WRONG_UNACCOUNTED, 2);
    gap(23, 25,
        GIMUX_GAP_STORAGE); /* a gap passes over two as well, and has a reason that this SVM may not see */
    assert_wrong(WRONG_UNACCOUNTED, 2 + 3);
}

static void
test_what_is_muted_is_no_hole(void **state)
{
    (void)state;
    reader.mutes = true;
    deliver(1, 9);
    deliver(11, 12);
    assert_clean();
    deliver(13, 20);
    assert_wrong(WRONG_UNACCOUNTED, 1); /* 20 should not have come */
}

static void
test_lost_and_not_accepted(void **state)
{
    (void)state;
    reader.accepts_at = GR_LEVEL_PROCESS;
    deliver(1, 90);
    acknowledge(95, GR_LEVEL_PROCESS);
    ledger_compare(stream, &reader);
    assert_int_equal(tally.wrong[WRONG_LOST], 5);
    assert_int_equal(tally.wrong[WRONG_UNACCOUNTED], 5); /* the driver has these */
}

static void
test_twice_and_out_of_order(void **state)
{
    (void)state;
    deliver(1, 5);
    deliver(5, 5);
    assert_wrong(WRONG_DOUBLED, 1);
    gap(4, 5, GIMUX_GAP_RESTART);
    assert_int_equal(tally.wrong[WRONG_DOUBLED], 2);
    memset(tally.wrong, 0, sizeof(tally.wrong));
    ledger_new_life(stream, &reader);
    deliver(1, 5);
    assert_clean();
    deliver(7, 7);
    assert_wrong(WRONG_UNACCOUNTED, 1);
    deliver(6, 6);
    assert_wrong(WRONG_REORDERED, 1);
    deliver(101, 101);
    assert_int_equal(tally.wrong[WRONG_UNACCOUNTED], 1 + 93); /* nobody made it; and 8 to 100 */
}

static void
test_acknowledged_too_early(void **state)
{
    (void)state;
    deliver(1, 10);
    acknowledge(13, GR_LEVEL_DELIVERED);
    assert_wrong(WRONG_UNACCOUNTED, 3);
    reader.accepts_at = GR_LEVEL_DISK;
    acknowledge(15, GR_LEVEL_PROCESS); /* it relies on more */
    assert_wrong(WRONG_UNACCOUNTED, 2);
    acknowledge(17, GR_LEVEL_DISK);
    assert_clean();
}

static void
test_gap_needs_a_policy(void **state)
{
    (void)state;
    gap(1, 5, GIMUX_GAP_OVERFLOW);
    assert_wrong(WRONG_UNACCOUNTED, 5);
    reader.gap_reasons = DROPS;
    gap(6, 10, GIMUX_GAP_OVERFLOW);
    gap(11, 20, GIMUX_GAP_RESTART);
    assert_clean();
    gap(21, 30, GIMUX_GAP_DRIVER); /* its driver has these */
    assert_wrong(WRONG_UNACCOUNTED, 10);
}

/* After a kill with a full disk the driver's word counts, and what was made before. */
static void
test_gap_after_a_full_disk(void **state)
{
    (void)state;
    deliver(1, 30);
    acknowledge(20, GR_LEVEL_DELIVERED);
    ledger_forgets(stream, true);
    ledger_hello(stream);
    ledger_new_life(stream, &reader);
    gap(1, 5, GIMUX_GAP_STORAGE);
    assert_wrong(WRONG_UNACCOUNTED, 5);
    gap(6, 8, GIMUX_GAP_RESTART);
    gap(9, 20, GIMUX_GAP_DRIVER);
    assert_clean();
    acknowledge(25, GR_LEVEL_DELIVERED);
    gap(21, 25, GIMUX_GAP_DRIVER); /* when it said HELLO it had these */
    assert_wrong(WRONG_UNACCOUNTED, 5);
    gap(26, 32, GIMUX_GAP_RESTART);
    assert_wrong(WRONG_UNACCOUNTED, 2); /* 31 and 32 it never had */
}

static void
test_gap_where_damage_was(void **state)
{
    (void)state;
    acknowledge(0, GR_LEVEL_DISK);
    deliver(1, 3);
    ledger_damaged(stream, 5, 10);
    ledger_forgets(stream, false);
    gap(4, 7, GIMUX_GAP_STORAGE);
    assert_wrong(WRONG_UNACCOUNTED, 1);
    gap(8, 8, GIMUX_GAP_DRIVER); /* it was not acknowledged */
    assert_wrong(WRONG_UNACCOUNTED, 1);
    stream->acked = 9;
    ledger_hello(stream);
    gap(9, 9, GIMUX_GAP_DRIVER);
    assert_clean();
    ledger_new_life(stream, &reader);
    gap(1, 3, GIMUX_GAP_RESTART); /* which was not damaged */
    assert_wrong(WRONG_UNACCOUNTED, 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_all_is_well),
        TEST(test_hole),
        TEST(test_what_is_muted_is_no_hole),
        TEST(test_lost_and_not_accepted),
        TEST(test_twice_and_out_of_order),
        TEST(test_acknowledged_too_early),
        TEST(test_gap_needs_a_policy),
        TEST(test_gap_after_a_full_disk),
        TEST(test_gap_where_damage_was),
    };

    return cmocka_run_group_tests_name("ledger", tests, NULL, NULL);
}
