/* VMs and their streams: who there is, by UUID and by stream number. Pure; the queue of a VM is its vmlog. */
#ifndef GIMUX_VMLOG_VM_H
#define GIMUX_VMLOG_VM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uthash.h>

#include "mux/vmlog/vmlog.h"
#include "proto/guest_record.h"

#define VM_STREAMS_MAX 16 /* streams of one VM that are not settled yet, ended ones included */
#define VM_TEXT_MAX    96 /* a driver's build, a guest's OS */
#define VM_DRIVER_GIMUXD                                                                                     \
    6 /* beside enum gr_driver: gimuxd's own events (GIMUX__V1__DRIVER__DRIVER_GIMUXD)                       \
       */

/* One driver of one VM for one boot. */
struct stream {
    struct vmlog_stream log; /* sequences; log.id is the stream's number */
    struct vm *vm;
    uint16_t driver; /* enum gr_driver or VM_DRIVER_GIMUXD */
    uint8_t boot_id[GR_UUID_SIZE];
    char boot_text[GR_UUID_TEXT];
    char build[VM_TEXT_MAX];
    char guest_os[VM_TEXT_MAX];
    uint64_t start; /* the first sequence that this gimuxd may have had of it */
    uint32_t cid;   /* vsock peer, 0 if none */
    bool ended;     /* nothing more will come */
    bool silent;    /* connected, but told as lost */
    void *guest;    /* the session that is connected, or NULL; the owner's */
    LIST_ENTRY(stream) of_vm;
    UT_hash_handle hh; /* by log.id */
};

/* A VM's place in the round of one sink. */
struct vm_turn {
    struct vm *vm;
    int64_t deficit; /* bytes that it may still send in its turn; negative: what it sent too much before */
    size_t held;     /* bytes of memory, as counted in sink->held */
    bool active;     /* in the sink's ring */
    bool starving;   /* what comes next is in a file, and nothing more may be loaded now */
    uint32_t mark;   /* the number of the entry behind the one whose delivery is timed, its low 32 bits */
    uint64_t marked; /* loop_turn_began of the turn that brought that entry; 0: there is none */
    TAILQ_ENTRY(vm_turn) ring;
};

/* What a VM's drivers have sent, of whatever kind; see flood.h. */
struct vm_traffic {
    uint64_t records;
    uint64_t bytes;
    uint64_t seen_records; /* at the last look */
    uint64_t seen_bytes;
    bool flooding;
};

struct vm {
    uint8_t uuid[GR_UUID_SIZE];
    char uuid_text[GR_UUID_TEXT];
    struct vmlog log;
    LIST_HEAD(stream_list, stream) streams;
    unsigned stream_count;
    unsigned connected; /* streams with a guest */
    uint64_t events;    /* sequences taken from its drivers */
    struct vm_traffic traffic;
    bool paused;        /* its guests are not read, because the log is full */
    size_t refused;     /* bytes of memory that a record needs for which there was none; else 0 */
    bool dirty;         /* in the route's list of VMs to look after at the end of the turn */
    bool grown;         /* sinks must hear that its log has */
    uint16_t power;     /* enum gr_power_op of the last lifecycle event about it, 0: none */
    struct stream *own; /* gimuxd's stream of this VM, or NULL */
    struct vm_turn turns[VMLOG_SINKS];
    struct store_vm *files; /* the store's, or NULL */
    bool damaged;           /* its files were, when they were taken up */
    struct vm_saved *saved; /* positions of solutions that were in files, until all have joined */
    LIST_ENTRY(vm) in_paused;
    TAILQ_ENTRY(vm) in_dirty;
    UT_hash_handle hh; /* by uuid */
};

/* How far a solution was in a stream, from a file. */
struct vm_saved {
    char solution[64]; /* its name */
    struct stream *stream;
    struct vmlog_saved at;
    struct vm_saved *next;
};

/* What one sink got, in sequences. */
struct vm_counts {
    uint64_t delivered;
    uint64_t filtered;
    uint64_t gapped;
};

struct vm_table {
    struct vm *vms;
    struct stream *streams;
    struct vmlog_pool *pool;
    uint32_t limit; /* VMs */
    unsigned slots; /* that every log and stream has: vm_table_make_slots */
    uint32_t next_stream;
    void (*forgets)(struct vm *vm);          /* called before a VM is freed, or NULL */
    struct vm_counts forgotten[VMLOG_SINKS]; /* of streams that are no more */
};

struct vm *vm_find(const struct vm_table *table, const uint8_t uuid[GR_UUID_SIZE]);

/* Makes a VM. At the table's limit, forgets one that has no driver connected and nothing queued; NULL if
 * there is none such, or no memory. The caller makes the sinks join its log. */
struct vm *vm_add(struct vm_table *table, const uint8_t uuid[GR_UUID_SIZE]);

/* Every log and stream, those to come too, has room for sinks in slots 0 .. slots-1 from now on. False if out
 * of memory: then some have it, and nobody may count on it. */
bool vm_table_make_slots(struct vm_table *table, unsigned slots);

/* Adds what the sink got of the VM's streams (vm NULL: of all, forgotten ones included) to *counts. */
void vm_count(const struct vm_table *table, const struct vm *vm, unsigned sink, struct vm_counts *counts);

/* Forgets everything. */
void vm_table_fini(struct vm_table *table);

struct stream *vm_stream_by_id(const struct vm_table *table, uint32_t id);
struct stream *vm_stream_find(const struct vm *vm, uint16_t driver, const uint8_t boot_id[GR_UUID_SIZE]);

/* Makes a stream whose first sequence will be `start`. First forgets ended streams of the VM if nothing is
 * queued. NULL at VM_STREAMS_MAX, or if out of memory. */
struct stream *vm_stream_add(struct vm_table *table, struct vm *vm, uint16_t driver,
                             const uint8_t boot_id[GR_UUID_SIZE], uint64_t start);

/* Makes a stream that was in a file, with the number that it had, whatever VM_STREAMS_MAX is. NULL if the
 * number is taken, or out of memory. */
struct stream *vm_stream_restore(struct vm_table *table, struct vm *vm, uint16_t driver,
                                 const uint8_t boot_id[GR_UUID_SIZE], uint64_t start, uint32_t id);

/* Forgets a stream of which nothing is queued. */
void vm_stream_forget(struct vm_table *table, struct stream *stream);

/* The VM's saved positions are needed no more. */
void vm_clear_saved(struct vm *vm);

#endif
