/* The VM log in files: what counts as accepted, chunks that leave memory and come back, logs that are taken
 * up.
 *
 * A log that is backed is written to segments, by its owner, who says how far (vmlog_recorded). Chunks that
 * are recorded may leave memory: a stub takes their place, which knows only the ranges of streams in it. No
 * sink has begun with what is in a stub: the bits of its entries would be lost. When a sink comes to a stub,
 * the owner loads it; what the file should have and has not becomes a gap there, for every sink that is not
 * past it. A chunk that was loaded for a sink leaves memory again as soon as that sink has done with it: so
 * what a sink has in memory of old logs is what it has in flight, and a bound on it holds. */
#include "mux/vmlog/inner.h"

#include <stdalign.h>
#include <string.h>

/* ---- accepting ---- */

void
vmlog_set_backed(struct vmlog *log, bool backed)
{
    log->backed = backed;
    vmlog_advance_accept(log);
    vmlog_release_if_settled(log);
}

void
vmlog_set_stall(struct vmlog *log, enum vmlog_stall stall)
{
    if (log->stall == stall)
        return;
    log->stall = stall;
    vmlog_advance_accept(log);
    vmlog_release_if_settled(log);
}

uint64_t
vmlog_accepted_by(const struct vmlog *log, unsigned sink)
{
    const struct vmlog_cursor *cursor = &log->cursors[sink];

    return cursor->durability == VMLOG_RECORDED && log->recorded > cursor->accept_number
               ? log->recorded
               : cursor->accept_number;
}

void
vmlog_set_durability(struct vmlog *log, unsigned sink, enum vmlog_durability durability)
{
    log->cursors[sink].durability = durability;
    vmlog_advance_accept(log);
}

void
vmlog_recorded(struct vmlog *log, uint64_t number)
{
    assert(number <= log->next_number);
    if (number <= log->recorded)
        return;
    log->recorded = number;
    vmlog_advance_accept(log);
    vmlog_release_if_settled(log);
}

void
vmlog_seal(struct vmlog *log)
{
    if (log->last && log->last->segment)
        log->last->sealed = true;
}

uint64_t
vmlog_settled_number(const struct vmlog *log)
{
    uint64_t number = log->next_number;

    EACH_JOINED (log, sink)
        if (log->cursors[sink].ack.number < number)
            number = log->cursors[sink].ack.number;
    return number;
}

bool
vmlog_is_delivered(const struct vmlog *log, const struct vmlog_stream *stream)
{
    EACH_JOINED (log, sink) {
        const struct vmlog_cursor *cursor = &log->cursors[sink];

        if (cursor->durability == VMLOG_RECORDED && stream->sinks[sink].settled < stream->accepted)
            return false;
    }
    return true;
}

/* ---- out of memory ---- */

static bool
has_begun(const struct vmlog *log, const struct vmlog_chunk *chunk, unsigned sink)
{
    return (chunk->begun & BIT(sink)) || log->cursors[sink].reached.number > chunk->first_number;
}

/* No sink has begun with it, and it is safe. */
static bool
can_leave(const struct vmlog *log, const struct vmlog_chunk *chunk)
{
    uint64_t end = chunk->first_number + chunk->count;

    if (chunk == log->last || chunk->stub || !chunk->segment || chunk->holders == 0 || end > log->recorded ||
        (end > log->accept.number && log->accept.number > chunk->first_number))
        return false;
    for (unsigned sink = 0; sink < VMLOG_SINKS; sink++)
        if ((chunk->holders & BIT(sink)) && has_begun(log, chunk, sink))
            return false;
    return true;
}

