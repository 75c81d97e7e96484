/* A sink: what its subscription lets through, where it goes on after a break, and what it tells and takes
 * back.
 */
#include "tests/unit/route/sink_world.h"

/* ---- what it wants ---- */

static void
test_classes(void **state)
{
    struct world *world = *state;
    struct stream *stream = add_stream(world, 'a', '1', 1);
    uint32_t uids[] = { event_class_uid(CLASS_FILE), event_class_uid(CLASS_DNS), 9999 };
    Gimux__V1__Subscription subscription = GIMUX__V1__SUBSCRIPTION__INIT;

    /* the SVM cannot have more than the configuration grants */
    world->conf.class_mask = 1u << CLASS_FILE | 1u << CLASS_NETWORK;
    sink_set_conf(&world->sink, &world->conf);
    subscription.n_class_uids = 3;
    subscription.class_uids = uids;
    assert_null(up_subscribed(world, &subscription));
    append_as(world, stream, CLASS_FILE, "", 0);
    append_as(world, stream, CLASS_NETWORK, "", 0);
    append_as(world, stream, CLASS_DNS, "", 0);
    append_as(world, stream, (enum event_class)VMLOG_GAP, "", 0);
    pump(world);
    assert_string_equal(words(world), "S1@1 1.1 1.4");

    /* the next connection is not bound to what this one wished, not even for what it passed over */
    sink_down(&world->sink, world->table);
    up_plainly(world);
    append_as(world, stream, CLASS_NETWORK, "", 0);
    pump(world);
    assert_string_equal(words(world), "S1@1 1.1 1.2 1.4 1.5");
}

static void
test_only_unknown_classes(void **state)
{
    struct world *world = *state;
    struct stream *stream = add_stream(world, 'a', '1', 1);
    uint32_t uid = 9999;
    Gimux__V1__Subscription subscription = GIMUX__V1__SUBSCRIPTION__INIT;

    subscription.n_class_uids = 1;
    subscription.class_uids = &uid;
    assert_null(up_subscribed(world, &subscription));
    append(world, stream, 1, 0);
    pump(world);
    assert_string_equal(words(world), "");
    assert_int_equal(stream->log.sinks[SLOT].filtered, 1);
}

static void
test_vms(void **state)
{
    struct world *world = *state;
    char upper[] = "61616161-6161-6161-6161-616161616161"; /* a; b and c follow */
    struct stream *streams[4];
    char *names[] = { id_text('a'), id_text('d') };
    Gimux__V1__Subscription subscription = GIMUX__V1__SUBSCRIPTION__INIT;

    world->conf.vms.texts[world->conf.vms.count++] = upper;
    world->conf.vms.texts[world->conf.vms.count++] = id_text('b');
    subscription.n_vm_uuids = 2;
    subscription.vm_uuids = names;
    for (int i = 0; i < 4; i++)
        streams[i] = add_stream(world, (char)('a' + i), '1', 1);
    assert_true(sink_wants_vm(&world->sink, streams[1]->about.vm));
    assert_null(up_subscribed(world, &subscription)); /* leaves a alone: d is not granted */
    assert_true(sink_wants_vm(&world->sink, streams[0]->about.vm));
    assert_false(sink_wants_vm(&world->sink, streams[1]->about.vm));
    assert_false(sink_wants_vm(&world->sink, streams[3]->about.vm));
    for (int i = 0; i < 4; i++)
        append(world, streams[i], 1, 0);
    /* d is the host: what it says of a is for those who subscribed to a */
    append_as(world, streams[3], CLASS_POWER, id_text('a'), 0);
    append_as(world, streams[3], CLASS_POWER, id_text('b'), 0);
    append_as(world, streams[3], (enum event_class)VMLOG_GAP, "", 0);
    pump(world);
    assert_string_equal(words(world), "S1@1 1.1 S4@2 4.2");
    sink_tell_progress(&world->sink, world->table); /* nor does it hear how far the others are */
    assert_string_equal(words(world), "");
}

static void
test_vms_case(void **state)
{
    struct world *world = *state;
    static char upper[] = "ABABABAB-ABAB-ABAB-ABAB-ABABABABABAB";
    char *names[] = { upper };
    Gimux__V1__Subscription subscription = GIMUX__V1__SUBSCRIPTION__INIT;

    world->conf.vms.texts[world->conf.vms.count++] = upper;
    subscription.n_vm_uuids = 1;
    subscription.vm_uuids = names;
    assert_null(up_subscribed(world, &subscription));
    append(world, add_stream(world, (char)0xab, '1', 1), 1, 0);
    pump(world);
    assert_string_equal(words(world), "S1@1 1.1");
}

