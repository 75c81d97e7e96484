/* What the files of this room share: VMs with their segments, batches, and the store as a whole. */
#ifndef GIMUX_STORE_INNER_H
#define GIMUX_STORE_INNER_H

#include "mux/store/disk.h"
#include "mux/store/segment.h"
#include "mux/store/store.h"

/* ---- files.c: what the store has of one VM ---- */

struct vmlog_segment {
    struct store_vm *of;
    struct segment_name name;
    int fd;          /* of the one that is written to; else -1 */
    uint64_t end;    /* bytes */
    uint32_t chunks; /* chunks and stubs in it */
    bool removing;   /* a job removes the file */
    bool torn;       /* its file goes on beyond `end`: it is in store->torn until that is cut off */
    LIST_ENTRY(vmlog_segment) in_vm;
    LIST_ENTRY(vmlog_segment) in_torn;
};

/* Where a VM is on its way into files: the drawing is at the top of store.c. */
enum store_state {
    STORE_IDLE,    /* nothing to write that is known of */
    STORE_DIRTY,   /* something has changed: it waits for the beat */
    STORE_DUE,     /* it has a place in the next batch that has room */
    STORE_LATER,   /* it waits for the tick: nothing but positions, or it is to be tried again */
    STORE_WRITING, /* in the batch that is being written */
    STORE_AGAIN,   /* the same, and something has changed since that batch was filled */
    STORE_BROKEN   /* a sync failed: nothing is written until the log is empty */
};

struct saved;

/* The files of one VM. */
struct store_vm {
    struct store *store;
    struct vm *vm; /* NULL: it was forgotten */
    LIST_HEAD(vm_segments, vmlog_segment) segments;
    struct vmlog_segment *current; /* where the next record goes, or NULL */
    uint64_t next_number;          /* of its next segment */
    uint64_t bytes;
    enum store_state state;
    TAILQ_ENTRY(store_vm) in_list; /* of the store, as the state says */
    uint64_t due_before;           /* entries before this number have waited long enough to be written */
    uint64_t seen;                 /* the log's end when it last became due: the next due_before */
    bool waited;                   /* it came out of STORE_LATER: its positions wait no longer */
    int error;                     /* of the last write, 0 if it succeeded */
    unsigned loads;                /* jobs that read for it */

    /* In any state: what the next write must say, and what it met the last time. */
    bool all_positions; /* every position must be written, moved or not */
    bool full;          /* a bound was in the way: some of the log was not written */

    /* From the time when its files were taken up. */
    bool damaged;
    struct saved *saved;
};

TAILQ_HEAD(store_vms, store_vm);

/* The VM's files; made if there are none. NULL if out of memory. */
struct store_vm *store_files_of(struct store *store, struct vm *vm);

/* Every change of a state. Lists and timers follow. */
void store_set_state(struct store_vm *of, enum store_state state);

/* Something of it may have to be written. */
void store_touch_vm(struct store_vm *of);

/* Has it looked at again at the next tick, if nothing else does so before. */
void store_later(struct store_vm *of);

/* Its part of a batch was written, or failed; it goes on to `next`. */
void store_end_writing(struct store_vm *of, enum store_state next);

static inline bool
store_vm_is_writing(const struct store_vm *of)
{
    return of->state == STORE_WRITING || of->state == STORE_AGAIN;
}

/* Frees it if it is forgotten and nothing is under way any more. */
void store_release_vm(struct store_vm *of);

/* A new segment that is written to from now on; NULL if out of memory, or out of numbers. */
struct vmlog_segment *store_begin_segment(struct store_vm *of);

/* A file that was found. Returns NULL if out of memory. */
struct vmlog_segment *store_take_segment(struct store *store, struct vm *vm, const struct segment_name *name,
                                         uint64_t bytes);

/* Only so many bytes of the file count; the rest is cut off by store_cut_torn, once. */
void store_cut_segment(struct vmlog_segment *segment, uint64_t bytes);

/* The file is gone, or is left alone. No chunk may be in it. */
void store_free_segment(struct vmlog_segment *segment);

/* The records of a chunk or stub are in the segment. */
void store_hold(struct vmlog_segment *segment, struct vmlog_chunk *chunk);

/* For the pool: a chunk or stub of the segment is no more. */
void store_released(struct vmlog_segment *segment);

/* ---- saved.c: how far solutions were, as files say ---- */

