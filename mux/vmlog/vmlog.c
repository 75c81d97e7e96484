/* The VM log: the queue of one VM, its encoded frames once, in order, in chunks, with a cursor for every
 * sink.
 *
 * What is kept. A log is a list of chunks. A chunk is one allocation: frames grow from its front, the entries
 * that describe them from its end, and it is full when they meet. So frames that follow each other are one
 * run of bytes, which a cursor sends as one piece, and nothing is allocated per event: chunks come from a
 * pool and go back to it.
 *
 *     chunk: | frame 0 | frame 1 | frame 2 |   free   | entry 2 | entry 1 | entry 0 |
 *
 * Every sink has a cursor with two positions:
 *
 *     settled by all       settled by this sink    sent, not acked         not sent
 *     ------------------|-----------------------|-----------------------|----------------|
 *                     accept                   ack                     sent             end
 *
 * `sent` moves when frames go out; whether the sink wants a frame is decided just then (bit `filtered` of the
 * entry, if not), so a new subscription counts from that moment. `ack` moves over entries that are settled:
 * filtered, or acknowledged by the SVM (cumulatively, per stream). A third position, `reached`, is as far as
 * `sent` ever was: behind it when the connection broke and `sent` went back to `ack`. What an SVM says that
 * it has when it comes back is not sent again (bit `done`).
 *
 * Positions move by runs, not by entries. A run is what a guest's batch leaves: entries of one stream, whose
 * sequences follow each other. The bytes and sequences of a part of it are differences between its ends. A
 * chunk knows where its last run begins, which classes it has, and for which sinks any entry is filtered or
 * done (marked); so where a sink gets all, nothing of the entries between is touched on the way to it. Else
 * the run falls into parts that are alike for the sink, and each entry is visited once by each position.
 *
 * `accept` is the log's own position: how far no sink holds the guest back. Moving it moves stream->accepted,
 * which is what the guest is told (ACK) and may forget.
 *
 * Giving up. A sink with policy drop that falls too far behind skips: what it was not sent is marked `done`
 * and becomes one range per stream, [gap_first, gap_last]. What it was sent but did not acknowledge stays,
 * because the connection may break and then it must be sent again: that much, and what was filtered out in
 * between, is the cursor's span, which the sink keeps within its window. Between the two there may be chunks
 * that this sink no longer needs. So a chunk has a bit for every sink that still needs it (holders) and
 * leaves the list, from wherever it is, when no bit is left; then accept has passed it too.
 *
 * Why a gap stops its cursor until the SVM acknowledges it: a second gap could otherwise follow before the
 * first is settled, and the cursor would have to keep a list of ranges for a resend. Stopped, what is skipped
 * meanwhile is adjacent to the gap and extends it, so one range per stream is always enough. It costs a sink
 * that is behind anyway one round trip.
 *
 * Where it stops (gap_number) all that was sent before lies behind it, and what lies between it and `reached`
 * was given up: so a gap is told after everything that comes before it in its stream, also on a resend.
 *
 * Invariants (vmlog_check): accept <= every accept_number, or what is
 * recorded; ack <= sent <= reached <= end; a sink's bit is set
 * in the chunks from its ack position on, except in those that it skipped whole; inflight is the sum of the
 * frames between ack and sent that were sent; between gap_number and reached all is given up; bytes is the
 * sum of the chunks' sizes; marked and classes of a chunk have the bits of all its entries, and from last_run
 * on its entries are one run. Per stream and sink delivered + filtered + gapped is all that was settled or
 * given up. */
#include "mux/vmlog/inner.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "proto/delimited.h"

static_assert(VMLOG_SINKS <= 16, "sinks are bits of a uint16_t");
static_assert(offsetof(struct vm, log) == 0, "vm_log");
static_assert(offsetof(struct stream, log) == sizeof(struct stream_about), "stream_log");
static_assert(CLASS_COUNT <= VMLOG_GAP, "classes and VMLOG_GAP are bits of a uint32_t");