static void
test_mutes(void **state)
{
    struct world *world = *state;
    struct stream *stream = add_stream(world, 'a', '1', 1);
    char *prefixes[] = { (char *)"/proc/", (char *)"C:\\Tmp" };
    Gimux__V1__Subscription subscription = GIMUX__V1__SUBSCRIPTION__INIT;
    static const struct {
        const char *path;
        bool sent;
    } rows[] = {
        { "/proc/1", false }, { "/PROC/1", true },           { "/proc", true },
        { "/x/proc/", true }, { "c:\\tMP\\a", false },       { "C:\\Tm", true },
        { "", true },         { "d:\\pagefile.sys", false }, { "D:\\PAGEFILE", true },
    };
    char expected[200] = "S1@2";

    world->conf.mute.texts[world->conf.mute.count++] = (char *)"D:\\pageFILE.sys";
    subscription.n_muted_path_prefixes = 2;
    subscription.muted_path_prefixes = prefixes;
    assert_null(up_subscribed(world, &subscription));
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        append_as(world, stream, CLASS_FILE, rows[i].path, 0);
        if (rows[i].sent)
            snprintf(expected + strlen(expected), sizeof(expected) - strlen(expected), " 1.%u", i + 1);
    }
    append_as(world, stream, CLASS_NETWORK, "/proc/", 0); /* only paths are muted */
    pump(world);
    assert_string_equal(words(world), strcat(expected, " 1.10"));
}

static bool
begins_with(const char *path, const char *prefix)
{
    size_t len = strlen(prefix);

    return path[0] == '/' ? strncmp(path, prefix, len) == 0 : strncasecmp(path, prefix, len) == 0;
}

static void
random_path(char path[12])
{
    static const char letters[] = "/aAb\\";
    unsigned len = (unsigned)rand() % 11;

    for (unsigned i = 0; i < len; i++)
        path[i] = letters[(unsigned)rand() % (sizeof(letters) - 1)];
    path[len] = '\0';
}

/* As many prefixes as there may be, many of which begin with others: each path is muted as if it was compared
 * with them all. */
static void
test_many_mutes(void **state)
{
    struct world *world = *state;
    struct stream *stream = add_stream(world, 'a', '1', 1);
    static char texts[SINK_MUTES_MAX][12];
    static char *prefixes[SINK_MUTES_MAX];
    Gimux__V1__Subscription subscription = GIMUX__V1__SUBSCRIPTION__INIT;
    struct vmlog_filter filter;
    unsigned count[2] = { 0 };

    srand(1);
    subscription.muted_path_prefixes = prefixes;
    for (unsigned i = 0; i < SINK_MUTES_MAX; i++) {
        do
            random_path(texts[i]);
        while (strlen(texts[i]) < 5);
        prefixes[i] = texts[i];
    }
    for (unsigned some = 1; some <= SINK_MUTES_MAX; some *= 4) {
        subscription.n_muted_path_prefixes = some;
        assert_null(up_subscribed(world, &subscription));
        filter = sink_filter(&world->sink, stream->about.vm);
        for (unsigned i = 0; i < 5000; i++) {
            char path[12];
            bool muted = false;

            random_path(path);
            for (unsigned k = 0; k < some && !muted; k++)
                muted = begins_with(path, prefixes[k]);
            assert_int_equal(filter.wants(filter.arg, CLASS_FILE, path, strlen(path)), !muted);
            count[muted]++;
        }
        sink_down(&world->sink, world->table);
    }
    assert_true(count[false] > 1000 && count[true] > 1000);
}

/* What was read anew and is the same lies elsewhere: nothing of the old lists is looked at any more. */
static void
test_conf_moves(void **state)
{
    struct world *world = *state;
    struct stream *stream = add_stream(world, 'a', '1', 1);
    static struct conf_solution other;
    static char prefix[] = "/proc/";
    char *old = strdup(prefix);
    struct vmlog_filter filter;

    assert_non_null(old);
    world->conf.mute.texts[world->conf.mute.count++] = old;
    sink_set_conf(&world->sink, &world->conf);
    other = world->conf;
    other.mute.texts[0] = prefix;
    sink_move_conf(&world->sink, &other);
    free(old);
    filter = sink_filter(&world->sink, stream->about.vm);
    assert_false(filter.wants(filter.arg, CLASS_FILE, "/proc/1", 7));
    assert_true(filter.wants(filter.arg, CLASS_FILE, "/tmp/1", 6));
}