/* The streams of the chunk and what it has of them; their number, or 0 if they are too many. */
static uint32_t
ranges_of(const struct vmlog *log, struct vmlog_chunk *chunk, struct vmlog_range ranges[VMLOG_RANGES_MAX])
{
    bool accepted = log->accept.number >= chunk->first_number + chunk->count;
    uint32_t count = 0;

    for (uint32_t i = 0; i < chunk->count; i++) {
        const struct vmlog_entry *entry = vmlog_chunk_entry(chunk, i);
        uint32_t n = 0;

        while (n < count && ranges[n].stream != entry->stream)
            n++;
        if (n == VMLOG_RANGES_MAX)
            return 0;
        if (n == count)
            ranges[count++] =
                (struct vmlog_range){ .stream = entry->stream, .first = entry->sequence - entry->count + 1 };
        ranges[n].last = entry->sequence;
        ranges[n].record_bytes += accepted ? 0 : vmlog_chunk_record_bytes(chunk, i, 1);
    }
    return count;
}

static void
move_position(struct vmlog_position *at, const struct vmlog_chunk *from, struct vmlog_chunk *to)
{
    if (at->chunk != from)
        return;
    assert(at->index == 0 || at->index == from->count);
    *at = (struct vmlog_position){ to, at->index == 0 ? 0 : to->count,
                                   at->index == 0 ? to->first_number : to->first_number + to->count };
}

/* Puts one chunk or stub in the place of another, which the caller gives back. The numbers of both end alike.
 */
static void
replace(struct vmlog *log, struct vmlog_chunk *from, struct vmlog_chunk *to)
{
    to->next = from->next;
    to->prev = from->prev;
    to->first_number = from->first_number + from->count - to->count;
    to->holders = from->holders;
    to->segment = from->segment;
    to->file_offset = from->file_offset;
    to->file_end = from->file_end;
    from->segment = NULL;
    if (to->next)
        to->next->prev = to;
    else
        log->last = to;
    if (to->prev)
        to->prev->next = to;
    else
        log->first = to;
    log->bytes += to->stub ? 0 : to->size;
    log->bytes -= from->stub ? 0 : from->size;
    move_position(&log->accept, from, to);
    EACH_JOINED (log, sink) {
        struct vmlog_cursor *cursor = &log->cursors[sink];

        move_position(&cursor->ack, from, to);
        move_position(&cursor->sent, from, to);
        move_position(&cursor->reached, from, to);
    }
}

static bool
leave_memory(struct vmlog *log, struct vmlog_chunk *chunk)
{
    struct vmlog_range ranges[VMLOG_RANGES_MAX];
    uint32_t count = ranges_of(log, chunk, ranges);
    struct vmlog_chunk *stub = count > 0 ? vmlog_stub_take(log->pool, count) : NULL;

    if (!stub)
        return false;
    memcpy(vmlog_stub_ranges(stub), ranges, count * sizeof(ranges[0]));
    stub->given_up = UINT16_MAX;
    for (uint32_t i = 0; i < chunk->count; i++)
        stub->given_up &= vmlog_chunk_entry(chunk, i)->done;
    stub->count = chunk->numbers > chunk->count ? chunk->numbers : chunk->count;
    replace(log, chunk, stub);
    vmlog_chunk_give(log->pool, chunk);
    return true;
}

void
vmlog_spill(struct vmlog *log, uint16_t sinks, size_t target)
{
    struct vmlog_chunk *chunk = log->first;

    while (chunk && log->bytes > target) {
        struct vmlog_chunk *next = chunk->next;

        if ((chunk->holders & sinks) && !chunk->loaded_for &&
            chunk->first_number + chunk->count <= log->accept.number && can_leave(log, chunk) &&
            !leave_memory(log, chunk))
            return;
        chunk = next;
    }
}

/* The sink has done with a chunk that was loaded for it. If it must stay, it counts for another that holds
 * it: for one that has begun with it, since it is that one which keeps it here. */