/* ---- chunks of a log ---- */

static void
remove_chunk(struct vmlog *log, struct vmlog_chunk *chunk)
{
    if (chunk->prev)
        chunk->prev->next = chunk->next;
    else
        log->first = chunk->next;
    if (chunk->next)
        chunk->next->prev = chunk->prev;
    else
        log->last = chunk->prev;
    if (!chunk->stub)
        log->bytes -= chunk->size;
    vmlog_chunk_give(log->pool, chunk);
}

static void
remove_all(struct vmlog *log)
{
    struct vmlog_chunk *next;

    for (struct vmlog_chunk *chunk = log->first; chunk; chunk = next) {
        next = chunk->next;
        vmlog_chunk_give(log->pool, chunk);
    }
    log->first = log->last = NULL;
    log->bytes = 0;
}

/* The sink no longer needs the chunks from `chunk` up to `end`, which is not one of them. Those that nobody
 * needs leave the list. */
void
vmlog_let_go(struct vmlog *log, unsigned sink, struct vmlog_chunk *chunk, const struct vmlog_chunk *end)
{
    look(&log->accept, 0);
    while (chunk && chunk != end) {
        struct vmlog_chunk *next = chunk->next;

        chunk->holders &= (uint16_t)~BIT(sink);
        if (next && chunk->holders == 0 && chunk->first_number + chunk->count <= log->accept.number)
            remove_chunk(log, chunk); /* else when it is accepted */
        else if (chunk->loaded_for == sink + 1)
            vmlog_unload(log, sink, chunk);
        chunk = next;
    }
}

/* Whether the sink needs nothing that is in the log. All may be given up, though that is not acknowledged:
 * but what is in files says how far everybody is, so there it waits for the acknowledgement. */
static bool
needs_nothing(const struct vmlog *log, unsigned sink)
{
    const struct vmlog_cursor *cursor = &log->cursors[sink];

    return cursor->ack.number == log->next_number ||
           (!log->backed && cursor->gap_number <= cursor->ack.number &&
            cursor->reached.number == log->next_number);
}

/* When nothing is left to do for anybody, the log gives back even its last chunk, so that an idle VM costs
 * none. */
void
vmlog_release_if_settled(struct vmlog *log)
{
    if (log->accept.number != log->next_number)
        return;
    EACH_JOINED (log, sink)
        if (!needs_nothing(log, sink))
            return;
    remove_all(log);
    log->accept = end_of(log);
    EACH_JOINED (log, sink) {
        struct vmlog_cursor *cursor = &log->cursors[sink];

        cursor->ack = cursor->sent = cursor->reached = end_of(log);
    }
}

static void
accept_up_to(struct vmlog_stream *stream, uint64_t sequence, uint64_t record_bytes)
{
    stream->accepted = sequence;
    stream->unaccepted_bytes -= record_bytes;
    stream->moved = true;
}

/* Accepts what is in the position's chunk, up to entry number `target`. */
static void
accept_entries(struct vmlog_position *at, uint64_t target)
{
    uint32_t count;

    while ((count = count_to(at, target)) > 0) {
        const struct vmlog_entry *entry = vmlog_chunk_entry(at->chunk, at->index);

        count = count_alike(at, count, 0);
        accept_up_to(entry->stream, entry->sequence + (count - 1),
                     vmlog_chunk_record_bytes(at->chunk, at->index, count));
        pass(at, count);
    }
}

/* Goes on to the next chunk, and removes the one that it leaves if nobody needs it. */
static void
leave_accepted(struct vmlog *log)
{
    struct vmlog_chunk *chunk = log->accept.chunk;

    look(&log->accept, 0);
    if (chunk != log->accept.chunk && chunk->holders == 0)
        remove_chunk(log, chunk);
}

/* Up to which entry all may be accepted: no sink holds it back, and what a backed log has not recorded counts
 * only while it cannot be written (see enum vmlog_stall). */
