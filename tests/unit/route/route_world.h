/* What the tests of the route stand on: the route with its real loop, guests that note what is asked of them,
 * and SVMs that note what comes.
 *
 * What an SVM gets is written as words: "S1@5" the stream 1 starts at 5, "1.5" its event 5, "1.5+door" that a
 * driver came, "1.6-reason" that it went, "G1:3-4r1" a gap with its reason. */
#ifndef GIMUX_TESTS_ROUTE_WORLD_H
#define GIMUX_TESTS_ROUTE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mux/base/log.h"
#include "mux/route/inner.h"
#include "mux/vmlog/inner.h"
#include "proto/delimited.h"

#define SVMS   3
#define GUESTS 4

struct guest {
    struct route *route;
    struct stream *stream;
    unsigned pauses;
    unsigned resumes;
    unsigned accepted; /* calls */
    uint64_t kinds;    /* of the last call of interest */
    unsigned interests;
    char replaced[100];
};

struct svm {
    struct route *route;
    struct conf_solution conf;
    struct sink *sink;
    unsigned wakes;
    bool stalled;      /* its socket takes nothing */
    uint64_t seen[32]; /* by stream: up to here it got everything */
    char words[8192];
};

struct world {
    struct loop *loop;
    struct conf conf;
    struct route *route;
    struct svm svms[SVMS];
    struct guest guests[GUESTS];
    struct gr_record record;
    char path[60000];
    char why[200]; /* of the last route_open */
};

/* ---- SVMs ---- */

static inline void __attribute__((format(printf, 2, 3))) say(struct svm *svm, const char *format, ...)
{
    size_t len = strlen(svm->words);
    va_list args;

    va_start(args, format);
    vsnprintf(svm->words + len, sizeof(svm->words) - len, format, args);
    va_end(args);
}

/* What it got since the last call. */
static inline const char *
words(struct svm *svm)
{
    static char copy[sizeof(svm->words)];

    memcpy(copy, svm->words, sizeof(copy));
    svm->words[0] = '\0';
    return copy[0] ? copy + 1 : "";
}

static inline void
receive(void *arg, const Gimux__V1__Frame *frame)
{
    struct svm *svm = arg;

    switch (frame->body_case) {
    case GIMUX__V1__FRAME__BODY_STREAM_START:
        say(svm, " S%u@%u", frame->stream_start->stream, (unsigned)frame->stream_start->first_sequence);
        break;
    case GIMUX__V1__FRAME__BODY_EVENT:
        say(svm, " %u.%u", frame->event->stream, (unsigned)frame->event->sequence);
        if (frame->event->detail_case == GIMUX__V1__EVENT__DETAIL_LIFECYCLE)
            say(svm, frame->event->activity_id == 3 ? "+%s" : "-%s",
                frame->event->activity_id == 3 ? frame->event->lifecycle->door
                                               : frame->event->lifecycle->reason);
        svm->seen[frame->event->stream] = frame->event->sequence;
        break;
    case GIMUX__V1__FRAME__BODY_GAP:
        say(svm, " G%u:%u-%ur%d", frame->gap->stream, (unsigned)frame->gap->first_sequence,
            (unsigned)frame->gap->last_sequence, (int)frame->gap->reason);
        svm->seen[frame->gap->stream] = frame->gap->last_sequence;
        break;
    default:
        break;
    }
}

/* The route never cuts a frame, and sink_sent is told that all went out: each piece is whole frames. */
static inline void
receive_piece(struct svm *svm, const uint8_t *data, size_t len)
{
    const uint8_t *body;
    size_t body_len;

    while (len > 0) {
        Gimux__V1__Frame *frame;

        assert_int_equal(delimited_next(data, len, DELIMITED_FRAME_MAX, &body, &body_len), DELIMITED_FRAME);
        frame = gimux__v1__frame__unpack(NULL, body_len, body);
        assert_non_null(frame);
        receive(svm, frame);
        gimux__v1__frame__free_unpacked(frame, NULL);
        len -= (size_t)(body - data) + body_len;
        data = body + body_len;
    }
}

static inline void
on_wake(void *arg)
{
    struct svm *svm = arg;
    struct iovec iov[64];
    struct iovec rest;

    svm->wakes++;
    while (!svm->stalled) {
        struct vmlog_batch batch = { .iov = iov, .max = 64 };

        sink_gather(svm->sink, &batch, 1 << 18);
        if (batch.count == 0)
            break;
        for (int i = 0; i < batch.count; i++)
            receive_piece(svm, iov[i].iov_base, iov[i].iov_len);
        sink_sent(svm->sink, batch.bytes, &rest);
    }
}

static const struct sink_ops sink_ops = { .tell = receive, .wake = on_wake };

/* Registers a solution that wants these classes; it is not connected yet. */
static inline struct svm *
add_svm(struct world *world, int index, enum conf_policy policy, uint32_t class_mask)
{
    struct svm *svm = &world->svms[index];

    svm->route = world->route;
    svm->conf.policy = (int)policy;
    svm->conf.class_mask = class_mask;
    snprintf(svm->conf.name, sizeof(svm->conf.name), "svm%d", index);
    svm->sink = route_add_sink(world->route, &svm->conf, &sink_ops, svm);
    assert_non_null(svm->sink);
    return svm;
}

