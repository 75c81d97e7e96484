/* VMs and their streams: who there is, by UUID and by stream number. Pure; the queue of a VM is its vmlog. */
#include "mux/vmlog/inner.h"

#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct vm *
vm_find(const struct vm_table *table, const uint8_t uuid[GR_UUID_SIZE])
{
    struct vm *vm;

    HASH_FIND(hh, table->vms, uuid, GR_UUID_SIZE, vm);
    return vm;
}

struct vmlog_counts
vm_table_forgotten(const struct vm_table *table, unsigned sink)
{
    struct vmlog_counts counts = table->pool->counts[sink];

    for (const struct stream *stream = table->streams; stream; stream = stream->hh.next) {
        if (sink >= stream->log.slots)
            continue;
        counts.delivered -= stream->log.sinks[sink].delivered;
        counts.filtered -= stream->log.sinks[sink].filtered;
        counts.gapped -= stream->log.sinks[sink].gapped;
    }
    return counts;
}

void
vm_stream_forget(struct vm_table *table, struct stream *stream)
{
    LIST_REMOVE(stream, of_vm);
    stream->about.vm->stream_count--;
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): the table has it */
    HASH_DEL(table->streams, stream);
    vmlog_stream_fini(&stream->log);
    free(stream);
}

/* The owner's part stands before the VM. */
static struct vm *
make_vm(size_t part)
{
    char *memory = calloc(1, part + sizeof(struct vm));

    assert(part % alignof(struct vm) == 0);
    return memory ? (struct vm *)(void *)(memory + part) : NULL;
}

static void
free_vm(const struct vm_table *table, struct vm *vm)
{
    free(vm_part(vm, table->ops.part));
}

static void
forget_vm(struct vm_table *table, struct vm *vm)
{
    while (!LIST_EMPTY(&vm->streams))
        vm_stream_forget(table, LIST_FIRST(&vm->streams));
    vmlog_fini(&vm->log);
    if (table->forgets)
        table->forgets(vm);
    HASH_DEL(table->vms, vm);
    free_vm(table, vm);
}

bool
vm_is_settled(const struct vm *vm)
{
    EACH_JOINED (&vm->log, sink)
        if (vm->log.cursors[sink].gaps_open > 0)
            return false;
    return !vm->log.first;
}

struct vm *
vm_add(struct vm_table *table, const uint8_t uuid[GR_UUID_SIZE])
{
    struct vm *vm;
    struct vm *next;

    if (HASH_COUNT(table->vms) >= table->limit) {
        HASH_ITER (hh, table->vms, vm, next) {
            if (HASH_COUNT(table->vms) < table->limit)
                break;
            if (vm_is_settled(vm) && !(table->ops.in_use && table->ops.in_use(vm)))
                forget_vm(table, vm);
        }
    }
    if (HASH_COUNT(table->vms) >= table->limit)
        return NULL;
    vm = make_vm(table->ops.part);
    if (!vm)
        return NULL;
    memcpy(vm->uuid, uuid, GR_UUID_SIZE);
    gr_uuid_format(uuid, vm->uuid_text);
    vmlog_init(&vm->log, table->pool);
    if (!vmlog_make_slots(&vm->log, table->slots)) {
        free_vm(table, vm);
        return NULL;
    }
    LIST_INIT(&vm->streams);
    HASH_ADD(hh, table->vms, uuid, GR_UUID_SIZE, vm);
    if (table->ops.made)
        table->ops.made(vm);
    return vm;
}

bool
vm_table_make_slots(struct vm_table *table, unsigned slots)
{
    if (slots <= table->slots)
        return true;
    for (struct vm *vm = table->vms; vm; vm = vm->hh.next)
        if (!vmlog_make_slots(&vm->log, slots))
            return false;
    for (struct stream *stream = table->streams; stream; stream = stream->hh.next)
        if (!vmlog_stream_make_slots(&stream->log, slots))
            return false;
    table->slots = slots;
    return true;
}

struct vm_table *
vm_table_new(struct vmlog_pool *pool, const struct vm_table_ops *ops)
{
    struct vm_table *table = calloc(1, sizeof(*table));

    if (!table)
        return NULL;
    table->pool = pool;
    table->ops = *ops;
    return table;
}

void
vm_table_free(struct vm_table *table)
{
    struct vm *vm;
    struct vm *next;

    if (!table)
        return;
    HASH_ITER (hh, table->vms, vm, next)
        forget_vm(table, vm);
    vmlog_pool_fini(table->pool);
    free(table);
}

void
vm_table_set_limit(struct vm_table *table, uint32_t limit)
{
    table->limit = limit;
}

void
vm_table_on_forget(struct vm_table *table, void (*forgets)(struct vm *vm))
{
    table->forgets = forgets;
}

struct vmlog_pool *
vm_table_pool(const struct vm_table *table)
{
    return table->pool;
}

unsigned
vm_table_slots(const struct vm_table *table)
{
    return table->slots;
}

