/* The VM log: sending, settling and breaks, one story after the other. */
#include "tests/unit/vmlog/vmlog_link.h"

#include "proto/delimited.h"

/* ---- sending and settling ---- */

static void
test_sent_acked_accepted_freed(void **state)
{
    struct story *s = *state;

    append(&s->world, 'a');
    append(&s->world, 'a');
    append(&s->world, 'b');
    assert_int_equal(s->world.streams[0].unaccepted_bytes, 40);
    assert_string_equal(flush(&s->link), "A1 a1 a2 B1 b1");
    assert_int_equal(s->world.log.cursors[3].inflight, 120);
    ack(&s->link, 'b', 1); /* out of the log's order: waits for a */
    assert_int_equal(s->world.streams[1].accepted, 0);
    ack(&s->link, 'a', 1);
    assert_int_equal(s->world.streams[0].accepted, 1);
    assert_true(s->world.streams[0].moved);
    assert_false(vmlog_ack(&s->world.log, 3, &s->world.streams[0], 3)); /* never sent */
    assert_int_equal(vmlog_unsettled(&s->world.log, 3), 2);
    ack(&s->link, 'a', 2);
    assert_int_equal(s->world.log.cursors[3].inflight, 0);
    assert_counts(&s->link, 'a', 2, 0, 0);
    assert_empty(&s->world);
    append(&s->world, 'a');
    assert_string_equal(flush(&s->link), "a3");
}

static void
test_no_sink_keeps_nothing(void **state)
{
    struct story *s = *state;

    vmlog_leave(&s->world.log, 3);
    append(&s->world, 'a');
    assert_empty(&s->world);
}

static void
test_partial_write_leaves_a_rest(void **state)
{
    struct story *s = *state;

    append_many(&s->world, 'a', 3, 40);
    link_flush(&s->link, 50, PIECES, 1000);
    assert_int_equal(s->link.rest_len, 30);
    assert_int_equal(s->world.log.cursors[3].inflight, 80);
    assert_string_equal(words(&s->link), "A1 a1");
    assert_false(vmlog_ack(&s->world.log, 3, &s->world.streams[0], 3));
    assert_string_equal(flush(&s->link), "a2 a3");
    link_flush(&s->link, 0, PIECES, 1000);
    ack(&s->link, 'a', 3);
    assert_empty(&s->world);
}

/* One piece and few bytes at a time is slow, not wrong. */
static void
test_small_batches(void **state)
{
    struct story *s = *state;
    struct iovec iov[2];
    struct vmlog_batch batch = { .iov = iov, .max = 2 };
    struct vmlog_stream *stream;
    struct iovec rest;

    append_many(&s->world, 'a', 6, 40);
    vmlog_announce(&s->world.streams[0], 3, 1);
    assert_int_equal(vmlog_peek(&s->world.log, 3, &s->link.filter, 1, &batch, 41, &stream), VMLOG_FRAMES);
    assert_int_equal(batch.count, 1); /* two frames that follow each other */
    assert_int_equal(batch.bytes, 80);
    vmlog_sent(&s->world.log, 3, 80, &rest);
    assert_int_equal(rest.iov_len, 0);
    assert_int_equal(vmlog_peek(&s->world.log, 3, &s->link.filter, 1, &batch, 1, &stream), VMLOG_FRAMES);
    assert_int_equal(batch.count, 2); /* what was there before stays; one frame at least */
    assert_int_equal(batch.bytes, 120);
    vmlog_sent(&s->world.log, 3, 0, &rest);     /* the socket was full */
    vmlog_announce(&s->world.streams[0], 3, 1); /* again is nothing */
    link_flush(&s->link, SIZE_MAX, 1, 1);
    assert_string_equal(words(&s->link), "a3 a4 a5 a6");
    ack(&s->link, 'a', 6);
    assert_empty(&s->world);
}

static void
test_filters(void **state)
{
    struct story *s = *state;
    struct head head = { .len = 40, .cls = CLASS_DNS, .letter = 'y' };
    char letters[] = "yz";

    s->link.filter.class_mask = 1u << CLASS_DNS | 1u << VMLOG_GAP;
    append(&s->world, 'a');
    assert_true(append_entry(&s->world, &head, 1, false));
    append_gap(&s->world, 'a', 3);
    append(&s->world, 'b');
    assert_string_equal(flush(&s->link), "A2 a2 a3~5"); /* b is not even announced */
    s->link.filter = (struct vmlog_filter){ MASK_ALL, CLASS_MASK_ALL, wants_letter, letters };
    append(&s->world, 'b');
    assert_true(append_entry(&s->world, &head, 1, false));
    assert_string_equal(flush(&s->link), "a6");
    ack(&s->link, 'a', 6);
    assert_counts(&s->link, 'a', 2, 1, 3);
    assert_counts(&s->link, 'b', 0, 2, 0);
    assert_int_equal(s->world.streams[1].sinks[3].settled, 2);
    assert_empty(&s->world);
}

