/* The VM log on the way to a sink: what is gathered and sent, and what the SVM acknowledges. The theory
 * stands at the top of vmlog.c. */
#include "mux/vmlog_inner.h"

/* ---- sending ---- */

static bool
wanted(const struct vmlog_filter *filter, const struct vmlog_entry *entry, const uint8_t *frame)
{
    if (!(filter->class_mask & (1u << entry->cls)))
        return false;
    if (!filter->wants || entry->cls == VMLOG_GAP)
        return true;
    return filter->wants(filter->arg, entry->cls, (const char *)frame + entry->key, entry->key_len);
}

/* Adds one frame; frames that follow each other become one piece. Returns false if the batch is full. */
static bool
batch_add(struct vmlog_batch *batch, int first, uint8_t *frame, size_t len)
{
    struct iovec *last = batch->count > first ? &batch->iov[batch->count - 1] : NULL;

    if (last && (uint8_t *)last->iov_base + last->iov_len == frame) {
        last->iov_len += len;
    } else {
        if (batch->count == batch->max)
            return false;
        assert(batch->iov);
        batch->iov[batch->count++] = (struct iovec){ frame, len };
    }
    batch->bytes += len;
    return true;
}

/* Counts the entry's sequences, but not those that a former gimuxd has counted: a gap may begin among them.
 */
void
vmlog_count(struct vmlog_progress *progress, const struct vmlog_entry *entry, bool got)
{
    uint64_t fresh = entry->sequence - progress->former;
    uint64_t count = fresh < entry->count ? fresh : entry->count;

    if (!got)
        progress->filtered += count;
    else if (entry->cls == VMLOG_GAP)
        progress->gapped += count;
    else
        progress->delivered += count;
}

void
vmlog_mark_done(struct vmlog_entry *entry, unsigned sink)
{
    entry->sent &= (uint16_t)~BIT(sink);
    entry->done |= BIT(sink);
}

/* What a peek goes through. */
struct walk {
    struct vmlog_cursor *cursor;
    unsigned sink;
    const struct vmlog_filter *filter;
    uint32_t connection;
    struct vmlog_batch *batch;
    int first;       /* piece of the batch */
    size_t full;     /* bytes in the batch with which it is full */
    size_t may_pass; /* bytes that may still be passed over */
    struct vmlog_position at;
    struct vmlog_stream *unannounced;
};

/* An entry that the SVM has already: it is counted now, unless it was. */
static void
settle_early(struct walk *walk, struct vmlog_entry *entry, const uint8_t *frame)
{
    struct vmlog_progress *progress = &entry->stream->sinks[walk->sink];
    uint16_t bit = BIT(walk->sink);

    if (entry->done & bit)
        return; /* given up, or counted when this was peeked at before */
    if (entry->sequence > progress->former) {
        walk->at.chunk->begun |= bit;
        vmlog_count(progress, entry,
                    walk->at.number < walk->cursor->reached.number ? entry->sent & bit
                                                                   : wanted(walk->filter, entry, frame));
    }
    vmlog_mark_done(entry, walk->sink);
}

/* Goes through the rest of a chunk. Returns false if the walk is over. */
static bool
walk_chunk(struct walk *walk)
{
    struct vmlog_entry *entry = vmlog_chunk_entry(walk->at.chunk, walk->at.index);
    const struct vmlog_stream *stream = entry->stream;
    const struct vmlog_progress *progress = &stream->sinks[walk->sink];
    uint16_t bit = BIT(walk->sink);
    uint32_t start = walk->at.index == 0 ? 0 : entry[1].end;

    for (uint32_t left = count_to(&walk->at, walk->cursor->gap_number); left > 0; left--, entry--) {
        uint8_t *frame = walk->at.chunk->data + start;
        size_t len = entry->end - start;

        if (walk->batch->bytes >= walk->full || walk->may_pass == 0)
            return false;
        if (entry->stream != stream) {
            stream = entry->stream;
            progress = &stream->sinks[walk->sink];
        }
        if ((entry->done & bit) || entry->sequence <= progress->former ||
            entry->sequence <= progress->acked) {
            settle_early(walk, entry, frame);
        } else if (!wanted(walk->filter, entry, frame)) {
            entry->sent &= (uint16_t)~bit;
            walk->may_pass -= len < walk->may_pass ? len : walk->may_pass;
        } else if (progress->announced != walk->connection) {
            walk->unannounced = entry->stream;
            return false;
        } else if (batch_add(walk->batch, walk->first, frame, len)) {
            entry->sent |= bit;
        } else {
            return false;
        }
        start = entry->end;
        pass(&walk->at);
    }
    return true;
}

