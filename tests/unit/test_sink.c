/* A sink: what its subscription lets through, whose turn it is, and what it tells and takes back.
 *
 * What goes over the link is written as words, in order: "S1@5" the stream 1 starts at sequence 5, "1.5" its
 * event 5, "G1:3-4r3" a gap and its reason, "P1=9f2" progress up to 9 of which 2 were filtered, "E1=9" its
 * end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mux/sink.h"

#define SLOT     3u
#define PIECES   64
#define BATCH    ((size_t)256 * 1024)
#define NO_LIMIT SIZE_MAX

struct world {
    struct vmlog_pool pool;
    struct vm_table table;
    struct conf_solution conf;
    struct sink sink;
    unsigned moved;
    char words[65536]; /* that have come, each with a space before it */
    size_t words_len;
    uint8_t *wire; /* bytes of frames that the far end has not read as words */
    size_t wire_len;
    size_t bytes_of[256]; /* of frames, by stream */
};

/* How a frame begins here; its key and filler follow. */
struct head {
    uint32_t len;
    uint32_t stream;
    uint64_t sequence;
};

/* ---- the far end ---- */

static void __attribute__((format(printf, 2, 3))) say(struct world *world, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    world->words_len += (size_t)vsnprintf(world->words + world->words_len,
                                          sizeof(world->words) - world->words_len, format, args);
    va_end(args);
    if (world->words_len > sizeof(world->words) - 64)
        world->words_len = 0; /* nobody reads so many */
}

static void
tell(void *arg, const Gimux__V1__Frame *frame)
{
    struct world *world = arg;

    assert_int_equal(world->wire_len, 0); /* nothing comes between the two halves of a frame */
    switch (frame->body_case) {
    case GIMUX__V1__FRAME__BODY_STREAM_START:
        say(world, " S%u@%u", frame->stream_start->stream, (unsigned)frame->stream_start->first_sequence);
        break;
    case GIMUX__V1__FRAME__BODY_GAP:
        say(world, " G%u:%u-%ur%d", frame->gap->stream, (unsigned)frame->gap->first_sequence,
            (unsigned)frame->gap->last_sequence, (int)frame->gap->reason);
        break;
    case GIMUX__V1__FRAME__BODY_STREAM_PROGRESS:
        say(world, " P%u=%uf%u", frame->stream_progress->stream, (unsigned)frame->stream_progress->sequence,
            (unsigned)frame->stream_progress->filtered);
        break;
    case GIMUX__V1__FRAME__BODY_STREAM_END:
        say(world, " E%u=%u", frame->stream_end->stream, (unsigned)frame->stream_end->last_sequence);
        break;
    default:
        fail();
    }
}

static void
wake(void *arg)
{
    (void)arg;
}

static void
moved(void *route, struct vm *vm)
{
    (void)vm;
    ((struct world *)route)->moved++;
}

static void
receive(struct world *world, const void *data, size_t len)
{
    struct head head;
    size_t at = 0;

    world->wire = realloc(world->wire, world->wire_len + len + 1);
    assert_non_null(world->wire);
    memcpy(world->wire + world->wire_len, data, len);
    world->wire_len += len;
    while (world->wire_len - at >= sizeof(head)) {
        memcpy(&head, world->wire + at, sizeof(head));
        if (world->wire_len - at < head.len)
            break;
        say(world, " %u.%u", head.stream, (unsigned)head.sequence);
        world->bytes_of[head.stream] += head.len;
        at += head.len;
    }
    world->wire_len -= at;
    memmove(world->wire, world->wire + at, world->wire_len);
}

/* One writev of what is gathered, of which the socket takes `room` bytes; the rest of a frame goes by the
 * connection's own queue. Returns the bytes that went out. */
static size_t
pump_once(struct world *world, size_t max_bytes, size_t room)
{
    struct iovec iov[PIECES];
    struct vmlog_batch batch = { .iov = iov, .max = PIECES };
    struct iovec rest;
    size_t taken = 0;

    sink_gather(&world->sink, &batch, max_bytes);
    if (batch.count == 0)
        return 0;
    for (int i = 0; i < batch.count && room > 0; i++) {
        size_t len = iov[i].iov_len < room ? iov[i].iov_len : room;

        receive(world, iov[i].iov_base, len);
        taken += len;
        room -= len;
    }
    sink_sent(&world->sink, taken, &rest);
    if (rest.iov_len > 0)
        receive(world, rest.iov_base, rest.iov_len);
    return taken + rest.iov_len;
}

static void
pump(struct world *world)
{
    while (pump_once(world, BATCH, NO_LIMIT) > 0)
        continue;
}