static void
test_slow_sink_holds_the_log_not_the_other(void **state)
{
    struct story *s = *state;

    link_open(&s->other, &s->world, 15);
    append_many(&s->world, 'a', 3, 40000);
    assert_string_equal(flush(&s->link), "A1 a1 a2 a3");
    ack(&s->link, 'a', 3);
    assert_int_equal(s->world.streams[0].accepted, 0);
    assert_string_equal(flush(&s->other), "A1 a1 a2 a3");
    ack(&s->other, 'a', 2);
    assert_int_equal(s->world.streams[0].accepted, 2);
    assert_int_equal(s->world.log.bytes, VMLOG_LARGE_CHUNK); /* of a3; the others were given back */
    ack(&s->other, 'a', 3);
    assert_empty(&s->world);
}

static void
test_oversize_frames(void **state)
{
    struct story *s = *state;

    append(&s->world, 'a');
    append_many(&s->world, 'a', 1, BIG);
    append_many(&s->world, 'a', 1, VMLOG_LARGE_CHUNK - 80); /* just fits, header and entry included */
    assert_int_equal(s->world.log.bytes % 8, 0);
    append_many(&s->world, 'a', 1, DELIMITED_PREFIX_MAX / 3 + 100003);
    link_flush(&s->link, BIG / 2, PIECES, SIZE_MAX);
    assert_string_equal(words(&s->link), "A1 a1");
    assert_string_equal(flush(&s->link), "a2 a3 a4");
    ack(&s->link, 'a', 4);
    assert_empty(&s->world);
}

static void
test_pool_limit(void **state)
{
    struct story *s = *state;
    struct head head = { .len = 3000, .cls = CLASS_FILE };

    s->world.pool.limit = VMLOG_SMALL_CHUNK + VMLOG_LARGE_CHUNK;
    append_many(&s->world, 'a', 1, 3000);
    append_many(&s->world, 'a', 1, 60000);
    assert_false(append_entry(&s->world, &(struct head){ .len = 6000 }, 1, false));
    assert_false(append_entry(&s->world, &(struct head){ .len = 6000 }, 1, true)); /* that is not small */
    assert_int_equal(s->world.pool.used, s->world.pool.limit);
    assert_int_equal(s->world.streams[0].last, 2);
    append_many(&s->world, 'a', 1, 3000);
    assert_true(append_entry(&s->world, &head, 1, true));
    assert_int_equal(s->world.pool.used, s->world.pool.limit + VMLOG_SMALL_CHUNK);
    assert_string_equal(flush(&s->link), "A1 a1 a2 a3 a4");
    ack(&s->link, 'a', 4);
    assert_empty(&s->world);
    assert_true(s->world.pool.spare > 0 && s->world.pool.spare <= s->world.pool.limit);
    append_many(&s->world, 'a', 1, 3000); /* from a spare chunk */
    assert_true(s->world.pool.used + s->world.pool.spare <= s->world.pool.limit);
}

/* Room that is not used costs nothing, and leaves no chunk behind. */
static void
test_reserve_without_commit(void **state)
{
    struct story *s = *state;

    assert_non_null(vmlog_reserve(&s->world.log, 100, false));
    assert_non_null(vmlog_reserve(&s->world.log, 5000, false));
    assert_non_null(vmlog_reserve(&s->world.log, BIG, false));
    vmlog_check(&s->world.log);
    assert_false(vmlog_has_more(&s->world.log, 3));
    assert_string_equal(flush(&s->link), "");
    append_many(&s->world, 'a', 1, 2 * BIG);
    append_many(&s->world, 'a', 3, 40000);
    assert_string_equal(flush(&s->link), "A1 a1 a2 a3 a4");
    ack(&s->link, 'a', 3);
    assert_int_equal(s->world.log.bytes, VMLOG_LARGE_CHUNK);
    ack(&s->link, 'a', 4);
    assert_empty(&s->world);
}

/* ---- breaks ---- */

