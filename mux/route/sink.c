/* A sink: one solution as the VM logs see it. What it wants, whose turn it is, what it was sent and has
 * acknowledged.
 *
 * Whose turn. VMs with something to send stand in a ring. Each turn adds a quantum of bytes to the VM's
 * deficit, and it may send as much as its deficit holds. The event that goes beyond is sent too, and owed to
 * the turns that follow; what it does not use it keeps, up to a quantum. A turn that the socket cut short
 * goes on with the next batch. So over time every VM that has something gets the same share of the link,
 * whatever the sizes of its events and however many wait: a flooding VM costs the others nothing but the
 * share of one. A VM leaves the ring when it has nothing more, when its window of unacknowledged bytes is
 * full, or while a gap waits for its acknowledgement; an acknowledgement brings it back. One batch holds
 * turns of many VMs, so that one system call carries them all.
 *
 * How much memory it may hold. What was sent and is not acknowledged stays in memory, and nothing but an
 * acknowledgement or the end of the connection frees it. Windows of many VMs are together more than memory
 * is; so there is a bound over all VMs, too, the sink's share. A sink that holds its share is sent nothing
 * more, and what it is not sent can be given up. It is counted in whole chunks, as memory is: the span in
 * flight and the two chunks at its ends, or all the log if that is less. */

#include <stdlib.h>
#include <string.h>

#include "mux/event/frame.h"

#include "mux/route/inner.h"

#define QUANTUM          INT64_C(16384) /* bytes */
#define PROGRESS_AT_ONCE 3000           /* streams: frames of less than 1 MiB, which the connection queues */

/* ---- coming and going ---- */

void
sink_init(struct sink *sink, unsigned slot, const struct conf_solution *conf, const struct sink_ops *ops,
          void *arg)
{
    memset(sink, 0, sizeof(*sink));
    sink->slot = slot;
    sink->ops = *ops;
    sink->arg = arg;
    TAILQ_INIT(&sink->ring);
    sink_set_conf(sink, conf);
}

void
sink_set_conf(struct sink *sink, const struct conf_solution *conf)
{
    sink->conf = conf;
    sink_clear_hello(sink);
}

uint64_t
sink_window(const struct sink *sink)
{
    return sink->window;
}

void
sink_move_conf(struct sink *sink, const struct conf_solution *conf)
{
    sink->conf = conf;
    sink_set_mutes(sink);
}

const char *
sink_up(struct sink *sink, struct vm_table *table, Gimux__V1__SvmHello *hello)
{
    const char *why = sink_take_hello(sink, hello);
    struct vm *vm;
    struct stream *stream;

    if (why)
        return why;
    sink->connection++;
    sink->up = true;
    for (vm = NULL; (vm = vm_next(table, vm));) {
        VM_EACH_STREAM (vm, stream) {
            const struct vmlog_progress *progress = stream_progress(stream, sink->slot);

            sink_stream_added(sink, stream);
            if (progress->filtered > 0)
                vmlog_stream_report_anew(stream_log(stream), sink->slot); /* the old link may have lost it */
        }
        sink_activate(sink, vm);
    }
    return NULL;
}

void
sink_down(struct sink *sink, struct vm_table *table)
{
    struct vm *vm;

    sink->up = sink->waiting = false;
    sink->portion_count = 0;
    sink->cut = 0;
    sink_clear_hello(sink);
    for (vm = NULL; (vm = vm_next(table, vm));) {
        sink_deactivate(sink, vm);
        route_vm(vm)->turns[sink->slot].starving = false;
        vmlog_rewind(vm_log(vm), sink->slot);
        sink_pass(sink, vm);
    }
}

/* ---- turns ---- */

/* Whether what comes next is in a file and is being read, or waits for that. */
static bool
waits_for_load(const struct sink *sink, const struct vm *vm)
{
    const struct vmlog_chunk *stub = vmlog_next_stub(vm_log_of(vm), sink->slot);

    return stub && (stub->loading || route_vm(vm)->turns[sink->slot].starving);
}

static bool
has_work(const struct sink *sink, const struct vm *vm)
{
    return vmlog_span(vm_log_of(vm), sink->slot) < sink->window &&
           vmlog_has_more(vm_log_of(vm), sink->slot) && !waits_for_load(sink, vm);
}

static void
load(struct sink *sink, struct vm *vm)
{
    struct vmlog_chunk *stub = vmlog_next_stub(vm_log(vm), sink->slot);

    if (stub && !sink->load(sink->route, vm, stub, sink->slot))
        sink->starving = route_vm(vm)->turns[sink->slot].starving = true;
}

