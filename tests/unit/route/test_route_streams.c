/* The route: drivers that come, go, come again or come as somebody else, what is told of it, and what drivers
 * are told of the solutions. */
#include "tests/unit/route/route_world.h"

static int reallocs_left = -1; /* until memory ends; -1: it does not */

void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *
__wrap_realloc(void *old, size_t size)
{
    if (reallocs_left == 0)
        return NULL;
    if (reallocs_left > 0)
        reallocs_left--;
    return __real_realloc(old, size);
}

/* ---- who may come ---- */

static void
test_lifecycle(void **state)
{
    struct world *world = *state;
    struct svm *svm = add_svm(world, 0, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    struct guest *guest = &world->guests[0];
    struct stream *stream;

    connect_svm(svm);
    connect_guest(world, guest, 'a');
    stream = guest->stream;
    assert_ptr_equal(stream->guest, guest);
    assert_int_equal(route_vm(stream->about.vm)->connected, 1);
    assert_string_equal(stream->about.build, "build");
    assert_string_equal(stream->about.guest_os, "os");
    route_lifecycle(world->route, stream, false, "silent");
    route_lifecycle(world->route, stream, true, NULL);
    route_close(world->route, stream, false, "closed");
    assert_int_equal(route_vm(stream->about.vm)->connected, 0);
    assert_false(stream->about.ended);
    turn(world);
    assert_string_equal(words(svm), "S1@1 1.1+door 1.2-silent 1.3+ 1.4-closed");

    /* it comes back on the same stream; one that was told as lost is not told again when it closes */
    connect_guest(world, guest, 'a');
    assert_ptr_equal(guest->stream, stream);
    route_lifecycle(world->route, stream, false, "silent");
    route_close(world->route, stream, true, "closed");
    assert_true(stream->about.ended);
    turn(world);
    assert_string_equal(words(svm), "1.5+door 1.6-silent");
    connect_guest(world, guest, 'a');
    assert_false(stream->about.ended);
    route_close(world->route, stream, false, "closed");
    turn(world);
    assert_string_equal(words(svm), "1.7+door 1.8-closed");
}

/* Two VMs with one UUID: the second is turned away where the door does not prove who it is. */
static void
test_clone(void **state)
{
    struct world *world = *state;
    struct guest *guest = &world->guests[0];
    struct guest *clone = &world->guests[1];
    struct guest *other_driver = &world->guests[2];

    assert_int_equal(say_hello(world, guest, 'a', '1', GR_LINUX, 1, false), 0);
    assert_int_equal(say_hello(world, clone, 'a', '2', GR_LINUX, 1, false), GR_REJECT_CLONE);
    assert_string_equal(world->why,
                        "another VM with this UUID is connected: a clone needs a UUID of its own");
    assert_int_equal(say_hello(world, clone, 'a', '2', GR_VSEPFLT, 1, false), GR_REJECT_CLONE);
    assert_int_equal(say_hello(world, other_driver, 'a', '1', GR_VSEPFLT, 1, false), 0);
    assert_string_equal(guest->replaced, "");
    assert_int_equal(route_vm(guest->stream->about.vm)->connected, 2);
    route_close(world->route, guest->stream, false, "");
    route_close(world->route, other_driver->stream, false, "");
    assert_int_equal(say_hello(world, clone, 'a', '2', GR_LINUX, 1, false), 0); /* nobody is there */
}

/* The driver connects again before its old connection was found dead. */
static void
test_takeover(void **state)
{
    struct world *world = *state;
    struct svm *svm = add_svm(world, 0, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    struct guest *former = &world->guests[0];
    struct guest *guest = &world->guests[1];
    struct stream *stream;

    connect_svm(svm);
    connect_guest(world, former, 'a');
    stream = former->stream;
    publish(world, former, 5, 5);
    assert_int_equal(say_hello(world, guest, 'a', '1', GR_LINUX, 1, false), 0);
    assert_string_equal(former->replaced, "the driver has connected again");
    assert_ptr_equal(guest->stream, stream);
    assert_ptr_equal(stream->guest, guest);
    assert_int_equal(route_vm(stream->about.vm)->connected, 1);
    publish(world, guest, 5, 5);
    turn(world);
    assert_string_equal(words(svm), "S1@1 1.1+door S2@1 2.1 1.2-the driver has connected again 1.3+door 2.2");
}

/* A new boot ends the driver's former stream, and no other driver's. */
static void
test_reboot(void **state)
{
    struct world *world = *state;
    struct guest *former = &world->guests[0];
    struct guest *other = &world->guests[1];
    struct guest *guest = &world->guests[2];
    struct stream *stream;

    connect_guest(world, former, 'a');
    stream = former->stream;
    assert_int_equal(say_hello(world, other, 'a', '1', GR_VSEPFLT, 1, true), 0);
    add_svm(world, 0, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    publish(world, former, 5, 5); /* keeps the former stream in the log */
    assert_int_equal(say_hello(world, guest, 'a', '2', GR_LINUX, 1, true), 0);
    assert_string_equal(former->replaced, "the VM has booted again");
    assert_string_equal(other->replaced, "");
    assert_true(stream->about.ended);
    assert_null(stream->guest);
    assert_ptr_not_equal(guest->stream, stream);
    assert_false(guest->stream->about.ended);
    assert_int_equal(route_vm(guest->stream->about.vm)->connected, 2);

    stream = other->stream; /* of a driver that is not there when the VM has booted */
    route_close(world->route, stream, false, "closed");
    assert_false(stream->about.ended);
    assert_int_equal(say_hello(world, other, 'a', '2', GR_VSEPFLT, 1, true), 0);
    assert_true(stream->about.ended);
}

static void
test_limits(void **state)
{
    struct world *world = *state;
    struct guest *guest = &world->guests[0];
    int code = 0;
    unsigned boots = 0;

    add_svm(world, 0, CONF_POLICY_PAUSE, CLASS_MASK_ALL); /* holds every log */
    for (char vm = 'a'; vm < 'a' + 4; vm++)
        connect_guest(world, guest, vm);
    assert_int_equal(say_hello(world, guest, 'e', '1', GR_LINUX, 1, true), GR_REJECT_LIMIT);
    assert_string_equal(world->why, "limits.vms is reached");
    for (char boot = 'A'; code == 0; boot++, boots++)
        code = say_hello(world, guest, 'a', boot, GR_LINUX, 1, true);
    assert_int_equal(code, GR_REJECT_LIMIT);
    assert_string_equal(world->why, "too many streams of this VM wait to be delivered");
    assert_int_equal(boots, VM_STREAMS_MAX - 1); /* gimuxd's own, and the first */
}

/* Files gave back as many streams of former boots as there may be, none of them ended: nobody but the
 * driver's next HELLO could say so, and that was refused, since the VM had no room for gimuxd's own stream.
 */
static void
test_former_boots_from_files(void **state)
{
    struct world *world = *state;
    struct guest *guest = &world->guests[0];
    uint8_t id[GR_UUID_SIZE];
    struct vm *vm;

    add_svm(world, 0, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    memset(id, 'a', sizeof(id));
    vm = vm_add(world->route->table, id);
    for (uint32_t boot = 1; boot <= VM_STREAMS_MAX + 1; boot++) {
        memset(id, (int)boot, sizeof(id));
        assert_non_null(vm_stream_restore(world->route->table, vm, GR_LINUX, id, 1, boot));
    }
    assert_int_equal(say_hello(world, guest, 'a', 'Z', GR_LINUX, 1, true), 0);
    assert_int_equal(vm->stream_count, 2); /* with gimuxd's own */
    memset(id, VM_STREAMS_MAX + 1, sizeof(id));
    assert_null(vm_stream_find(vm, GR_LINUX, id));
}

/* A driver that comes and goes without end fills no memory, though its lifecycle events pass the VM's limit.
 */
static void
test_flapping(void **state)
{
    struct world *world = *state;
    struct guest *guest = &world->guests[0];
    struct vm *vm;
    int code = 0;

    add_svm(world, 0, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    connect_guest(world, guest, 'a');
    vm = guest->stream->about.vm;
    while (code == 0) {
        route_close(world->route, guest->stream, false, "");
        code = say_hello(world, guest, 'a', '1', GR_LINUX, 1, true);
        turn(world);
        assert_true(vm->log.bytes < 4 << 20);
    }
    assert_int_equal(code, GR_REJECT_LIMIT);
    assert_string_equal(world->why, "the VM's log is full");
}

/* ---- sequences ---- */

/* The driver no longer holds what gimuxd wants next: that is a gap. What gimuxd has already is none. */
static void
test_first_held(void **state)
{
    struct world *world = *state;
    struct svm *svm = add_svm(world, 0, CONF_POLICY_PAUSE, 1u << CLASS_FILE);
    struct guest *guest = &world->guests[0];
    struct stream *stream;

    connect_svm(svm);
    assert_int_equal(say_hello(world, guest, 'a', '1', GR_LINUX, 100, true), 0);
    stream = guest->stream;
    assert_int_equal(stream->log.last, 99); /* it may be held elsewhere: no gap */
    publish(world, guest, 5, 5);
    assert_int_equal(say_hello(world, guest, 'a', '1', GR_LINUX, 101, true), 0);
    assert_int_equal(stream->log.last, 100);
    assert_int_equal(say_hello(world, guest, 'a', '1', GR_LINUX, 50, true), 0);
    assert_int_equal(stream->log.last, 100);
    assert_int_equal(say_hello(world, guest, 'a', '1', GR_LINUX, 105, true), 0);
    assert_int_equal(stream->log.last, 104);
    publish(world, guest, 5, 5);
    turn(world);
    assert_string_equal(words(svm), "S2@100 2.100 G2:101-104r2 2.105");
    ack_all(svm);
    turn(world);
    assert_int_equal(stream->log.accepted, 105);

    assert_int_equal(say_hello(world, guest, 'a', '1', GR_LINUX, UINT64_MAX, true), GR_REJECT_LIMIT);
    assert_string_equal(world->why, "first_held is too far ahead of what gimuxd has");
    assert_int_equal(stream->log.last, 105);
}

/* What a driver dropped reaches every SVM, whatever it subscribed to. */
static void
test_lost(void **state)
{
    struct world *world = *state;
    struct svm *svm = add_svm(world, 0, CONF_POLICY_PAUSE, 1u << CLASS_DNS);
    struct guest *guest = &world->guests[0];

    connect_svm(svm);
    connect_guest(world, guest, 'a');
    publish(world, guest, 5, 5);
    assert_true(route_lost(world->route, guest->stream, 7));
    assert_int_equal(route_vm(guest->stream->about.vm)->events, 7);
    turn(world);
    assert_string_equal(words(svm), "S2@2 G2:2-7r2");
    flood(world, guest, 1000);
    assert_int_equal(guest->pauses, 1);
}

/* ---- what drivers are told ---- */

static void
test_interest(void **state)
{
    struct world *world = *state;
    struct svm *files = add_svm(world, 0, CONF_POLICY_PAUSE, 1u << CLASS_FILE);
    struct guest *guest = &world->guests[0];
    struct conf_solution dns = { .class_mask = 1u << CLASS_DNS };

    assert_int_equal(world->route->interest, GR_KIND(GR_FILE));
    connect_guest(world, guest, 'a');
    assert_int_equal(guest->interests, 0); /* the WELCOME says it */
    add_svm(world, 1, CONF_POLICY_PAUSE, 1u << CLASS_FILE);
    assert_int_equal(guest->interests, 0); /* nothing new */
    add_svm(world, 2, CONF_POLICY_PAUSE, 1u << CLASS_FILE | 1u << CLASS_NETWORK);
    assert_int_equal(guest->interests, 1);
    assert_int_equal(guest->kinds, GR_KIND(GR_FILE) | GR_KIND(GR_NET));
    route_remove_sink(world->route, files->sink);
    assert_int_equal(guest->interests, 1); /* another wants files still */
    route_remove_sink(world->route, world->svms[2].sink);
    assert_int_equal(guest->interests, 2);
    assert_int_equal(guest->kinds, GR_KIND(GR_FILE));
    sink_set_conf(world->svms[1].sink, &dns); /* a reload */
    route_set_conf(world->route, &world->conf);
    assert_int_equal(guest->interests, 3);
    assert_int_equal(guest->kinds, GR_KIND(GR_DNS));
    sink_set_conf(world->svms[1].sink, &world->svms[1].conf);
}

/* ---- the rest ---- */

/* The host's power events are about other VMs; their filter looks at that VM. */
static void
test_power(void **state)
{
    struct world *world = *state;
    struct svm *svm = add_svm(world, 0, CONF_POLICY_PAUSE, 1u << CLASS_POWER);
    struct guest *host = &world->guests[0];
    struct guest *guest = &world->guests[1];
    struct gr_record record = { .type = GR_POWER, .size = 50, .sequence = 1 };

    svm->conf.vms.texts[svm->conf.vms.count++] = (char *)(uintptr_t) "61616161-6161-6161-6161-616161616161";
    connect_svm(svm);
    assert_int_equal(say_hello(world, host, 'h', '1', GR_VMX, 1, true), 0);
    connect_guest(world, guest, 'a');
    record.body.power.op = GR_POWER_OP_SUSPEND;
    memset(record.body.power.vm_uuid, 'a', GR_UUID_SIZE);
    assert_true(route_publish(world->route, host->stream, &record, NULL));
    assert_int_equal(route_vm(guest->stream->about.vm)->power, GR_POWER_OP_SUSPEND);
    assert_int_equal(route_vm(host->stream->about.vm)->power, 0);
    memset(record.body.power.vm_uuid, 'b', GR_UUID_SIZE); /* nobody knows that one */
    record.sequence = 2;
    assert_true(route_publish(world->route, host->stream, &record, NULL));
    turn(world);
    assert_string_equal(words(svm), "S2@1 2.1");
}

/* A solution that is added gets what comes from then on, and there is a slot for as many as there may be. */
static void
test_slots(void **state)
{
    struct world *world = *state;
    struct sink *sinks[VMLOG_SINKS + 1];
    struct conf_solution conf = { .class_mask = CLASS_MASK_ALL };
    struct guest *guest = &world->guests[0];
    struct svm *svm;

    connect_guest(world, guest, 'a');
    publish(world, guest, 5, 5);
    turn(world);
    svm = add_svm(world, 0, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    publish(world, guest, 5, 5);
    connect_svm(svm);
    turn(world);
    assert_string_equal(words(svm), "S2@2 2.2");
    for (unsigned i = 1; i < VMLOG_SINKS; i++)
        assert_non_null(sinks[i] = route_add_sink(world->route, &conf, &sink_ops, svm));
    assert_null(route_add_sink(world->route, &conf, &sink_ops, svm));
    route_remove_sink(world->route, sinks[7]);
    assert_non_null(sinks[7] = route_add_sink(world->route, &conf, &sink_ops, svm));
    assert_int_equal(sinks[7]->slot, 7);
    for (unsigned i = 1; i < VMLOG_SINKS; i++)
        route_remove_sink(world->route, sinks[i]);
}

/* At limits.vms one is forgotten that nobody could ask for: not one that has a driver, that is looked after
 * at the end of this turn, or that stands in a sink's ring. */
static void
test_which_vm_is_forgotten(void **state)
{
    struct world *world = *state;
    struct guest *guests = world->guests;
    struct guest more = { 0 };
    uint8_t id[GR_UUID_SIZE];
    struct svm *svm;

    for (int i = 0; i < 4; i++)
        connect_guest(world, &guests[i], (char)('a' + i));
    turn(world);
    assert_int_equal(say_hello(world, &more, 'e', '1', GR_LINUX, 1, true),
                     GR_REJECT_LIMIT); /* all connected */
    route_close(world->route, guests[0].stream, true, "");
    assert_int_equal(say_hello(world, &more, 'e', '1', GR_LINUX, 1, true),
                     GR_REJECT_LIMIT); /* to look after */
    turn(world);
    connect_guest(world, &more, 'e');
    memset(id, 'a', sizeof(id));
    assert_null(vm_find(world->route->table, id));
    svm = add_svm(world, 0, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    connect_svm(svm);
    svm->stalled = true;
    publish(world, &more, 5, 5);
    route_close(world->route, more.stream, true, "");
    turn(world);
    assert_int_equal(say_hello(world, &more, 'f', '1', GR_LINUX, 1, true), GR_REJECT_LIMIT); /* in the ring */
    svm->stalled = false;
    on_wake(svm);
    ack_all(svm);
    turn(world);
    connect_guest(world, &more, 'f');
    /* the event and the end of its driver: counted, though their streams are no longer there */
    assert_int_equal(world->route->pool.counts[svm->sink->slot].delivered, 2);
    assert_int_equal(vm_table_forgotten(world->route->table, svm->sink->slot).delivered, 2);
}

/* Solutions come one by one, and what others were sent, and have acknowledged, of each VM stays as it is. */
static void
test_slots_grow(void **state)
{
    struct world *world = *state;
    struct sink *sinks[VMLOG_SINKS];
    struct conf_solution conf = { .class_mask = CLASS_MASK_ALL };
    struct svm *first = add_svm(world, 0, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    struct svm *last;
    struct guest *a = &world->guests[0];
    struct guest *b = &world->guests[1];

    connect_svm(first);
    connect_guest(world, a, 'a');
    connect_guest(world, b, 'b');
    publish(world, a, 5, 5);
    turn(world);
    assert_string_equal(words(first), "S1@1 1.1+door S3@1 3.1+door S2@1 2.1");
    assert_true(route_ack(world->route, first->sink, 1, 1));
    for (unsigned i = 1; i < VMLOG_SINKS - 1; i++)
        assert_non_null(sinks[i] = route_add_sink(world->route, &conf, &sink_ops, first));
    last = add_svm(world, 1, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    assert_int_equal(last->sink->slot, VMLOG_SINKS - 1);
    connect_svm(last);
    publish(world, a, 5, 5);
    publish(world, b, 5, 5);
    turn(world);
    assert_string_equal(words(first), "2.2 S4@1 4.1");
    assert_string_equal(words(last), "S2@2 2.2 S4@1 4.1");
    route_sink_down(world->route, first->sink);
    connect_svm(first);
    turn(world);
    assert_string_equal(words(first), "S2@1 2.1 2.2 S3@1 3.1+door S4@1 4.1");
    ack_all(last);
    ack_all(first);
    assert_int_equal(route_pending(world->route, first->sink), 0);
    assert_int_equal(route_pending(world->route, last->sink), 0);
    for (unsigned i = 1; i < VMLOG_SINKS - 1; i++)
        route_remove_sink(world->route, sinks[i]);
    assert_int_equal(a->stream->log.accepted, 2);
}

/* Where memory ends while a solution is added, whatever it is for: it is not there, and the others and the
 * drivers go on. */
static void
test_slots_without_memory(void **state)
{
    struct world *world = *state;
    struct svm *svm = add_svm(world, 0, CONF_POLICY_PAUSE, CLASS_MASK_ALL);
    struct svm *more = &world->svms[1];
    struct guest *guest = &world->guests[0];
    int refused = 0;

    connect_svm(svm);
    connect_guest(world, guest, 'a');
    connect_guest(world, &world->guests[1], 'b');
    publish(world, guest, 5, 5);
    turn(world);
    words(svm);
    more->conf.class_mask = CLASS_MASK_ALL;
    for (;;) {
        reallocs_left = refused;
        more->sink = route_add_sink(world->route, &more->conf, &sink_ops, more);
        if (more->sink)
            break;
        reallocs_left = -1;
        assert_null(world->route->sinks[1]);
        publish(world, guest, 5, 5);
        turn(world);
        refused++;
        ack_all(svm);
        assert_int_equal(guest->stream->log.accepted, 1 + refused);
    }
    assert_int_equal(reallocs_left, 0);
    reallocs_left = -1;
    assert_int_equal(refused, 3); /* of two logs and four streams none grew, then one, two, and three */
    assert_string_equal(words(svm), "2.2 2.3 2.4");
    more->route = world->route;
    connect_svm(more);
    publish(world, guest, 5, 5);
    turn(world);
    assert_string_equal(words(svm), "2.5");
    assert_string_equal(words(more), "S2@5 2.5");

    reallocs_left = 0; /* nor is there room for a driver */
    assert_int_equal(say_hello(world, &world->guests[2], 'c', '1', GR_LINUX, 1, true), GR_REJECT_LIMIT);
    reallocs_left = 1;
    assert_int_equal(say_hello(world, &world->guests[2], 'c', '1', GR_LINUX, 1, true), GR_REJECT_LIMIT);
    reallocs_left = -1;
    connect_guest(world, &world->guests[2], 'c');
}

/* An upgrade for which memory has run out is filled to the end, and not given. */
static void
test_export_without_memory(void **state)
{
    struct world *world = *state;
    struct parcel parcel;

    connect_svm(add_svm(world, 0, CONF_POLICY_PAUSE, CLASS_MASK_ALL));
    for (unsigned i = 0; i < 3; i++)
        connect_guest(world, &world->guests[i], (char)('a' + i));
    turn(world);
    assert_true(parcel_begin(&parcel));
    parcel.failed = true;
    route_export(world->route, &parcel);
    assert_int_equal(parcel.message->n_vms, 0);
    parcel_fini(&parcel, false);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_lifecycle),
        TEST(test_clone),
        TEST(test_takeover),
        TEST(test_reboot),
        TEST(test_limits),
        TEST(test_flapping),
        TEST(test_first_held),
        TEST(test_lost),
        TEST(test_former_boots_from_files),
        TEST(test_flapping),
        TEST(test_first_held),
        TEST(test_lost),
        TEST(test_interest),
        TEST(test_power),
        TEST(test_slots),
        TEST(test_which_vm_is_forgotten),
        TEST(test_slots_grow),
        TEST(test_slots_without_memory),
        TEST(test_export_without_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
