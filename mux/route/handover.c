/* The route in an upgrade: leaving everything to another process, and taking it from one.
 *
 * VM logs travel in their files, which are written, then left alone (route_leave), and which the other one
 * takes up as after a restart; without files all must be with SVMs. Streams and counters travel in the
 * message. */
#include "mux/route/inner.h"

#include <string.h>

#include "mux/base/log.h"

/* ---- leaving ---- */

static bool
has_files(const struct route *route)
{
    return route->store && store_is_needed(route->conf);
}

void
route_begin_leave(struct route *route)
{
    if (route->store)
        store_begin_leave(route->store);
}

bool
route_try_to_leave(struct route *route)
{
    bool recorded = has_files(route);

    if (route->store && !store_try_to_leave(route->store)) /* positions, if nothing else */
        return false;
    for (const struct vm *vm = NULL; (vm = vm_next(route->table, vm));) {
        const struct vmlog *log = vm_log_of(vm);

        if (!vm_is_settled(vm) && !(recorded && vmlog_recorded_number(log) == vmlog_end_number(log)))
            return false;
    }
    return true;
}

void
route_leave(struct route *route, bool unlock)
{
    if (!route->store)
        return;
    store_freeze(route->store);
    if (unlock)
        store_unlock(route->store);
}

void
route_stay(struct route *route)
{
    if (!route->store)
        return;
    store_stay(route->store);
    for (struct vm *vm = NULL; (vm = vm_next(route->table, vm));)
        route_mark(route, vm);
}

/* ---- what is given ---- */

static void
export_solutions(const struct route *route, struct parcel *parcel)
{
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++) {
        const struct sink *sink = route->sinks[slot];
        struct vmlog_counts forgotten;
        Gimux__Handover__V1__Solution *to;

        if (!sink)
            continue;
        forgotten = vm_table_forgotten(route->table, slot);
        to = PARCEL_ADD(parcel, parcel->message->solutions, parcel->message->n_solutions, solution);
        to->name = parcel_text(parcel, sink->conf->name);
        to->delivered = forgotten.delivered;
        to->filtered = forgotten.filtered;
        to->gapped = forgotten.gapped;
        to->sent_bytes = sink->sent_bytes;
        to->skips = sink->skips;
    }
}

static void
export_stream(const struct route *route, const struct stream *stream, struct parcel *parcel,
              Gimux__Handover__V1__Vm *vm)
{
    Gimux__Handover__V1__Stream *to = PARCEL_ADD(parcel, vm->streams, vm->n_streams, stream);
    const struct stream_about *about = stream_about(stream);

    to->driver = about->driver;
    to->boot_id = parcel_bytes(parcel, about->boot_id, GR_UUID_SIZE);
    to->build = parcel_text(parcel, about->build);
    to->guest_os = parcel_text(parcel, about->guest_os);
    to->start = about->start;
    to->last = stream_last(stream);
    to->cid = about->cid;
    to->ended = about->ended;
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++) {
        const struct vmlog_progress *from;
        Gimux__Handover__V1__Progress *progress;

        if (!route->sinks[slot])
            continue;
        from = stream_progress(stream, slot);
        progress = PARCEL_ADD(parcel, to->progress, to->n_progress, progress);
        progress->solution = parcel_text(parcel, route->sinks[slot]->conf->name);
        progress->delivered = from->delivered;
        progress->filtered = from->filtered;
        progress->gapped = from->gapped;
    }
}

static void
export_vm(const struct route *route, const struct vm *vm, struct parcel *parcel)
{
    Gimux__Handover__V1__Vm *to = PARCEL_ADD(parcel, parcel->message->vms, parcel->message->n_vms, vm);
    const struct stream *stream;

    to->uuid = parcel_bytes(parcel, vm_uuid(vm), GR_UUID_SIZE);
    to->events = route_vm(vm)->events;
    to->power = route_vm(vm)->power;
    VM_EACH_STREAM (vm, stream)
        export_stream(route, stream, parcel, to);
    /* the VM's list has the newest stream first, the message has the oldest first */
    for (size_t i = 0; !parcel->failed && i < to->n_streams / 2; i++) {
        Gimux__Handover__V1__Stream **other = &to->streams[to->n_streams - 1 - i];
        Gimux__Handover__V1__Stream *newer = to->streams[i];

        to->streams[i] = *other;
        *other = newer;
    }
}

void
route_export(const struct route *route, struct parcel *parcel)
{
    Gimux__Handover__V1__Handover *message = parcel->message;

    message->own_boot = parcel_bytes(parcel, route->own_boot, GR_UUID_SIZE);
    if (has_files(route))
        message->storage_dir = parcel_text(parcel, route->conf->storage.dir);
    export_solutions(route, parcel);
    for (const struct vm *vm = NULL; (vm = vm_next(route->table, vm));)
        export_vm(route, vm, parcel);
}

/* ---- what is taken ---- */

bool
route_import_boot(struct route *route, const Gimux__Handover__V1__Handover *message)
{
    if (message->own_boot.len != GR_UUID_SIZE)
        return false;
    memcpy(route->own_boot, message->own_boot.data, GR_UUID_SIZE);
    return true;
}

static struct sink *
find_sink(const struct route *route, const char *solution)
{
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++)
        if (route->sinks[slot] && strcmp(route->sinks[slot]->conf->name, solution) == 0)
            return route->sinks[slot];
    return NULL;
}