static void
test_rewind_sends_again(void **state)
{
    struct story *s = *state;

    append_many(&s->world, 'a', 3, 40);
    append(&s->world, 'b');
    flush(&s->link);
    ack(&s->link, 'a', 1);
    reconnect(&s->link);
    assert_int_equal(s->world.log.cursors[3].inflight, 0);
    assert_string_equal(flush(&s->link), "A2 a2 a3 B1 b1");
    assert_int_equal(s->world.log.cursors[3].inflight, 120);
    reconnect(&s->link);
    link_flush(&s->link, 50, PIECES, 1000);
    reconnect(&s->link); /* in the middle of a frame */
    assert_string_equal(flush(&s->link), "A2 a2 a3 B1 b1");
    ack(&s->link, 'a', 3);
    ack(&s->link, 'b', 1);
    assert_counts(&s->link, 'a', 3, 0, 0);
    assert_empty(&s->world);
}

/* What the SVM says that it has is not sent again, also behind something that it has not. */
static void
test_resume_with_positions(void **state)
{
    struct story *s = *state;

    append(&s->world, 'a');
    append(&s->world, 'b');
    append(&s->world, 'a');
    append(&s->world, 'b');
    flush(&s->link);
    reconnect(&s->link);
    resume(&s->link, 'b', 1);
    s->link.filter.class_mask = 1u << VMLOG_GAP; /* b1 was delivered all the same */
    assert_string_equal(flush(&s->link), "");
    assert_counts(&s->link, 'b', 1, 1, 0);
    assert_counts(&s->link, 'a', 0, 2, 0);
    assert_empty(&s->world);
    s->link.filter.class_mask = MASK_ALL;
    append(&s->world, 'a');
    append(&s->world, 'b');
    append(&s->world, 'b');
    flush(&s->link);
    reconnect(&s->link);
    resume(&s->link, 'b', 3);
    resume(&s->link, 'b', 2); /* less than what it said: nothing */
    assert_string_equal(flush(&s->link), "A3 a3 B4 b4");
    assert_int_equal(s->world.log.cursors[3].inflight, 80);
    ack(&s->link, 'a', 3);
    ack(&s->link, 'b', 4);
    assert_counts(&s->link, 'b', 3, 1, 0);
    assert_empty(&s->world);
}

/* gimuxd was restarted and the driver sends again what the SVM has: it is not sent, and not given up. */
static void
test_resume_ahead_of_the_log(void **state)
{
    struct story *s = *state;

    resume(&s->link, 'a', 3);
    append_many(&s->world, 'a', 2, 40);
    append(&s->world, 'b');
    append_many(&s->world, 'a', 3, 40);
    link_flush(&s->link, 0, PIECES, 1000); /* a1 and a2 are passed over, the socket is full before b1 */
    assert_int_equal(give_up(&s->link), 3);
    assert_string_equal(flush(&s->link), "B1 A4 a4-5 b1-1");
    ack(&s->link, 'a', 5);
    ack(&s->link, 'b', 1);
    assert_counts(&s->link, 'a', 3, 0, 2);
    reconnect(&s->link);
    resume(&s->link, 'a', 7);
    append_many(&s->world, 'a', 3, 40);
    assert_int_equal(give_up(&s->link), 1);
    assert_string_equal(flush(&s->link), "A8 a8-8");
    ack(&s->link, 'a', 8);
    assert_counts(&s->link, 'a', 5, 0, 3);
    flush(&s->link);
    assert_empty(&s->world);
}

static void
test_leave_and_rejoin(void **state)
{
    struct story *s = *state;

    link_open(&s->other, &s->world, 0);
    append_many(&s->world, 'a', 2, 40000);
    flush(&s->link);
    ack(&s->link, 'a', 1);
    vmlog_leave(&s->world.log, 0); /* it held everything */
    assert_int_equal(s->world.streams[0].accepted, 1);
    assert_int_equal(s->world.log.bytes, VMLOG_LARGE_CHUNK);
    link_close(&s->other);
    link_open(&s->other, &s->world, 0);
    append(&s->world, 'a');
    assert_string_equal(flush(&s->other), "A3 a3");
    assert_string_equal(flush(&s->link), "a3");
    ack(&s->other, 'a', 3);
    vmlog_leave(&s->world.log, 3);
    assert_counts(&s->other, 'a', 1, 0, 0);
    assert_empty(&s->world);
}

/* ---- files ---- */

/* What the SVM acknowledged ahead of its turn is counted when its entry is met again; a position that says so
 * before the entry is settled has it counted once more after a kill. */