/* What has come since the last call. */
static const char *
words(struct world *world)
{
    world->words[world->words_len] = '\0';
    world->words_len = 0;
    return world->words[0] ? world->words + 1 : "";
}

/* ---- the near end ---- */

static int
open_world(void **state)
{
    static const struct sink_ops ops = { .tell = tell, .wake = wake };
    struct world *world = calloc(1, sizeof(*world));

    if (!world)
        return -1;
    world->pool.limit = world->pool.own = 64 << 20;
    world->table.pool = &world->pool;
    world->table.limit = 16;
    world->conf.class_mask = CLASS_MASK_ALL;
    sink_init(&world->sink, SLOT, &world->conf, &ops, world);
    world->sink.moved = moved;
    world->sink.route = world;
    world->sink.window = 32 << 20;
    *state = world;
    return 0;
}

static int
close_world(void **state)
{
    struct world *world = *state;

    for (struct vm *vm = world->table.vms; vm; vm = vm->hh.next)
        vmlog_check(&vm->log);
    sink_fini(&world->sink);
    vm_table_fini(&world->table);
    free(world->wire);
    free(world);
    return 0;
}

static const uint8_t *
id(char letter)
{
    static uint8_t bytes[GR_UUID_SIZE];

    memset(bytes, letter, sizeof(bytes));
    return bytes;
}

/* The VM's UUID as text. */
static char *
id_text(char letter)
{
    static char text[256][GR_UUID_TEXT];

    gr_uuid_format(id(letter), text[(uint8_t)letter]);
    return text[(uint8_t)letter];
}

/* A stream of the VM of that letter, as the route adds it. */
static struct stream *
add_stream(struct world *world, char letter, char boot, uint64_t start)
{
    struct vm *vm = vm_find(&world->table, id(letter));
    struct stream *stream;

    if (!vm) {
        vm = vm_add(&world->table, id(letter));
        vmlog_join(&vm->log, SLOT);
    }
    stream = vm_stream_add(&world->table, vm, GR_LINUX, id(boot), start);
    vmlog_join_stream(&stream->log, SLOT);
    sink_stream_added(&world->sink, stream);
    return stream;
}

static void
append_as(struct world *world, struct stream *stream, enum event_class cls, const char *key, uint32_t len)
{
    struct head head = { sizeof(head) + (uint32_t)strlen(key), stream->log.id, stream->log.last + 1 };
    struct vmlog_entry entry = { .stream = &stream->log,
                                 .sequence = head.sequence,
                                 .count = 1,
                                 .cls = (uint8_t)cls,
                                 .key = sizeof(head),
                                 .key_len = (uint16_t)strlen(key) };
    uint8_t *room;

    if (head.len < len)
        head.len = len;
    entry.end = head.len;
    room = vmlog_reserve(&stream->vm->log, head.len, false);
    assert_non_null(room);
    memset(room, 0, head.len);
    memcpy(room, &head, sizeof(head));
    memcpy(room + sizeof(head), key, strlen(key));
    vmlog_commit(&stream->vm->log, &entry);
    sink_activate(&world->sink, stream->vm);
}

static void
append(struct world *world, struct stream *stream, unsigned count, uint32_t len)
{
    while (count-- > 0)
        append_as(world, stream, CLASS_FILE, "", len);
}

/* Connects, with a hello in protobuf-c's own memory. */
static const char *
up(struct world *world, const Gimux__V1__SvmHello *hello)
{
    size_t len = gimux__v1__svm_hello__get_packed_size(hello);
    uint8_t *buf = malloc(len + 1);
    Gimux__V1__SvmHello *owned;

    assert_non_null(buf);
    gimux__v1__svm_hello__pack(hello, buf);
    owned = gimux__v1__svm_hello__unpack(NULL, len, buf);
    free(buf);
    return sink_up(&world->sink, &world->table, owned);
}

static void
up_plainly(struct world *world)
{
    Gimux__V1__SvmHello hello = GIMUX__V1__SVM_HELLO__INIT;

    assert_null(up(world, &hello));
}

static const char *
up_subscribed(struct world *world, Gimux__V1__Subscription *subscription)
{
    Gimux__V1__SvmHello hello = GIMUX__V1__SVM_HELLO__INIT;

    hello.subscription = subscription;
    return up(world, &hello);
}

/* The SVM says that it has the LINUX stream of VM and boot up to a sequence. */
static void
up_with_position(struct world *world, char vm, char boot, uint64_t sequence)
{
    Gimux__V1__SvmHello hello = GIMUX__V1__SVM_HELLO__INIT;
    Gimux__V1__StreamPosition position = GIMUX__V1__STREAM_POSITION__INIT;
    Gimux__V1__StreamPosition *positions[] = { &position };

    position.vm_uuid = id_text(vm);
    position.boot_id = id_text(boot);
    position.driver = GIMUX__V1__DRIVER__DRIVER_LINUX;
    position.last_sequence = sequence;
    hello.n_positions = 1;
    hello.positions = positions;
    assert_null(up(world, &hello));
}