void
sink_feed(struct sink *sink, struct vm_table *table)
{
    sink->starving = false;
    for (struct vm *vm = NULL; (vm = vm_next(table, vm));) {
        if (!route_vm(vm)->turns[sink->slot].starving)
            continue;
        route_vm(vm)->turns[sink->slot].starving = false;
        sink_activate(sink, vm);
    }
}

/* Counts anew what the sink holds of the VM's log, `more` bytes that were gathered included. */
static void
count_held(struct sink *sink, struct vm *vm, size_t more)
{
    struct vm_turn *turn = &route_vm(vm)->turns[sink->slot];
    size_t held = vmlog_held(vm_log(vm), sink->slot, more);

    sink->held += held - turn->held;
    turn->held = held;
}

void
sink_pass(struct sink *sink, struct vm *vm)
{
    struct vmlog_filter filter = sink_filter(sink, vm);
    struct vmlog_batch none = { .count = 0 };
    uint64_t from = vmlog_sent_number(vm_log(vm), sink->slot);
    struct vmlog_stream *stream;

    if (vmlog_span(vm_log(vm), sink->slot) > 0)
        return;
    vmlog_peek(vm_log(vm), sink->slot, &filter, sink->connection, &none, SIZE_MAX, &stream);
    vmlog_sent(vm_log(vm), sink->slot, 0, &(struct iovec){ NULL, 0 });
    if (vmlog_sent_number(vm_log(vm), sink->slot) == from)
        return;
    sink_settle_mark(sink, &route_vm(vm)->turns[sink->slot], 0, false, NULL);
    sink->moved(sink->route, vm);
}

void
sink_activate(struct sink *sink, struct vm *vm)
{
    struct vm_turn *turn = &route_vm(vm)->turns[sink->slot];

    count_held(sink, vm, 0);
    if (!sink->up || turn->active || !has_work(sink, vm))
        return;
    turn->active = true;
    TAILQ_INSERT_TAIL(&sink->ring, turn, ring);
}

void
sink_deactivate(struct sink *sink, struct vm *vm)
{
    struct vm_turn *turn = &route_vm(vm)->turns[sink->slot];

    sink->held -= turn->held;
    turn->held = 0;
    if (!turn->active)
        return;
    turn->active = false;
    TAILQ_REMOVE(&sink->ring, turn, ring);
}

static void
tell_start(struct sink *sink, struct stream *stream)
{
    const struct vmlog_progress *progress = stream_progress(stream, sink->slot);
    const struct stream_about *about = stream_about(stream);
    Gimux__V1__StreamStart start = GIMUX__V1__STREAM_START__INIT;
    Gimux__V1__Frame frame = GIMUX__V1__FRAME__INIT;

    vmlog_announce(stream_log(stream), sink->slot, sink->connection);
    start.stream = stream_id(stream);
    start.vm_uuid = (char *)(uintptr_t)vm_uuid_text(stream_vm(stream));
    start.driver = (Gimux__V1__Driver)about->driver;
    start.boot_id = (char *)(uintptr_t)about->boot_text;
    start.first_sequence = progress->sent + 1;
    start.driver_build = (char *)(uintptr_t)about->build;
    start.guest_os = (char *)(uintptr_t)about->guest_os;
    frame.body_case = GIMUX__V1__FRAME__BODY_STREAM_START;
    frame.stream_start = &start;
    sink->ops.tell(sink->arg, &frame);
}

static void
tell_gaps(struct sink *sink, struct vm *vm)
{
    struct stream *stream;

    VM_EACH_STREAM (vm, stream) {
        const struct vmlog_progress *progress = stream_progress(stream, sink->slot);
        struct frame_gap gap;
        uint64_t first;
        uint64_t last;

        if (progress->gap_last == 0)
            continue;
        if (progress->announced != sink->connection)
            tell_start(sink, stream);
        if (vmlog_gap_next(vm_log(vm), sink->slot, stream_log(stream), &first, &last))
            sink->ops.tell(sink->arg,
                           frame_make_gap(&gap, stream_id(stream), first, last, progress->gap_reason));
    }
}

/* One VM's turn: adds to the batch what its deficit, which is more than 0, allows. Returns false if a frame
 * of this SVM's own must go first, which is possible only behind what the batch already holds. */
