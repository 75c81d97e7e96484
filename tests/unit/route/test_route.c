/* The route: what reaches whom at the end of a turn, and who may read on: pauses, resumes, and what sinks
 * with policy drop give up. */
#include "tests/unit/route/route_world.h"

/* ---- a turn ---- */

/* However many records of however many guests a turn brings, an SVM is woken once, and one that is not there
 * is not. */
static void
test_one_wake_a_turn(void **state)
{
    struct world *world = *state;
    struct svm *svm = add_svm(world, 0, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    struct svm *away = add_svm(world, 1, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    struct guest *a = &world->guests[0];
    struct guest *b = &world->guests[1];

    connect_svm(svm);
    connect_guest(world, a, 'a');
    connect_guest(world, b, 'b');
    turn(world);
    assert_string_equal(words(svm), "S1@1 1.1+door S3@1 3.1+door");
    svm->wakes = 0;
    for (int i = 0; i < 3; i++) {
        assert_true(publish(world, a, 5, 5));
        assert_true(publish(world, b, 5, 5));
    }
    assert_int_equal(svm->wakes, 0);
    turn(world);
    assert_int_equal(svm->wakes, 1);
    assert_string_equal(words(svm), "S2@1 2.1 2.2 2.3 S4@1 4.1 4.2 4.3");
    turn(world);
    assert_int_equal(svm->wakes, 1);
    assert_int_equal(away->wakes, 0);
}

/* The guest is told once a turn, when every SVM has it. */
static void
test_accepted(void **state)
{
    struct world *world = *state;
    struct svm *first = add_svm(world, 0, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    struct svm *second = add_svm(world, 1, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    struct guest *guest = &world->guests[0];

    connect_svm(first);
    connect_svm(second);
    connect_guest(world, guest, 'a');
    for (int i = 0; i < 3; i++)
        publish(world, guest, 5, 5);
    turn(world);
    assert_int_equal(route_pending(world->route, first->sink), 4); /* with the lifecycle event */
    assert_int_equal(route_pending(world->route, NULL), 8);
    ack_all(first);
    turn(world);
    assert_int_equal(guest->accepted, 0);
    assert_true(route_ack(world->route, second->sink, guest->stream->log.id, 1));
    assert_true(route_ack(world->route, second->sink, guest->stream->log.id, 2));
    assert_int_equal(guest->accepted, 0); /* not from within the SVM's turn */
    turn(world);
    assert_int_equal(guest->accepted, 0); /* the lifecycle event stands before them */
    ack_all(second);
    turn(world);
    assert_int_equal(guest->accepted, 1);
    assert_int_equal(guest->stream->log.accepted, 3);
    assert_int_equal(route_pending(world->route, NULL), 0);
    publish(world, guest, 5, 5);
    turn(world);
    assert_int_equal(guest->accepted, 1); /* nothing new */
    assert_false(route_ack(world->route, second->sink, guest->stream->log.id, 5));
}

/* What nobody wants is accepted at once: if there is no solution at all, and if all that there are filter it.
 */
static void
test_accepted_without_an_svm(void **state)
{
    struct world *world = *state;
    struct guest *guest = &world->guests[0];
    struct svm *svm;

    connect_guest(world, guest, 'a');
    publish(world, guest, 5, 5);
    turn(world);
    assert_int_equal(guest->accepted, 1);
    svm = add_svm(world, 0, CONF_POLICY_PAUSE, 1u << CLASS_DNS);
    connect_svm(svm);
    publish(world, guest, 5, 5);
    publish(world, guest, 5, 5);
    turn(world);
    assert_int_equal(guest->accepted, 2);
    assert_int_equal(guest->stream->log.accepted, 3);
    assert_string_equal(words(svm), "");
}

/* ---- pause ---- */

/* A solution with policy pause that does not take what comes stops the VM whose log is full, and no other; it
 * goes on when a quarter is free. */
static void
test_pause_at_vm_log(void **state)
{
    struct world *world = *state;
    struct svm *svm = add_svm(world, 0, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    struct guest *flooding = &world->guests[0];
    struct guest *quiet = &world->guests[1];
    struct guest *late = &world->guests[2];

    svm->conf.window = 64 << 10;
    route_set_conf(world->route, &world->conf);
    connect_guest(world, flooding, 'a');
    connect_guest(world, quiet, 'b');
    assert_true(flood(world, flooding, 1000) > 500);
    turn(world);
    assert_int_equal(flooding->pauses, 1);
    assert_int_equal(flooding->resumes, 0);
    assert_in_range(flooding->stream->about.vm->log.bytes, 1 << 20, (1 << 20) + VMLOG_LARGE_CHUNK);
    assert_true(publish(world, quiet, 1000, 1000));
    assert_int_equal(quiet->pauses, 0);
    assert_int_equal(say_hello(world, late, 'a', '1', GR_VMX, 1, true), 0);
    assert_int_equal(late->pauses, 1); /* another driver of the same VM begins paused */

    connect_svm(svm);
    while (flooding->resumes == 0) { /* its window lets some out each time */
        assert_true(flooding->stream->about.vm->log.bytes > (1 << 20) / 2);
        turn(world);
        ack_all(svm);
    }
    assert_true(flooding->stream->about.vm->log.bytes <= (1 << 20) / 4 * 3);
    assert_int_equal(flooding->resumes, 1);
    assert_int_equal(late->resumes, 1);
    assert_int_equal(flooding->pauses, 1);
    assert_int_equal(quiet->pauses + quiet->resumes, 0);
}

/* All logs together: a record that finds no memory is not taken, and is not missing when it is offered again.
 */
static void
test_pause_at_memory(void **state)
{
    struct world *world = *state;
    struct svm *svm = add_svm(world, 0, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    struct guest *a = &world->guests[0];
    struct guest *b = &world->guests[1];
    uint64_t last;

    world->conf.limits.memory = 1 << 20;
    world->conf.limits.vm_log = 1 << 20;
    route_set_conf(world->route, &world->conf);
    connect_guest(world, a, 'a');
    connect_guest(world, b, 'b');
    flood(world, a, 20000);
    last = b->stream->log.last;
    while (publish(world, b, 20000, 20000))
        last++;
    assert_int_equal(b->stream->log.last, last);
    assert_int_equal(b->pauses, 1);
    assert_true(world->route->pool.used <= world->conf.limits.memory + world->route->pool.own);
    turn(world);
    assert_int_equal(a->resumes + b->resumes, 0);
    connect_svm(svm);
    while (b->resumes == 0) {
        turn(world);
        ack_all(svm);
        turn(world);
    }
    assert_true(publish(world, b, 20000, 20000));
    assert_int_equal(b->stream->log.last, last + 1);
}

/* When a solution leaves, what only it held back is free. */
static void
test_removed_sink_holds_nothing(void **state)
{
    struct world *world = *state;
    struct svm *svm = add_svm(world, 0, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    struct guest *guest = &world->guests[0];

    connect_guest(world, guest, 'a');
    flood(world, guest, 1000);
    turn(world);
    assert_int_equal(guest->accepted + guest->resumes, 0);
    route_remove_sink(world->route, svm->sink);
    assert_int_equal(guest->accepted + guest->resumes, 0);
    turn(world);
    assert_int_equal(guest->accepted, 1);
    assert_int_equal(guest->resumes, 1);
    assert_int_equal(guest->stream->log.accepted, guest->stream->log.last);
}

/* So does a reload that gives more room. */
static void
test_reload_resumes(void **state)
{
    struct world *world = *state;
    struct conf larger = world->conf;
    struct guest *guest = &world->guests[0];

    add_svm(world, 0, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    connect_guest(world, guest, 'a');
    flood(world, guest, 1000);
    turn(world);
    assert_int_equal(guest->resumes, 0);
    larger.limits.vm_log *= 2;
    route_set_conf(world->route, &larger);
    turn(world);
    assert_int_equal(guest->resumes, 1);
    assert_int_equal(world->svms[0].sink->window, larger.limits.vm_log / 2);
    flood(world, guest, 1000);
}

/* ---- drop ---- */

/* A solution with policy drop costs its VM nothing, up or not: what it was not sent becomes a gap. */
static void
test_drop_lets_the_guest_go_on(void **state)
{
    struct world *world = *state;
    struct svm *svm = add_svm(world, 0, CONF_POLICY_DROP, CLASS_MASK_ALL);
    struct guest *guest = &world->guests[0];
    uint32_t number;
    unsigned last = 0;
    char expected[100];

    connect_guest(world, guest, 'a');
    number = guest->stream->log.id;
    for (int i = 0; i < 5; i++) {
        last += flood(world, guest, 1000);
        turn(world);
        assert_int_equal(guest->resumes, guest->pauses);
        assert_int_equal(guest->stream->log.accepted, last);
    }
    assert_int_equal(guest->pauses, 5);
    assert_int_equal(svm->sink->skips, 5);
    assert_int_equal(svm->wakes, 0); /* nobody is there to tell */
    connect_svm(svm);
    turn(world);
    snprintf(expected, sizeof(expected), "S%u@1 G%u:1-%ur1 S1@1 G1:1-1r1", number, number, last);
    assert_string_equal(words(svm), expected);
    publish(world, guest, 5, 5);
    turn(world);
    assert_string_equal(words(svm), ""); /* it must have acknowledged the gap first */
    ack_all(svm);
    turn(world);
    snprintf(expected, sizeof(expected), "%u.%u", number, last + 1);
    assert_string_equal(words(svm), expected);
}

/* While a gap waits for its acknowledgement more is given up: that is told at once, though nothing else
 * comes. */
static void
test_a_gap_grows(void **state)
{
    struct world *world = *state;
    struct svm *svm = add_svm(world, 0, CONF_POLICY_DROP, 1u << CLASS_FILE);
    struct guest *guest = &world->guests[0];
    unsigned first;
    unsigned second;
    char expected[100];

    connect_guest(world, guest, 'a');
    first = flood(world, guest, 1000);
    turn(world);
    connect_svm(svm);
    turn(world);
    snprintf(expected, sizeof(expected), "S2@1 G2:1-%ur1", first);
    assert_string_equal(words(svm), expected);
    second = first + flood(world, guest, 1000);
    turn(world);
    snprintf(expected, sizeof(expected), "G2:%u-%ur1", first + 1, second);
    assert_string_equal(words(svm), expected);
}

/* It gives up nothing where that would free nothing: another, with policy pause, is as far behind. */
static void
test_drop_waits_with_pause(void **state)
{
    struct world *world = *state;
    struct svm *drop = add_svm(world, 0, CONF_POLICY_DROP, CLASS_MASK_ALL);
    struct svm *pause = add_svm(world, 1, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    struct guest *guest = &world->guests[0];

    connect_guest(world, guest, 'a');
    flood(world, guest, 1000);
    turn(world);
    assert_int_equal(drop->sink->skips, 0);
    assert_int_equal(guest->resumes, 0);
    connect_svm(pause);
    turn(world);
    ack_all(pause); /* now the other alone is the last */
    turn(world);
    assert_int_equal(drop->sink->skips, 1);
    while (guest->resumes == 0) {
        turn(world);
        ack_all(pause);
    }
    assert_null(strstr(words(pause), "G"));
}

/* A driver with half its window unacknowledged must be told something, though the log has room. */
static void
test_drop_at_half_the_window(void **state)
{
    struct world *world = *state;
    struct svm *svm = add_svm(world, 0, CONF_POLICY_DROP, CLASS_MASK_ALL);
    struct guest *guest = &world->guests[0];

    world->conf.limits.vm_window = 100000;
    connect_guest(world, guest, 'a');
    for (int i = 0; i < 49; i++)
        publish(world, guest, 5, 1000);
    turn(world);
    assert_int_equal(svm->sink->skips, 0);
    assert_int_equal(guest->accepted, 0);
    publish(world, guest, 5, 1000);
    turn(world);
    assert_int_equal(svm->sink->skips, 1);
    assert_int_equal(guest->accepted, 1);
    assert_int_equal(guest->stream->log.accepted, 50);
    assert_int_equal(guest->pauses, 0);
}

/* One that keeps up gives up nothing, however much comes in one turn. */
static void
test_drop_that_keeps_up(void **state)
{
    struct world *world = *state;
    struct svm *svm = add_svm(world, 0, CONF_POLICY_DROP, CLASS_MASK_ALL);
    struct guest *guest = &world->guests[0];

    world->conf.limits.vm_window = 100000;
    svm->conf.window = 4 << 20;
    route_set_conf(world->route, &world->conf);
    connect_svm(svm);
    connect_guest(world, guest, 'a');
    for (int i = 0; i < 10; i++) {
        for (int n = 0; n < 60; n++)
            publish(world, guest, 5, 1000);
        turn(world);
        ack_all(svm);
        turn(world);
    }
    assert_int_equal(svm->sink->skips, 0);
    assert_int_equal(guest->stream->log.accepted, 600);
}

/* Once the one that is gone has given up, the log has room for what the other was not sent yet. */
static void
test_drop_of_one_is_enough(void **state)
{
    struct world *world = *state;
    struct svm *gone = add_svm(world, 0, CONF_POLICY_DROP, CLASS_MASK_ALL);
    struct svm *slow = add_svm(world, 1, CONF_POLICY_DROP, CLASS_MASK_ALL);
    struct guest *guest = &world->guests[0];

    slow->conf.window = 64 << 10;
    route_set_conf(world->route, &world->conf);
    connect_svm(slow);
    connect_guest(world, guest, 'a');
    while (guest->stream->about.vm->log.bytes < world->conf.limits.vm_log / 2) {
        publish(world, guest, 1000, 5);
        turn(world);
        ack_all(slow);
    }
    flood(world, guest, 1000);
    turn(world);
    assert_int_equal(gone->sink->skips, 1);
    assert_int_equal(slow->sink->skips, 0);
    assert_true(vmlog_has_more(&guest->stream->about.vm->log, slow->sink->slot));
    assert_int_equal(guest->resumes, guest->pauses);
}

/* Grants the solution the VMs of these letters alone. */
static void
grant(struct svm *svm, char first, char last)
{
    static char texts[CONF_LIST_MAX][GR_UUID_TEXT];
    struct conf_list *vms = &svm->conf.vms;

    vms->count = 0;
    for (char vm = first; vm <= last; vm++) {
        uint8_t uuid[GR_UUID_SIZE];

        memset(uuid, vm, sizeof(uuid));
        gr_uuid_format(uuid, texts[vms->count]);
        vms->texts[vms->count] = texts[vms->count];
        vms->count++;
    }
}

/* Memory is full of VMs that nobody speaks for any more: their logs give way to one that waits, and that has
 * nothing to give up itself. */
static void
test_drop_frees_the_longest(void **state)
{
    struct world *world = *state;
    struct svm *drop = add_svm(world, 0, CONF_POLICY_DROP, CLASS_MASK_ALL);
    struct svm *pause = add_svm(world, 1, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    struct guest *gone = &world->guests[0];
    struct guest *guest = &world->guests[1];

    grant(pause, 'z', 'z');
    world->conf.limits.vms = 20;
    world->conf.limits.memory = 1 << 20;
    world->conf.limits.vm_log = 1 << 20;
    route_set_conf(world->route, &world->conf);
    for (char vm = 'a'; vm < 'a' + 14; vm++) { /* short ones, which no share of memory keeps back */
        connect_guest(world, gone, vm);
        while (gone->stream->about.vm->log.bytes <= VMLOG_SMALL_CHUNK)
            assert_true(publish(world, gone, 1000, 1000));
        route_close(world->route, gone->stream, true, "gone");
        turn(world);
    }
    assert_int_equal(drop->sink->skips, 0);
    connect_guest(world, guest, 'z');
    assert_true(flood(world, guest, 1000) > 0);
    turn(world);
    assert_int_equal(drop->sink->skips, 1);
    assert_int_equal(guest->pauses, 1);
    assert_int_equal(guest->resumes, 1);
    assert_true(guest->stream->about.vm->log.bytes > VMLOG_LARGE_CHUNK);
}

/* Logs that nobody takes are full before memory is. So a VM that nobody holds up goes on as soon as its own
 * log was taken, whatever the others hold. */
static void
test_full_logs_leave_memory_to_others(void **state)
{
    struct world *world = *state;
    struct svm *healthy = add_svm(world, 0, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    struct svm *away = add_svm(world, 1, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    struct guest *guest = &world->guests[0];

    grant(away, 'a', 'l');
    world->conf.limits.vms = 20;
    world->conf.limits.memory = 4 << 20;
    world->conf.limits.vm_log = 1 << 20;
    route_set_conf(world->route, &world->conf);
    connect_svm(healthy);
    for (char vm = 'a'; vm <= 'l'; vm++) { /* together they could hold three times as much */
        struct guest *stuck = &world->guests[1];

        memset(stuck, 0, sizeof(*stuck));
        connect_guest(world, stuck, vm);
        flood(world, stuck, 1000);
        turn(world);
        ack_all(healthy);
        turn(world);
        assert_int_equal(stuck->resumes, 0);
        route_close(world->route, stuck->stream, false, "gone");
        turn(world);
        words(healthy);
    }
    assert_in_range(world->route->pool.used, 3 << 20, (4 << 20) - (128 << 10));
    connect_guest(world, guest, 'z');
    for (int round = 0; round < 20; round++) {
        assert_true(flood(world, guest, 1000) > 40);
        turn(world);
        ack_all(healthy);
        turn(world);
        words(healthy);
        assert_int_equal(guest->resumes, guest->pauses);
    }
    route_remove_sink(world->route, away->sink);
}

/* What a solution is not granted, or does not want by its configuration, waits for no SVM of it: not for one
 * that has never come, and not for one that takes nothing. */
static void
test_what_is_not_wanted_waits_for_nobody(void **state)
{
    struct world *world = *state;
    struct svm *away = add_svm(world, 0, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    struct svm *stalled = add_svm(world, 1, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    struct svm *narrow = add_svm(world, 2, CONF_POLICY_PAUSE, 1u << CLASS_DNS);
    struct guest *guest = &world->guests[0];

    grant(away, 'a', 'a');
    grant(stalled, 'a', 'a');
    connect_svm(stalled);
    stalled->stalled = true;
    connect_guest(world, guest, 'z');
    publish(world, guest, 1000, 1000);
    turn(world);
    assert_int_equal(guest->stream->log.accepted, 1);
    assert_int_equal(route_pending(world->route, NULL), 0);
    connect_svm(narrow);
    turn(world);
    assert_string_equal(words(narrow), "");
    route_sink_down(world->route, stalled->sink);
    publish(world, guest, 1000, 1000);
    turn(world);
    assert_int_equal(guest->stream->log.accepted, 2);
    connect_guest(world, &world->guests[1], 'a');
    publish(world, &world->guests[1], 1000, 1000);
    turn(world);
    assert_int_equal(world->guests[1].stream->log.accepted, 0); /* this is wanted */
    world->svms[1].conf.vms.count = world->svms[0].conf.vms.count = 0;
}

/* An SVM that acknowledges nothing holds its share of memory and no more, however many VMs there are; what it
 * is not sent, it gives up. When it acknowledges after all, all go on. */
static void
test_what_is_in_flight_has_a_share_of_memory(void **state)
{
    struct world *world = *state;
    struct svm *mute = add_svm(world, 0, CONF_POLICY_DROP, CLASS_MASK_ALL);
    struct guest *guest = &world->guests[0];

    world->conf.limits.vms = 20;
    world->conf.limits.memory = 4 << 20;
    world->conf.limits.vm_log = 1 << 20;
    route_set_conf(world->route, &world->conf);
    connect_svm(mute);
    for (int round = 0; round < 3; round++) {
        for (char vm = 'a'; vm < 'a' + 12; vm++) {
            memset(guest, 0, sizeof(*guest));
            connect_guest(world, guest, vm);
            flood(world, guest, 1000);
            turn(world);
            assert_int_equal(guest->resumes, guest->pauses);
            route_close(world->route, guest->stream, false, "gone");
            turn(world);
            words(mute);
        }
        assert_true(mute->sink->share == 2 << 20);
        assert_in_range(mute->sink->held, 1, (2 << 20) + (256 << 10));
        assert_true(mute->sink->skips > 0);
    }
    for (int round = 0; route_pending(world->route, NULL) > 0; round++) {
        assert_true(round < 100);
        ack_all(mute);
        turn(world);
        words(mute);
    }
    assert_int_equal(mute->sink->held + world->route->pool.used, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_one_wake_a_turn),
        TEST(test_accepted),
        TEST(test_accepted_without_an_svm),
        TEST(test_pause_at_vm_log),
        TEST(test_pause_at_memory),
        TEST(test_removed_sink_holds_nothing),
        TEST(test_reload_resumes),
        TEST(test_drop_lets_the_guest_go_on),
        TEST(test_a_gap_grows),
        TEST(test_drop_waits_with_pause),
        TEST(test_drop_at_half_the_window),
        TEST(test_drop_that_keeps_up),
        TEST(test_drop_of_one_is_enough),
        TEST(test_drop_frees_the_longest),
        TEST(test_full_logs_leave_memory_to_others),
        TEST(test_what_is_not_wanted_waits_for_nobody),
        TEST(test_what_is_in_flight_has_a_share_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
