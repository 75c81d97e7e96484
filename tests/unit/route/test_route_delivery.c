/* The route: of which deliveries it has the sinks take the time. All is one turn of the loop, which never
 * ends. */
#include "tests/unit/route/route_world.h"

static unsigned
counted(const struct svm *svm)
{
    unsigned count = 0;

    for (unsigned i = 0; i <= HISTOGRAM_BOUNDS; i++)
        count += (unsigned)svm->sink->delivery.counts[i];
    return count;
}

static uint64_t
mark_of(const struct svm *svm, const struct vm *vm)
{
    return route_vm(vm)->turns[svm->sink->slot].marked;
}

static void
test_what_grows_is_timed(void **state)
{
    struct world *world = *state;
    struct svm *svm = add_svm(world, 0, CONF_POLICY_PAUSE, 1u << CLASS_FILE);
    struct svm *other = add_svm(world, 1, CONF_POLICY_PAUSE, 1u << CLASS_NETWORK);
    struct guest guest = { 0 };

    connect_svm(svm);
    connect_svm(other);
    connect_guest(world, &guest, 'a');
    turn(world);
    assert_int_equal(counted(svm), 0); /* no turn has begun */

    loop_begin(world->loop);
    svm->stalled = true;
    assert_true(publish(world, &guest, 10, 10));
    turn(world);
    assert_int_equal(mark_of(svm, guest.stream->about.vm), loop_turn_began(world->loop));
    assert_int_equal(counted(svm), 0);
    svm->stalled = false;
    assert_true(publish(world, &guest, 10, 10));
    turn(world);
    assert_int_equal(counted(svm), 1);
    assert_int_equal(mark_of(svm, guest.stream->about.vm), 0);
    assert_int_equal(counted(other), 0); /* nothing was for it */
    assert_int_equal(mark_of(other, guest.stream->about.vm), 0);
    ack_all(svm);
    route_close(world->route, guest.stream, true, "the end");
}

static void
test_what_is_given_up_is_not(void **state)
{
    struct world *world = *state;
    struct svm *svm = add_svm(world, 0, CONF_POLICY_DROP, CLASS_MASK_ALL);
    struct guest guest = { 0 };

    connect_svm(svm);
    connect_guest(world, &guest, 'a');
    turn(world);
    ack_all(svm);
    loop_begin(world->loop);
    svm->stalled = true;
    assert_true(publish(world, &guest, 10, 10));
    turn(world);
    assert_int_equal(mark_of(svm, guest.stream->about.vm), loop_turn_began(world->loop));
    flood(world, &guest, 1000);
    turn(world);
    assert_int_equal(svm->sink->skips, 1);
    assert_int_equal(mark_of(svm, guest.stream->about.vm), 0);
    assert_int_equal(counted(svm), 0);
    svm->stalled = false;
    route_close(world->route, guest.stream, true, "the end");
}

/* Who comes in the place of another solution has nothing to do with what that one waited for. */
static void
test_a_slot_that_changes_hands(void **state)
{
    struct world *world = *state;
    struct svm *svm = add_svm(world, 0, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    struct svm *next;
    struct guest guest = { 0 };

    connect_guest(world, &guest, 'a');
    loop_begin(world->loop);
    turn(world);
    assert_int_equal(mark_of(svm, guest.stream->about.vm), loop_turn_began(world->loop));
    route_remove_sink(world->route, svm->sink);
    turn(world);
    next = add_svm(world, 1, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    assert_int_equal(next->sink->slot, 0);
    assert_int_equal(mark_of(next, guest.stream->about.vm), 0);
    route_close(world->route, guest.stream, true, "the end");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_grows_is_timed),
        TEST(test_what_is_given_up_is_not),
        TEST(test_a_slot_that_changes_hands),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