static inline void
connect_svm(struct svm *svm)
{
    Gimux__V1__SvmHello *hello = gimux__v1__svm_hello__unpack(NULL, 0, (const uint8_t *)"");

    assert_non_null(hello);
    assert_null(route_sink_up(svm->route, svm->sink, hello));
}

/* Acknowledges all that it got. */
static inline void
ack_all(struct svm *svm)
{
    for (uint32_t stream = 1; stream < 32; stream++)
        if (svm->seen[stream] > 0)
            assert_true(route_ack(svm->route, svm->sink, stream, svm->seen[stream]));
}

/* ---- guests ---- */

static inline void
on_pause(void *arg)
{
    ((struct guest *)arg)->pauses++;
}

static inline void
on_resume(void *arg)
{
    ((struct guest *)arg)->resumes++;
}

static inline void
on_accepted(void *arg)
{
    ((struct guest *)arg)->accepted++;
}

static inline void
on_interest(void *arg, uint64_t kinds)
{
    ((struct guest *)arg)->interests++;
    ((struct guest *)arg)->kinds = kinds;
}

static inline void
on_replaced(void *arg, const char *why)
{
    struct guest *guest = arg;

    snprintf(guest->replaced, sizeof(guest->replaced), "%s", why);
    guest->stream = NULL;
}

/* Says hello as VM and boot of one letter each, from first_held on. Returns what route_open says. */
static inline int
say_hello(struct world *world, struct guest *guest, char vm, char boot, uint16_t driver, uint64_t first_held,
          bool proved)
{
    struct gr_hello said = { .driver = driver, .first_held = first_held };
    struct route_hello hello = {
        .hello = &said, .build = "build", .guest_os = "os", .door = "door", .proved = proved
    };

    memset(said.vm_uuid, vm, GR_UUID_SIZE);
    memset(said.boot_id, boot, GR_UUID_SIZE);
    guest->route = world->route;
    return route_open(world->route, &hello, guest, &guest->stream, world->why, sizeof(world->why));
}

/* A LINUX driver of the VM's boot '1'. */
static inline void
connect_guest(struct world *world, struct guest *guest, char vm)
{
    assert_int_equal(say_hello(world, guest, vm, '1', GR_LINUX, 1, true), 0);
}

/* Offers the next record, of a file with so long a path; it counts `size` bytes of the driver's window. */
static inline bool
publish(struct world *world, struct guest *guest, uint32_t path_len, uint32_t size)
{
    struct gr_record *record = &world->record;

    memset(record, 0, sizeof(*record));
    record->type = GR_FILE;
    record->size = size;
    record->sequence = guest->stream->log.last + 1;
    record->body.file.op = GR_FILE_OP_OPEN;
    record->body.file.path = (struct gr_text){ (const uint8_t *)world->path, path_len };
    return route_publish(world->route, guest->stream, record, NULL);
}

/* Publishes until the guest is paused or refused. Returns how many were taken. */
static inline unsigned
flood(struct world *world, struct guest *guest, uint32_t path_len)
{
    unsigned count = 0;

    while (guest->pauses == guest->resumes && publish(world, guest, path_len, path_len))
        assert_true(++count < 100000);
    return count;
}

/* The end of the turn. */
static inline void
turn(struct world *world)
{
    loop_flush(world->loop);
    for (struct vm *vm = world->route->table->vms; vm; vm = vm->hh.next)
        vmlog_check(&vm->log);
}

/* ---- a world ---- */

static inline int
open_world(void **state)
{
    static const struct route_guest_ops ops = { .pause = on_pause,
                                                .resume = on_resume,
                                                .accepted = on_accepted,
                                                .interest = on_interest,
                                                .replaced = on_replaced };
    struct world *world = calloc(1, sizeof(*world));

    if (!world)
        return -1;
    world->conf.limits.memory = 64 << 20;
    world->conf.limits.vm_log = 1 << 20;
    world->conf.limits.vm_window = 64 << 20;
    world->conf.limits.vms = 4;
    world->conf.limits.connections = 100;
    memset(world->path, 'x', sizeof(world->path));
    world->path[0] = '/';
    log_setup(false, LOG_LEVEL_WARNING);
    world->loop = loop_new();
    world->route = route_new(world->loop, &world->conf, &ops);
    assert_non_null(world->route);
    *state = world;
    return 0;
}

static inline int
close_world(void **state)
{
    struct world *world = *state;

    turn(world);
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++)
        if (world->route->sinks[slot])
            route_remove_sink(world->route, world->route->sinks[slot]);
    turn(world);
    for (struct vm *vm = world->route->table->vms; vm; vm = vm->hh.next) {
        assert_null(vm->log.first); /* nobody wants anything any more */
        assert_false(route_vm(vm)->paused);
    }
    assert_int_equal(world->route->pool.used, 0);
    route_free(world->route);
    loop_free(world->loop);
    free(world);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

#endif
