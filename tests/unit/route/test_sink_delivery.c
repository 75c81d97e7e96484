/* A sink: whose delivery it times, and when that counts. An event that "came" some seconds ago must be in a
 * bucket above these; nothing else is assumed of the clock. */
#include "tests/unit/route/sink_world.h"

#include "mux/net/loop.h"

#define SECOND UINT64_C(1000000000)

/* Deliveries timed until now. */
static unsigned
counted(const struct world *world)
{
    unsigned count = 0;

    for (unsigned i = 0; i <= HISTOGRAM_BOUNDS; i++)
        count += (unsigned)world->sink.delivery.counts[i];
    return count;
}

/* Those that took more than 5 seconds. */
static unsigned
slow(const struct world *world)
{
    return (unsigned)(world->sink.delivery.counts[HISTOGRAM_BOUNDS - 1] +
                      world->sink.delivery.counts[HISTOGRAM_BOUNDS]);
}

/* The end of a turn that began that long ago. */
static void
mark_ago(struct world *world, const struct stream *stream, uint64_t ns)
{
    sink_mark(&world->sink, stream->about.vm, loop_now_ns() - ns);
}

static void
test_one_entry_a_turn(void **state)
{
    struct world *world = *state;
    struct stream *stream = add_stream(world, 'a', '1', 1);

    up_plainly(world);
    append(world, stream, 5, 0);
    mark_ago(world, stream, 6 * SECOND);
    assert_int_equal(counted(world), 0);
    pump(world);
    assert_int_equal(counted(world), 1);
    assert_int_equal(slow(world), 1);
    assert_true(world->sink.delivery.sum >= 6 * SECOND);

    append(world, stream, 5, 0); /* not marked */
    pump(world);
    assert_int_equal(counted(world), 1);

    append(world, stream, 5, 0);
    mark_ago(world, stream, 0);
    pump(world);
    assert_int_equal(counted(world), 2);
    assert_int_equal(slow(world), 1);

    mark_ago(world, stream, 0); /* nothing is new */
    append(world, stream, 1, 0);
    sink_mark(&world->sink, stream->about.vm, 0); /* outside of turns */
    pump(world);
    assert_int_equal(counted(world), 2);
}

/* The last entry of the marked turn, not those before it; and it is not marked anew meanwhile. */
static void
test_counts_when_the_mark_is_passed(void **state)
{
    struct world *world = *state;
    struct stream *stream = add_stream(world, 'a', '1', 1);

    up_plainly(world);
    world->sink.window = 2500;
    append(world, stream, 4, 1000);
    mark_ago(world, stream, 6 * SECOND);
    pump(world);
    assert_string_equal(words(world), "S1@1 1.1 1.2 1.3");
    append(world, stream, 1, 1000);
    mark_ago(world, stream, 0);
    assert_int_equal(counted(world), 0);
    assert_true(ack(world, stream, 1));
    pump(world);
    assert_string_equal(words(world), "1.4");
    assert_int_equal(slow(world), 1);
    assert_true(ack(world, stream, 4));
    pump(world);
    assert_string_equal(words(world), "1.5");
    assert_int_equal(counted(world), 1);
}

/* The socket takes a part of the marked frame: it counts when the connection has sent the rest. */
static void
test_a_cut_frame(void **state)
{
    struct world *world = *state;
    struct stream *stream = add_stream(world, 'a', '1', 1);

    up_plainly(world);
    append(world, stream, 1, 0);
    pump(world);
    append(world, stream, 2, 1000);
    mark_ago(world, stream, 6 * SECOND);
    pump_once(world, BATCH, 1500);
    assert_int_equal(counted(world), 0);
    sink_drained(&world->sink);
    assert_int_equal(slow(world), 1);
    sink_drained(&world->sink);
    assert_int_equal(counted(world), 1);

    append(world, stream, 1, 1000);
    mark_ago(world, stream, 0);
    pump_once(world, BATCH, 500);
    assert_int_equal(counted(world), 1);
    append(world, stream, 1, 1000);
    pump(world); /* what follows goes behind the rest */
    assert_int_equal(counted(world), 2);

    append(world, stream, 2, 1000); /* the marked one is whole, the next is cut */
    mark_ago(world, stream, 4 * SECOND);
    append(world, stream, 1, 1000);
    pump_once(world, BATCH, 2500);
    assert_int_equal(counted(world), 3);
}