static bool
ack(struct world *world, const struct stream *stream, uint64_t sequence)
{
    return sink_ack(&world->sink, &world->table, stream->log.id, sequence);
}

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
    sink_down(&world->sink, &world->table);
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
    assert_true(sink_wants_vm(&world->sink, streams[1]->vm));
    assert_null(up_subscribed(world, &subscription)); /* leaves a alone: d is not granted */
    assert_true(sink_wants_vm(&world->sink, streams[0]->vm));
    assert_false(sink_wants_vm(&world->sink, streams[1]->vm));
    assert_false(sink_wants_vm(&world->sink, streams[3]->vm));
    for (int i = 0; i < 4; i++)
        append(world, streams[i], 1, 0);
    /* d is the host: what it says of a is for those who subscribed to a */
    append_as(world, streams[3], CLASS_POWER, id_text('a'), 0);
    append_as(world, streams[3], CLASS_POWER, id_text('b'), 0);
    append_as(world, streams[3], (enum event_class)VMLOG_GAP, "", 0);
    pump(world);
    assert_string_equal(words(world), "S1@1 1.1 S4@2 4.2");
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
    sink_down(&world->sink, &world->table);
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
    sink_down(&world->sink, &world->table);
    append(world, stream, 1, 0); /* nobody is up: it waits */
    assert_int_equal(pump_once(world, BATCH, NO_LIMIT), 0);
    up_plainly(world);
    pump(world);
    assert_string_equal(words(world), "S1@2 1.2 1.3 1.4 1.5");
    sink_down(&world->sink, &world->table);
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
    sink_down(&world->sink, &world->table);
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

/* ---- whose turn ---- */

static size_t
difference(size_t a, size_t b)
{
    return a < b ? b - a : a - b;
}

/* Sends 2 MB of three VMs' backlog in pieces and expects that their shares differ by little. */
static void
expect_fair(struct world *world, struct stream *streams[3], size_t max_bytes, size_t room, size_t slack)
{
    size_t sent = 0;

    up_plainly(world);
    while (sent < (2 << 20))
        sent += pump_once(world, max_bytes, room);
    for (int i = 0; i < 3; i++) {
        size_t bytes = world->bytes_of[streams[i]->log.id];

        assert_true(streams[i]->vm->turns[SLOT].active); /* all have something to send until now */
        if (difference(bytes, sent / 3) > slack)
            fail_msg("VM %d: %zu bytes of %zu", i, bytes, sent);
    }
}

static void
test_fair_whatever_the_backlog(void **state)
{
    struct world *world = *state;
    struct stream *streams[3];

    for (int i = 0; i < 3; i++)
        streams[i] = add_stream(world, (char)('a' + i), '1', 1);
    append(world, streams[0], 20000, 1000);
    append(world, streams[1], 1000, 1000);
    append(world, streams[2], 1500, 1000);
    expect_fair(world, streams, BATCH, NO_LIMIT, 64 * 1024);
}

/* Events of 60 kB are no way to a larger share. */
static void
test_fair_whatever_the_size(void **state)
{
    struct world *world = *state;
    struct stream *streams[3];

    for (int i = 0; i < 3; i++)
        streams[i] = add_stream(world, (char)('a' + i), '1', 1);
    append(world, streams[0], 100, 60000);
    append(world, streams[1], 30000, 100);
    append(world, streams[2], 100, 200000);
    expect_fair(world, streams, BATCH, NO_LIMIT, 256 * 1024);
}

/* Nor is a socket that takes little at a time. */
static void
test_fair_with_a_slow_socket(void **state)
{
    struct world *world = *state;
    struct stream *streams[3];

    for (int i = 0; i < 3; i++)
        streams[i] = add_stream(world, (char)('a' + i), '1', 1);
    for (int i = 0; i < 3; i++)
        append(world, streams[i], 3000, 1000);
    expect_fair(world, streams, BATCH, 5000, 64 * 1024);
}

/* A VM that comes to a link where others flood has its few events sent within one round. */
static void
test_a_quiet_vm_is_not_held_up(void **state)
{
    struct world *world = *state;
    struct stream *flood = add_stream(world, 'a', '1', 1);
    struct stream *quiet = add_stream(world, 'b', '1', 1);

    up_plainly(world);
    append(world, flood, 5000, 1000);
    for (int i = 0; i < 10; i++)
        pump_once(world, BATCH, NO_LIMIT);
    append(world, quiet, 3, 1000);
    pump_once(world, BATCH, NO_LIMIT);
    pump_once(world, BATCH, NO_LIMIT); /* its announcement must not stand among frames of others */
    assert_int_equal(world->bytes_of[quiet->log.id], 3000);
}

