/* Chunks of VM logs: a run of frames with the entries that describe them, and the pool that chunks come from.
 */
#ifndef GIMUX_VMLOG_CHUNK_H
#define GIMUX_VMLOG_CHUNK_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VMLOG_SMALL_CHUNK 4096u  /* bytes: the first chunk of a log that was empty */
#define VMLOG_LARGE_CHUNK 65536u /* bytes: the others; a longer frame gets a chunk of its own size */

/* An entry's class when it is a gap that the driver told of: every sink gets it. In masks: 1u << VMLOG_GAP.
 */
#define VMLOG_GAP 31u

struct vmlog_stream;

/* One frame in a log. */
struct vmlog_entry {
    struct vmlog_stream *stream;
    uint64_t sequence;     /* its last sequence */
    uint32_t count;        /* sequences that it stands for: 1, or the length of a driver's gap */
    uint32_t end;          /* offset in the chunk behind its last byte */
    uint32_t record_bytes; /* of the guests' records of the chunk, up to this one */
    uint32_t key;          /* offset in the frame of what filters look at, below */
    uint16_t key_len;      /* 0: nothing to look at */
    uint16_t filtered;     /* bit per sink: it passed this entry, which it does not want */
    uint16_t done;         /* bit per sink: it is counted already and not sent: given up, or the SVM had it */
    uint8_t cls;           /* enum event_class, or VMLOG_GAP */
};

/* What a stub holds of one stream: every sequence from first to last. */
struct vmlog_range {
    struct vmlog_stream *stream;
    uint64_t first;
    uint64_t last;
    uint64_t record_bytes; /* of the guest's records, while they are not accepted; then 0 */
};

#define VMLOG_RANGES_MAX 64u /* streams in one stub */

/* A part of a segment file; the owner's. */
struct vmlog_segment;

/* One allocation. Frames grow from its front, entries from its end. Or a stub: its frames and entries are in
 * a file alone, and it holds the ranges of streams that they cover. */
struct vmlog_chunk {
    struct vmlog_chunk *next;
    struct vmlog_chunk *prev;
    uint64_t first_number; /* of entry 0, counted since the log began */
    uint32_t size;         /* of the allocation, this header included */
    uint32_t room;         /* bytes that are free for frames and their entries */
    uint32_t used;         /* bytes of frames; of a stub: ranges */
    uint32_t count;        /* entries; of a stub: as many as it may have when it is loaded */
    uint16_t holders;      /* bit per sink */
    uint16_t given_up;     /* of a stub, bit per sink: the sink gave up all of it */
    uint16_t begun;        /* bit per sink: entries of it are counted already, though it is not reached */
    uint16_t marked;       /* bit per sink: entries of it may have the bit in `filtered` or `done` */
    uint32_t classes;      /* 1u << cls of its entries */
    uint32_t last_run;     /* the entries from this one on are one run: see vmlog_chunk_add */
    uint32_t numbers;      /* of a loaded chunk: entries that it may have when it is loaded again */
    bool stub;
    bool sealed;                   /* nothing more is appended */
    bool loading;                  /* a stub that is being read */
    uint8_t loaded_for;            /* sink + 1 that it was loaded for and is counted with, or 0 */
    struct vmlog_segment *segment; /* where it is written to, or NULL */
    uint32_t file_offset;          /* of its first record there */
    uint32_t file_end;             /* behind its last record; others may lie between */
    uint8_t data[];                /* frames; entries from the end of the allocation downwards */
};

/* A place in a log. */
struct vmlog_position {
    struct vmlog_chunk *chunk; /* NULL: the log is empty, or the next chunk to come */
    uint32_t index;            /* of the entry in the chunk */
    uint64_t number;           /* of the entry since the log began */
};

#define VMLOG_POOL_SINKS 16 /* VMLOG_SINKS */

/* What one sink got, in sequences. */
struct vmlog_counts {
    uint64_t delivered;
    uint64_t filtered;
    uint64_t gapped; /* when they are given up */
};

