/* Gaps of the VM log: what a sink gives up, is told of, and settles. The theory stands at the top of vmlog.c.
 */
#include "mux/vmlog/inner.h"

/* How much of the stream's gap was told on this connection; 0: nothing. Frames come before the gap, and none
 * follows until it is settled: what was sent beyond its beginning is the gap. */
static uint64_t
told_up_to(const struct vmlog_cursor *cursor, const struct vmlog_progress *progress)
{
    bool told = progress->announced == cursor->told_on && progress->sent >= progress->gap_first;

    return told ? progress->sent : 0;
}

/* The SVM has acknowledged up to progress->acked: a gap may be settled by that, or begin later. */
void
vmlog_settle_gap(struct vmlog_cursor *cursor, struct vmlog_progress *progress)
{
    if (progress->gap_last == 0 || progress->acked < progress->gap_first)
        return;
    if (progress->acked < progress->gap_last) {
        progress->gap_first = progress->acked + 1;
        return;
    }
    if (progress->settled < progress->gap_last)
        progress->settled = progress->gap_last;
    if (told_up_to(cursor, progress) < progress->gap_last)
        cursor->gaps_untold--;
    progress->gap_first = progress->gap_last = 0;
    if (--cursor->gaps_open == 0)
        cursor->gap_number = UINT64_MAX;
}

/* ---- gaps ---- */

/* Nothing more is sent until the gaps that are open by now are told and acknowledged. */
static void
stop_for_gap(struct vmlog_cursor *cursor)
{
    if (cursor->gap_number > cursor->reached.number)
        cursor->gap_number = cursor->reached.number;
}

static void
extend_gap(struct vmlog *log, unsigned sink, struct vmlog_stream *stream, uint64_t first, uint64_t last,
           uint32_t reason)
{
    struct vmlog_cursor *cursor = &log->cursors[sink];
    struct vmlog_progress *progress = &stream->sinks[sink];

    if (progress->gap_last == 0) {
        progress->gap_first = first;
        progress->gap_reason = reason;
        cursor->gaps_open++;
        cursor->gaps_untold++;
    } else {
        assert(first == progress->gap_last + 1);
        if (told_up_to(cursor, progress) == progress->gap_last)
            cursor->gaps_untold++;
    }
    progress->gap_last = last;
    count_more(log, stream, sink, &(struct vmlog_counts){ .gapped = last - first + 1 });
}

/* This sink no longer needs chunks of which every entry was given up since gap_number; it needs the last one,
 * for what will follow. */
static void
let_go_skipped(struct vmlog *log, unsigned sink)
{
    const struct vmlog_cursor *cursor = &log->cursors[sink];
    struct vmlog_chunk *chunk = log->last;

    while (chunk && chunk->prev && chunk->prev->first_number >= cursor->gap_number &&
           (chunk->prev->holders & BIT(sink)) && chunk->prev != cursor->ack.chunk &&
           chunk->prev != cursor->sent.chunk)
        chunk = chunk->prev;
    vmlog_let_go(log, sink, chunk, log->last);
}

/* Gives up an entry that was not sent; not one that the SVM has already, from before a restart of gimuxd.
 * Returns how many sequences that are. */
static uint64_t
give_up(struct vmlog *log, unsigned sink, const struct vmlog_position *at, uint32_t reason)
{
    struct vmlog_entry *entry = vmlog_chunk_entry(at->chunk, at->index);
    struct vmlog_progress *progress = &entry->stream->sinks[sink];
    bool counted = entry->done & BIT(sink);

    vmlog_mark_done(at->chunk, entry, sink);
    progress->reached = entry->sequence;
    if (entry->sequence <= progress->acked) {
        if (!counted && entry->sequence > progress->counted_before)
            vmlog_count(log, sink, entry, 1, true);
        return 0;
    }
    extend_gap(log, sink, entry->stream, entry->sequence - entry->count + 1, entry->sequence, reason);
    return entry->count;
}

/* Gives up a stub as a whole. */
static uint64_t
give_up_stub(struct vmlog *log, unsigned sink, struct vmlog_chunk *stub, uint32_t reason)
{
    const struct vmlog_range *range = vmlog_stub_ranges(stub);
    uint64_t given_up = 0;

    for (uint32_t i = 0; i < stub->used; i++, range++) {
        struct vmlog_progress *progress = &range->stream->sinks[sink];
        uint64_t first = range->first > progress->acked ? range->first : progress->acked + 1;

        if (first > range->first && first - 1 > progress->counted_before) { /* the SVM had it already */
            uint64_t from =
                range->first > progress->counted_before ? range->first : progress->counted_before + 1;
            uint64_t to = first <= range->last ? first : range->last + 1;

            count_more(log, range->stream, sink, &(struct vmlog_counts){ .delivered = to - from });
        }
        if (progress->reached < range->last)
            progress->reached = range->last;
        if (first > range->last)
            continue;
        extend_gap(log, sink, range->stream, first, range->last, reason);
        given_up += range->last - first + 1;
    }
    stub->given_up |= BIT(sink);
    return given_up;
}