static void
test_position_has_no_count_ahead_of_it(void **state)
{
    struct story *s = *state;
    const struct vmlog_progress *progress = &s->world.streams[1].sinks[3];
    struct vmlog_saved saved;

    append(&s->world, 'a');
    append_many(&s->world, 'b', 3, 40);
    assert_string_equal(flush(&s->link), "A1 a1 B1 b1 b2 b3");
    ack(&s->link, 'b', 2);
    reconnect(&s->link);
    assert_string_equal(flush(&s->link), "A1 a1 B3 b3");
    assert_int_equal(progress->delivered, 2);
    saved = vmlog_save(&s->world.streams[1], 3, 3);
    assert_int_equal(saved.settled, 0);
    assert_int_equal(saved.acked, 2);
    assert_int_equal(saved.delivered, 0);
    ack(&s->link, 'a', 1);
    saved = vmlog_save(&s->world.streams[1], 3, 3);
    assert_int_equal(saved.settled, 2);
    assert_int_equal(saved.delivered, 2);
    saved = vmlog_save(&s->world.streams[1], 3, 1); /* the file has no more */
    assert_int_equal(saved.settled, 1);
    assert_int_equal(saved.acked, 2);
    assert_int_equal(saved.delivered, 1);
}

/* What another process has counted, whose files do not have the stream, is in the first position that is
 * written here: after an upgrade and a kill no count is smaller than before. */
static void
test_position_has_counts_of_another_process(void **state)
{
    struct story *s = *state;
    struct vmlog_counts counts = { .delivered = 60, .filtered = 30, .gapped = 10 };
    struct vmlog_saved saved;

    s->world.streams[0].last = 100;
    vmlog_join_stream(&s->world.streams[0], 3);
    vmlog_count_on(&s->world.log, 3, &s->world.streams[0], &counts);
    append_many(&s->world, 'a', 2, 40);
    assert_string_equal(flush(&s->link), "A101 a101 a102");
    ack(&s->link, 'a', 101);
    saved = vmlog_save(&s->world.streams[0], 3, 102);
    assert_int_equal(saved.settled, 101);
    assert_int_equal(saved.delivered, 61);
    assert_int_equal(saved.filtered, 30);
    assert_int_equal(saved.gapped, 10);
}

/* The chunk of which something was counted ahead of its turn must not leave: that it was would be forgotten.
 */
static void
test_counted_ahead_stays_in_memory(void **state)
{
    struct story *s = *state;
    struct iovec iov[1];
    struct vmlog_batch batch = { .iov = iov, .max = 1 };
    struct vmlog_stream *stream;
    struct vmlog_segment *segment = (struct vmlog_segment *)(void *)s; /* any */

    link_open(&s->other, &s->world, 4);
    vmlog_set_backed(&s->world.log, true);
    for (unsigned sink = 3; sink <= 4; sink++)
        vmlog_set_durability(&s->world.log, sink, VMLOG_RECORDED);
    append(&s->world, 'a');
    append(&s->world, 'b');
    append_many(&s->world, 'a', 1, BIG);
    s->world.log.first->segment = segment;
    vmlog_recorded(&s->world.log, s->world.log.next_number);
    vmlog_resume(&s->world.log, 3, &s->world.streams[1], 1); /* it comes back, and has b1 */
    vmlog_announce(&s->world.streams[0], 3, s->link.connection);
    vmlog_peek(&s->world.log, 3, &s->link.filter, s->link.connection, &batch, 100000, &stream);
    vmlog_sent(&s->world.log, 3, 0, iov); /* the socket took nothing */
    assert_counts(&s->link, 'b', 1, 0, 0);
    vmlog_spill(&s->world.log, UINT16_MAX, 0);
    assert_false(s->world.log.first->stub);
    assert_string_equal(flush(&s->link), "a1 a2");
    ack(&s->link, 'a', 2);
    assert_counts(&s->link, 'b', 1, 0, 0);
    assert_string_equal(flush(&s->other), "A1 a1 B1 b1 a2");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(test_sent_acked_accepted_freed),
        STORY(test_no_sink_keeps_nothing),
        STORY(test_partial_write_leaves_a_rest),
        STORY(test_small_batches),
        STORY(test_filters),
        STORY(test_slow_sink_holds_the_log_not_the_other),
        STORY(test_oversize_frames),
        STORY(test_pool_limit),
        STORY(test_reserve_without_commit),
        STORY(test_rewind_sends_again),
        STORY(test_resume_with_positions),
        STORY(test_resume_ahead_of_the_log),
        STORY(test_leave_and_rejoin),
        STORY(test_position_has_no_count_ahead_of_it),
        STORY(test_position_has_counts_of_another_process),
        STORY(test_counted_ahead_stays_in_memory),
    };

    return cmocka_run_group_tests_name("vmlog", tests, NULL, NULL);
}
