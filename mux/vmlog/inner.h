/* What VMs, streams and VM logs are inside, for this room alone; and how positions move. */
#ifndef GIMUX_VMLOG_INNER_H
#define GIMUX_VMLOG_INNER_H

#include <assert.h>
#include <sys/queue.h>
#include <uthash.h>

#include "mux/vmlog/vm.h"
#include "mux/vmlog/vmlog.h"

/* ---- logs ---- */

/* What a log keeps of a stream. Embedded in the owner's stream object; zero-initialize, then set id and last.
 */
struct vmlog_stream {
    uint32_t id;
    bool moved;                   /* accepted has grown since the owner last looked */
    uint8_t slots;                /* of sinks */
    uint64_t last;                /* highest sequence appended (or before the first) */
    uint64_t accepted;            /* up to here no sink holds the guest back */
    uint64_t unaccepted_bytes;    /* of records, appended and not accepted */
    struct vmlog_progress *sinks; /* by slot; the stream's own */
};

/* Room for sinks in slots 0 .. slots-1 (VMLOG_SINKS at most), which a sink must have before it joins, and
 * never less than there was: an idle VM pays for as many sinks as there are. Pointers into sinks are invalid
 * afterwards. False if out of memory; all is then as it was. */
bool vmlog_stream_make_slots(struct vmlog_stream *stream, unsigned slots);

/* Frees what the stream has of its own. */
void vmlog_stream_fini(struct vmlog_stream *stream);

struct vmlog_cursor {
    enum vmlog_durability durability;
    struct vmlog_position ack;     /* up to here all is settled */
    struct vmlog_position sent;    /* up to here all is sent on this connection, filtered, or done */
    struct vmlog_position reached; /* as far as sent ever was, or a skip went: the next skip begins here */
    uint64_t accept_number;        /* up to here this sink holds no guest back: ack, or the end of a skip */
    uint64_t gap_number;           /* where gaps must be told and acknowledged first; UINT64_MAX: none */
    uint64_t peeked_number;        /* where the last vmlog_peek ended */
    uint32_t gaps_open;            /* streams with a gap that is not acknowledged */
    uint32_t gaps_untold;          /* of these, streams with a gap that was not told on this connection */
    uint32_t told_on;              /* the connection that gaps were told on; 0: none on this one */
    size_t inflight;               /* bytes sent and not acknowledged */
    size_t span;                   /* bytes of the log from ack to sent, what was given up not counted */
};

struct vmlog {
    struct vmlog_pool *pool;
    struct vmlog_chunk *first;
    struct vmlog_chunk *last;
    size_t bytes;                 /* of chunks */
    uint64_t next_number;         /* entries ever appended */
    uint16_t joined;              /* bit per sink */
    uint8_t slots;                /* of cursors */
    bool backed;                  /* written to files: nothing is accepted that is not recorded */
    enum vmlog_stall stall;       /* why it is not written at the time */
    uint64_t recorded;            /* up to here all is in a file, or settled for all and that is in a file */
    struct vmlog_position accept; /* up to here no sink holds a guest back */
    struct vmlog_cursor *cursors; /* by slot; the log's own */
};

/* The sink's counts of the stream grow by these. */
static inline void
count_more(struct vmlog *log, struct vmlog_stream *stream, unsigned sink, const struct vmlog_counts *more)
{
    struct vmlog_progress *progress = &stream->sinks[sink];
    struct vmlog_counts *all = &log->pool->counts[sink];

    progress->delivered += more->delivered;
    progress->filtered += more->filtered;
    progress->gapped += more->gapped;
    all->delivered += more->delivered;
    all->filtered += more->filtered;
    all->gapped += more->gapped;
}

/* With no slots yet. */
void vmlog_init(struct vmlog *log, struct vmlog_pool *pool);

/* The same for the log's cursors as vmlog_stream_make_slots. */
bool vmlog_make_slots(struct vmlog *log, unsigned slots);

/* Gives every chunk back to the pool, and the cursors. Streams must not be used with the log any more. */
void vmlog_fini(struct vmlog *log);

/* ---- VMs ---- */

struct stream {
    struct stream_about about; /* these two first: see stream_about, stream_log */
    struct vmlog_stream log;
    void *guest;
    LIST_ENTRY(stream) of_vm;
    UT_hash_handle hh; /* by log.id */
};

struct vm {
    struct vmlog log; /* the first member: see vm_log */
    uint8_t uuid[GR_UUID_SIZE];
    char uuid_text[GR_UUID_TEXT];
    LIST_HEAD(stream_list, stream) streams; /* the newest first */
    unsigned stream_count;
    struct store_vm *files;
    UT_hash_handle hh; /* by uuid */
};

struct vm_table {
    struct vm *vms;
    struct stream *streams;
    struct vmlog_pool *pool;
    struct vm_table_ops ops;
    void (*forgets)(struct vm *vm);
    uint32_t limit;
    unsigned slots; /* that every log and stream has: vm_table_make_slots */
    uint32_t next_stream;
};

/* ---- positions ---- */

/* VMLOG_EACH_JOINED of other rooms, without a call. */
static inline unsigned
next_joined(const struct vmlog *log, unsigned sink)
{
    unsigned left = (unsigned)log->joined >> sink;

    return left ? sink + (unsigned)__builtin_ctz(left) : VMLOG_SINKS;
}

#define EACH_JOINED(log, sink)                                                                               \
    for (unsigned sink = next_joined((log), 0); (sink) < VMLOG_SINKS; (sink) = next_joined((log), (sink) + 1))

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

/* vmlog.c, send.c */
void vmlog_advance_accept(struct vmlog *log);
void vmlog_advance_ack(struct vmlog *log, unsigned sink);
void vmlog_let_go(struct vmlog *log, unsigned sink, struct vmlog_chunk *chunk, const struct vmlog_chunk *end);
void vmlog_release_if_settled(struct vmlog *log);
void vmlog_count(struct vmlog *log, unsigned sink, const struct vmlog_entry *entry, uint32_t count, bool got);
void vmlog_mark_done(struct vmlog_chunk *chunk, struct vmlog_entry *entry, unsigned sink);

/* gap.c */
void vmlog_settle_gap(struct vmlog_cursor *cursor, struct vmlog_progress *progress);

/* spill.c */
void vmlog_unload(struct vmlog *log, unsigned sink, struct vmlog_chunk *chunk);

#endif