void
vmlog_unload(struct vmlog *log, unsigned sink, struct vmlog_chunk *chunk)
{
    unsigned heir = VMLOG_SINKS;

    if (can_leave(log, chunk) && leave_memory(log, chunk))
        return;
    for (unsigned other = 0; other < VMLOG_SINKS; other++)
        if ((chunk->holders & BIT(other)) && (heir == VMLOG_SINKS || has_begun(log, chunk, other)))
            heir = other;
    if (heir == VMLOG_SINKS)
        return;
    log->pool->loaded[sink] -= chunk->size;
    log->pool->loaded[heir] += chunk->size;
    chunk->loaded_for = (uint8_t)(heir + 1);
}

/* ---- and back ---- */

struct vmlog_chunk *
vmlog_next_stub(const struct vmlog *log, unsigned sink)
{
    struct vmlog_position at = log->cursors[sink].sent;

    look(&at, BIT(sink));
    return at_stub(&at) && at.number < log->cursors[sink].gap_number ? at.chunk : NULL;
}

struct vmlog_chunk *
vmlog_load_begin(struct vmlog *log, unsigned sink, const struct vmlog_chunk *stub, size_t bytes,
                 uint32_t entries)
{
    size_t align = alignof(struct vmlog_entry) - 1;
    size_t size = (sizeof(*stub) + bytes + entries * sizeof(struct vmlog_entry) + align) & ~align;
    struct vmlog_chunk *chunk;

    assert(entries <= stub->count);
    if (size > UINT32_MAX)
        return NULL;
    chunk = vmlog_chunk_take(log->pool, (uint32_t)size);
    if (!chunk)
        return NULL;
    chunk->sealed = true;
    chunk->numbers = stub->count;
    chunk->loaded_for = (uint8_t)(sink + 1);
    log->pool->loaded[sink] += chunk->size;
    return chunk;
}

void
vmlog_load_add(struct vmlog_chunk *chunk, const struct vmlog_entry *entry, const uint8_t *frame)
{
    assert(chunk->room >= entry->end + sizeof(*entry));
    memcpy(chunk->data + chunk->used, frame, entry->end);
    vmlog_chunk_add(chunk, entry);
}

void
vmlog_load_end(struct vmlog *log, struct vmlog_chunk *stub, struct vmlog_chunk *chunk)
{
    const struct vmlog_range *ranges = vmlog_stub_ranges(stub);
    bool accepted = log->accept.number >= stub->first_number + stub->count;

    for (uint32_t i = 0; i < stub->used; i++)
        ranges[i].stream->unaccepted_bytes -= ranges[i].record_bytes;
    chunk->marked = stub->given_up;
    for (uint32_t i = 0; i < chunk->count; i++) {
        struct vmlog_entry *entry = vmlog_chunk_entry(chunk, i);

        entry->done = stub->given_up;
        if (!accepted)
            entry->stream->unaccepted_bytes += vmlog_chunk_record_bytes(chunk, i, 1);
    }
    replace(log, stub, chunk);
    vmlog_chunk_give(log->pool, stub);
    if (!(chunk->holders & BIT(chunk->loaded_for - 1))) /* it was given up meanwhile */
        vmlog_unload(log, chunk->loaded_for - 1u, chunk);
}

/* ---- taking up a log ---- */

void
vmlog_add_stub(struct vmlog *log, struct vmlog_chunk *stub)
{
    const struct vmlog_range *ranges = vmlog_stub_ranges(stub);

    stub->first_number = log->next_number;
    log->next_number += stub->count;
    log->recorded = log->next_number;
    for (uint32_t i = 0; i < stub->used; i++)
        ranges[i].stream->unaccepted_bytes += ranges[i].record_bytes;
    stub->prev = log->last;
    if (log->last)
        log->last->next = stub;
    else
        log->first = stub;
    log->last = stub;
    if (!log->accept.chunk)
        log->accept = (struct vmlog_position){ stub, 0, stub->first_number };
}

