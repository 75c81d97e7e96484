/* The VM log: what a sink gives up and how it is told, one story after the other. */
#include "tests/unit/vmlog/vmlog_link.h"

static void
test_skip_tell_acknowledge(void **state)
{
    struct story *s = *state;

    append(&s->world, 'a');
    flush(&s->link);
    append_many(&s->world, 'a', 2, 40);
    append(&s->world, 'b');
    append_gap(&s->world, 'b', 4);
    assert_int_equal(give_up(&s->link), 7);
    assert_int_equal(give_up(&s->link), 0);
    assert_int_equal(s->world.streams[0].accepted, 3);
    assert_int_equal(s->world.streams[1].accepted, 5);
    assert_true(vmlog_has_more(&s->world.log, 3));
    append(&s->world, 'a'); /* waits until both gaps are acknowledged */
    assert_string_equal(flush(&s->link), "a2-3 B1 b1-5");
    ack(&s->link, 'a', 3);
    assert_string_equal(flush(&s->link), "");
    ack(&s->link, 'b', 3); /* a part */
    assert_string_equal(flush(&s->link), "");
    ack(&s->link, 'b', 5);
    assert_string_equal(flush(&s->link), "a4");
    ack(&s->link, 'a', 4);
    assert_counts(&s->link, 'a', 2, 0, 2);
    assert_counts(&s->link, 'b', 0, 0, 5);
    assert_empty(&s->world);
}

/* Files cannot be written: if gimuxd is killed, only the driver knows that something was given up. */
static void
test_gap_that_no_file_knows(void **state)
{
    struct story *s = *state;
    struct vmlog *log = &s->world.log;

    vmlog_set_backed(log, true);
    append(&s->world, 'a');
    assert_string_equal(flush(&s->link), "A1 a1");
    ack(&s->link, 'a', 1);
    assert_int_equal(s->world.streams[0].accepted, 0);
    vmlog_set_stall(log, VMLOG_STALLED);
    assert_int_equal(s->world.streams[0].accepted, 1); /* the SVM has it */
    append_many(&s->world, 'a', 2, 40);
    assert_int_equal(give_up(&s->link), 2);
    assert_int_equal(s->world.streams[0].accepted, 1);
    assert_string_equal(flush(&s->link), "a2-3");
    assert_int_equal(s->world.streams[0].accepted, 1);
    ack(&s->link, 'a', 3);
    assert_int_equal(s->world.streams[0].accepted, 3); /* the SVM knows */
    append(&s->world, 'a');
    assert_string_equal(flush(&s->link), "a4");
    assert_int_equal(give_up(&s->link), 0);
    assert_int_equal(s->world.streams[0].accepted, 3); /* it may be lost on the way */
    ack(&s->link, 'a', 4);
    assert_int_equal(s->world.streams[0].accepted, 4);
    append(&s->world, 'a');
    give_up(&s->link);
    vmlog_set_stall(log, VMLOG_FLOWING);
    assert_int_equal(s->world.streams[0].accepted, 4);
    vmlog_recorded(log, log->next_number);
    assert_int_equal(s->world.streams[0].accepted, 5); /* a file knows */
    vmlog_set_stall(log, VMLOG_BROKEN);
    append(&s->world, 'a');
    give_up(&s->link);
    assert_int_equal(s->world.streams[0].accepted, 6); /* else nobody but the SVM could bring files back */
    assert_string_equal(flush(&s->link), "a5-6");
    ack(&s->link, 'a', 6);
    assert_empty(&s->world);
}

/* A gap that grows: before it was told, after, and after a part was acknowledged. */
static void
test_gap_is_extended(void **state)
{
    struct story *s = *state;

    append(&s->world, 'a');
    give_up(&s->link);
    append(&s->world, 'a');
    give_up(&s->link);
    assert_string_equal(flush(&s->link), "A1 a1-2");
    append(&s->world, 'a');
    give_up(&s->link);
    assert_true(vmlog_has_more(&s->world.log, 3));
    assert_false(vmlog_ack(&s->world.log, 3, &s->world.streams[0], 3)); /* not told so far */
    ack(&s->link, 'a', 2);
    append(&s->world, 'a');
    give_up(&s->link);
    assert_string_equal(flush(&s->link), "a3-4");
    append_many(&s->world, 'a', 2, 40);
    give_up(&s->link);
    assert_string_equal(flush(&s->link), "a5-6");
    ack(&s->link, 'a', 6);
    append(&s->world, 'a');
    assert_string_equal(flush(&s->link), "a7");
    ack(&s->link, 'a', 7);
    assert_counts(&s->link, 'a', 1, 0, 6);
    assert_empty(&s->world);
}

