/* Streams come and go: a driver says HELLO, ends, comes back, is another worker's. */
#include "mux/route/inner.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "mux/base/log.h"

static struct stream *
add_stream(struct route *route, struct vm *vm, uint16_t driver, const uint8_t boot_id[GR_UUID_SIZE],
           uint64_t start)
{
    struct stream *stream = vm_stream_add(&route->table, vm, driver, boot_id, start);

    for (unsigned slot = 0; stream && slot < VMLOG_SINKS; slot++) {
        if (!route->sinks[slot])
            continue;
        vmlog_join_stream(&stream->log, slot);
        sink_stream_added(route->sinks[slot], stream);
    }
    return stream;
}

static struct vm *
find_or_add_vm(struct route *route, const uint8_t uuid[GR_UUID_SIZE])
{
    struct vm *vm = vm_find(&route->table, uuid);

    if (vm)
        return vm;
    vm = vm_add(&route->table, uuid);
    if (!vm)
        return NULL;
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++)
        if (route->sinks[slot])
            vmlog_join(&vm->log, slot);
    route_set_durability(route, vm);
    return vm;
}

/* The VM has a stream of gimuxd's own events, or can have one. */
static bool
add_own(struct route *route, struct vm *vm)
{
    if (vm->own)
        return true;
    vm->own = vm_stream_find(vm, VM_DRIVER_GIMUXD, route->own_boot); /* of the gimuxd before an upgrade */
    if (vm->own) {
        vm->own->ended = false;
        return true;
    }
    vm->own = add_stream(route, vm, VM_DRIVER_GIMUXD, route->own_boot, 1);
    if (vm->own)
        snprintf(vm->own->build, sizeof(vm->own->build), "gimuxd " GIMUX_VERSION);
    return vm->own != NULL;
}

static void
tell_lifecycle(struct route *route, struct stream *about, bool up, const char *reason, const char *door)
{
    struct vm *vm = about->vm;
    struct timespec now;
    struct vmlog_entry entry = { .count = 1, .cls = CLASS_LIFECYCLE };
    struct normalized event;

    clock_gettime(CLOCK_REALTIME, &now);
    entry.stream = &vm->own->log;
    entry.sequence = vm->own->log.last + 1;
    normalize_lifecycle(route->normalizer, vm->own->log.id, entry.sequence,
                        now.tv_sec * INT64_C(1000000000) + now.tv_nsec, up, about->driver, about->boot_id,
                        reason, door, &event);
    if (route_append(vm, event.data, event.len, &entry, true))
        route_appended(route, vm);
}

void
route_lifecycle(struct route *route, struct stream *stream, bool up, const char *reason)
{
    stream->silent = !up;
    tell_lifecycle(route, stream, up, reason, "");
}

/* Whether somebody who may be another VM is connected under this UUID. */
static const struct stream *
find_clone(const struct vm *vm, const struct route_hello *hello)
{
    const struct stream *stream;

    LIST_FOREACH (stream, &vm->streams, of_vm)
        if (stream->guest && memcmp(stream->boot_id, hello->hello->boot_id, GR_UUID_SIZE) != 0)
            return stream;
    return NULL;
}

/* The driver's stream of a former boot ends when it shows itself with a new one. */
static void
end_former_boot(struct route *route, struct vm *vm, const struct gr_hello *hello)
{
    struct stream *stream;

    LIST_FOREACH (stream, &vm->streams, of_vm) {
        if (stream->driver != hello->driver || memcmp(stream->boot_id, hello->boot_id, GR_UUID_SIZE) == 0)
            continue;
        if (stream->guest) {
            void *guest = stream->guest;

            route_close(route, stream, true, "the VM has booted again");
            route->guest_ops.replaced(guest, "the VM has booted again");
        }
        stream->ended = true;
    }
}

static int
reject(char *why, size_t size, int code, const char *text)
{
    snprintf(why, size, "%s", text);
    return code;
}

