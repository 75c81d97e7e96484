/* VMs and their streams: who there is, by UUID and by stream number. Pure; the queue of a VM is its log. */
#ifndef GIMUX_VMLOG_VM_H
#define GIMUX_VMLOG_VM_H

#include <stdbool.h>
#include <stdint.h>

#include "mux/vmlog/vmlog.h"
#include "proto/guest_record.h"

#define VM_STREAMS_MAX 16 /* streams of one VM that are not settled yet, ended ones included */
#define VM_TEXT_MAX    96 /* a driver's build, a guest's OS */

/* Beside enum gr_driver: gimuxd's own events (GIMUX__V1__DRIVER__DRIVER_GIMUXD). */
#define VM_DRIVER_GIMUXD 6

struct vm;
struct stream; /* one driver of one VM for one boot */
struct vm_table;
struct store_vm;

/* ---- all of them ---- */

/* What the owner of a table adds to it. */
struct vm_table_ops {
    size_t part;                 /* bytes that the owner keeps of each VM, a multiple of 8: see vm_part */
    void (*made)(struct vm *vm); /* a VM was made; or NULL */
    /* Whether a VM whose log is empty must stay all the same; whether its streams must. */
    bool (*in_use)(const struct vm *vm);
    bool (*in_turn)(const struct vm *vm);
};

/* NULL if out of memory. `pool` is for the chunks of all logs, and must stay. */
struct vm_table *vm_table_new(struct vmlog_pool *pool, const struct vm_table_ops *ops);

/* Forgets everything, and frees the pool's spare chunks. NULL is fine. */
void vm_table_free(struct vm_table *table);

/* As many VMs there may be. */
void vm_table_set_limit(struct vm_table *table, uint32_t limit);

/* `forgets` is called before a VM is freed, when its log and streams are gone already; NULL: nothing is. */
void vm_table_on_forget(struct vm_table *table, void (*forgets)(struct vm *vm));

struct vmlog_pool *vm_table_pool(const struct vm_table *table);

/* Every log and stream, those to come too, has room for sinks in slots 0 .. slots-1 from now on. False if out
 * of memory: then some have it, and nobody may count on it. */
bool vm_table_make_slots(struct vm_table *table, unsigned slots);
unsigned vm_table_slots(const struct vm_table *table);

unsigned vm_table_count(const struct vm_table *table); /* VMs */

/* Bytes that a VM takes at most, with VM_STREAMS_MAX streams and VMLOG_SINKS sinks, its log's chunks left
 * out. */
size_t vm_memory_bound(size_t part);

/* Of what the sink got (pool->counts), the part that belongs to forgotten streams. Walks over all
 * streams. */
struct vmlog_counts vm_table_forgotten(const struct vm_table *table, unsigned sink);

/* ---- VMs ---- */

struct vm *vm_find(const struct vm_table *table, const uint8_t uuid[GR_UUID_SIZE]);

/* Walks over all VMs, the oldest first: `vm` NULL is the beginning, NULL is the end. */
struct vm *vm_next(const struct vm_table *table, const struct vm *vm);

/* Makes a VM. At the table's limit, forgets the oldest ones that are settled and not in use, until it is
 * below; NULL if that is not enough, or no memory. The caller makes the sinks join its log. */
struct vm *vm_add(struct vm_table *table, const uint8_t uuid[GR_UUID_SIZE]);

/* Whether nothing is in its log, and no gap waits to be told or acknowledged. */
bool vm_is_settled(const struct vm *vm);

const uint8_t *vm_uuid(const struct vm *vm);
const char *vm_uuid_text(const struct vm *vm);

/* Its queue. */
static inline struct vmlog *
vm_log(struct vm *vm)
{
    return (struct vmlog *)(void *)vm; /* its first member */
}

static inline const struct vmlog *
vm_log_of(const struct vm *vm)
{
    return (const struct vmlog *)(const void *)vm;
}

/* What the table's owner keeps of it, ops.part bytes, zeroed when the VM was made: it stands before the VM.
 */
static inline void *
vm_part(const struct vm *vm, size_t part)
{
    return (char *)(uintptr_t)vm - part;
}

/* The store's, or NULL. */
struct store_vm *vm_files(const struct vm *vm);
void vm_set_files(struct vm *vm, struct store_vm *files);

/* ---- streams ---- */