/* That it waited for the SVM to come back is part of it; a rest that is lost is not. */
static void
test_a_connection_that_ends(void **state)
{
    struct world *world = *state;
    struct stream *stream = add_stream(world, 'a', '1', 1);

    append(world, stream, 1, 1000);
    mark_ago(world, stream, 9 * SECOND);
    up_plainly(world);
    pump_once(world, BATCH, 500);
    assert_int_equal(counted(world), 0);
    sink_down(&world->sink, world->table);
    sink_drained(&world->sink);
    assert_int_equal(counted(world), 0);

    append(world, stream, 1, 1000);
    mark_ago(world, stream, 6 * SECOND);
    up_plainly(world);
    sink_down(&world->sink, world->table);
    up_plainly(world);
    pump(world);
    assert_int_equal(counted(world), 1);
    assert_int_equal(slow(world), 1);

    sink_down(&world->sink, world->table); /* and again what was not acknowledged */
    up_plainly(world);
    pump(world);
    assert_int_equal(counted(world), 1);
}

/* What the SVM does not want has no frame. */
static void
test_unwanted(void **state)
{
    struct world *world = *state;
    struct stream *stream = add_stream(world, 'a', '1', 1);

    world->conf.class_mask = 1u << CLASS_FILE;
    sink_set_conf(&world->sink, &world->conf);
    up_plainly(world);
    append_as(world, stream, CLASS_DNS, "", 0);
    mark_ago(world, stream, 6 * SECOND);
    pump(world);
    append(world, stream, 1, 0);
    pump(world);
    assert_int_equal(counted(world), 0);

    append_as(world, stream, CLASS_DNS, "", 0);
    assert_true(ack(world, stream, 2));
    mark_ago(world, stream, 4 * SECOND);
    sink_pass(&world->sink, stream->about.vm);
    append(world, stream, 1, 0);
    pump(world);
    assert_int_equal(counted(world), 0);

    append(world, stream, 1, 0); /* one that goes out with what is wanted counts */
    append_as(world, stream, CLASS_DNS, "", 0);
    mark_ago(world, stream, SECOND);
    pump(world);
    assert_int_equal(counted(world), 1);
}

static void
test_given_up(void **state)
{
    struct world *world = *state;
    struct stream *stream = add_stream(world, 'a', '1', 1);

    up_plainly(world);
    append(world, stream, 3, 0);
    mark_ago(world, stream, 6 * SECOND);
    assert_int_equal(vmlog_skip(&stream->about.vm->log, SLOT, 1), 3);
    sink_unmark(&world->sink, stream->about.vm);
    append(world, stream, 1, 0);
    pump(world);
    assert_true(ack(world, stream, 3));
    pump(world);
    assert_string_equal(words(world), "S1@1 G1:1-3r1 1.4");
    assert_int_equal(counted(world), 0);
}

/* All VMs of a turn, and then of none that begins within a millisecond. */
static void
test_a_turn_a_millisecond(void **state)
{
    struct world *world = *state;
    struct stream *streams[3] = { add_stream(world, 'a', '1', 1), add_stream(world, 'b', '1', 1),
                                  add_stream(world, 'c', '1', 1) };
    uint64_t began = loop_now_ns() - 6 * SECOND;

    up_plainly(world);
    for (unsigned i = 0; i < 3; i++)
        append(world, streams[i], 1, 0);
    sink_mark(&world->sink, streams[0]->about.vm, began);
    sink_mark(&world->sink, streams[1]->about.vm, began);
    sink_mark(&world->sink, streams[2]->about.vm, began + 999999);
    pump(world);
    assert_int_equal(counted(world), 2);
    append(world, streams[2], 1, 0);
    sink_mark(&world->sink, streams[2]->about.vm, began + 1000000);
    pump(world);
    assert_int_equal(counted(world), 3);
}

/* A log may have more entries in its life than 32 bits count. */
static void
test_numbers_wrap(void **state)
{
    struct world *world = *state;
    struct stream *stream = add_stream(world, 'a', '1', 1);
    struct vm_turn *turn = &route_vm(stream->about.vm)->turns[SLOT];

    up_plainly(world);
    append(world, stream, 1, 0);
    mark_ago(world, stream, 6 * SECOND);
    turn->mark = UINT32_MAX; /* two entries back, where the number wraps */
    pump(world);
    assert_int_equal(slow(world), 1);
    append(world, stream, 1, 0);
    mark_ago(world, stream, 4 * SECOND);
    turn->mark = INT32_MAX; /* far ahead */
    pump(world);
    assert_int_equal(counted(world), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_one_entry_a_turn),
        TEST(test_counts_when_the_mark_is_passed),
        TEST(test_a_cut_frame),
        TEST(test_a_connection_that_ends),
        TEST(test_unwanted),
        TEST(test_given_up),
        TEST(test_a_turn_a_millisecond),
        TEST(test_numbers_wrap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
