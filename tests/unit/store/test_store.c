/* The store: what went wrong once, one story after the other. What may happen in any order is in
 * test_store_model. */
#include "tests/unit/store/store_story.h"

/* ---- loading ---- */

static void
on_wake_pump(void *arg)
{
    struct svm *svm = arg;

    for (svm->wire.woken = true; svm->wire.woken; svm_read(svm, UINT32_MAX))
        svm_pump(svm, SIZE_MAX / 2);
}

/* A sink that may not load more was fed and refused again and again, and the turn never ended: the loop stood
 * still. (loop_flush of this test gives up.) */
static void
test_refused_load_ends_the_turn(void **state)
{
    static const struct sink_ops ops = { .tell = wire_tell, .wake = on_wake_pump };
    struct svm *svm = solution(CONF_POLICY_SPILL);
    struct driver *a, *b;

    (void)state;
    model->conf.limits.memory = 4096 * KIB; /* 256 KiB of what is read back */
    start();
    route_remove_sink(model->route, svm->sink);
    assert_non_null(svm->sink = route_add_sink(model->route, svm->conf, &ops, svm));
    a = driver(0);
    b = driver(2);
    make(a, 100, SMALL);
    make(b, 100, SMALL);
    for (unsigned i = 0; i < 2;
         i++) { /* chunks of their own, of which one fits into the share beside others */
        make(a, 1, LARGE);
        make(b, 1, LARGE);
        rest();
    }
    assert_true(stubs(a) > 0 && stubs(b) > 0);
    svm_connect(svm);
    for (unsigned i = 0; i < 10; i++) {
        loop_flush(&the_loop);
        disk_do_one();
    }
    assert_true(svm->sink->starving && *loaded(svm) > 0); /* one is there, the other has to wait */
    for (unsigned i = 0; i < 20; i++) {
        svm_ack(svm, true);
        loop_flush(&the_loop);
        disk_do_one();
    }
    assert_int_equal(had(svm, a), a->count);
    assert_int_equal(had(svm, b), b->count);
}

/* The share of one that waits for its SVM was taken from one that is away, and nothing was loaded for it. */
static void
test_loaded_counts_for_who_keeps_it(void **state)
{
    struct svm *away = solution(CONF_POLICY_SPILL);
    struct svm *first = solution(CONF_POLICY_SPILL);
    struct svm *second = solution(CONF_POLICY_SPILL);

    (void)state;
    start();
    spill(driver(0));
    svm_connect(first);
    svm_connect(second);
    pump(first);
    assert_true(disk_do_one());
    pump(first);
    pump(second);
    assert_true(*loaded(first) > 0);
    svm_ack(first, true);
    assert_int_equal(*loaded(first), 0);
    assert_true(*loaded(second) > 0);
    assert_int_equal(*loaded(away), 0);
    drain(first);
    drain(second);
    assert_int_equal(had(second, driver(0)), driver(0)->count);
}

/* It stayed in memory, and in the share of a sink that had no use for it. */
static void
test_loaded_for_who_gave_it_up(void **state)
{
    struct svm *dropping = solution(CONF_POLICY_DROP);
    struct svm *spilling = solution(CONF_POLICY_SPILL);
    struct vmlog *log;
    unsigned before;

    (void)state;
    start();
    spill(driver(0));
    log = &driver(0)->stream->about.vm->log;
    before = stubs(driver(0));
    svm_connect(dropping);
    pump(dropping);
    assert_true(log->first->loading);
    assert_true(vmlog_skip(log, dropping->sink->slot, GIMUX__V1__GAP_REASON__GAP_REASON_OVERFLOW) > 0);
    assert_true(disk_do_one());
    assert_int_equal(stubs(driver(0)), before);
    assert_int_equal(*loaded(dropping) + *loaded(spilling), 0);
}

/* An SVM with durability `delivered` is away over a restart. What the other one has done with could not leave
 * memory again, since it was not accepted: so all of a log came into memory. */
static void
test_unaccepted_leaves_memory_again(void **state)
{
    struct svm *away = solution(CONF_POLICY_PAUSE);
    struct svm *svm = solution(CONF_POLICY_SPILL);

    (void)state;
    away->conf->durability = CONF_DELIVERED;
    model->conf.limits.vm_log = 2048 * KIB;
    start();
    make(driver(0), 1000, SMALL);
    rest();
    assert_int_equal(driver(0)->accepted, 0);
    kill_and_start();
    assert_true(stubs(driver(0)) > 5);
    svm_connect(svm);
    drain(svm);
    assert_int_equal(had(svm, driver(0)), driver(0)->count);
    assert_true(driver(0)->stream->about.vm->log.bytes <= 2 * VMLOG_LARGE_CHUNK);
    assert_int_equal(*loaded(away) + *loaded(svm), 0);
}

/* What all have settled is not written, but that they have; and a write that is torn in the middle of saying
 * so must not leave a stream that is further than who is told of it: that would be a gap over what it has. */
