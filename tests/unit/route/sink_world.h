/* What the tests of the sink stand on: VMs with logs, one sink, and the far end of its link.
 *
 * What goes over the link is written as words, in order: "S1@5" the stream 1 starts at sequence 5, "1.5" its
 * event 5, "G1:3-4r3" a gap and its reason, "P1=9f2" progress up to 9 of which 2 were filtered, "E1=9" its
 * end. */
#ifndef GIMUX_TESTS_SINK_WORLD_H
#define GIMUX_TESTS_SINK_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mux/route/inner.h"
#include "mux/vmlog/inner.h"

#define SLOT     3u
#define PIECES   64
#define BATCH    ((size_t)256 * 1024)
#define NO_LIMIT SIZE_MAX

struct world {
    struct vmlog_pool pool;
    struct vm_table *table;
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

static inline void __attribute__((format(printf, 2, 3))) say(struct world *world, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    world->words_len += (size_t)vsnprintf(world->words + world->words_len,
                                          sizeof(world->words) - world->words_len, format, args);
    va_end(args);
    if (world->words_len > sizeof(world->words) - 64)
        world->words_len = 0; /* nobody reads so many */
}

static inline void
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

static inline void
wake(void *arg)
{
    (void)arg;
}

static inline void
moved(void *route, struct vm *vm)
{
    (void)vm;
    ((struct world *)route)->moved++;
}

static inline void
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
static inline size_t
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

static inline void
pump(struct world *world)
{
    while (pump_once(world, BATCH, NO_LIMIT) > 0)
        continue;
}

/* What has come since the last call. */
static inline const char *
words(struct world *world)
{
    world->words[world->words_len] = '\0';
    world->words_len = 0;
    return world->words[0] ? world->words + 1 : "";
}

/* ---- the near end ---- */

static inline int
open_world(void **state)
{
    static const struct sink_ops ops = { .tell = tell, .wake = wake };
    struct world *world = calloc(1, sizeof(*world));

    if (!world)
        return -1;
    world->pool.limit = world->pool.own = 64 << 20;
    world->table = vm_table_new(&world->pool, &route_table_ops);
    assert_non_null(world->table);
    world->table->limit = 16;
    world->table->slots = SLOT + 1;
    world->conf.class_mask = CLASS_MASK_ALL;
    sink_init(&world->sink, SLOT, &world->conf, &ops, world);
    world->sink.moved = moved;
    world->sink.route = world;
    world->sink.window = 32 << 20;
    world->sink.share = 64 << 20;
    *state = world;
    return 0;
}

static inline int
close_world(void **state)
{
    struct world *world = *state;

    for (struct vm *vm = world->table->vms; vm; vm = vm->hh.next)
        vmlog_check(&vm->log);
    sink_clear_hello(&world->sink);
    vm_table_free(world->table);
    free(world->wire);
    free(world);
    return 0;
}

static inline const uint8_t *
id(char letter)
{
    static uint8_t bytes[GR_UUID_SIZE];

    memset(bytes, letter, sizeof(bytes));
    return bytes;
}

/* The VM's UUID as text. */
static inline char *
id_text(char letter)
{
    static char text[256][GR_UUID_TEXT];

    gr_uuid_format(id(letter), text[(uint8_t)letter]);
    return text[(uint8_t)letter];
}

/* A stream of the VM of that letter, as the route adds it. */
static inline struct stream *
add_stream(struct world *world, char letter, char boot, uint64_t start)
{
    struct vm *vm = vm_find(world->table, id(letter));
    struct stream *stream;

    if (!vm) {
        vm = vm_add(world->table, id(letter));
        vmlog_join(&vm->log, SLOT);
    }
    stream = vm_stream_add(world->table, vm, GR_LINUX, id(boot), start);
    vmlog_join_stream(&stream->log, SLOT);
    sink_stream_added(&world->sink, stream);
    return stream;
}

static inline void
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
    room = vmlog_reserve(&stream->about.vm->log, head.len, false);
    assert_non_null(room);
    memset(room, 0, head.len);
    memcpy(room, &head, sizeof(head));
    memcpy(room + sizeof(head), key, strlen(key));
    vmlog_commit(&stream->about.vm->log, &entry);
    sink_activate(&world->sink, stream->about.vm);
}

static inline void
append(struct world *world, struct stream *stream, unsigned count, uint32_t len)
{
    while (count-- > 0)
        append_as(world, stream, CLASS_FILE, "", len);
}

/* Connects, with a hello in protobuf-c's own memory. */
static inline const char *
up(struct world *world, const Gimux__V1__SvmHello *hello)
{
    size_t len = gimux__v1__svm_hello__get_packed_size(hello);
    uint8_t *buf = malloc(len + 1);
    Gimux__V1__SvmHello *owned;

    assert_non_null(buf);
    gimux__v1__svm_hello__pack(hello, buf);
    owned = gimux__v1__svm_hello__unpack(NULL, len, buf);
    free(buf);
    return sink_up(&world->sink, world->table, owned);
}

static inline void
up_plainly(struct world *world)
{
    Gimux__V1__SvmHello hello = GIMUX__V1__SVM_HELLO__INIT;

    assert_null(up(world, &hello));
}

static inline const char *
up_subscribed(struct world *world, Gimux__V1__Subscription *subscription)
{
    Gimux__V1__SvmHello hello = GIMUX__V1__SVM_HELLO__INIT;

    hello.subscription = subscription;
    return up(world, &hello);
}

/* The SVM says that it has the LINUX stream of VM and boot up to a sequence. */
static inline void
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

static inline bool
ack(struct world *world, const struct stream *stream, uint64_t sequence)
{
    return sink_ack(&world->sink, world->table, stream->log.id, sequence);
}

#endif
