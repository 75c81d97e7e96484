/* The VM log on the way to a sink: what is gathered and sent, and what the SVM acknowledges. The theory
 * stands at the top of vmlog.c. */
#include "mux/vmlog/inner.h"

/* ---- sending ---- */

static bool
wanted(const struct vmlog_filter *filter, const struct vmlog_entry *entry, const uint8_t *frame)
{
    uint32_t cls = 1u << entry->cls;

    if (!(cls & filter->class_mask & filter->key_mask))
        return cls & filter->class_mask;
    return filter->wants(filter->arg, entry->cls, (const char *)frame + entry->key, entry->key_len);
}

/* Whether the frame follows the batch's last piece, which is then made longer. */
static bool
continues(const struct vmlog_batch *batch, int first, const uint8_t *frame)
{
    const struct iovec *last = batch->count > first ? &batch->iov[batch->count - 1] : NULL;

    return last && (const uint8_t *)last->iov_base + last->iov_len == frame;
}

/* Adds frames that follow each other. */
static void
batch_add(struct vmlog_batch *batch, int first, uint8_t *frame, size_t len)
{
    if (continues(batch, first, frame)) {
        batch->iov[batch->count - 1].iov_len += len;
    } else {
        assert(batch->iov && batch->count < batch->max);
        batch->iov[batch->count++] = (struct iovec){ frame, len };
    }
    batch->bytes += len;
}

/* How many of the position's next `count` frames are whole in `bytes` bytes. */
static uint32_t
count_within(const struct vmlog_position *at, uint32_t count, size_t bytes)
{
    const struct vmlog_entry *first = vmlog_chunk_entry(at->chunk, at->index);
    uint32_t start = start_at(at);
    uint32_t within = 0;

    if ((first - (count - 1))->end - start <= bytes)
        return count;
    for (count--; within < count;) {
        uint32_t half = (count - within + 1) / 2;

        if ((first - (within + half - 1))->end - start <= bytes)
            within += half;
        else
            count = within + half - 1;
    }
    return within;
}

/* Counts the sequences of `count` entries of a run, from this one on, but not those that a former gimuxd has
 * counted: a gap may begin among them. */
void
vmlog_count(struct vmlog *log, unsigned sink, const struct vmlog_entry *entry, uint32_t count, bool got)
{
    struct vmlog_progress *progress = &entry->stream->sinks[sink];
    struct vmlog_counts *all = &log->pool->counts[sink];
    uint64_t fresh = entry->sequence + (count - 1) - progress->counted_before;
    uint64_t sequences = (uint64_t)entry->count + (count - 1);

    if (sequences > fresh)
        sequences = fresh;
    if (!got) {
        progress->filtered += sequences;
        all->filtered += sequences;
    } else if (entry->cls == VMLOG_GAP) {
        progress->gapped += sequences;
        all->gapped += sequences;
    } else {
        progress->delivered += sequences;
        all->delivered += sequences;
    }
}

void
vmlog_mark_done(struct vmlog_chunk *chunk, struct vmlog_entry *entry, unsigned sink)
{
    chunk->marked |= BIT(sink);
    entry->filtered &= (uint16_t)~BIT(sink);
    entry->done |= BIT(sink);
}

/* What a peek goes through. */
struct walk {
    struct vmlog *log;
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
    if (entry->sequence > progress->counted_before) {
        walk->at.chunk->begun |= bit;
        vmlog_count(walk->log, walk->sink, entry, 1,
                    walk->at.number < walk->cursor->reached.number ? !(entry->filtered & bit)
                                                                   : wanted(walk->filter, entry, frame));
    }
    vmlog_mark_done(walk->at.chunk, entry, walk->sink);
}

/* Of `count` entries that are alike, and of which the sink gets the first or not, how many it gets, or not,
 * as well. Marks those that it does not. */
static uint32_t
decide(const struct walk *walk, uint32_t count, bool gets)
{
    struct vmlog_chunk *chunk = walk->at.chunk;
    struct vmlog_entry *entry = vmlog_chunk_entry(chunk, walk->at.index);
    uint16_t bit = BIT(walk->sink);
    uint32_t n = 0;

    if (gets && !(entry->filtered & bit) &&
        !(chunk->classes & (~walk->filter->class_mask | walk->filter->key_mask)))
        return count; /* it gets everything */
    if (!gets)
        chunk->marked |= bit;
    do {
        entry->filtered = gets ? entry->filtered & (uint16_t)~bit : entry->filtered | bit;
        entry--;
        n++;
    } while (n < count && wanted(walk->filter, entry, chunk->data + entry[1].end) == gets);
    return n;
}