static void
test_bad_hellos(void **state)
{
    struct world *world = *state;
    char *many[SINK_VMS_MAX + 1];
    char *wrong[] = { (char *)"nonsense" };
    Gimux__V1__SvmHello hello = GIMUX__V1__SVM_HELLO__INIT;
    Gimux__V1__StreamPosition position = GIMUX__V1__STREAM_POSITION__INIT;
    Gimux__V1__StreamPosition *positions[] = { &position, &position };
    Gimux__V1__Subscription subscription = GIMUX__V1__SUBSCRIPTION__INIT;

    for (unsigned i = 0; i <= SINK_VMS_MAX; i++)
        many[i] = id_text('a');
    subscription.n_vm_uuids = SINK_VMS_MAX + 1;
    subscription.vm_uuids = many;
    assert_string_equal(up_subscribed(world, &subscription), "hello: more than 64 VMs in the subscription");
    subscription.n_vm_uuids--;
    assert_null(up_subscribed(world, &subscription));
    subscription.n_vm_uuids = 1;
    subscription.vm_uuids = wrong;
    sink_down(&world->sink, world->table);
    assert_string_equal(up_subscribed(world, &subscription), "hello: a VM in the subscription is not a UUID");
    hello.n_positions = 1;
    hello.positions = positions;
    position.vm_uuid = id_text('a');
    position.boot_id = wrong[0];
    assert_string_equal(up(world, &hello), "hello: a position's VM or boot id is not a UUID");
    position.boot_id = id_text('1');
    hello.n_positions = 2;
    assert_string_equal(up(world, &hello), "hello: two positions for one stream");
    assert_false(world->sink.up);
}

/* ---- where it goes on ---- */

/* What the SVM was sent is sent again on the next connection, but for what it says that it has. */
static void
test_announced_on_every_connection(void **state)
{
    struct world *world = *state;
    struct stream *stream = add_stream(world, 'a', '1', 1);

    append(world, stream, 4, 0);
    up_plainly(world);
    pump(world);
    assert_string_equal(words(world), "S1@1 1.1 1.2 1.3 1.4");
    assert_true(ack(world, stream, 1));
    sink_down(&world->sink, world->table);
    append(world, stream, 1, 0); /* nobody is up: it waits */
    assert_int_equal(pump_once(world, BATCH, NO_LIMIT), 0);
    up_plainly(world);
    pump(world);
    assert_string_equal(words(world), "S1@2 1.2 1.3 1.4 1.5");
    sink_down(&world->sink, world->table);
    up_with_position(world, 'a', '1', 3);
    pump(world);
    assert_string_equal(words(world), "S1@4 1.4 1.5");
    assert_int_equal(stream->log.sinks[SLOT].delivered, 3);
}

/* gimuxd was restarted. The stream is here from 10 on, the SVM has it up to 6. */
static void
test_gap_of_a_restart(void **state)
{
    struct world *world = *state;
    struct stream *stream;

    up_with_position(world, 'a', '1', 6);
    stream = add_stream(world, 'a', '1', 10); /* which comes after the hello */
    append(world, stream, 2, 0);
    pump(world);
    assert_string_equal(words(world), "S1@7 G1:7-9r3");
    assert_true(ack(world, stream, 9)); /* what follows waits for that */
    pump(world);
    assert_string_equal(words(world), "1.10 1.11");
    assert_int_equal(stream->log.sinks[SLOT].gapped, 3);
}

/* A former gimuxd's files know of a stream from 10 on; that what was before is gone is told those who had not
 * got it. */
static void
test_gap_of_files_that_the_svm_had(void **state)
{
    struct world *world = *state;
    struct stream *stream = add_stream(world, 'a', '1', 10);

    vmlog_join_stream_saved(&stream->about.vm->log, SLOT, &stream->log, &(struct vmlog_saved){ 0 });
    vmlog_gap_saved(&stream->about.vm->log, SLOT, &stream->log, GIMUX__V1__GAP_REASON__GAP_REASON_RESTART);
    append(world, stream, 1, 0);
    up_with_position(world, 'a', '1', 4);
    pump(world);
    assert_string_equal(words(world), "S1@5 G1:5-9r3");
    sink_down(&world->sink, world->table);
    up_with_position(world, 'a', '1', 9);
    pump(world);
    assert_string_equal(words(world), "S1@10 1.10");
}