static uint64_t
may_accept(const struct vmlog *log)
{
    uint64_t target = log->next_number;

    EACH_JOINED (log, sink) {
        uint64_t by = vmlog_accepted_by(log, sink);

        if (by < target)
            target = by;
    }
    if (!log->backed || target <= log->recorded)
        return target;
    if (log->stall == VMLOG_FLOWING)
        return log->recorded;
    EACH_JOINED (log, sink)
        if (log->stall == VMLOG_STALLED && log->cursors[sink].ack.number < target)
            target = log->cursors[sink].ack.number;
    return target > log->recorded ? target : log->recorded;
}

void
vmlog_advance_accept(struct vmlog *log)
{
    struct vmlog_position *at = &log->accept;
    uint64_t target = may_accept(log);

    while (at->number < target) {
        leave_accepted(log);
        if (at->number >= target)
            break; /* numbers between two chunks may be free */
        if (at_stub(at)) {
            if (at->chunk->first_number + at->chunk->count > target)
                break;
            for (uint32_t i = 0; i < at->chunk->used; i++) {
                struct vmlog_range *range = &vmlog_stub_ranges(at->chunk)[i];

                accept_up_to(range->stream, range->last, range->record_bytes);
                range->record_bytes = 0;
            }
            pass_chunk(at);
        } else {
            accept_entries(at, target);
        }
    }
    if (at->chunk)
        leave_accepted(log);
}

/* ---- appending ---- */

void
vmlog_init(struct vmlog *log, struct vmlog_pool *pool)
{
    memset(log, 0, sizeof(*log));
    log->pool = pool;
}

void
vmlog_fini(struct vmlog *log)
{
    remove_all(log);
    free(log->cursors);
    log->cursors = NULL;
    log->slots = 0;
    log->joined = 0;
}

/* Puts a chunk at the end of the list. Positions that had none to be in are now at its front. */
static void
add_chunk(struct vmlog *log, struct vmlog_chunk *chunk)
{
    chunk->first_number = log->next_number;
    chunk->prev = log->last;
    if (log->last)
        log->last->next = chunk;
    else
        log->first = chunk;
    log->last = chunk;
    log->bytes += chunk->size;
    if (!log->accept.chunk)
        log->accept = end_of(log);
    EACH_JOINED (log, sink) {
        struct vmlog_cursor *cursor = &log->cursors[sink];

        chunk->holders |= BIT(sink);
        if (!cursor->ack.chunk)
            cursor->ack = end_of(log);
        if (!cursor->sent.chunk)
            cursor->sent = end_of(log);
        if (!cursor->reached.chunk)
            cursor->reached = end_of(log);
    }
}

/* Adds a chunk for a frame of `len` bytes, the pool's limit permitting. */
static uint8_t *
reserve_chunk(struct vmlog *log, size_t len, bool beyond)
{
    struct vmlog_chunk *chunk;
    size_t need = sizeof(*chunk) + len + sizeof(struct vmlog_entry);
    size_t align = alignof(struct vmlog_entry) - 1;
    uint32_t size = log->first ? VMLOG_LARGE_CHUNK : VMLOG_SMALL_CHUNK;
    size_t limit = log->pool->limit;

    if (need > size)
        size = need > VMLOG_LARGE_CHUNK ? (uint32_t)((need + align) & ~align) : VMLOG_LARGE_CHUNK;
    if (beyond && need <= VMLOG_SMALL_CHUNK && log->pool->used + size > limit) {
        size = VMLOG_SMALL_CHUNK;
        limit += log->pool->own;
    }
    if (log->pool->used + size > limit)
        return NULL;
    chunk = vmlog_chunk_take(log->pool, size);
    if (!chunk)
        return NULL;
    add_chunk(log, chunk);
    return chunk->data;
}