/* What was in flight when the sink gave up is sent again first, and the gap told again after it. */
static void
test_rewind_with_open_gaps(void **state)
{
    struct story *s = *state;

    append_many(&s->world, 'a', 2, 40);
    flush(&s->link);
    append(&s->world, 'a');
    append(&s->world, 'b');
    give_up(&s->link);
    reconnect(&s->link); /* before the gaps were told */
    append(&s->world, 'a');
    give_up(&s->link);
    assert_string_equal(flush(&s->link), "A1 a1 a2 a3-4 B1 b1-1");
    reconnect(&s->link); /* after */
    append(&s->world, 'b');
    give_up(&s->link); /* while down */
    resume(&s->link, 'a', 1);
    assert_string_equal(flush(&s->link), "A2 a2 a3-4 B1 b1-2");
    ack(&s->link, 'b', 2); /* one is acknowledged */
    reconnect(&s->link);
    append(&s->world, 'b');
    assert_string_equal(flush(&s->link), "A2 a2 a3-4");
    reconnect(&s->link);
    resume(&s->link, 'a', 3); /* the SVM has a part of the gap */
    assert_string_equal(flush(&s->link), "A4 a4-4");
    reconnect(&s->link);
    resume(&s->link, 'a', 4); /* and all of it */
    assert_string_equal(flush(&s->link), "B3 b3");
    ack(&s->link, 'b', 3);
    assert_counts(&s->link, 'a', 2, 0, 2);
    assert_counts(&s->link, 'b', 1, 0, 2);
    assert_empty(&s->world);
}

/* A sink with policy drop that hangs holds neither a guest nor memory, however often it skips: only what was
 * sent to it stays. */
static void
test_hung_sink_costs_little(void **state)
{
    struct story *s = *state;

    append_many(&s->world, 'a', 2, 40);
    flush(&s->link);
    assert_int_equal(give_up(&s->link), 0); /* nothing to give up, but the driver may forget what was sent */
    assert_int_equal(s->world.streams[0].accepted, 2);
    for (int i = 0; i < 2000; i++) {
        append_many(&s->world, 'a', 1, 3000);
        give_up(&s->link);
        if (i == 1000)
            reconnect(&s->link);
        assert_true(s->world.log.bytes <= VMLOG_SMALL_CHUNK + 2 * VMLOG_LARGE_CHUNK);
    }
    assert_int_equal(s->world.streams[0].accepted, 2002);
    assert_string_equal(flush(&s->link), "A1 a1 a2 a3-2002");
    ack(&s->link, 'a', 2002);
    assert_string_equal(flush(&s->link), ""); /* passes over the last of what was given up */
    assert_empty(&s->world);
}

/* Chunks in the middle are let go although the sink is down in the first one. */
static void
test_skipped_chunks_leave_from_the_middle(void **state)
{
    struct story *s = *state;

    link_open(&s->other, &s->world, 4);
    append(&s->world, 'a');
    flush(&s->link);
    append_many(&s->world, 'a', 10, 40000);
    flush(&s->other);
    ack(&s->other, 'a', 11);
    assert_true(s->world.log.bytes > 10 * VMLOG_LARGE_CHUNK);
    give_up(&s->link);
    assert_true(s->world.log.bytes <= VMLOG_SMALL_CHUNK + VMLOG_LARGE_CHUNK);
    assert_non_null(vmlog_reserve(&s->world.log, 50000, false)); /* an empty chunk at the end */
    reconnect(&s->link);
    resume(&s->link, 'a', 11);
    assert_string_equal(flush(&s->link), "");
    append(&s->world, 'a');
    assert_string_equal(flush(&s->link), "A12 a12");
    assert_string_equal(flush(&s->other), "a12");
    ack(&s->link, 'a', 12);
    ack(&s->other, 'a', 12);
    assert_counts(&s->link, 'a', 2, 0, 10);
    assert_empty(&s->world);
}

/* A batch that ends just before chunks that were let go does not pass over what comes behind them. */
static void
test_batch_ends_before_skipped_chunks(void **state)
{
    struct story *s = *state;

    append(&s->world, 'b');
    flush(&s->link);
    append_many(&s->world, 'a', 10, 60000);
    assert_non_null(vmlog_reserve(&s->world.log, 60000, false)); /* what follows the skip begins a chunk */
    assert_int_equal(give_up(&s->link), 10);
    append(&s->world, 'a');
    reconnect(&s->link);
    resume(&s->link, 'a', 10);
    link_flush(&s->link, 40, PIECES, 1);
    assert_string_equal(words(&s->link), "B1 b1");
    ack(&s->link, 'b', 1); /* nor does the acknowledgement */
    assert_string_equal(flush(&s->link), "A11 a11");
    ack(&s->link, 'a', 11);
    assert_counts(&s->link, 'a', 1, 0, 10);
    assert_empty(&s->world);
}

static bool
gap_before(struct link *link, char stream, uint64_t first, uint64_t last)
{
    bool done = vmlog_gap_before(&link->world->log, link->sink, &link->world->streams[stream - 'a'], first,
                                 last, REASON);

    vmlog_check(&link->world->log);
    return done;
}

/* A stream goes on at 101 after a restart of gimuxd; the SVM has it up to 90. */
static void
go_on_at_101(struct story *s, char stream)
{
    s->world.streams[stream - 'a'].last = 100;
    vmlog_join_stream(&s->world.streams[stream - 'a'], s->link.sink);
}

