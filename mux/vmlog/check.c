/* The invariants of the VM log, for tests and debug builds. */
#include "mux/vmlog/inner.h"

static void
check_position(const struct vmlog *log, const struct vmlog_position *at)
{
    assert(at->chunk ? at->number == at->chunk->first_number + at->index && at->index <= at->chunk->count
                     : !log->first && at->number == log->next_number);
}

static void
check_cursor(const struct vmlog *log, unsigned sink)
{
    const struct vmlog_cursor *cursor = &log->cursors[sink];
    struct vmlog_position at = cursor->ack;
    size_t inflight = 0;
    size_t span = 0;

    check_position(log, &cursor->ack);
    check_position(log, &cursor->sent);
    check_position(log, &cursor->reached);
    assert(cursor->ack.number <= cursor->sent.number && cursor->sent.number <= cursor->reached.number);
    assert(cursor->reached.number <= log->next_number);
    assert(log->accept.number <= cursor->accept_number || log->accept.number <= log->recorded);
    assert(cursor->gaps_untold <= cursor->gaps_open);
    assert((cursor->gap_number == UINT64_MAX) == (cursor->gaps_open == 0));
    while (at.chunk) {
        const struct vmlog_entry *entry = look(&at, 0);
        bool held = at.chunk->holders & BIT(sink);
        size_t len;

        if (at_stub(&at)) {
            assert(at.number >= cursor->reached.number || (at.chunk->given_up & BIT(sink)) || !held);
            pass_chunk(&at);
            continue;
        }
        if (!entry)
            break;
        frame_at(&at, &len);
        if (held && at.number < cursor->sent.number && !((entry->filtered | entry->done) & BIT(sink)))
            inflight += len;
        if (held && at.number < cursor->sent.number && !(entry->done & BIT(sink)))
            span += len + sizeof(*entry);
        assert(!(entry->filtered & entry->done & BIT(sink)));
        if (!held || (at.number >= cursor->gap_number && at.number < cursor->reached.number))
            assert((entry->done & BIT(sink)) || entry->sequence <= entry->stream->sinks[sink].counted_before);
        pass(&at, 1);
    }
    assert(cursor->inflight == inflight && cursor->span == span);
    assert(!log->last || (log->last->holders & BIT(sink)));
}

/* What the chunk says of its entries as a whole. */
static void
check_entries(struct vmlog_chunk *chunk)
{
    uint32_t run = 0;

    for (uint32_t i = 0; i < chunk->count; i++) {
        const struct vmlog_entry *entry = vmlog_chunk_entry(chunk, i);

        if (i > 0 && !vmlog_entry_follows(entry + 1, entry, 1))
            run = i;
        assert(!((entry->filtered | entry->done) & ~chunk->marked));
        assert(chunk->classes & (1u << entry->cls));
    }
    assert(chunk->last_run == run);
}

void
vmlog_check(const struct vmlog *log)
{
    size_t bytes = 0;

    for (struct vmlog_chunk *chunk = log->first; chunk; chunk = chunk->next) {
        bytes += chunk->stub ? 0 : chunk->size;
        if (!chunk->stub)
            check_entries(chunk);
        assert(chunk->next ? chunk->next->prev == chunk : log->last == chunk);
        assert(chunk->stub ||
               sizeof(*chunk) + chunk->used + chunk->count * sizeof(struct vmlog_entry) + chunk->room ==
                   chunk->size);
        assert(!chunk->next || chunk->next->first_number >= chunk->first_number + chunk->count);
    }
    assert(bytes == log->bytes);
    assert(log->accept.number <= log->next_number);
    check_position(log, &log->accept);
    EACH_JOINED (log, sink)
        check_cursor(log, sink);
}