uint8_t *
vmlog_reserve(struct vmlog *log, size_t len, bool beyond)
{
    struct vmlog_chunk *chunk = log->last;

    assert(len <= DELIMITED_PREFIX_MAX + DELIMITED_FRAME_MAX);
    if (chunk && !chunk->sealed && chunk->room >= len + sizeof(struct vmlog_entry))
        return chunk->data + chunk->used;
    return reserve_chunk(log, len, beyond);
}

void
vmlog_commit(struct vmlog *log, const struct vmlog_entry *entry)
{
    struct vmlog_stream *stream = entry->stream;

    assert(entry->count > 0 && entry->sequence == stream->last + entry->count);
    vmlog_chunk_add(log->last, entry);
    log->next_number++;
    stream->last = entry->sequence;
    stream->unaccepted_bytes += entry->record_bytes;
    if (log->joined)
        return; /* what is new, none of them has settled */
    vmlog_advance_accept(log);
    vmlog_release_if_settled(log);
}

/* ---- sinks come and go ---- */

/* An array of `had` rows of that size, with more of them, which are zeros. NULL, and it stays, if out of
 * memory. */
static void *
grow(void *rows, unsigned had, unsigned slots, size_t size)
{
    char *grown = realloc(rows, slots * size);

    assert(slots <= VMLOG_SINKS);
    if (grown)
        memset(grown + had * size, 0, (slots - had) * size);
    return grown;
}

bool
vmlog_make_slots(struct vmlog *log, unsigned slots)
{
    struct vmlog_cursor *cursors;

    if (slots <= log->slots)
        return true;
    cursors = grow(log->cursors, log->slots, slots, sizeof(*cursors));
    if (!cursors)
        return false;
    log->cursors = cursors;
    log->slots = (uint8_t)slots;
    return true;
}

bool
vmlog_stream_make_slots(struct vmlog_stream *stream, unsigned slots)
{
    struct vmlog_progress *sinks;

    if (slots <= stream->slots)
        return true;
    sinks = grow(stream->sinks, stream->slots, slots, sizeof(*sinks));
    if (!sinks)
        return false;
    stream->sinks = sinks;
    stream->slots = (uint8_t)slots;
    return true;
}

void
vmlog_stream_fini(struct vmlog_stream *stream)
{
    free(stream->sinks);
    stream->sinks = NULL;
    stream->slots = 0;
}

void
vmlog_join(struct vmlog *log, unsigned sink)
{
    struct vmlog_cursor *cursor = &log->cursors[sink];

    assert(sink < log->slots && !(log->joined & BIT(sink)));
    memset(cursor, 0, sizeof(*cursor));
    log->joined |= BIT(sink);
    cursor->ack = cursor->sent = cursor->reached = end_of(log);
    cursor->accept_number = cursor->peeked_number = log->next_number;
    cursor->gap_number = UINT64_MAX;
    if (log->last)
        log->last->holders |= BIT(sink);
}

void
vmlog_join_stream(struct vmlog_stream *stream, unsigned sink)
{
    struct vmlog_progress *progress = &stream->sinks[sink];

    assert(sink < stream->slots);
    memset(progress, 0, sizeof(*progress));
    progress->settled = progress->acked = progress->sent = stream->last;
    progress->reached = progress->reported = progress->uncounted = stream->last;
    progress->recorded = UINT64_MAX;
}

void
vmlog_leave(struct vmlog *log, unsigned sink)
{
    log->joined &= (uint16_t)~BIT(sink);
    vmlog_advance_accept(log);
    vmlog_let_go(log, sink, log->first, NULL);
    vmlog_release_if_settled(log);
}

void
vmlog_announce(struct vmlog_stream *stream, unsigned sink, uint32_t connection)
{
    struct vmlog_progress *progress = &stream->sinks[sink];

    if (progress->announced == connection)
        return;
    progress->announced = connection;
    progress->sent = progress->settled > progress->acked ? progress->settled : progress->acked;
}

void
vmlog_unannounce(struct vmlog_stream *stream, unsigned sink)
{
    stream->sinks[sink].announced = 0;
}