/* Every frame comes once, whole and in order, wherever the socket stops. */
static void
test_partial_sends(void **state)
{
    struct world *world = *state;
    struct stream *streams[3];
    uint64_t last[4] = { 0 };
    uint32_t random = 7;
    unsigned full = 0;
    const char *at;

    for (int i = 0; i < 3; i++)
        streams[i] = add_stream(world, (char)('a' + i), '1', 1);
    up_plainly(world);
    for (int i = 0; i < 1000; i++)
        append(world, streams[i % 3], 1, 16 + (uint32_t)i * 7 % 900);
    while (!TAILQ_EMPTY(&world->sink.ring)) {
        random = random * 1664525u + 1013904223u;
        if (pump_once(world, 20000, random >> 28 == 0 ? 0 : (random >> 16) % 3000) == 0)
            full++;
    }
    assert_true(full > 3);
    assert_int_equal(world->wire_len, 0);
    for (at = words(world); at; at = strchr(at, ' ') ? strchr(at, ' ') + 1 : NULL) {
        unsigned stream;
        unsigned sequence;

        if (sscanf(at, "%u.%u", &stream, &sequence) == 2)
            assert_int_equal(sequence, ++last[stream]);
    }
    assert_int_equal(last[1] + last[2] + last[3], 1000);
    assert_int_equal(world->sink.sent_bytes, world->bytes_of[1] + world->bytes_of[2] + world->bytes_of[3]);
}

/* A VM's window stops that VM and no other; an acknowledgement lets it go on. */
static void
test_window(void **state)
{
    struct world *world = *state;
    struct stream *a = add_stream(world, 'a', '1', 1);
    struct stream *b = add_stream(world, 'b', '1', 1);

    world->sink.window = 2500;
    up_plainly(world);
    append(world, a, 6, 1000);
    append(world, b, 1, 1000);
    pump(world);
    assert_string_equal(words(world), "S1@1 1.1 1.2 1.3 S2@1 2.1"); /* the frame that fills it is sent */
    assert_true(ack(world, a, 1));
    assert_true(world->moved > 0);
    pump(world);
    assert_string_equal(words(world), "1.4");
    assert_true(ack(world, a, 3));
    pump(world);
    assert_string_equal(words(world), "1.5 1.6");
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
    assert_false(sink_ack(&world->sink, &world->table, 0, 1));
    assert_false(sink_ack(&world->sink, &world->table, number + 1, 1));

    stream->ended = true;
    words(world);
    sink_tell_progress(&world->sink, &world->table);
    assert_string_equal(words(world), "P1=3f0 E1=3");
    assert_true(ack(world, stream, 3)); /* was on its way when the end was told */
    assert_false(ack(world, stream, 4));
    add_stream(world, 'a', '2', 1);
    assert_null(vm_stream_by_id(&world->table, number));
    assert_true(sink_ack(&world->sink, &world->table, number, 3)); /* forgotten meanwhile */
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
    sink_tell_progress(&world->sink, &world->table); /* b is all filtered, and the SVM may count on that */
    assert_string_equal(words(world), "S2@2 P2=1f1");
    assert_true(ack(world, b, 1)); /* it may acknowledge what it was told */
    assert_true(ack(world, a, 2));
    sink_tell_progress(&world->sink, &world->table);
    assert_string_equal(words(world), "P1=3f1");
    sink_tell_progress(&world->sink, &world->table);
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
    stream->ended = true;
    sink_tell_progress(&world->sink, &world->table);
    assert_string_equal(words(world), "S1@1 1.1 1.2");
    assert_true(ack(world, stream, 2));
    sink_tell_progress(&world->sink, &world->table);
    assert_string_equal(words(world), "P1=2f0 E1=2");
    sink_tell_progress(&world->sink, &world->table);
    assert_string_equal(words(world), "");
    stream->ended = false;
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
        TEST(test_bad_hellos),
        TEST(test_announced_on_every_connection),
        TEST(test_gap_of_a_restart),
        TEST(test_positions_that_are_no_gap),
        TEST(test_fair_whatever_the_backlog),
        TEST(test_fair_whatever_the_size),
        TEST(test_fair_with_a_slow_socket),
        TEST(test_a_quiet_vm_is_not_held_up),
        TEST(test_partial_sends),
        TEST(test_window),
        TEST(test_acknowledgements),
        TEST(test_progress),
        TEST(test_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