/* The memory of all logs of the process: what is in use, its limit, and chunks kept for the next use. */
struct vmlog_pool {
    size_t used;  /* bytes of chunks in logs, stubs left out */
    size_t limit; /* bytes; vmlog_reserve refuses to go beyond */
    size_t own;   /* bytes beyond the limit, for small frames of gimuxd's own */
    struct vmlog_chunk *spare_small;
    struct vmlog_chunk *spare_large;
    size_t spare; /* bytes of spare chunks; used + spare passes the limit only where used alone does */
    size_t peak;  /* bytes that were in use lately: so much is kept, spare chunks included */
    size_t stubs; /* bytes of stubs */
    size_t loaded[VMLOG_POOL_SINKS]; /* bytes of chunks that were loaded for each sink, part of used */
    struct vmlog_counts
        counts[VMLOG_POOL_SINKS]; /* what each sink got of all logs, of streams that are gone too */
    /* Called when a chunk or stub that is in a segment is freed; or NULL. */
    void (*released)(struct vmlog_segment *segment);
};

/* Takes a chunk of `size` bytes, header and entries included, from the spare ones or from the system; zeroed
 * up to its data. The caller has compared the limit. NULL if out of memory. */
struct vmlog_chunk *vmlog_chunk_take(struct vmlog_pool *pool, uint32_t size);

/* Gives a chunk back: to the spare ones, as far as that many were in use lately, or to the system. Its
 * segment hears of it. */
void vmlog_chunk_give(struct vmlog_pool *pool, struct vmlog_chunk *chunk);

/* A stub with room for so many ranges, zeroed; NULL if out of memory. It is given back like a chunk. */
struct vmlog_chunk *vmlog_stub_take(struct vmlog_pool *pool, uint32_t ranges);

/* Called now and then: forgets a part of the former peak, and frees the spare chunks beyond it. */
void vmlog_pool_trim(struct vmlog_pool *pool);

/* Frees the spare chunks. */
void vmlog_pool_fini(struct vmlog_pool *pool);

static inline struct vmlog_entry *
vmlog_chunk_entry(struct vmlog_chunk *chunk, uint32_t index)
{
    return (struct vmlog_entry *)(void *)((uint8_t *)chunk + chunk->size) - 1 - index;
}

/* Whether `entry`, the n-th behind `first`, belongs to its run if all between do. */
static inline bool
vmlog_entry_follows(const struct vmlog_entry *first, const struct vmlog_entry *entry, uint32_t n)
{
    return entry->stream == first->stream && entry->sequence == first->sequence + n &&
           (entry->cls == VMLOG_GAP) == (first->cls == VMLOG_GAP);
}

static inline struct vmlog_range *
vmlog_stub_ranges(struct vmlog_chunk *stub)
{
    return (struct vmlog_range *)(void *)stub->data;
}

/* Bytes of the guests' records of `count` entries from this one on. */
static inline uint32_t
vmlog_chunk_record_bytes(struct vmlog_chunk *chunk, uint32_t index, uint32_t count)
{
    return vmlog_chunk_entry(chunk, index + count - 1)->record_bytes -
           (index == 0 ? 0 : vmlog_chunk_entry(chunk, index - 1)->record_bytes);
}

/* Describes the frame that stands at data + used: entry->end is its length, entry->record_bytes that of its
 * record; filtered and done are ignored. The entry belongs to the run of the one before if both are of one
 * stream, one sequence follows the other, and both are gaps or none is. */
static inline void
vmlog_chunk_add(struct vmlog_chunk *chunk, const struct vmlog_entry *entry)
{
    struct vmlog_entry *slot = vmlog_chunk_entry(chunk, chunk->count);
    uint32_t size = entry->end + (uint32_t)sizeof(*entry);

    assert(chunk->room >= size);
    chunk->room -= size;
    chunk->used += entry->end;
    chunk->classes |= 1u << entry->cls;
    *slot = *entry;
    slot->end = chunk->used;
    slot->filtered = slot->done = 0;
    if (chunk->count > 0) {
        slot->record_bytes += slot[1].record_bytes;
        if (!vmlog_entry_follows(slot + 1, slot, 1))
            chunk->last_run = chunk->count;
    }
    chunk->count++;
}

#endif
