/* What the files of the VM log share: positions and how they move. For vmlog*.c alone. */
#ifndef GIMUX_VMLOG_INNER_H
#define GIMUX_VMLOG_INNER_H

#include <assert.h>

#include "mux/vmlog/vmlog.h"

#define BIT(sink) ((uint16_t)(1u << (sink)))

/* Whether the position stands in a stub, whose entries are in a file alone. */
static inline bool
at_stub(const struct vmlog_position *at)
{
    return at->chunk && at->chunk->stub && at->index < at->chunk->count;
}

/* Behind all that is in the chunk. */
static inline void
pass_chunk(struct vmlog_position *at)
{
    at->number = at->chunk->first_number + at->chunk->count;
    at->index = at->chunk->count;
}

/* The entry at the position, or NULL at the end of the log or at a stub. A position behind the last entry of
 * a chunk goes on to the next chunk that has the bit `held` (0: to the next); what lies between was given up,
 * and so was a stub that has the bit in given_up. */
static inline struct vmlog_entry *
look(struct vmlog_position *at, uint16_t held)
{
    for (;;) {
        struct vmlog_chunk *chunk = at->chunk;

        while (chunk && at->index == chunk->count && chunk->next) {
            do
                chunk = chunk->next;
            while (held && !(chunk->holders & held) && chunk->next);
            *at = (struct vmlog_position){ chunk, 0, chunk->first_number };
        }
        if (!chunk || at->index >= chunk->count)
            return NULL;
        if (!chunk->stub)
            return vmlog_chunk_entry(chunk, at->index);
        if (!(chunk->given_up & held))
            return NULL;
        pass_chunk(at);
    }
}

static inline void
pass(struct vmlog_position *at, uint32_t count)
{
    at->index += count;
    at->number += count;
}

/* How many entries follow in the position's chunk, up to entry number `end`. */
static inline uint32_t
count_to(const struct vmlog_position *at, uint64_t end)
{
    uint32_t left = at->chunk->count - at->index;

    return end - at->number < left ? (uint32_t)(end - at->number) : left;
}

/* The offset of the position's frame in the chunk. */
static inline uint32_t
start_at(const struct vmlog_position *at)
{
    return at->index == 0 ? 0 : vmlog_chunk_entry(at->chunk, at->index - 1)->end;
}

static inline uint8_t *
frame_at(const struct vmlog_position *at, size_t *len)
{
    uint32_t start = start_at(at);

    *len = vmlog_chunk_entry(at->chunk, at->index)->end - start;
    return at->chunk->data + start;
}

/* The bytes of the next `count` frames of the position's chunk. */
static inline size_t
bytes_at(const struct vmlog_position *at, uint32_t count)
{
    return vmlog_chunk_entry(at->chunk, at->index + count - 1)->end - start_at(at);
}

/* How many of the position's next `count` entries can be dealt with as one: those of one run that agree in
 * the bits of a sink (or, with 0, one run). At the end of a log that is mostly all, and none is looked at. */
static inline uint32_t
count_alike(const struct vmlog_position *at, uint32_t count, uint16_t bit)
{
    const struct vmlog_entry *first = vmlog_chunk_entry(at->chunk, at->index);
    const struct vmlog_entry *entry = first;
    uint32_t n = 0;

    if (at->index >= at->chunk->last_run && !(at->chunk->marked & bit))
        return count;
    do {
        n++;
        entry--;
    } while (n < count && vmlog_entry_follows(first, entry, n) &&
             !(((entry->filtered ^ first->filtered) | (entry->done ^ first->done)) & bit));
    return n;
}

static inline struct vmlog_position
end_of(const struct vmlog *log)
{
    return (struct vmlog_position){ log->last, log->last ? log->last->count : 0, log->next_number };
}

/* vmlog.c */
void vmlog_advance_accept(struct vmlog *log);
void vmlog_advance_ack(struct vmlog *log, unsigned sink);
void vmlog_let_go(struct vmlog *log, unsigned sink, struct vmlog_chunk *chunk, const struct vmlog_chunk *end);
void vmlog_release_if_settled(struct vmlog *log);
void vmlog_count(struct vmlog_progress *progress, const struct vmlog_entry *entry, uint32_t count, bool got);
void vmlog_mark_done(struct vmlog_chunk *chunk, struct vmlog_entry *entry, unsigned sink);

/* vmlog_gap.c */
void vmlog_settle_gap(struct vmlog_cursor *cursor, struct vmlog_progress *progress);
void vmlog_give_up_before(struct vmlog *log, unsigned sink, struct vmlog_stream *stream, uint64_t first,
                          uint64_t last, uint32_t reason);

/* vmlog_file.c */
void vmlog_unload(struct vmlog *log, unsigned sink, struct vmlog_chunk *chunk);

#endif
