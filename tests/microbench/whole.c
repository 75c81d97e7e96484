/* The whole event path in one process: guest sessions are given what their connections would have read, a
 * batch a turn, and three SVMs take everything and acknowledge it at once. Left out are the sockets of guests
 * and SVMs, and the loop; the acknowledgements to guests are really written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mux/base/log.h"
#include "mux/guest/inner.h"
#include "mux/route/inner.h"
#include "mux/vmlog/inner.h"
#include "tests/microbench/step.h"

#define PIECES     64
#define SEND_BYTES ((size_t)256 * 1024)

static struct mix *mix;
static struct loop *loop;
static struct conf conf;
static struct route *route;
static struct guest_list *guests;
static struct guest *sessions[MIX_STREAMS_MAX];
static int far_ends[MIX_STREAMS_MAX]; /* of the sessions' sockets */
static struct conf_solution solutions[STEP_SINKS];
static struct sink *sinks[STEP_SINKS];

/* The clock stands still, so that what waits for a time, as acknowledgements do, is the same in every run:
 * the linker gives loop.c's to this one (--wrap). */
uint64_t __wrap_loop_now(void);

uint64_t
__wrap_loop_now(void)
{
    return 1000;
}

/* The one in nanoseconds, which deliveries are timed with, goes on by 100 us a turn: one turn in ten is
 * timed. */
uint64_t __wrap_loop_now_ns(void);
uint64_t __wrap_loop_turn_began(const struct loop *of);

static uint64_t now_ns;

uint64_t
__wrap_loop_now_ns(void)
{
    return now_ns;
}

uint64_t
__wrap_loop_turn_began(const struct loop *of)
{
    (void)of;
    return now_ns;
}

/* ---- SVMs ---- */

static void
on_tell(void *arg, const Gimux__V1__Frame *frame)
{
    (void)arg;
    (void)frame;
}

static void
on_wake(void *arg)
{
    struct sink *sink = *(struct sink **)arg;
    struct iovec iov[PIECES];

    for (;;) {
        struct vmlog_batch batch = { .iov = iov, .max = PIECES };
        struct iovec rest;

        sink_gather(sink, &batch, SEND_BYTES);
        if (batch.count == 0)
            break;
        sink_sent(sink, batch.bytes, &rest);
    }
}

/* One of the SVMs does not want what lies in two directories, as scanners have it. */
static void
connect_svms(void)
{
    static const struct sink_ops ops = { .tell = on_tell, .wake = on_wake };
    static char windows_mute[] = "C:\\Windows\\Temp\\";
    static char linux_mute[] = "/proc/";

    solutions[0].mute = (struct conf_list){ .count = 2, .texts = { windows_mute, linux_mute } };
    for (unsigned i = 0; i < STEP_SINKS; i++) {
        snprintf(solutions[i].name, sizeof(solutions[i].name), "svm%u", i);
        solutions[i].class_mask = CLASS_MASK_ALL;
        sinks[i] = route_add_sink(route, &solutions[i], &ops, &sinks[i]);
        if (!sinks[i] ||
            route_sink_up(route, sinks[i], gimux__v1__svm_hello__unpack(NULL, 0, (const uint8_t *)"")))
            abort();
    }
}

static void
acknowledge(const struct stream *stream)
{
    for (unsigned i = 0; i < STEP_SINKS; i++)
        if (!route_ack(route, sinks[i], stream->log.id, stream->log.sinks[sinks[i]->slot].sent))
            abort();
}

/* ---- guests ---- */

static void
feed(unsigned session, const uint8_t *bytes, size_t len)
{
    char heard[4096];

    now_ns += 100000;
    if (guest_conn_ops.data(sessions[session], bytes, len) != len)
        abort();
    loop_flush(loop);
    acknowledge(sessions[session]->stream);
    loop_flush(loop);
    while (recv(far_ends[session], heard, sizeof(heard), MSG_DONTWAIT) > 0)
        ;
}

static void
connect_guest(unsigned index)
{
    const struct mix_stream *stream = &mix->streams[index];
    struct guest_door door = { .name = "microbench", .proved = true, .vmx = stream->driver == GR_VMX };
    int ends[2];

    memcpy(door.vm_uuid, stream->vm_uuid, GR_UUID_SIZE);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0)
        abort();
    far_ends[index] = ends[1];
    guest_accept(guests, ends[0], &door);
    sessions[index] = LIST_FIRST(&guests->guests);
    feed(index, stream->opening, stream->opening_len);
    acknowledge(route_own_stream(route, sessions[index]->stream->about.vm)); /* gimuxd's own event of this */
}

/* ---- the step ---- */

static void
open_whole(struct mix *of)
{
    mix = of;
    log_setup(false, LOG_LEVEL_WARNING);
    conf.heartbeat = conf.silence = 3600 * 1000;
    conf.limits.memory = (uint64_t)64 << 20;
    conf.limits.vm_log = (uint64_t)4 << 20;
    conf.limits.vm_window = (uint64_t)1 << 20;
    conf.limits.vms = conf.limits.connections = 100;
    loop = loop_new();
    if (!loop)
        abort();
    route = route_new(loop, &conf, &guest_route_ops);
    guests = route ? guest_list_new(loop, route, &conf) : NULL;
    if (!guests)
        abort();
    connect_svms();
    for (unsigned i = 0; i < mix->stream_count; i++)
        connect_guest(i);
}

/* Every run's events are the next ones of their streams. */
static void
number_events(void)
{
    uint64_t last[MIX_STREAMS_MAX];

    for (unsigned i = 0; i < mix->stream_count; i++)
        last[i] = sessions[i]->stream->log.last;
    for (size_t i = 0; i < mix->count; i++) {
        uint64_t sequence = htole64(++last[mix->events[i].stream - mix->streams]);

        memcpy(mix->bytes + mix->events[i].at + 8, &sequence, sizeof(sequence));
    }
}

static void
run_whole(void)
{
    for (size_t i = 0; i < mix->batch_count; i++)
        feed(mix->batches[i].stream, mix->bytes + mix->batches[i].at, mix->batches[i].len);
}

static void
close_whole(void)
{
    guest_list_close(guests, "the end");
    loop_flush(loop);
    guest_list_free(guests);
    for (unsigned i = 0; i < STEP_SINKS; i++)
        route_remove_sink(route, sinks[i]);
    loop_flush(loop);
    route_free(route);
    loop_free(loop);
    for (unsigned i = 0; i < mix->stream_count; i++)
        close(far_ends[i]);
}

const struct step step_whole = { .name = "whole",
                                 .what = "session, route, VM log, three sinks, acknowledgements",
                                 .times = 1,
                                 .open = open_whole,
                                 .prepare = number_events,
                                 .run = run_whole,
                                 .close = close_whole };