uint64_t
vmlog_skip(struct vmlog *log, unsigned sink, uint32_t reason)
{
    struct vmlog_cursor *cursor = &log->cursors[sink];
    struct vmlog_position at = cursor->reached;
    struct vmlog_entry *entry;
    uint64_t skipped = 0;

    while ((entry = look(&at, BIT(sink))) || at_stub(&at)) {
        if (entry) {
            skipped += give_up(log, sink, &at, reason);
            pass(&at, 1);
        } else {
            skipped += give_up_stub(log, sink, at.chunk, reason);
            pass_chunk(&at);
        }
    }
    if (cursor->gaps_open > 0)
        stop_for_gap(cursor);
    if (cursor->sent.number == cursor->reached.number) {
        cursor->sent = at;
        cursor->peeked_number = at.number;
    }
    cursor->reached = at;
    cursor->accept_number = at.number;
    vmlog_advance_accept(log);
    let_go_skipped(log, sink);
    vmlog_advance_ack(log, sink);
    return skipped;
}

/* The first sequence of the stream behind `settled` that is in a stub. */
static uint64_t
first_there(const struct vmlog *log, const struct vmlog_stream *stream, uint64_t settled)
{
    for (struct vmlog_chunk *chunk = log->first; chunk && chunk->stub; chunk = chunk->next) {
        const struct vmlog_range *ranges = vmlog_stub_ranges(chunk);

        for (uint32_t i = 0; i < chunk->used; i++)
            if (ranges[i].stream == stream && ranges[i].last > settled)
                return ranges[i].first;
    }
    return stream->last + 1;
}

void
vmlog_gap_saved(struct vmlog *log, unsigned sink, struct vmlog_stream *stream, uint32_t reason)
{
    struct vmlog_progress *progress = &stream->sinks[sink];
    uint64_t first = first_there(log, stream, progress->settled);
    uint64_t had = progress->acked < first - 1 ? progress->acked : first - 1;

    if (had > progress->settled) { /* it had these ahead of their turn, and no entry will say so */
        count_more(log, stream, sink, &(struct vmlog_counts){ .delivered = had - progress->settled });
        progress->settled = progress->counted_before = progress->reached = had;
    }
    if (first > progress->acked + 1) {
        extend_gap(log, sink, stream, progress->acked + 1, first - 1, reason);
        stop_for_gap(&log->cursors[sink]);
    }
}

bool
vmlog_gap_before(struct vmlog *log, unsigned sink, struct vmlog_stream *stream, uint64_t first, uint64_t last,
                 uint32_t reason)
{
    struct vmlog_cursor *cursor = &log->cursors[sink];
    struct vmlog_progress *progress = &stream->sinks[sink];
    uint64_t given_up = progress->gap_last ? progress->gap_last - progress->gap_first + 1 : 0;

    /* Only what was given up and not told yet may have come before. */
    if (first == 0 || first > last || progress->reached > last + given_up || progress->gapped != given_up ||
        (given_up > 0 && (progress->gap_first != last + 1 || told_up_to(cursor, progress) > 0)))
        return false;
    if (given_up == 0) {
        extend_gap(log, sink, stream, first, last, reason);
    } else {
        progress->gap_first = first;
        count_more(log, stream, sink, &(struct vmlog_counts){ .gapped = last - first + 1 });
    }
    progress->settled = progress->acked = progress->sent = progress->reported = progress->uncounted =
        first - 1;
    stop_for_gap(cursor);
    return true;
}

bool
vmlog_gap_next(struct vmlog *log, unsigned sink, struct vmlog_stream *stream, uint64_t *first, uint64_t *last)
{
    struct vmlog_cursor *cursor = &log->cursors[sink];
    struct vmlog_progress *progress = &stream->sinks[sink];
    uint64_t told = told_up_to(cursor, progress);

    if (progress->gap_last == 0 || told == progress->gap_last)
        return false;
    assert(cursor->peeked_number >= cursor->gap_number && progress->announced != 0);
    *first = told >= progress->gap_first ? told + 1 : progress->gap_first;
    *last = progress->gap_last;
    progress->sent = progress->gap_last;
    cursor->told_on = progress->announced;
    cursor->gaps_untold--;
    return true;
}
