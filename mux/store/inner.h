/* What store.c, store_write.c and store_load.c share. */
#ifndef GIMUX_STORE_INNER_H
#define GIMUX_STORE_INNER_H

#include "mux/store/disk.h"
#include "mux/store/segment.h"
#include "mux/store/store.h"

struct vmlog_segment {
    struct store_vm *of;
    struct segment_name name;
    int fd;          /* of the one that is written to; else -1 */
    uint64_t end;    /* bytes */
    uint32_t chunks; /* chunks and stubs in it */
    bool removing;   /* a job removes the file */
    LIST_ENTRY(vmlog_segment) in_vm;
};

/* The files of one VM. */
struct store_vm {
    struct store *store;
    struct vm *vm; /* NULL: it was forgotten */
    LIST_HEAD(vm_segments, vmlog_segment) segments;
    struct vmlog_segment *current; /* where the next record goes, or NULL */
    uint64_t next_number;
    uint64_t bytes;
    uint64_t seen;      /* the log's next number when it was made due the last time, */
    uint64_t ripe;      /* and the time before: what is younger has time; both: when a slow write ended */
    bool dirty;         /* in store->dirty: it waits for the next beat */
    bool due;           /* in store->due: its turn has come */
    bool lazy;          /* in store->lazy: nothing but positions, which have time; or to be tried again */
    bool waited;        /* was there for a tick */
    bool writing;       /* in the batch that is being written */
    bool all_positions; /* every position must be written */
    bool broken;        /* a sync failed: nothing is written until the log is empty */
    bool full;          /* a bound was met */
    int error;          /* of the last write, 0 if it succeeded */
    unsigned loads;     /* jobs that read for it */
    TAILQ_ENTRY(store_vm) in_list;
};

TAILQ_HEAD(store_vms, store_vm);

struct store {
    struct loop *loop;
    const struct conf *conf;
    struct vmlog_pool *pool;
    struct store_ops ops;
    void *arg;
    int dir;
    struct disk *disk;
    struct batch *batch; /* one, again and again */
    struct store_vms dirty;
    struct store_vms due;
    struct store_vms lazy;
    struct loop_timer *beat; /* for the dirty ones */
    struct loop_timer *tick; /* for the lazy ones */
    uint64_t bytes;
    uint64_t segments;
    size_t loading; /* bytes that are being read */
    bool failing;
    unsigned full;  /* VMs for which a bound stands in the way */
    bool finishing; /* nothing is lazy */
    bool frozen;    /* nothing is written or removed */
};

/* Something of it may have to be written. */
void store_touch_vm(struct store_vm *of);

/* Its turn comes, or is not over. */
void store_make_due(struct store_vm *of);

/* The turn of all that are dirty comes. */
#define STORE_BEAT_MS 5
void store_beat(struct store *store);

/* Takes it out of the list that it is in. */
void store_unlist(struct store_vm *of);

/* A new segment that is written to from now on; NULL if out of memory. */
struct vmlog_segment *store_begin_segment(struct store_vm *of);

/* Not the file. */
void store_free_segment(struct vmlog_segment *segment);

/* The buffers of what is written; freed by free. NULL if out of memory. */
#define STORE_BATCH_SIZE ((size_t)5 * 1024 * 1024)
struct batch *store_batch_new(struct store *store);

/* How many VMs the batch is for that is being written; 0: none is. */
unsigned store_is_writing(const struct store *store);

/* Frees it when it is forgotten and nothing is under way any more. */
void store_release_vm(struct store_vm *of);

/* Has it tried again at the next tick. */
void store_later(struct store_vm *of);

#endif