struct saved {
    char solution[SEGMENT_SOLUTION]; /* its name; "": the stream as such */
    struct stream *stream;           /* NULL: it was let go */
    struct vmlog_saved at;
    struct saved *next;
};

/* What is known of a solution and a stream; made if there is nothing yet. NULL if out of memory. */
struct saved *store_saved_for(struct store_vm *of, struct stream *stream, const char *solution);

/* ---- batch.c: what is written at once ---- */

#define BATCH_BYTES   ((size_t)2 * 1024 * 1024)
#define BATCH_VM      (BATCH_BYTES / 4)                       /* of one VM */
#define BATCH_ROOM    (BATCH_BYTES + 2 * DELIMITED_FRAME_MAX) /* one VM may go beyond by that much */
#define BATCH_ITEMS   1024
#define BATCH_REMOVES 1024

/* What is written to one segment. */
struct batch_item {
    struct store_vm *of;
    struct vmlog_segment *segment;
    const uint8_t *bytes;
    size_t len;
    uint64_t offset;
    uint64_t number; /* of the log: recorded up to here when this is written */
    int fd;          /* -1: the file is made */
    char name[SEGMENT_NAME_MAX];
    int error;
    bool made; /* the file was */
    bool sync_failed;
};

struct batch_removal {
    struct vmlog_segment *segment;
    struct batch_item *after; /* which must be written first, or NULL */
    bool last_word;           /* no other file would say how far solutions are */
    char name[SEGMENT_NAME_MAX];
    bool done;
};

struct batch {
    struct disk_job job;
    struct store *store;
    bool writing;
    bool sync;
    uint64_t took; /* ms */
    int dir;
    size_t used;
    unsigned item_count;
    unsigned removal_count;
    struct batch_item items[BATCH_ITEMS];
    struct batch_removal removals[BATCH_REMOVES];
    uint8_t bytes[BATCH_ROOM];
};

/* Freed by free. NULL if out of memory. */
#define STORE_BATCH_SIZE ((size_t)5 * 1024 * 1024)
struct batch *store_batch_new(struct store *store);

/* ---- write.c: what a VM puts into a batch ---- */

/* Whether the VM, which is idle, has anything to write by now; if it will have later, it waits for that. */
bool store_wants_to_write(struct store_vm *of);

/* Puts that into the batch. Returns the item; NULL if out of memory: then it is tried again. */
struct batch_item *store_put_vm(struct batch *batch, struct store_vm *of);

/* Streams of one VM that are taken up from files. Of gimuxd itself a VM has some for former lives, beside the
 * VM_STREAMS_MAX that it may have. */
#define STORE_STREAMS_MAX VMLOG_RANGES_MAX

/* Bytes that so many streams and their positions can take in a segment, with its header. */
#define POSITIONS_ROOM(streams)                                                                              \
    (SEGMENT_HEADER_SIZE + SEGMENT_MARK_SIZE +                                                               \
     (streams) * (SEGMENT_STREAM_SIZE + (VMLOG_SINKS + 1) * SEGMENT_POSITION_SIZE))

/* The same for the streams that the VM has. */
size_t store_room_for_positions(const struct vm *vm);

/* ---- store.c: the whole ---- */

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
    struct store_vms later;
    struct loop_timer *beat; /* for the dirty ones */
    struct loop_timer *tick; /* for those that wait for later */
    uint64_t bytes;
    uint64_t segments;
    size_t loading; /* bytes that are being read */
    bool failing;
    unsigned full;     /* VMs for which a bound stands in the way */
    uint64_t progress; /* counts what was recorded or removed */
    uint64_t round;    /* the progress when all were tried for the last time, while finishing */
    bool finishing;    /* nothing waits for a beat or a tick */
    bool frozen;       /* nothing is written or removed */
    bool held;         /* another process has the lock on the directory, until store_thaw */
    LIST_HEAD(torn_segments, vmlog_segment) torn;
};

#define STORE_BEAT_MS 5
#define STORE_TICK_MS 100

/* The turn of all that are dirty comes. */
void store_beat(struct store *store);

/* ---- dir.c: the directory and its lock ---- */

/* Opens it, making it if it is not there, and locks it, if that is wanted. -1 with a reason in why
 * (STORE_WHY_MAX bytes). */
int store_dir_open(const char *path, bool lock, char *why);

/* Cuts off what does not count of files. */
void store_cut_torn(struct store *store);

#endif