/* Who a stream is, to be read, not written. */
struct stream_about {
    struct vm *vm;
    uint32_t id;     /* the stream's number */
    uint16_t driver; /* enum gr_driver or VM_DRIVER_GIMUXD */
    uint8_t boot_id[GR_UUID_SIZE];
    char boot_text[GR_UUID_TEXT];
    char build[VM_TEXT_MAX];
    char guest_os[VM_TEXT_MAX];
    uint64_t start; /* the first sequence that this gimuxd may have had of it */
    uint32_t cid;   /* vsock peer, 0 if none */
    bool ended;     /* nothing more will come */
    bool silent;    /* connected, but told as lost */
};

static inline const struct stream_about *
stream_about(const struct stream *stream)
{
    return (const struct stream_about *)(const void *)stream; /* its first member */
}

static inline struct vm *
stream_vm(const struct stream *stream)
{
    return stream_about(stream)->vm;
}

/* Texts are cut to VM_TEXT_MAX. */
void stream_describe(struct stream *stream, const char *build, const char *guest_os, uint32_t cid);
void stream_set_start(struct stream *stream, uint64_t start);
void stream_set_ended(struct stream *stream, bool ended);
void stream_set_silent(struct stream *stream, bool silent);

/* The session that is connected, or NULL; the table's owner's. */
void *stream_guest(const struct stream *stream);
void stream_set_guest(struct stream *stream, void *guest);

/* What its VM's log keeps of it; and back. */
static inline struct vmlog_stream *
stream_log(struct stream *stream)
{
    return (struct vmlog_stream *)(void *)((char *)stream + sizeof(struct stream_about)); /* its second */
}

static inline const struct vmlog_stream *
stream_log_of(const struct stream *stream)
{
    return (const struct vmlog_stream *)(const void *)((const char *)stream + sizeof(struct stream_about));
}

static inline struct stream *
stream_of_log(struct vmlog_stream *log)
{
    return (struct stream *)(void *)((char *)log - sizeof(struct stream_about));
}

static inline uint32_t
stream_id(const struct stream *stream)
{
    return stream_about(stream)->id;
}

static inline uint64_t
stream_last(const struct stream *stream)
{
    return vmlog_stream_last(stream_log_of(stream));
}

static inline uint64_t
stream_accepted(const struct stream *stream)
{
    return vmlog_stream_accepted(stream_log_of(stream));
}

static inline const struct vmlog_progress *
stream_progress(const struct stream *stream, unsigned sink)
{
    return vmlog_progress(stream_log_of(stream), sink);
}

/* Walks over the VM's streams, the newest first, and over all, by ascending number; NULL as in vm_next. */
struct stream *vm_next_stream(const struct vm *vm, const struct stream *stream);
struct stream *vm_table_next_stream(const struct vm_table *table, const struct stream *stream);
unsigned vm_stream_count(const struct vm *vm);

#define VM_EACH_STREAM(vm, stream)                                                                           \
    for ((stream) = vm_next_stream((vm), NULL); (stream); (stream) = vm_next_stream((vm), (stream)))

struct stream *vm_stream_by_id(const struct vm_table *table, uint32_t id);
struct stream *vm_stream_find(const struct vm *vm, uint16_t driver, const uint8_t boot_id[GR_UUID_SIZE]);

/* Whether there was ever a stream of that number. */
bool vm_stream_was(const struct vm_table *table, uint32_t id);

/* Makes a stream whose first sequence will be `start`. First forgets the VM's ended streams that no guest
 * has, if the VM is settled and not in_turn. NULL at VM_STREAMS_MAX, if out of memory, or
 * when all numbers were given out. */
struct stream *vm_stream_add(struct vm_table *table, struct vm *vm, uint16_t driver,
                             const uint8_t boot_id[GR_UUID_SIZE], uint64_t start);

/* Makes a stream that was in a file, with the number that it had, whatever VM_STREAMS_MAX is. NULL if the
 * number is taken, or out of memory. */
struct stream *vm_stream_restore(struct vm_table *table, struct vm *vm, uint16_t driver,
                                 const uint8_t boot_id[GR_UUID_SIZE], uint64_t start, uint32_t id);

/* After vm_stream_restore, whose numbers may come in any order: streams are walked by ascending number again.
 */
void vm_table_sort_streams(struct vm_table *table);

/* Forgets a stream of which nothing is queued. */
void vm_stream_forget(struct vm_table *table, struct stream *stream);

#endif
