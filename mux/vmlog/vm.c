/* VMs and their streams: who there is, by UUID and by stream number. Pure; the queue of a VM is its vmlog. */
#include "mux/vmlog/vm.h"

#include <stdlib.h>
#include <string.h>

struct vm *
vm_find(const struct vm_table *table, const uint8_t uuid[GR_UUID_SIZE])
{
    struct vm *vm;

    HASH_FIND(hh, table->vms, uuid, GR_UUID_SIZE, vm);
    return vm;
}

static void
count_stream(const struct stream *stream, unsigned sink, struct vm_counts *counts)
{
    if (sink >= stream->log.slots)
        return;
    counts->delivered += stream->log.sinks[sink].delivered;
    counts->filtered += stream->log.sinks[sink].filtered;
    counts->gapped += stream->log.sinks[sink].gapped;
}

void
vm_count(const struct vm_table *table, const struct vm *vm, unsigned sink, struct vm_counts *counts)
{
    const struct stream *stream;

    if (vm) {
        LIST_FOREACH (stream, &vm->streams, of_vm)
            count_stream(stream, sink, counts);
        return;
    }
    counts->delivered += table->forgotten[sink].delivered;
    counts->filtered += table->forgotten[sink].filtered;
    counts->gapped += table->forgotten[sink].gapped;
    for (stream = table->streams; stream; stream = stream->hh.next)
        count_stream(stream, sink, counts);
}

void
vm_stream_forget(struct vm_table *table, struct stream *stream)
{
    for (unsigned sink = 0; sink < VMLOG_SINKS; sink++)
        count_stream(stream, sink, &table->forgotten[sink]);
    LIST_REMOVE(stream, of_vm);
    stream->vm->stream_count--;
    if (stream->vm->own == stream)
        stream->vm->own = NULL;
    HASH_DEL(table->streams, stream);
    vmlog_stream_fini(&stream->log);
    free(stream);
}

void
vm_clear_saved(struct vm *vm)
{
    while (vm->saved) {
        struct vm_saved *next = vm->saved->next;

        free(vm->saved);
        vm->saved = next;
    }
}

static void
forget_vm(struct vm_table *table, struct vm *vm)
{
    while (!LIST_EMPTY(&vm->streams))
        vm_stream_forget(table, LIST_FIRST(&vm->streams));
    vmlog_fini(&vm->log);
    vm_clear_saved(vm);
    if (table->forgets)
        table->forgets(vm);
    HASH_DEL(table->vms, vm);
    free(vm);
}

/* Nothing is queued, and no gap waits to be told or acknowledged. */
static bool
is_settled(const struct vm *vm)
{
    for (unsigned sink = 0; sink < VMLOG_SINKS; sink++)
        if (vm->turns[sink].active ||
            (vmlog_has_joined(&vm->log, sink) && vm->log.cursors[sink].gaps_open > 0))
            return false;
    return !vm->log.first;
}

/* Nothing that anybody could still ask for. */
static bool
is_idle(const struct vm *vm)
{
    return vm->connected == 0 && !vm->paused && !vm->dirty && is_settled(vm);
}

struct vm *
vm_add(struct vm_table *table, const uint8_t uuid[GR_UUID_SIZE])
{
    struct vm *vm;
    struct vm *next;

    if (HASH_COUNT(table->vms) >= table->limit) {
        HASH_ITER (hh, table->vms, vm, next) {
            if (is_idle(vm)) {
                forget_vm(table, vm);
                break;
            }
        }
    }
    if (HASH_COUNT(table->vms) >= table->limit)
        return NULL;
    vm = calloc(1, sizeof(*vm));
    if (!vm)
        return NULL;
    memcpy(vm->uuid, uuid, GR_UUID_SIZE);
    gr_uuid_format(uuid, vm->uuid_text);
    vmlog_init(&vm->log, table->pool);
    if (!vmlog_make_slots(&vm->log, table->slots)) {
        free(vm);
        return NULL;
    }
    LIST_INIT(&vm->streams);
    for (unsigned sink = 0; sink < VMLOG_SINKS; sink++)
        vm->turns[sink].vm = vm;
    HASH_ADD(hh, table->vms, uuid, GR_UUID_SIZE, vm);
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

void
vm_table_fini(struct vm_table *table)
{
    struct vm *vm;
    struct vm *next;

    HASH_ITER (hh, table->vms, vm, next)
        forget_vm(table, vm);
    vmlog_pool_fini(table->pool);
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
        if (stream->driver == driver && memcmp(stream->boot_id, boot_id, GR_UUID_SIZE) == 0)
            return stream;
    return NULL;
}

struct stream *
vm_stream_add(struct vm_table *table, struct vm *vm, uint16_t driver, const uint8_t boot_id[GR_UUID_SIZE],
              uint64_t start)
{
    struct stream *stream;
    struct stream *next;

    for (stream = is_settled(vm) ? LIST_FIRST(&vm->streams) : NULL; stream; stream = next) {
        next = LIST_NEXT(stream, of_vm);
        if (stream->ended && !stream->guest)
            vm_stream_forget(table, stream);
    }
    if (vm->stream_count >= VM_STREAMS_MAX)
        return NULL;
    return vm_stream_restore(table, vm, driver, boot_id, start, table->next_stream + 1);
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
    stream->log.id = id;
    if (table->next_stream < id)
        table->next_stream = id;
    stream->log.last = stream->log.accepted = start - 1;
    stream->vm = vm;
    stream->driver = driver;
    memcpy(stream->boot_id, boot_id, GR_UUID_SIZE);
    gr_uuid_format(boot_id, stream->boot_text);
    stream->start = start;
    LIST_INSERT_HEAD(&vm->streams, stream, of_vm);
    vm->stream_count++;
    HASH_ADD(hh, table->streams, log.id, sizeof(stream->log.id), stream);
    return stream;
}
