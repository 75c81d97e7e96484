/* What fuzz_guest_session stands on: the real sessions, route and VM logs on the real loop, with a clock of
 * its own, and SVMs that remember what they were told and abort when the contract is broken.
 *
 * Deterministic: time passes by a step of the program alone. The linker gives loop.c's clock and timers, the
 * log and the one large allocation to the functions below (--wrap). */
#ifndef GIMUX_TESTS_SESSION_WORLD_H
#define GIMUX_TESTS_SESSION_WORLD_H

#include <assert.h>
#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mux/base/log.h"
#include "mux/guest/guest.h"
#include "mux/route/inner.h"
#include "mux/vmlog/inner.h"
#include "proto/delimited.h"
#include "tests/fuzz/one_normalizer.h"
#include "tests/fuzz/pool_comes_back.h"

#define SVMS    3u
#define STREAMS 512u /* streams of one run, forgotten ones included; the run ends before there are more */
#define PIECES  64

/* ---- time, log and memory: what --wrap brings here ---- */

struct loop_timer {
    loop_timer_fn *fn;
    void *arg;
    uint64_t due; /* 0: not started */
    LIST_ENTRY(loop_timer) in_list;
};

static uint64_t world_now = 1000;
static LIST_HEAD(timers, loop_timer) world_timers = LIST_HEAD_INITIALIZER(world_timers);