enum vmlog_peek
vmlog_peek(struct vmlog *log, unsigned sink, const struct vmlog_filter *filter, uint32_t connection,
           struct vmlog_batch *batch, size_t max_bytes, struct vmlog_stream **stream)
{
    struct vmlog_cursor *cursor = &log->cursors[sink];
    size_t had = batch->bytes;
    struct walk walk = { .cursor = cursor,
                         .sink = sink,
                         .filter = filter,
                         .connection = connection,
                         .batch = batch,
                         .first = batch->count,
                         .full = max_bytes < SIZE_MAX - had ? had + max_bytes : SIZE_MAX,
                         .may_pass = max_bytes,
                         .at = cursor->sent };
    enum vmlog_peek result = VMLOG_FRAMES;

    while (look(&walk.at, BIT(sink)) && walk.at.number < cursor->gap_number && walk_chunk(&walk))
        ;
    cursor->peeked_number = walk.at.number;
    if (walk.unannounced) {
        *stream = walk.unannounced;
        result = VMLOG_ANNOUNCE;
    }
    if (walk.at.number >= cursor->gap_number && cursor->gaps_untold > 0)
        result = VMLOG_TELL_GAP;
    else if (walk.at.number < cursor->gap_number && at_stub(&walk.at))
        result = VMLOG_LOAD;
    return batch->bytes > had ? VMLOG_FRAMES : result;
}

/* Passes over the entries that went out whole or are not for the sink, up to entry number `end`, and within
 * one chunk. Returns false at the first of which nothing, or only a part went out. */
static bool
pass_sent(struct vmlog_cursor *cursor, unsigned sink, uint64_t end, size_t *taken)
{
    struct vmlog_position *at = &cursor->sent;
    uint32_t count = count_to(at, end);
    const struct vmlog_entry *entry = vmlog_chunk_entry(at->chunk, at->index);
    uint32_t start = at->index == 0 ? 0 : entry[1].end;
    size_t left = *taken;
    uint32_t i;

    for (i = 0; i < count; i++, entry--) {
        struct vmlog_progress *progress = &entry->stream->sinks[sink];
        size_t len = entry->end - start;

        if (entry->sent & BIT(sink)) {
            if (left < len)
                break;
            left -= len;
            cursor->inflight += len;
            progress->sent = entry->sequence;
        }
        if (progress->reached < entry->sequence)
            progress->reached = entry->sequence;
        if (!(entry->done & BIT(sink)))
            cursor->span += len + sizeof(*entry);
        start = entry->end;
    }
    at->index += i;
    at->number += i;
    *taken = left;
    return i == count;
}

/* A part of the entry at the sent position went out; the rest will. */
static void
pass_begun(struct vmlog_cursor *cursor, unsigned sink, size_t taken, struct iovec *rest)
{
    const struct vmlog_entry *entry = look(&cursor->sent, BIT(sink));
    size_t len;
    uint8_t *frame = frame_at(&cursor->sent, &len);
    size_t all = len;

    assert(entry && taken < len);
    *rest = (struct iovec){ frame + taken, len - taken };
    pass_sent(cursor, sink, cursor->sent.number + 1, &all);
}

