/* What other rooms may know of streams and VM logs, and the little that they may set. */
#include "mux/vmlog/inner.h"

/* ---- what others may know of a stream ---- */

const struct vmlog_progress *
vmlog_progress(const struct vmlog_stream *stream, unsigned sink)
{
    return &stream->sinks[sink];
}

uint32_t
vmlog_stream_id(const struct vmlog_stream *stream)
{
    return stream->id;
}

uint64_t
vmlog_stream_last(const struct vmlog_stream *stream)
{
    return stream->last;
}

uint64_t
vmlog_stream_accepted(const struct vmlog_stream *stream)
{
    return stream->accepted;
}

uint64_t
vmlog_stream_unaccepted(const struct vmlog_stream *stream)
{
    return stream->unaccepted_bytes;
}

bool
vmlog_stream_moved(struct vmlog_stream *stream)
{
    bool moved = stream->moved;

    stream->moved = false;
    return moved;
}

void
vmlog_stream_set_last(struct vmlog_stream *stream, uint64_t last)
{
    stream->last = last;
}

void
vmlog_stream_set_accepted(struct vmlog_stream *stream, uint64_t accepted)
{
    stream->accepted = accepted;
}

void
vmlog_stream_reported(struct vmlog_stream *stream, unsigned sink)
{
    struct vmlog_progress *progress = &stream->sinks[sink];

    progress->reported = progress->settled;
    if (progress->sent < progress->settled)
        progress->sent = progress->settled;
}

void
vmlog_stream_report_anew(struct vmlog_stream *stream, unsigned sink)
{
    stream->sinks[sink].reported = UINT64_MAX;
}

void
vmlog_count_on(struct vmlog *log, unsigned sink, struct vmlog_stream *stream,
               const struct vmlog_counts *counts)
{
    count_more(log, stream, sink, counts);
    stream->sinks[sink].uncounted -= counts->delivered + counts->filtered + counts->gapped;
}

void
vmlog_stream_recorded(struct vmlog_stream *stream, unsigned sink, uint64_t settled)
{
    stream->sinks[sink].recorded = settled;
}

/* ---- and of a log ---- */

size_t
vmlog_bytes(const struct vmlog *log)
{
    return log->bytes;
}

uint64_t
vmlog_end_number(const struct vmlog *log)
{
    return log->next_number;
}

uint64_t
vmlog_accept_number(const struct vmlog *log)
{
    return log->accept.number;
}

uint64_t
vmlog_recorded_number(const struct vmlog *log)
{
    return log->recorded;
}

bool
vmlog_is_backed(const struct vmlog *log)
{
    return log->backed;
}

enum vmlog_stall
vmlog_stall(const struct vmlog *log)
{
    return log->stall;
}

struct vmlog_chunk *
vmlog_first_chunk(const struct vmlog *log)
{
    return log->first;
}

struct vmlog_chunk *
vmlog_last_chunk(const struct vmlog *log)
{
    return log->last;
}

unsigned
vmlog_next_joined(const struct vmlog *log, unsigned sink)
{
    return next_joined(log, sink);
}

uint64_t
vmlog_sent_number(const struct vmlog *log, unsigned sink)
{
    return log->cursors[sink].sent.number;
}

uint64_t
vmlog_passed_number(const struct vmlog *log, unsigned sink)
{
    return log->cursors[sink].accept_number;
}

size_t
vmlog_span(const struct vmlog *log, unsigned sink)
{
    return log->cursors[sink].span;
}

size_t
vmlog_held(const struct vmlog *log, unsigned sink, size_t more)
{
    size_t held = log->cursors[sink].span + more;

    if (held > 0)
        held += 2 * (size_t)VMLOG_LARGE_CHUNK; /* where it begins and ends */
    return held < log->bytes ? held : log->bytes;
}

uint64_t
vmlog_unsettled(const struct vmlog *log, unsigned sink)
{
    return log->next_number - log->cursors[sink].ack.number;
}