int
route_open(struct route *route, const struct route_hello *hello, void *guest, struct stream **out, char *why,
           size_t why_size)
{
    const struct gr_hello *said = hello->hello;
    struct vm *vm = find_or_add_vm(route, said->vm_uuid);
    struct stream *stream;
    uint64_t dropped = said->first_held - 1; /* what the driver had and has not any more, up to this */

    if (!vm)
        return reject(why, why_size, GR_REJECT_LIMIT, "limits.vms is reached");
    if (vm->paused && vm->log.bytes >= route->conf->limits.vm_log + FLAP_ROOM)
        return reject(why, why_size, GR_REJECT_LIMIT, "the VM's log is full");
    if (!hello->proved && find_clone(vm, hello))
        return reject(why, why_size, GR_REJECT_CLONE,
                      "another VM with this UUID is connected: a clone needs a UUID of its own");
    end_former_boot(route, vm, said);
    if (!add_own(route, vm)) /* behind end_former_boot: after a restart all may be streams of former boots */
        return reject(why, why_size, GR_REJECT_LIMIT, "too many streams of this VM wait to be delivered");
    stream = vm_stream_find(vm, said->driver, said->boot_id);
    if (stream && stream->guest) {
        void *former = stream->guest;

        route_close(route, stream, false, "the driver has connected again");
        route->guest_ops.replaced(former, "the driver has connected again");
    }
    if (!stream)
        stream = add_stream(route, vm, said->driver, said->boot_id, said->first_held);
    if (!stream)
        return reject(why, why_size, GR_REJECT_LIMIT, "too many streams of this VM wait to be delivered");
    snprintf(stream->build, sizeof(stream->build), "%s", hello->build);
    snprintf(stream->guest_os, sizeof(stream->guest_os), "%s", hello->guest_os);
    if (dropped > stream->log.last && dropped - stream->log.last > ROUTE_LOST_MAX)
        return reject(why, why_size, GR_REJECT_LIMIT, "first_held is too far ahead of what gimuxd has");
    if (dropped > stream->log.last && !route_lost(route, stream, dropped))
        return reject(why, why_size, GR_REJECT_LIMIT, "the VM's log is full");
    stream->ended = false;
    stream->guest = guest;
    stream->cid = hello->cid;
    vm->connected++;
    tell_lifecycle(route, stream, true, NULL, hello->door);
    if (vm->paused)
        route->guest_ops.pause(guest);
    *out = stream;
    return 0;
}

void
route_close(struct route *route, struct stream *stream, bool ended, const char *reason)
{
    stream->guest = NULL;
    stream->vm->connected--;
    stream->ended = ended;
    if (!stream->silent) /* else that it is lost was told already */
        tell_lifecycle(route, stream, false, reason, "");
    stream->silent = false;
}

/* ---- taking over ---- */

/* gimuxd's own stream goes on where its former life had it. */
static void
continue_own(struct route *route, struct stream *own, uint64_t start, uint64_t last)
{
    own->start = start;
    own->log.last = own->log.accepted = last;
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++)
        if (route->sinks[slot])
            vmlog_join_stream(&own->log, slot);
}

struct stream *
route_take_stream(struct route *route, const uint8_t vm_uuid[GR_UUID_SIZE], uint16_t driver,
                  const uint8_t boot_id[GR_UUID_SIZE], uint64_t start, uint64_t last)
{
    struct vm *vm = find_or_add_vm(route, vm_uuid);
    struct stream *stream;

    if (!vm || !add_own(route, vm))
        return NULL;
    stream = vm_stream_find(vm, driver, boot_id);
    if (stream) {
        if (stream == vm->own && stream->log.last < last && !vm->log.first)
            continue_own(route, stream, start, last);
        return stream;
    }
    stream = add_stream(route, vm, driver, boot_id, last + 1);
    if (stream)
        stream->start = start;
    return stream;
}

static bool
is_settled(const struct route *route, const struct vm *vm)
{
    if (vm->log.first)
        return false;
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++)
        if (route->sinks[slot] && vm->log.cursors[slot].gaps_open > 0)
            return false;
    return true;
}

bool
route_can_leave(struct route *route)
{
    bool recorded = route->store && store_is_needed(route->conf);

    if (recorded)
        route_finish(route);
    for (const struct vm *vm = route->table.vms; vm; vm = vm->hh.next) {
        if (is_settled(route, vm) || (recorded && vm->log.recorded == vm->log.next_number))
            continue;
        route_stay(route);
        return false;
    }
    return true;
}

void
route_hold(struct route *route)
{
    if (route->store)
        store_freeze(route->store);
}

void
route_stay(struct route *route)
{
    if (!route->store)
        return;
    store_thaw(route->store);
    for (struct vm *vm = route->table.vms; vm; vm = vm->hh.next)
        route_mark(route, vm);
}