static bool
take_turn(struct sink *sink, struct vm *vm, struct vmlog_batch *batch, size_t max_bytes)
{
    struct vm_turn *turn = &route_vm(vm)->turns[sink->slot];
    size_t span = vmlog_span(vm_log(vm), sink->slot);
    struct vmlog_filter filter = sink_filter(sink, vm);
    size_t before = batch->bytes;
    size_t budget = (size_t)turn->deficit;
    struct vmlog_stream *stream = NULL;

    if (span >= sink->window)
        budget = 0; /* a reload made the window smaller */
    else if (budget > sink->window - span)
        budget = sink->window - span;
    if (budget > max_bytes)
        budget = max_bytes;
    for (;;) {
        enum vmlog_peek result =
            vmlog_peek(vm_log(vm), sink->slot, &filter, sink->connection, batch, budget, &stream);

        if (result == VMLOG_FRAMES)
            break;
        if (batch->count > 0)
            return false;
        /* what it passed over on the way is filtered */
        vmlog_sent(vm_log(vm), sink->slot, 0, &(struct iovec){ NULL, 0 });
        if (result == VMLOG_LOAD) {
            load(sink, vm);
            break;
        }
        if (result == VMLOG_ANNOUNCE)
            tell_start(sink, stream_of_log(stream));
        else
            tell_gaps(sink, vm);
    }
    sink->portions[sink->portion_count].vm = vm;
    sink->portions[sink->portion_count++].bytes = batch->bytes - before;
    count_held(sink, vm, batch->bytes - before);
    return true;
}

/* The VM leaves the ring until the sink holds less. What it does not want holds up nobody meanwhile. */
static void
wait_for_share(struct sink *sink, struct vm_turn *turn)
{
    sink->waiting = true;
    turn->active = false;
    TAILQ_REMOVE(&sink->ring, turn, ring);
    sink_pass(sink, turn->vm);
}

void
sink_gather(struct sink *sink, struct vmlog_batch *batch, size_t max_bytes)
{
    const unsigned max_portions = sizeof(sink->portions) / sizeof(sink->portions[0]);
    const struct vm_turn *owing = NULL; /* the first that was passed over */

    sink->portion_count = 0;
    while (!TAILQ_EMPTY(&sink->ring) && sink->portion_count < max_portions && batch->bytes < max_bytes &&
           batch->count < batch->max) {
        struct vm_turn *turn = TAILQ_FIRST(&sink->ring);

        if (turn == owing && sink->portion_count > 0)
            return;                                        /* those who had a turn have the next */
        if (sink->held > 0 && sink->held >= sink->share) { /* but one VM at a time is always sent something */
            wait_for_share(sink, turn);
            continue;
        }
        turn->deficit += QUANTUM;
        if (turn->deficit <= 0) {
            owing = owing ? owing : turn;
            TAILQ_REMOVE(&sink->ring, turn, ring);
            TAILQ_INSERT_TAIL(&sink->ring, turn, ring);
            continue;
        }
        if (!take_turn(sink, turn->vm, batch, max_bytes - batch->bytes)) {
            turn->deficit -= QUANTUM; /* the turn did not take place */
            return;
        }
        TAILQ_REMOVE(&sink->ring, turn, ring);
        turn->active = false;
        if (batch->count == 0)
            sink_sent(sink, 0, &(struct iovec){ NULL, 0 }); /* all of it was filtered: the next one's turn */
    }
}

/* The VM's turn is over, or the socket has cut it short; then it goes on, at the head of the ring behind
 * those in the same case. */
static void
put_back(struct sink *sink, struct vm_turn *turn, bool over, struct vm_turn **cut)
{
    if (!has_work(sink, turn->vm)) {
        turn->deficit = turn->deficit < 0 ? turn->deficit : 0;
        return;
    }
    turn->active = true;
    if (over) {
        turn->deficit = turn->deficit < QUANTUM ? turn->deficit : QUANTUM;
        TAILQ_INSERT_TAIL(&sink->ring, turn, ring);
        return;
    }
    turn->deficit -= QUANTUM; /* which is added when it goes on */
    if (*cut)
        TAILQ_INSERT_AFTER(&sink->ring, *cut, turn, ring);
    else
        TAILQ_INSERT_HEAD(&sink->ring, turn, ring);
    *cut = turn;
}