bool
vmlog_add_missing(struct vmlog *log, struct vmlog_stream *stream, uint64_t last)
{
    uint32_t more = 1 + (uint32_t)((last - stream->last) / UINT32_MAX);

    stream->last = last;
    for (struct vmlog_chunk *stub = log->last; stub; stub = stub->prev) {
        struct vmlog_range *ranges = vmlog_stub_ranges(stub);

        for (uint32_t i = 0; i < stub->used; i++) {
            if (ranges[i].stream != stream)
                continue;
            ranges[i].last = last;
            stub->count += more;
            log->next_number += more;
            log->recorded = log->next_number;
            for (stub = stub->next; stub; stub = stub->next)
                stub->first_number += more;
            return true;
        }
    }
    return false;
}

void
vmlog_join_stream_saved(struct vmlog *log, unsigned sink, struct vmlog_stream *stream,
                        const struct vmlog_saved *saved)
{
    struct vmlog_progress *progress = &stream->sinks[sink];

    assert(sink < stream->slots);
    memset(progress, 0, sizeof(*progress));
    progress->settled = progress->counted_before = progress->reported = progress->reached = saved->settled;
    progress->acked = saved->acked > saved->settled ? saved->acked : saved->settled;
    progress->sent = progress->acked;
    count_more(log, stream, sink, &(struct vmlog_counts){ saved->delivered, saved->filtered, saved->gapped });
    progress->uncounted = saved->settled - saved->delivered - saved->filtered - saved->gapped;
    progress->recorded = UINT64_MAX;
    if (progress->filtered > 0)
        progress->reported = UINT64_MAX;
}

/* Whether something in the stub is not settled for the sink. */
static bool
is_needed(struct vmlog_chunk *stub, unsigned sink)
{
    const struct vmlog_range *ranges = vmlog_stub_ranges(stub);

    for (uint32_t i = 0; i < stub->used; i++)
        if (ranges[i].last > ranges[i].stream->sinks[sink].settled)
            return true;
    return false;
}

void
vmlog_join_saved(struct vmlog *log, unsigned sink)
{
    struct vmlog_cursor *cursor = &log->cursors[sink];
    struct vmlog_chunk *first = NULL;

    vmlog_join(log, sink);
    for (struct vmlog_chunk *chunk = log->first; chunk; chunk = chunk->next) {
        if (!chunk->stub || !is_needed(chunk, sink))
            continue;
        chunk->holders |= BIT(sink);
        if (!first)
            first = chunk;
    }
    if (!first)
        return;
    cursor->ack = (struct vmlog_position){ first, 0, first->first_number };
    cursor->sent = cursor->reached = cursor->ack;
    cursor->accept_number = cursor->peeked_number = first->first_number;
}

static void
take_from(uint64_t *count, uint64_t *ahead)
{
    uint64_t taken = *count < *ahead ? *count : *ahead;

    *count -= taken;
    *ahead -= taken;
}

void
vmlog_saved_limit(struct vmlog_saved *saved, uint64_t last)
{
    uint64_t ahead = saved->settled > last ? saved->settled - last : 0;

    saved->settled -= ahead;
    take_from(&saved->delivered, &ahead);
    take_from(&saved->filtered, &ahead);
    take_from(&saved->gapped, &ahead);
}

/* What the SVM acknowledged ahead of its turn is counted and not settled; it will be counted again. Behind a
 * gap that it had already, more may be settled than is counted; that will be counted, too. */
struct vmlog_saved
vmlog_save(const struct vmlog_stream *stream, unsigned sink, uint64_t last)
{
    const struct vmlog_progress *progress = &stream->sinks[sink];
    uint64_t open = progress->gap_last ? progress->gap_last - progress->gap_first + 1 : 0;
    struct vmlog_saved saved = { .acked = progress->acked,
                                 .delivered = progress->delivered,
                                 .filtered = progress->filtered,
                                 .gapped = progress->gapped - open };

    saved.settled = progress->uncounted + saved.delivered + saved.filtered + saved.gapped;
    vmlog_saved_limit(&saved, progress->settled < last ? progress->settled : last);
    return saved;
}