/* Goes through entries that are dealt with alike, `most` at most. Returns false if the walk is over. */
static bool
walk_alike(struct walk *walk, uint32_t most)
{
    struct vmlog_position *at = &walk->at;
    struct vmlog_entry *entry = vmlog_chunk_entry(at->chunk, at->index);
    const struct vmlog_progress *progress = &entry->stream->sinks[walk->sink];
    uint8_t *frame = at->chunk->data + start_at(at);
    uint16_t bit = BIT(walk->sink);
    uint32_t count = 1;
    size_t len;

    if ((entry->done & bit) || entry->sequence <= progress->counted_before ||
        entry->sequence <= progress->acked) {
        settle_early(walk, entry, frame);
    } else if (!wanted(walk->filter, entry, frame)) {
        count = decide(walk, count_alike(at, most, bit), false);
        len = bytes_at(at, count);
        walk->may_pass -= len < walk->may_pass ? len : walk->may_pass;
    } else if (progress->announced != walk->connection) {
        walk->unannounced = entry->stream;
        return false;
    } else if (walk->batch->count < walk->batch->max || continues(walk->batch, walk->first, frame)) {
        count = decide(walk, count_alike(at, most, bit), true);
        batch_add(walk->batch, walk->first, frame, bytes_at(at, count));
    } else {
        return false;
    }
    pass(at, count);
    return true;
}

/* Goes through the rest of a chunk. Returns false if the walk is over. */
static bool
walk_chunk(struct walk *walk)
{
    uint32_t count;

    while ((count = count_to(&walk->at, walk->cursor->gap_number)) > 0) {
        size_t room = walk->full > walk->batch->bytes ? walk->full - walk->batch->bytes : 0;
        uint32_t fit;

        if (room > walk->may_pass)
            room = walk->may_pass;
        if (room == 0)
            return false;
        fit = count_within(&walk->at, count, room - 1); /* and the one with which it is full */
        if (!walk_alike(walk, fit < count ? fit + 1 : count))
            return false;
    }
    return true;
}

enum vmlog_peek
vmlog_peek(struct vmlog *log, unsigned sink, const struct vmlog_filter *filter, uint32_t connection,
           struct vmlog_batch *batch, size_t max_bytes, struct vmlog_stream **stream)
{
    struct vmlog_cursor *cursor = &log->cursors[sink];
    size_t had = batch->bytes;
    struct walk walk = { .log = log,
                         .cursor = cursor,
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
    uint16_t bit = BIT(sink);
    uint32_t count;

    while ((count = count_to(at, end)) > 0) {
        const struct vmlog_entry *entry = vmlog_chunk_entry(at->chunk, at->index);
        struct vmlog_progress *progress = &entry->stream->sinks[sink];
        bool sent = !((entry->filtered | entry->done) & bit);
        uint64_t last;
        size_t len;

        count = count_alike(at, count, bit);
        if (sent)
            count = count_within(at, count, *taken);
        if (count == 0)
            return false;
        last = entry->sequence + (count - 1);
        len = bytes_at(at, count);
        if (sent) {
            *taken -= len;
            cursor->inflight += len;
            progress->sent = last;
        }
        if (progress->reached < last)
            progress->reached = last;
        if (!(entry->done & bit))
            cursor->span += len + count * sizeof(*entry);
        pass(at, count);
    }
    return true;
}

void
vmlog_sent(struct vmlog *log, unsigned sink, size_t taken, struct iovec *rest)
{
    struct vmlog_cursor *cursor = &log->cursors[sink];
    struct vmlog_position *at = &cursor->sent;
    size_t len;

    rest->iov_len = 0;
    while (at->number < cursor->peeked_number && look(at, BIT(sink)) && at->number < cursor->peeked_number &&
           pass_sent(cursor, sink, cursor->peeked_number, &taken))
        ;
    if (taken > 0) { /* the rest of this frame will go out too: all of it counts as sent */
        uint8_t *frame = look(at, BIT(sink)) ? frame_at(at, &len) : NULL;

        assert(frame && taken < len);
        *rest = (struct iovec){ frame + taken, len - taken };
        pass_sent(cursor, sink, at->number + 1, &len);
    }
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
settle_entries(struct vmlog *log, unsigned sink, uint64_t end)
{
    struct vmlog_cursor *cursor = &log->cursors[sink];
    struct vmlog_position *at = &cursor->ack;
    uint16_t bit = BIT(sink);
    uint32_t count;

    while ((count = count_to(at, end)) > 0) {
        const struct vmlog_entry *entry = vmlog_chunk_entry(at->chunk, at->index);
        struct vmlog_progress *progress = &entry->stream->sinks[sink];
        bool filtered = entry->filtered & bit;
        bool done = entry->done & bit;
        uint64_t last;
        size_t len;

        if (!filtered && entry->sequence > progress->acked)
            return false;
        if (!filtered && count - 1 > progress->acked - entry->sequence)
            count = (uint32_t)(progress->acked - entry->sequence) + 1;
        count = count_alike(at, count, bit);
        last = entry->sequence + (count - 1);
        len = bytes_at(at, count);
        if (!filtered && !done)
            cursor->inflight -= len;
        if (!done) {
            cursor->span -= len + count * sizeof(*entry);
            vmlog_count(log, sink, entry, count, !filtered);
        }
        if (progress->settled < last)
            progress->settled = last;
        pass(at, count);
    }
    return true;
}

void
vmlog_advance_ack(struct vmlog *log, unsigned sink)
{
    struct vmlog_cursor *cursor = &log->cursors[sink];
    struct vmlog_chunk *from = cursor->ack.chunk;

    while (cursor->ack.number < cursor->sent.number && look(&cursor->ack, BIT(sink)) &&
           cursor->ack.number < cursor->sent.number && settle_entries(log, sink, cursor->sent.number))
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
    cursor->told_on = 0;
    cursor->gaps_untold = cursor->gaps_open;
}