void
sink_sent(struct sink *sink, size_t taken, struct iovec *rest)
{
    unsigned count = sink->portion_count;
    struct vm_turn *cut = NULL;
    uint64_t now = 0;

    if (taken > 0)
        sink_drained(sink);
    rest->iov_len = 0;
    sink->portion_count = 0;
    for (unsigned i = 0; i < count; i++) {
        struct vm *vm = sink->portions[i].vm;
        struct vm_turn *turn = &route_vm(vm)->turns[sink->slot];
        size_t bytes = taken < sink->portions[i].bytes ? taken : sink->portions[i].bytes;
        struct iovec part = { NULL, 0 };

        vmlog_sent(vm_log(vm), sink->slot, bytes, &part);
        count_held(sink, vm, 0);
        taken -= bytes;
        if (part.iov_len > 0)
            *rest = part;
        bytes += part.iov_len; /* the caller sends it */
        sink->sent_bytes += bytes;
        turn->deficit -= (int64_t)bytes;
        if (turn->marked != 0)
            sink_settle_mark(sink, turn, bytes, part.iov_len > 0, &now);
        sink->moved(sink->route, vm);
        put_back(sink, turn, bytes == sink->portions[i].bytes, &cut);
    }
}

/* ---- what comes back ---- */

bool
sink_ack(struct sink *sink, struct vm_table *table, uint32_t id, uint64_t sequence)
{
    struct stream *stream = vm_stream_by_id(table, id);

    if (!stream)
        return vm_stream_was(table, id); /* forgotten meanwhile: nothing of it was open */
    if (stream_progress(stream, sink->slot)->announced != sink->connection)
        return sequence <= stream_progress(stream, sink->slot)->settled; /* it ended meanwhile */
    if (!vmlog_ack(vm_log(stream_vm(stream)), sink->slot, stream_log(stream), sequence))
        return false;
    sink->moved(sink->route, stream_vm(stream));
    sink_activate(sink, stream_vm(stream));
    if (sink->waiting && sink->held <= sink->share / 4 * 3) {
        sink->waiting = false;
        for (struct vm *vm = NULL; (vm = vm_next(table, vm));)
            sink_activate(sink, vm);
    }
    return true;
}

static void
tell_progress(struct sink *sink, struct stream *stream)
{
    const struct vmlog_progress *of = stream_progress(stream, sink->slot);
    Gimux__V1__StreamProgress progress = GIMUX__V1__STREAM_PROGRESS__INIT;
    Gimux__V1__Frame frame = GIMUX__V1__FRAME__INIT;

    if (of->announced != sink->connection)
        tell_start(sink, stream);
    vmlog_stream_reported(stream_log(stream), sink->slot);
    progress.stream = stream_id(stream);
    progress.sequence = of->settled;
    progress.filtered = of->filtered;
    frame.body_case = GIMUX__V1__FRAME__BODY_STREAM_PROGRESS;
    frame.stream_progress = &progress;
    sink->ops.tell(sink->arg, &frame);
}

/* After this the SVM may forget the stream; should it go on after all, it is announced again. */
static void
tell_end(struct sink *sink, struct stream *stream)
{
    const struct vmlog_progress *of = stream_progress(stream, sink->slot);
    Gimux__V1__StreamEnd end = GIMUX__V1__STREAM_END__INIT;
    Gimux__V1__Frame frame = GIMUX__V1__FRAME__INIT;

    end.stream = stream_id(stream);
    /* an SVM may have more of it than a gimuxd that was killed had written */
    end.last_sequence = stream_last(stream) > of->acked ? stream_last(stream) : of->acked;
    frame.body_case = GIMUX__V1__FRAME__BODY_STREAM_END;
    frame.stream_end = &end;
    sink->ops.tell(sink->arg, &frame);
    vmlog_unannounce(stream_log(stream), sink->slot);
}

void
sink_tell_progress(struct sink *sink, struct vm_table *table)
{
    struct stream *stream = NULL;
    unsigned told = 0;

    while ((stream = vm_table_next_stream(table, stream))) { /* by ascending id */
        const struct vmlog_progress *of = stream_progress(stream, sink->slot);

        if (stream_id(stream) <= sink->told_up_to || !sink_wants_vm(sink, stream_vm(stream)))
            continue;
        if (told == PROGRESS_AT_ONCE)
            return;
        if (of->settled != of->reported) {
            tell_progress(sink, stream);
            sink->told_up_to = stream_id(stream);
            told++;
        }
        if (stream_about(stream)->ended && of->settled == stream_last(stream) &&
            of->announced == sink->connection)
            tell_end(sink, stream);
    }
    sink->told_up_to = 0;
}