static void
test_positions_that_are_no_gap(void **state)
{
    struct world *world = *state;
    struct stream *before = add_stream(world, 'a', '1', 10);
    struct stream *after;

    append(world, before, 3, 0);
    up_with_position(world, 'a', '1', 9); /* exactly the next */
    pump(world);
    assert_string_equal(words(world), "S1@10 1.10 1.11 1.12");
    sink_down(&world->sink, world->table);
    up_with_position(world, 'b', '2', 11); /* one that comes later, and of which some is already there */
    pump(world);
    assert_string_equal(words(world), "S1@10 1.10 1.11 1.12");
    after = add_stream(world, 'b', '2', 10);
    append(world, after, 3, 0);
    pump(world);
    assert_string_equal(words(world), "S2@12 2.12");
    after = add_stream(world, 'b', '3', 10); /* another boot: the position is not its */
    append(world, after, 1, 0);
    pump(world);
    assert_string_equal(words(world), "S3@10 3.10");
}

/* ---- what comes back, and what is told ---- */

static void
test_acknowledgements(void **state)
{
    struct world *world = *state;
    struct stream *stream = add_stream(world, 'a', '1', 1);
    uint32_t number = stream->log.id;

    append(world, stream, 3, 0);
    up_plainly(world);
    assert_true(ack(world, stream, 0));  /* it has nothing: that is true */
    assert_false(ack(world, stream, 1)); /* not announced */
    pump_once(world, sizeof(struct head), NO_LIMIT);
    assert_false(ack(world, stream, 3)); /* not sent */
    pump(world);
    assert_true(ack(world, stream, 3));
    assert_true(ack(world, stream, 2)); /* late, and harmless */
    assert_false(ack(world, stream, UINT64_MAX));
    assert_false(sink_ack(&world->sink, world->table, 0, 1));
    assert_false(sink_ack(&world->sink, world->table, number + 1, 1));

    stream->about.ended = true;
    words(world);
    sink_tell_progress(&world->sink, world->table);
    assert_string_equal(words(world), "P1=3f0 E1=3");
    assert_true(ack(world, stream, 3)); /* was on its way when the end was told */
    assert_false(ack(world, stream, 4));
    add_stream(world, 'a', '2', 1);
    assert_null(vm_stream_by_id(world->table, number));
    assert_true(sink_ack(&world->sink, world->table, number, 3)); /* forgotten meanwhile */
}

static void
test_progress(void **state)
{
    struct world *world = *state;
    struct stream *a = add_stream(world, 'a', '1', 1);
    struct stream *b = add_stream(world, 'b', '1', 1);
    uint32_t uid = event_class_uid(CLASS_FILE);
    Gimux__V1__Subscription subscription = GIMUX__V1__SUBSCRIPTION__INIT;

    subscription.n_class_uids = 1;
    subscription.class_uids = &uid;
    assert_null(up_subscribed(world, &subscription));
    append(world, a, 2, 0);
    append_as(world, a, CLASS_DNS, "", 0);
    append_as(world, b, CLASS_DNS, "", 0);
    pump(world);
    assert_string_equal(words(world), "S1@1 1.1 1.2");
    sink_tell_progress(&world->sink, world->table); /* b is all filtered, and the SVM may count on that */
    assert_string_equal(words(world), "S2@2 P2=1f1");
    assert_true(ack(world, b, 1)); /* it may acknowledge what it was told */
    assert_true(ack(world, a, 2));
    sink_tell_progress(&world->sink, world->table);
    assert_string_equal(words(world), "P1=3f1");
    sink_tell_progress(&world->sink, world->table);
    assert_string_equal(words(world), "");
}

/* The end is told once, when the SVM has everything; should the stream go on, it begins anew. */
static void
test_end(void **state)
{
    struct world *world = *state;
    struct stream *stream = add_stream(world, 'a', '1', 1);

    up_plainly(world);
    append(world, stream, 2, 0);
    pump(world);
    stream->about.ended = true;
    sink_tell_progress(&world->sink, world->table);
    assert_string_equal(words(world), "S1@1 1.1 1.2");
    assert_true(ack(world, stream, 2));
    sink_tell_progress(&world->sink, world->table);
    assert_string_equal(words(world), "P1=2f0 E1=2");
    sink_tell_progress(&world->sink, world->table);
    assert_string_equal(words(world), "");
    stream->about.ended = false;
    append(world, stream, 1, 0);
    pump(world);
    assert_string_equal(words(world), "S1@3 1.3");
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)
    const struct CMUnitTest tests[] = {
        TEST(test_classes),
        TEST(test_only_unknown_classes),
        TEST(test_vms),
        TEST(test_vms_case),
        TEST(test_mutes),
        TEST(test_many_mutes),
        TEST(test_conf_moves),
        TEST(test_bad_hellos),
        TEST(test_announced_on_every_connection),
        TEST(test_gap_of_a_restart),
        TEST(test_gap_of_files_that_the_svm_had),
        TEST(test_positions_that_are_no_gap),
        TEST(test_acknowledgements),
        TEST(test_progress),
        TEST(test_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
