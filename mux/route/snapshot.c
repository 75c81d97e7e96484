/* Snapshots: what operators see of VMs, streams and solutions, copied. Nothing else shows them. */
#include "mux/route/snapshot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mux/route/inner.h"

void
route_snapshot(const struct route *route, struct route_snapshot *out)
{
    *out = (struct route_snapshot){ .log_bytes = route->pool.used,
                                    .log_limit = route->pool.limit,
                                    .vms = vm_table_count(route->table),
                                    .vms_connected = route->vms_connected,
                                    .has_storage = route->store != NULL };
    if (route->store)
        store_snapshot(route->store, &out->storage);
}

void
sink_snapshot(const struct route *route, const struct sink *sink, struct sink_snapshot *out)
{
    *out = (struct sink_snapshot){ .counts = route->pool.counts[sink->slot],
                                   .sent_bytes = sink->sent_bytes,
                                   .skips = sink->skips,
                                   .delivery = &sink->delivery };
}

void
route_pending_by_slot(const struct route *route, uint64_t pending[VMLOG_SINKS])
{
    memset(pending, 0, VMLOG_SINKS * sizeof(*pending));
    for (const struct vm *vm = NULL; (vm = vm_next(route->table, vm));)
        for (unsigned slot = 0; slot < vm_table_slots(route->table); slot++)
            if (route->sinks[slot])
                pending[slot] += vmlog_unsettled(vm_log_of(vm), slot);
}

unsigned
sink_slot(const struct sink *sink)
{
    return sink->slot;
}

uint8_t (*route_list_vms(const struct route *route, size_t *count))[GR_UUID_SIZE]
{
    uint8_t(*uuids)[GR_UUID_SIZE] = malloc((vm_table_count(route->table) + 1) * sizeof(*uuids));

    *count = 0;
    for (const struct vm *vm = NULL; uuids && (vm = vm_next(route->table, vm));)
        memcpy(uuids[(*count)++], vm_uuid(vm), GR_UUID_SIZE);
    return uuids;
}

static void
take_stream(const struct route *route, const struct stream *stream, struct stream_snapshot *out)
{
    *out = (struct stream_snapshot){ .about = *stream_about(stream),
                                     .last = stream_last(stream),
                                     .accepted = stream_accepted(stream),
                                     .connected = stream_guest(stream) != NULL };
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++) {
        struct cursor_snapshot *cursor = &out->cursors[out->cursor_count];

        if (!route->sinks[slot])
            continue;
        snprintf(cursor->solution, sizeof(cursor->solution), "%s", route->sinks[slot]->conf->name);
        cursor->at = *stream_progress(stream, slot);
        out->cursor_count++;
    }
}

bool
vm_snapshot(const struct route *route, const uint8_t uuid[GR_UUID_SIZE], bool streams,
            struct vm_snapshot *out)
{
    const struct vm *vm = vm_find(route->table, uuid);
    const struct route_vm *at;
    const struct stream *stream;

    if (!vm)
        return false;
    at = route_vm(vm);
    *out = (struct vm_snapshot){ .power = at->power,
                                 .connected = at->connected > 0,
                                 .paused = at->paused,
                                 .flooding = at->traffic.flooding,
                                 .log_bytes = vmlog_bytes(vm_log_of(vm)),
                                 .storage_bytes = store_vm_bytes(vm),
                                 .events = at->events };
    memcpy(out->uuid_text, vm_uuid_text(vm), sizeof(out->uuid_text));
    if (!streams)
        return true;
    out->streams = calloc(vm_stream_count(vm) + 1, sizeof(*out->streams));
    if (!out->streams)
        return false;
    VM_EACH_STREAM (vm, stream)
        take_stream(route, stream, &out->streams[out->stream_count++]);
    return true;
}

void
vm_snapshot_fini(struct vm_snapshot *snapshot)
{
    free(snapshot->streams);
}