static void
test_torn_write_makes_no_gap(void **state)
{
    struct svm *svm = solution(CONF_POLICY_PAUSE);
    struct driver *a, *b;

    (void)state;
    model->conf.limits.vm_log = 2048 * KIB;
    start();
    for (size_t torn = 1; torn < 2200; torn += 97) {
        a = driver(0);
        b = driver(2);
        svm_connect(svm);
        make(a, 2, LARGE);
        rest(); /* what follows that begins a segment */
        make(b, 1, SMALL);
        begin_writing();
        make(a, 3, SMALL);
        pump(svm);
        svm_ack(svm, true);
        loop_flush(&the_loop);
        assert_true(disk_do_one());
        assert_true(beat());
        io.die_in = 1;
        io.torn = torn;
        disk_do_one();
        assert_true(io.dead);
        kill_and_start();
        make(driver(0), 1, SMALL); /* it sends again what is not in files */
        svm_connect(svm);
        drain(svm);
        assert_int_equal(had(svm, driver(0)), driver(0)->items[driver(0)->count - 1].last);
        rest();
        kill_and_start();
    }
}

/* What all SVMs acknowledge before the second beat is accepted, and never written. */
static void
test_settled_in_time_is_not_written(void **state)
{
    struct svm *svm = solution(CONF_POLICY_PAUSE);

    (void)state;
    start();
    svm_connect(svm);
    make(driver(0), 50, SMALL);
    loop_flush(&the_loop);
    assert_true(beat());
    assert_false(disk_do_one());
    assert_int_equal(driver(0)->accepted, 0);
    pump(svm);
    svm_ack(svm, true);
    rest();
    assert_int_equal(driver(0)->accepted, 50);
    assert_in_range(storage().bytes, 1, 50 * SMALL / 2);
}

/* What nobody acknowledges is written at the second beat, and what came after the first beat at the third. */
static void
test_unsettled_does_not_wait(void **state)
{
    (void)state;
    solution(CONF_POLICY_PAUSE);
    start();
    make(driver(0), 10, SMALL);
    loop_flush(&the_loop);
    assert_true(beat());
    make(driver(0), 10, SMALL);
    loop_flush(&the_loop);
    for (uint64_t accepted = 10; accepted <= 20; accepted += 10) {
        assert_true(beat());
        assert_true(disk_do_one());
        loop_flush(&the_loop);
        assert_int_equal(driver(0)->accepted, accepted);
    }
}

/* What came during a slow write was not there at the beat before it: that waited for one write more. */
static void
test_a_slow_write_is_followed_by_all_that_came_meanwhile(void **state)
{
    (void)state;
    solution(CONF_POLICY_PAUSE);
    start();
    io.takes = 20;
    make(driver(0), 10, SMALL);
    make(driver(2), 1, SMALL);
    begin_writing();
    make(driver(0), 10, SMALL);
    make(driver(3), 10, SMALL); /* of the other VM */
    loop_flush(&the_loop);
    assert_true(disk_do_one());
    assert_true(disk_do_one());
    loop_flush(&the_loop);
    assert_int_equal(driver(0)->accepted, 20);
    assert_int_equal(driver(3)->accepted, 10);
}

/* What goes beyond a VM's part of one batch is as old as the rest: it waited for a beat, each part again. */
static void
test_more_than_a_share_goes_on_at_once(void **state)
{
    (void)state;
    model->conf.limits.vm_log = 4096 * KIB;
    solution(CONF_POLICY_PAUSE);
    start();
    make(driver(0), 10, LARGE);
    begin_writing();
    while (disk_do_one())
        continue;
    loop_flush(&the_loop);
    assert_int_equal(driver(0)->accepted, 10);
}

/* An upgrade came to nothing: the tick had come meanwhile, and for what waited for it none came any more. */
static void
test_what_failed_is_tried_again_after_a_thaw(void **state)
{
    (void)state;
    solution(CONF_POLICY_PAUSE);
    start();
    make(driver(0), 10, SMALL);
    begin_writing();
    io.write_error = EIO;
    assert_true(disk_do_one());
    route_leave(model->route, true);
    tick();
    io.write_error = 0;
    route_stay(model->route);
    rest();
    assert_int_equal(driver(0)->accepted, 10);
}

/* It stayed until the next chunk came, for which there was no share. */
static void
test_settled_leaves_at_once(void **state)
{
    struct svm *svm = solution(CONF_POLICY_SPILL);

    (void)state;
    start();
    spill(driver(0));
    svm_connect(svm);
    pump(svm);
    assert_true(disk_do_one());
    pump(svm);
    assert_true(*loaded(svm) > 0);
    svm_ack(svm, true);
    assert_int_equal(*loaded(svm), 0);
    drain(svm);
    assert_int_equal(had(svm, driver(0)), driver(0)->count);
}

/* A file that cannot be read is a gap for the first SVM. For the second it is all there, which is more than
 * the log had numbers for: gimuxd ended. */