size_t
vm_memory_bound(size_t part)
{
    size_t stream = sizeof(struct stream) + VMLOG_SINKS * sizeof(struct vmlog_progress);

    return sizeof(struct vm) + part + VMLOG_SINKS * sizeof(struct vmlog_cursor) + VM_STREAMS_MAX * stream;
}

unsigned
vm_table_count(const struct vm_table *table)
{
    return HASH_COUNT(table->vms);
}

/* ---- what others may know of a VM ---- */

struct vm *
vm_next(const struct vm_table *table, const struct vm *vm)
{
    return vm ? vm->hh.next : table->vms;
}

const uint8_t *
vm_uuid(const struct vm *vm)
{
    return vm->uuid;
}

const char *
vm_uuid_text(const struct vm *vm)
{
    return vm->uuid_text;
}

struct store_vm *
vm_files(const struct vm *vm)
{
    return vm->files;
}

void
vm_set_files(struct vm *vm, struct store_vm *files)
{
    vm->files = files;
}

unsigned
vm_stream_count(const struct vm *vm)
{
    return vm->stream_count;
}

/* ---- streams ---- */

struct stream *
vm_next_stream(const struct vm *vm, const struct stream *stream)
{
    return stream ? LIST_NEXT(stream, of_vm) : LIST_FIRST(&vm->streams);
}

struct stream *
vm_table_next_stream(const struct vm_table *table, const struct stream *stream)
{
    return stream ? stream->hh.next : table->streams;
}

void
stream_describe(struct stream *stream, const char *build, const char *guest_os, uint32_t cid)
{
    snprintf(stream->about.build, sizeof(stream->about.build), "%s", build);
    snprintf(stream->about.guest_os, sizeof(stream->about.guest_os), "%s", guest_os);
    stream->about.cid = cid;
}

void
stream_set_start(struct stream *stream, uint64_t start)
{
    stream->about.start = start;
}

void
stream_set_ended(struct stream *stream, bool ended)
{
    stream->about.ended = ended;
}

void
stream_set_silent(struct stream *stream, bool silent)
{
    stream->about.silent = silent;
}

void *
stream_guest(const struct stream *stream)
{
    return stream->guest;
}

void
stream_set_guest(struct stream *stream, void *guest)
{
    stream->guest = guest;
}

bool
vm_stream_was(const struct vm_table *table, uint32_t id)
{
    return id > 0 && id <= table->next_stream;
}

struct stream *
vm_stream_by_id(const struct vm_table *table, uint32_t id)
{
    struct stream *stream;

    HASH_FIND(hh, table->streams, &id, sizeof(id), stream);
    return stream;
}

struct stream *
vm_stream_find(const struct vm *vm, uint16_t driver, const uint8_t boot_id[GR_UUID_SIZE])
{
    struct stream *stream;

    LIST_FOREACH (stream, &vm->streams, of_vm)
        if (stream->about.driver == driver && memcmp(stream->about.boot_id, boot_id, GR_UUID_SIZE) == 0)
            return stream;
    return NULL;
}

struct stream *
vm_stream_add(struct vm_table *table, struct vm *vm, uint16_t driver, const uint8_t boot_id[GR_UUID_SIZE],
              uint64_t start)
{
    struct stream *stream;
    struct stream *next;

    bool unused = vm_is_settled(vm) && !(table->ops.in_turn && table->ops.in_turn(vm));

    for (stream = unused ? LIST_FIRST(&vm->streams) : NULL; stream; stream = next) {
        next = LIST_NEXT(stream, of_vm);
        if (stream->about.ended && !stream->guest)
            vm_stream_forget(table, stream);
    }
    if (vm->stream_count >= VM_STREAMS_MAX || table->next_stream == UINT32_MAX)
        return NULL;
    return vm_stream_restore(table, vm, driver, boot_id, start, table->next_stream + 1);
}

static int
by_id(const struct stream *a, const struct stream *b)
{
    return a->log.id < b->log.id ? -1 : a->log.id > b->log.id;
}

void
vm_table_sort_streams(struct vm_table *table)
{
    HASH_SORT(table->streams, by_id);
}

struct stream *
vm_stream_restore(struct vm_table *table, struct vm *vm, uint16_t driver, const uint8_t boot_id[GR_UUID_SIZE],
                  uint64_t start, uint32_t id)
{
    struct stream *stream = vm_stream_by_id(table, id) ? NULL : calloc(1, sizeof(*stream));

    if (!stream)
        return NULL;
    if (!vmlog_stream_make_slots(&stream->log, table->slots)) {
        free(stream);
        return NULL;
    }
    stream->log.id = stream->about.id = id;
    if (table->next_stream < id)
        table->next_stream = id;
    stream->log.last = stream->log.accepted = start - 1;
    stream->about.vm = vm;
    stream->about.driver = driver;
    memcpy(stream->about.boot_id, boot_id, GR_UUID_SIZE);
    gr_uuid_format(boot_id, stream->about.boot_text);
    stream->about.start = start;
    LIST_INSERT_HEAD(&vm->streams, stream, of_vm);
    vm->stream_count++;
    HASH_ADD(hh, table->streams, log.id, sizeof(stream->log.id), stream);
    return stream;
}