uint64_t __wrap_loop_now(void);
struct loop_timer *__wrap_loop_timer_new(struct loop *loop, loop_timer_fn *fn, void *arg);
void __wrap_loop_timer_start(struct loop_timer *timer, uint32_t ms);
void __wrap_loop_timer_stop(struct loop_timer *timer);
void __wrap_loop_timer_free(struct loop_timer *timer);
void __wrap_log_line(enum log_level level, const struct log_who *who, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

uint64_t
__wrap_loop_now(void)
{
    return world_now;
}

struct loop_timer *
__wrap_loop_timer_new(struct loop *loop, loop_timer_fn *fn, void *arg)
{
    struct loop_timer *timer = calloc(1, sizeof(*timer));

    (void)loop;
    assert(timer);
    timer->fn = fn;
    timer->arg = arg;
    LIST_INSERT_HEAD(&world_timers, timer, in_list);
    return timer;
}

void
__wrap_loop_timer_start(struct loop_timer *timer, uint32_t ms)
{
    timer->due = world_now + ms;
}

void
__wrap_loop_timer_stop(struct loop_timer *timer)
{
    timer->due = 0;
}

void
__wrap_loop_timer_free(struct loop_timer *timer)
{
    if (timer)
        LIST_REMOVE(timer, in_list);
    free(timer);
}

/* Lines are made, so that the sanitizers see what goes into them, and thrown away unless SESSION_LOG is set.
 */
void
__wrap_log_line(enum log_level level, const struct log_who *who, const char *format, ...)
{
    char text[1000];
    va_list args;

    (void)level;
    (void)who;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (getenv("SESSION_LOG"))
        fprintf(stderr, "%s %s\n", who && who->vm ? who->vm : "-", text);
}

/* ---- the world ---- */

/* What an SVM remembers of one stream. */
struct memory {
    bool announced;    /* on this connection */
    bool dropped;      /* its driver lost some itself */
    uint64_t heard;    /* nothing up to this comes on this connection any more */
    uint64_t position; /* it heard of everything up to this */
    uint64_t acked;    /* and has said so */
};

struct svm {
    struct conf_solution conf;
    struct sink *sink; /* NULL: not added */
    bool whole;        /* it has wanted everything since it was added: nothing may be missing */
    bool guessing;     /* it named positions of streams that it never saw */
    bool midway;       /* it may have acknowledged a part of what a driver dropped */
    size_t credit;     /* bytes that its socket still takes */
    struct memory memory[STREAMS + 1];
};

/* What the world saw of one stream; it may be forgotten by now. */
struct seen {
    uint64_t last;
    uint64_t base[SVMS]; /* what came up to here came before the SVM's solution */
};

struct world {
    struct loop *loop;
    struct conf conf;
    struct conf_vm vm; /* VM 3 has a section, and so a door of its own */
    struct route *route;
    struct guest_list *guests;
    struct svm svms[SVMS];
    struct seen seen[STREAMS + 1];
    uint32_t seen_count;
    bool shrunk; /* a reload made limits smaller than what was in use */
};

static struct world world;

static bool
is_up(const struct svm *svm)
{
    return svm->sink && svm->sink->up;
}

static void
vm_of(uint8_t vm, uint8_t uuid[GR_UUID_SIZE])
{
    memset(uuid, 'a' + vm % 4, GR_UUID_SIZE);
}

/* ---- SVMs: what they are told ---- */

/* Streams come into being and move on here; some are forgotten later. */
static void
look_at_streams(void)
{
    for (const struct stream *s = world.route->table->streams; s; s = s->hh.next) {
        assert(s->log.id <= STREAMS);
        if (s->log.id > world.seen_count) {
            world.seen_count = s->log.id;
            world.seen[s->log.id].last = s->about.start - 1;
            for (unsigned i = 0; i < SVMS; i++) {
                struct memory *memory = &world.svms[i].memory[s->log.id];

                world.seen[s->log.id].base[i] = memory->position = memory->acked = s->about.start - 1;
            }
        }
        assert(s->log.last >= world.seen[s->log.id].last);
        world.seen[s->log.id].last = s->log.last;
    }
}

static struct memory *
told_of(struct svm *svm, uint32_t stream)
{
    if (stream > world.seen_count)
        look_at_streams();
    assert(stream > 0 && stream <= world.seen_count);
    return &svm->memory[stream];
}

/* first..last of an announced stream were sent, or told as a gap: in order, and without a hole if the SVM
 * wants everything. What a driver dropped is one frame, which comes whole though the SVM may have said that
 * it has a part of it. */
static void
hear(struct svm *svm, uint32_t id, uint64_t first, uint64_t last, bool whole_gap)
{
    struct memory *memory = told_of(svm, id);

    assert(memory->announced && first > 0 && first <= last);
    if (whole_gap && first <= memory->heard && last > memory->heard)
        first = memory->heard + 1;
    assert(svm->whole ? first == memory->heard + 1 : first > memory->heard);
    assert(last <= vm_stream_by_id(world.route->table, id)->log.last);
    memory->heard = last;
    if (memory->position < last)
        memory->position = last;
}

static void
hear_start(struct svm *svm, const Gimux__V1__StreamStart *start)
{
    struct memory *memory = told_of(svm, start->stream);

    assert(!memory->announced);
    assert(!svm->whole || start->first_sequence <= memory->position + 1);
    memory->announced = true;
    memory->heard = start->first_sequence - 1;
}

static void
receive(void *arg, const Gimux__V1__Frame *frame)
{
    struct svm *svm = arg;
    struct memory *memory;

    assert(svm->sink->up);
    switch (frame->body_case) {
    case GIMUX__V1__FRAME__BODY_STREAM_START:
        hear_start(svm, frame->stream_start);
        break;
    case GIMUX__V1__FRAME__BODY_EVENT:
        hear(svm, frame->event->stream, frame->event->sequence, frame->event->sequence, false);
        break;
    case GIMUX__V1__FRAME__BODY_GAP:
        assert(svm->conf.policy != CONF_POLICY_PAUSE ||
               frame->gap->reason != GIMUX__V1__GAP_REASON__GAP_REASON_OVERFLOW);
        memory = told_of(svm, frame->gap->stream);
        memory->dropped |= frame->gap->reason == GIMUX__V1__GAP_REASON__GAP_REASON_DRIVER;
        hear(svm, frame->gap->stream, frame->gap->first_sequence, frame->gap->last_sequence,
             memory->dropped || svm->guessing || svm->midway);
        break;
    case GIMUX__V1__FRAME__BODY_STREAM_PROGRESS:
        memory = told_of(svm, frame->stream_progress->stream);
        assert(memory->announced);
        assert(!svm->whole || frame->stream_progress->sequence <= memory->position);
        assert(!svm->whole || frame->stream_progress->filtered == 0);
        if (memory->position < frame->stream_progress->sequence)
            memory->position = frame->stream_progress->sequence;
        break;
    case GIMUX__V1__FRAME__BODY_STREAM_END:
        memory = told_of(svm, frame->stream_end->stream);
        assert(memory->announced);
        assert(!svm->whole || frame->stream_end->last_sequence == memory->position);
        memory->announced = false;
        break;
    default:
        abort();
    }
}

/* A whole frame out of a log: its length fits and it unpacks. Returns its bytes. */
static size_t
receive_frame(struct svm *svm, const uint8_t *data, size_t len)
{
    const uint8_t *body = NULL;
    size_t body_len = 0;
    enum delimited_result result = delimited_next(data, len, DELIMITED_FRAME_MAX, &body, &body_len);
    Gimux__V1__Frame *frame;

    assert(result == DELIMITED_FRAME);
    frame = gimux__v1__frame__unpack(NULL, body_len, body);
    assert(frame);
    receive(svm, frame);
    gimux__v1__frame__free_unpacked(frame, NULL);
    return (size_t)(body - data) + body_len;
}

/* What a socket that takes `taken` bytes brings; the frame that is cut comes whole, as the link's queue has
 * it. */
static void
receive_batch(struct svm *svm, const struct vmlog_batch *batch, size_t taken)
{
    for (int i = 0; i < batch->count && taken > 0; i++) {
        const uint8_t *data = batch->iov[i].iov_base;
        size_t len = batch->iov[i].iov_len;

        while (len > 0 && taken > 0) {
            size_t used = receive_frame(svm, data, len);

            taken -= used < taken ? used : taken;
            data += used;
            len -= used;
        }
    }
}

static void
pump(void *arg)
{
    struct svm *svm = arg;
    struct iovec iov[PIECES];

    while (is_up(svm) && svm->credit > 0) {
        struct vmlog_batch batch = { .iov = iov, .max = PIECES };
        struct iovec rest;
        size_t taken;

        sink_gather(svm->sink, &batch, 1 << 18);
        if (batch.count == 0)
            break;
        taken = svm->credit < batch.bytes ? svm->credit : batch.bytes;
        svm->credit -= svm->credit == SIZE_MAX ? 0 : taken;
        receive_batch(svm, &batch, taken);
        sink_sent(svm->sink, taken, &rest);
    }
}

/* ---- SVMs: what they do ---- */

static void
svm_configure(struct svm *svm, uint8_t what)
{
    svm->conf.policy = what % 2 ? CONF_POLICY_DROP : CONF_POLICY_PAUSE;
    svm->conf.class_mask = what & 2 ? CLASS_MASK_ALL & ~(uint32_t)(what >> 3) : CLASS_MASK_ALL;
    svm->conf.window = what & 4 ? 1u << (9 + (what >> 4)) : 0;
}

static void
svm_add(struct svm *svm)
{
    static const struct sink_ops ops = { .tell = receive, .wake = pump };

    if (svm->sink)
        return;
    memset(svm->memory, 0, sizeof(svm->memory));
    svm->sink = route_add_sink(world.route, &svm->conf, &ops, svm);
    assert(svm->sink && svm->sink->slot < SVMS);
    look_at_streams();
    svm->whole = svm->conf.class_mask == CLASS_MASK_ALL && svm->conf.mute.count == 0;
    svm->guessing = svm->midway = false;
    for (uint32_t id = 1; id <= world.seen_count; id++) {
        uint64_t last = world.seen[id].last;

        world.seen[id].base[svm->sink->slot] = svm->memory[id].position = svm->memory[id].acked = last;
    }
}

/* The connection ends; after a crash it has only what it acknowledged. */
static void
svm_down(struct svm *svm, bool crash)
{
    if (is_up(svm))
        route_sink_down(world.route, svm->sink);
    for (uint32_t id = 1; id <= STREAMS; id++) {
        struct memory *memory = &svm->memory[id];

        memory->announced = false;
        if (crash)
            memory->position = memory->acked;
    }
}

static void
svm_remove(struct svm *svm)
{
    if (!svm->sink)
        return;
    svm_down(svm, false);
    route_remove_sink(world.route, svm->sink);
    svm->sink = NULL;
}

/* Returns whether gimuxd took it; else the link ends, as in svm.c. */
static bool
svm_ack(struct svm *svm, uint32_t id, uint64_t sequence)
{
    struct memory *memory;

    if (!is_up(svm))
        return false;
    if (!route_ack(world.route, svm->sink, id, sequence)) {
        svm_down(svm, false);
        return false;
    }
    if (id > STREAMS || !vm_stream_by_id(world.route->table, id))
        return true;
    memory = told_of(svm, id);
    assert(!svm->whole || sequence <= memory->position);
    svm->midway |= memory->dropped && sequence < memory->position;
    if (memory->acked < sequence)
        memory->acked = sequence;
    if (memory->position < memory->acked)
        memory->position = memory->acked;
    return true;
}

/* Says what it has, in a hello that may want less than everything. */
static void
svm_up(struct svm *svm, bool names, uint8_t wants)
{
    static char texts[STREAMS + 1][2][GR_UUID_TEXT];
    static Gimux__V1__StreamPosition positions[STREAMS + 1];
    static Gimux__V1__StreamPosition *named[STREAMS + 1];
    Gimux__V1__SvmHello hello = GIMUX__V1__SVM_HELLO__INIT;
    Gimux__V1__Subscription subscription = GIMUX__V1__SUBSCRIPTION__INIT;
    uint32_t classes[] = { 1001, 4001, 6002, wants };
    char *mutes[] = { "/", "C:\\" };
    uint8_t packed[1 << 16];
    size_t len;

    if (!svm->sink || svm->sink->up)
        return;
    for (const struct stream *s = world.route->table->streams; names && s; s = s->hh.next) {
        size_t i = hello.n_positions;

        if (svm->memory[s->log.id].position == 0 || s->log.id > world.seen_count)
            continue;
        gimux__v1__stream_position__init(&positions[i]);
        positions[i].vm_uuid = strcpy(texts[i][0], s->about.vm->uuid_text);
        positions[i].boot_id = strcpy(texts[i][1], s->about.boot_text);
        positions[i].driver = (Gimux__V1__Driver)s->about.driver;
        positions[i].last_sequence = svm->memory[s->log.id].position;
        svm->memory[s->log.id].acked = svm->memory[s->log.id].position;
        named[hello.n_positions++] = &positions[i];
    }
    hello.positions = named;
    if (wants) {
        svm->whole = false;
        hello.subscription = &subscription;
        subscription.class_uids = classes;
        subscription.n_class_uids = wants % 5;
        subscription.muted_path_prefixes = mutes;
        subscription.n_muted_path_prefixes = wants / 5 % 3;
    }
    len = gimux__v1__svm_hello__get_packed_size(&hello);
    if (len > sizeof(packed))
        return;
    gimux__v1__svm_hello__pack(&hello, packed);
    svm->credit = SIZE_MAX;
    route_sink_up(world.route, svm->sink, gimux__v1__svm_hello__unpack(NULL, len, packed));
}

/* Acknowledges of every stream a part of what it was sent on this connection. */
static void
svm_ack_all(struct svm *svm, unsigned part, unsigned of)
{
    for (uint32_t id = 1; id <= world.seen_count && is_up(svm); id++) {
        struct memory *memory = &svm->memory[id];

        if (memory->announced && memory->heard > 0)
            svm_ack(svm, id, memory->heard / of * part + memory->heard % of * part / of);
    }
}

/* ---- what must hold ---- */

static uint64_t
sum_of(const struct vmlog_counts *counts)
{
    return counts->delivered + counts->filtered + counts->gapped;
}

/* Every sequence of a stream that is settled is delivered, filtered or in a gap, and nothing else is; a guest
 * was told that an event is safe only if every SVM whose policy is pause has it. */
static void
check_stream(const struct stream *stream, const struct svm *svm)
{
    unsigned slot = svm->sink->slot;
    const struct vmlog_progress *progress = &stream->log.sinks[slot];
    const struct seen *seen = &world.seen[stream->log.id];
    uint64_t sum = progress->delivered + progress->filtered + progress->gapped;

    assert(progress->settled <= stream->log.last);
    assert(stream->log.accepted <= stream->log.last);
    if (svm->guessing)
        return;
    assert(sum <= stream->log.last - seen->base[slot]);
    assert(sum >= progress->settled - seen->base[slot]);
    if (svm->whole)
        assert(progress->filtered == 0);
    if (svm->whole && svm->conf.policy == CONF_POLICY_PAUSE) {
        assert(progress->settled <= svm->memory[stream->log.id].acked);
        assert(stream->log.accepted <= svm->memory[stream->log.id].acked ||
               stream->log.accepted <= seen->base[slot]);
    }
}

static void
check_world(void)
{
    size_t used = 0;

    look_at_streams();
    for (const struct vm *vm = world.route->table->vms; vm; vm = vm->hh.next) {
        vmlog_check(&vm->log);
        used += vm->log.bytes;
        assert(vm->stream_count <= VM_STREAMS_MAX && route_vm(vm)->connected <= vm->stream_count);
    }
    assert(used == world.route->pool.used);
    assert(used <= world.route->pool.limit + world.route->pool.own || world.shrunk);
    for (const struct stream *stream = world.route->table->streams; stream; stream = stream->hh.next)
        for (unsigned i = 0; i < SVMS; i++)
            if (world.svms[i].sink)
                check_stream(stream, &world.svms[i]);
}

/* When every SVM has acknowledged everything: nothing is left, nobody waits, and the sum of the parts is the
 * whole, for all streams that there ever were. */
static void
check_settled(void)
{
    for (const struct vm *vm = world.route->table->vms; vm; vm = vm->hh.next)
        assert(!vm->log.first && !route_vm(vm)->paused);
    for (unsigned i = 0; i < SVMS; i++) {
        const struct svm *svm = &world.svms[i];
        struct vmlog_counts counts;
        uint64_t expected = 0;

        if (!svm->sink || svm->guessing)
            continue;
        assert(route_pending(world.route, svm->sink) == 0);
        for (uint32_t id = 1; id <= world.seen_count; id++)
            expected += world.seen[id].last - world.seen[id].base[svm->sink->slot];
        counts = world.route->pool.counts[svm->sink->slot];
        assert(sum_of(&counts) == expected);
    }
}

#endif