static void
test_read_again_with_more(void **state)
{
    struct svm *first = solution(CONF_POLICY_SPILL);
    struct svm *second = solution(CONF_POLICY_SPILL);
    const struct vmlog_progress *progress;

    (void)state;
    start();
    spill(driver(0));
    model->lossy = true;
    io.read_error = EIO;
    svm_connect(first);
    drain(first);
    io.read_error = 0;
    progress = driver(0)->stream->log.sinks;
    assert_true(progress[first->sink->slot].gapped > 0);
    svm_connect(second);
    drain(second);
    assert_int_equal(progress[second->sink->slot].gapped, 0);
    assert_int_equal(progress[second->sink->slot].delivered, driver(0)->count);
}

/* ---- writing ---- */

/* A position that was ahead of the files said after a kill that what the driver still had had been there: the
 * other SVM got a gap. */
static void
test_no_position_is_ahead_of_the_files(void **state)
{
    struct svm *quick = solution(CONF_POLICY_PAUSE);
    struct svm *away = solution(CONF_POLICY_PAUSE);
    uint64_t accepted;

    (void)state;
    model->conf.storage.vm = 8 * KIB;
    start();
    svm_connect(quick);
    make(driver(0), 40, SMALL); /* for which there is no room */
    rest();
    drain(quick);
    accepted = driver(0)->accepted;
    assert_int_equal(had(quick, driver(0)), 40);
    assert_in_range(accepted, 1, 39);
    model->conf.storage.vm = (uint64_t)64 << 20;
    kill_and_start();
    assert_int_equal(driver(0)->stream->log.last, accepted);
    make(driver(0), 0, 0);
    svm_connect(away);
    drain(away);
    assert_int_equal(had(away, driver(0)), 40);
    assert_int_equal(driver(0)->stream->log.sinks[away->sink->slot].gapped, 0);
    svm_connect(quick);
    drain(quick);
    assert_int_equal(driver(0)->accepted, 40);
}

/* A write fails, and is tried again when there is less before it: the chunk kept the place of the first time,
 * and was read from there. */
static void
test_failed_write_leaves_no_place(void **state)
{
    struct svm *svm = solution(CONF_POLICY_SPILL);
    struct svm *removed = solution(CONF_POLICY_PAUSE);

    (void)state;
    start();
    make(driver(0), 50, SMALL);
    begin_writing();
    io.write_error = EIO;
    assert_true(disk_do_one());
    io.write_error = 0;
    assert_int_equal(driver(0)->accepted, 0);
    route_remove_sink(model->route, removed->sink); /* it has no positions any more */
    model->conf.solution_count--;
    rest();
    spill(driver(0));
    svm_connect(svm);
    drain(svm);
    assert_int_equal(had(svm, driver(0)), driver(0)->count);
    assert_int_equal(driver(0)->stream->log.sinks[svm->sink->slot].gapped, 0);
}

/* Each VM of a batch was compared with storage.total alone. */
static void
test_a_batch_keeps_to_the_total(void **state)
{
    const unsigned positions = 8 * KIB; /* which may go beyond */

    (void)state;
    solution(CONF_POLICY_PAUSE);
    model->conf.limits.vm_log = 2048 * KIB;
    model->conf.storage.total = 400 * KIB;
    start();
    make(driver(0), 500, SMALL);
    make(driver(2), 500, SMALL);
    begin_writing();
    assert_true(disk_do_one());
    assert_in_range(storage().bytes, 300 * KIB, 400 * KIB + positions);
}

/* What is not in files comes again with the driver, in its place and once. */
static void
test_driver_sends_again_what_was_not_written(void **state)
{
    struct svm *svm = solution(CONF_POLICY_PAUSE);

    (void)state;
    start();
    make(driver(0), 10, SMALL);
    rest();
    make(driver(0), 10, SMALL);
    driver_disconnect(driver(0));
    kill_and_start();
    assert_int_equal(driver(0)->stream->log.last, 10);
    make(driver(0), 0, 0);
    svm_connect(svm);
    drain(svm);
    assert_int_equal(had(svm, driver(0)), 20);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(test_refused_load_ends_the_turn),
        STORY(test_loaded_counts_for_who_keeps_it),
        STORY(test_loaded_for_who_gave_it_up),
        STORY(test_unaccepted_leaves_memory_again),
        STORY(test_torn_write_makes_no_gap),
        STORY(test_settled_in_time_is_not_written),
        STORY(test_unsettled_does_not_wait),
        STORY(test_more_than_a_share_goes_on_at_once),
        STORY(test_a_slow_write_is_followed_by_all_that_came_meanwhile),
        STORY(test_settled_leaves_at_once),
        STORY(test_read_again_with_more),
        STORY(test_no_position_is_ahead_of_the_files),
        STORY(test_failed_write_leaves_no_place),
        STORY(test_a_batch_keeps_to_the_total),
        STORY(test_what_failed_is_tried_again_after_a_thaw),
        STORY(test_driver_sends_again_what_was_not_written),
    };

    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