static void
import_solutions(struct route *route, const Gimux__Handover__V1__Handover *message)
{
    for (size_t i = 0; i < message->n_solutions; i++) {
        const Gimux__Handover__V1__Solution *from = message->solutions[i];
        struct sink *sink = find_sink(route, from->name);
        struct vmlog_counts *counts;

        if (!sink)
            continue;
        counts = &route->pool.counts[sink->slot];
        counts->delivered += from->delivered;
        counts->filtered += from->filtered;
        counts->gapped += from->gapped;
        sink->sent_bytes += from->sent_bytes;
        sink->skips += from->skips;
    }
}

/* gimuxd's own stream goes on where its former life had it. */
static void
continue_own(struct route *route, struct stream *own, uint64_t start, uint64_t last)
{
    stream_set_start(own, start);
    vmlog_stream_set_last(stream_log(own), last);
    vmlog_stream_set_accepted(stream_log(own), last);
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++)
        if (route->sinks[slot])
            vmlog_join_stream(stream_log(own), slot);
}

/* A stream that the other gimuxd had up to from->last, all of it settled; or the one that is here already,
 * from its files. NULL: no room or memory. */
static struct stream *
take_stream(struct route *route, struct vm *vm, const Gimux__Handover__V1__Stream *from)
{
    struct stream *own = route_own_stream(route, vm);
    struct stream *stream = vm_stream_find(vm, (uint16_t)from->driver, from->boot_id.data);

    if (!own)
        return NULL;
    if (stream) {
        if (stream == own && stream_last(own) < from->last && !vmlog_first_chunk(vm_log(vm)))
            continue_own(route, own, from->start, from->last);
        return stream;
    }
    stream = route_add_stream(route, vm, (uint16_t)from->driver, from->boot_id.data, from->last + 1);
    if (stream)
        stream_set_start(stream, from->start);
    return stream;
}

static bool
import_stream(struct route *route, struct vm *vm, const Gimux__Handover__V1__Stream *from)
{
    bool recovered;
    struct stream *stream;

    if (from->boot_id.len != GR_UUID_SIZE || from->driver > UINT16_MAX || from->start == 0 ||
        from->last > GR_SEQUENCE_MAX || from->start > from->last + 1)
        return false;
    recovered = vm_stream_find(vm, (uint16_t)from->driver, from->boot_id.data) != NULL;
    stream = take_stream(route, vm, from);
    if (!stream)
        return false;
    stream_describe(stream, /* but for gimuxd's own, whose build has changed */
                    from->driver == VM_DRIVER_GIMUXD ? stream_about(stream)->build : from->build,
                    from->guest_os, from->cid);
    stream_set_ended(stream, from->ended);
    if (stream_last(stream) != from->last) {
        log_error((&(struct log_who){ .vm = vm_uuid_text(vm) }),
                  "upgrade: storage has %llu events of a stream, expected %llu",
                  (unsigned long long)stream_last(stream), (unsigned long long)from->last);
        return false;
    }
    if (recovered)
        return true; /* its files have the counters */
    for (size_t i = 0; i < from->n_progress; i++) {
        const Gimux__Handover__V1__Progress *progress = from->progress[i];
        const struct sink *sink = find_sink(route, progress->solution);
        struct vmlog_counts counts = { progress->delivered, progress->filtered, progress->gapped };

        if (sink)
            vmlog_count_on(vm_log(vm), sink->slot, stream_log(stream), &counts);
    }
    return true;
}

static bool
import_vm(struct route *route, const Gimux__Handover__V1__Vm *from)
{
    struct vm *vm;

    if (from->uuid.len != GR_UUID_SIZE)
        return false;
    if (from->n_streams == 0 && !vm_find(route->table, from->uuid.data))
        return true; /* nothing that anybody could ask for */
    vm = route_find_or_add_vm(route, from->uuid.data);
    if (!vm)
        return false;
    for (size_t i = 0; i < from->n_streams; i++)
        if (!import_stream(route, vm, from->streams[i]))
            return false;
    route_vm(vm)->events = from->events;
    if (from->power <= GR_POWER_OP_MIGRATE)
        route_vm(vm)->power = (uint16_t)from->power;
    return true;
}

bool
route_import(struct route *route, const Gimux__Handover__V1__Handover *message)
{
    if (message->storage_dir[0] != '\0' && strcmp(message->storage_dir, route->conf->storage.dir) != 0) {
        log_error(NULL, "upgrade: storage.dir = %s: expected %s, where VM logs are", route->conf->storage.dir,
                  message->storage_dir);
        return false;
    }
    import_solutions(route, message);
    for (size_t i = 0; i < message->n_vms; i++) {
        if (!import_vm(route, message->vms[i])) {
            log_error(NULL, "upgrade: a VM cannot be taken over: limits, or memory");
            return false;
        }
    }
    return true;
}

struct stream *
route_take_guest(struct route *route, const uint8_t vm_uuid[GR_UUID_SIZE], uint16_t driver,
                 const uint8_t boot_id[GR_UUID_SIZE], bool silent, void *guest)
{
    const struct vm *vm = vm_find(route->table, vm_uuid);
    struct stream *stream = vm ? vm_stream_find(vm, driver, boot_id) : NULL;

    if (!stream || stream_guest(stream))
        return NULL;
    stream_set_guest(stream, guest);
    stream_set_silent(stream, silent);
    stream_set_ended(stream, false);
    route_connected(route, vm);
    return stream;
}