static void
test_gap_before_on_an_empty_log(void **state)
{
    struct story *s = *state;

    go_on_at_101(s, 'a');
    assert_false(gap_before(&s->link, 'a', 101, 100));
    assert_false(gap_before(&s->link, 'a', 0, 100)); /* a position of UINT64_MAX, and one more */
    assert_true(gap_before(&s->link, 'a', 91, 100));
    assert_false(gap_before(&s->link, 'a', 91, 100)); /* once is enough */
    assert_true(vmlog_has_more(&s->world.log, 3));
    assert_string_equal(flush(&s->link), "A91 a91-100");
    append(&s->world, 'a');
    assert_string_equal(flush(&s->link), "");
    ack(&s->link, 'a', 100);
    assert_false(gap_before(&s->link, 'a', 91, 100));
    assert_string_equal(flush(&s->link), "a101");
    ack(&s->link, 'a', 101);
    assert_counts(&s->link, 'a', 1, 0, 10);
    assert_int_equal(s->world.pool.used, 0);
}

/* Too late: the sink has passed over the stream's beginning. */
static void
test_gap_before_comes_first_or_not_at_all(void **state)
{
    struct story *s = *state;

    go_on_at_101(s, 'a');
    append(&s->world, 'b');
    append(&s->world, 'a');
    link_flush(&s->link, 40, PIECES, 1000); /* only b1 goes out */
    s->link.filter.class_mask = 0;
    assert_string_equal(flush(&s->link), "B1 b1"); /* a101 is filtered, but b1 holds it */
    assert_false(gap_before(&s->link, 'a', 91, 100));
    ack(&s->link, 'b', 1);
    assert_counts(&s->link, 'a', 0, 1, 0);
    assert_int_equal(s->world.pool.used, 0);
}

static void
test_gap_before_unsent_and_skipped(void **state)
{
    struct story *s = *state;

    append(&s->world, 'b');
    flush(&s->link);
    vmlog_rewind(&s->world.log, 3);
    go_on_at_101(s, 'a');
    append(&s->world, 'a');
    give_up(&s->link);
    append_many(&s->world, 'a', 2, 40);
    link_connect(&s->link);
    assert_true(gap_before(&s->link, 'a', 91, 100));
    assert_string_equal(flush(&s->link), "B1 b1 A91 a91-101");
    ack(&s->link, 'a', 101);
    assert_string_equal(flush(&s->link), "a102 a103");
    assert_false(gap_before(&s->link, 'a', 91, 100));
    ack(&s->link, 'a', 103);
    ack(&s->link, 'b', 1);
    assert_counts(&s->link, 'a', 2, 0, 11);
    assert_int_equal(s->world.pool.used, 0);
}

/* The gap before one stream must not let the gap of another be told before what is sent again. */
static void
test_gap_before_waits_for_what_is_sent_again(void **state)
{
    struct story *s = *state;

    append_many(&s->world, 'a', 2, 40);
    flush(&s->link);
    append(&s->world, 'a');
    give_up(&s->link);
    vmlog_rewind(&s->world.log, 3);
    go_on_at_101(s, 'b');
    append(&s->world, 'b');
    link_connect(&s->link);
    assert_true(gap_before(&s->link, 'b', 91, 100));
    assert_string_equal(flush(&s->link), "A1 a1 a2 a3-3 B91 b91-100");
    ack(&s->link, 'a', 3);
    ack(&s->link, 'b', 100);
    assert_string_equal(flush(&s->link), "b101");
    ack(&s->link, 'b', 101);
    assert_counts(&s->link, 'a', 2, 0, 1);
    assert_int_equal(s->world.pool.used, 0);
}

/* A driver's gap of which a former gimuxd has counted a part, as positions in files may have it: the rest of
 * it is counted, and what follows it. */
static void
test_gap_counted_in_part(void **state)
{
    struct story *s = *state;
    struct vmlog_saved saved = { .settled = 2, .acked = 2, .gapped = 2 };

    link_open(&s->other, &s->world, 5);
    vmlog_join_stream_saved(&s->world.log, 5, &s->world.streams[0], &saved);
    append_gap(&s->world, 'a', 5);
    append_many(&s->world, 'a', 3, 40);
    flush(&s->other);
    ack(&s->other, 'a', 8);
    assert_counts(&s->other, 'a', 3, 0, 5);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(test_skip_tell_acknowledge),
        STORY(test_gap_that_no_file_knows),
        STORY(test_gap_is_extended),
        STORY(test_rewind_with_open_gaps),
        STORY(test_hung_sink_costs_little),
        STORY(test_skipped_chunks_leave_from_the_middle),
        STORY(test_gap_before_on_an_empty_log),
        STORY(test_batch_ends_before_skipped_chunks),
        STORY(test_gap_before_comes_first_or_not_at_all),
        STORY(test_gap_before_unsent_and_skipped),
        STORY(test_gap_before_waits_for_what_is_sent_again),
        STORY(test_gap_counted_in_part),
    };

    return cmocka_run_group_tests_name("vmlog_gaps", tests, NULL, NULL);
}