void
vmlog_sent(struct vmlog *log, unsigned sink, size_t taken, struct iovec *rest)
{
    struct vmlog_cursor *cursor = &log->cursors[sink];
    struct vmlog_position *at = &cursor->sent;

    rest->iov_len = 0;
    while (at->number < cursor->peeked_number && look(at, BIT(sink)) && at->number < cursor->peeked_number &&
           pass_sent(cursor, sink, cursor->peeked_number, &taken))
        ;
    if (taken > 0)
        pass_begun(cursor, sink, taken, rest);
    cursor->peeked_number = at->number;
    if (cursor->reached.number < at->number)
        cursor->reached = *at;
    vmlog_advance_ack(log, sink);
}

bool
vmlog_has_more(const struct vmlog *log, unsigned sink)
{
    const struct vmlog_cursor *cursor = &log->cursors[sink];

    return cursor->gap_number <= cursor->sent.number ? cursor->gaps_untold > 0
                                                     : cursor->sent.number < log->next_number;
}

/* ---- settling ---- */

/* Settles the entries at the ack position that can be, up to entry number `end`, and within one chunk.
 * Returns false at the first that cannot. */
static bool
settle_entries(struct vmlog_cursor *cursor, unsigned sink, uint64_t end)
{
    struct vmlog_position *at = &cursor->ack;
    uint32_t count = count_to(at, end);
    const struct vmlog_entry *entry = vmlog_chunk_entry(at->chunk, at->index);
    uint32_t start = at->index == 0 ? 0 : entry[1].end;
    uint16_t bit = BIT(sink);
    uint32_t i;

    for (i = 0; i < count; i++, entry--) {
        struct vmlog_progress *progress = &entry->stream->sinks[sink];
        size_t len = entry->end - start;

        if (((entry->sent | entry->done) & bit) && entry->sequence > progress->acked)
            break;
        if (entry->sent & bit)
            cursor->inflight -= len;
        if (!(entry->done & bit)) {
            cursor->span -= len + sizeof(*entry);
            vmlog_count(progress, entry, entry->sent & bit);
        }
        if (progress->settled < entry->sequence)
            progress->settled = entry->sequence;
        start = entry->end;
    }
    at->index += i;
    at->number += i;
    return i == count;
}

void
vmlog_advance_ack(struct vmlog *log, unsigned sink)
{
    struct vmlog_cursor *cursor = &log->cursors[sink];
    struct vmlog_chunk *from = cursor->ack.chunk;

    while (cursor->ack.number < cursor->sent.number && look(&cursor->ack, BIT(sink)) &&
           cursor->ack.number < cursor->sent.number && settle_entries(cursor, sink, cursor->sent.number))
        ;
    /* Nothing of a chunk that it has behind it is kept for this sink, though what comes next is in a file. */
    look(&cursor->reached, BIT(sink));
    look(&cursor->sent, BIT(sink));
    look(&cursor->ack, BIT(sink));
    if (cursor->accept_number < cursor->ack.number || log->stall == VMLOG_STALLED) {
        if (cursor->accept_number < cursor->ack.number)
            cursor->accept_number = cursor->ack.number;
        vmlog_advance_accept(log);
    }
    vmlog_let_go(log, sink, from, cursor->ack.chunk);
    vmlog_release_if_settled(log);
}

void
vmlog_resume(struct vmlog *log, unsigned sink, struct vmlog_stream *stream, uint64_t sequence)
{
    struct vmlog_cursor *cursor = &log->cursors[sink];
    struct vmlog_progress *progress = &stream->sinks[sink];

    if (sequence <= progress->acked)
        return;
    progress->acked = sequence;
    vmlog_settle_gap(cursor, progress);
    vmlog_advance_ack(log, sink);
}

bool
vmlog_ack(struct vmlog *log, unsigned sink, struct vmlog_stream *stream, uint64_t sequence)
{
    if (sequence > stream->sinks[sink].sent)
        return false;
    vmlog_resume(log, sink, stream, sequence);
    return true;
}

void
vmlog_rewind(struct vmlog *log, unsigned sink)
{
    struct vmlog_cursor *cursor = &log->cursors[sink];

    cursor->sent = cursor->ack;
    cursor->peeked_number = cursor->ack.number;
    cursor->inflight = 0;
    cursor->span = 0;
    cursor->rewinds++;
    cursor->gaps_untold = cursor->gaps_open;
}
