/* Streams come and go: a driver says HELLO, ends, comes back, is another worker's. */
#include "mux/route/inner.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "mux/base/log.h"

struct stream *
route_add_stream(struct route *route, struct vm *vm, uint16_t driver, const uint8_t boot_id[GR_UUID_SIZE],
                 uint64_t start)
{
    struct stream *stream = vm_stream_add(route->table, vm, driver, boot_id, start);

    for (unsigned slot = 0; stream && slot < VMLOG_SINKS; slot++) {
        if (!route->sinks[slot])
            continue;
        vmlog_join_stream(stream_log(stream), slot);
        sink_stream_added(route->sinks[slot], stream);
    }
    return stream;
}

struct vm *
route_find_or_add_vm(struct route *route, const uint8_t uuid[GR_UUID_SIZE])
{
    struct vm *vm = vm_find(route->table, uuid);

    if (vm)
        return vm;
    vm = vm_add(route->table, uuid);
    if (!vm)
        return NULL;
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++)
        if (route->sinks[slot])
            vmlog_join(vm_log(vm), slot);
    route_set_durability(route, vm);
    return vm;
}

struct stream *
route_own_stream(struct route *route, struct vm *vm)
{
    struct stream *own = vm_stream_find(vm, VM_DRIVER_GIMUXD, route->own_boot);

    if (own) {
        stream_set_ended(own, false); /* it may be of the gimuxd before an upgrade */
        return own;
    }
    own = route_add_stream(route, vm, VM_DRIVER_GIMUXD, route->own_boot, 1);
    if (own)
        stream_describe(own, "gimuxd " GIMUX_VERSION, "", 0);
    return own;
}

static void
tell_lifecycle(struct route *route, struct stream *stream, bool up, const char *reason, const char *door)
{
    const struct stream_about *about = stream_about(stream);
    struct vm *vm = stream_vm(stream);
    struct stream *own = route_own_stream(route, vm);
    struct timespec now;
    struct vmlog_entry entry = { .count = 1, .cls = CLASS_LIFECYCLE };
    struct normalized event;

    if (!own)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    entry.stream = stream_log(own);
    entry.sequence = stream_last(own) + 1;
    normalize_lifecycle(route->normalizer, stream_id(own), entry.sequence,
                        now.tv_sec * INT64_C(1000000000) + now.tv_nsec, up, about->driver, about->boot_id,
                        reason, door, &event);
    if (route_append(vm, event.data, event.len, &entry, true))
        route_appended(route, vm);
}

void
route_lifecycle(struct route *route, struct stream *stream, bool up, const char *reason)
{
    stream_set_silent(stream, !up);
    tell_lifecycle(route, stream, up, reason, "");
}

/* Whether somebody who may be another VM is connected under this UUID. */
static const struct stream *
find_clone(const struct vm *vm, const struct route_hello *hello)
{
    const struct stream *stream;

    VM_EACH_STREAM (vm, stream)
        if (stream_guest(stream) &&
            memcmp(stream_about(stream)->boot_id, hello->hello->boot_id, GR_UUID_SIZE) != 0)
            return stream;
    return NULL;
}

/* The driver's stream of a former boot ends when it shows itself with a new one. */
static void
end_former_boot(struct route *route, struct vm *vm, const struct gr_hello *hello)
{
    struct stream *stream;

    VM_EACH_STREAM (vm, stream) {
        if (stream_about(stream)->driver != hello->driver ||
            memcmp(stream_about(stream)->boot_id, hello->boot_id, GR_UUID_SIZE) == 0)
            continue;
        if (stream_guest(stream)) {
            void *guest = stream_guest(stream);

            route_close(route, stream, true, "the VM has booted again");
            route->guest_ops.replaced(guest, "the VM has booted again");
        }
        stream_set_ended(stream, true);
    }
}

static int
reject(char *why, size_t size, int code, const char *text)
{
    snprintf(why, size, "%s", text);
    return code;
}

void
route_connected(struct route *route, const struct vm *vm)
{
    if (route_vm(vm)->connected++ == 0)
        route->vms_connected++;
}

int
route_open(struct route *route, const struct route_hello *hello, void *guest, struct stream **out, char *why,
           size_t why_size)
{
    const struct gr_hello *said = hello->hello;
    struct vm *vm = route_find_or_add_vm(route, said->vm_uuid);
    struct stream *stream;
    uint64_t dropped = said->first_held - 1; /* what the driver had and has not any more, up to this */

    if (!vm)
        return reject(why, why_size, GR_REJECT_LIMIT, "limits.vms is reached");
    if (route_vm(vm)->paused && vmlog_bytes(vm_log_of(vm)) >= route->conf->limits.vm_log + FLAP_ROOM)
        return reject(why, why_size, GR_REJECT_LIMIT, "the VM's log is full");
    if (!hello->proved && find_clone(vm, hello))
        return reject(why, why_size, GR_REJECT_CLONE,
                      "another VM with this UUID is connected: a clone needs a UUID of its own");
    end_former_boot(route, vm, said);
    if (!route_own_stream(
            route, vm)) /* behind end_former_boot: after a restart all may be streams of former boots */
        return reject(why, why_size, GR_REJECT_LIMIT, "too many streams of this VM wait to be delivered");
    stream = vm_stream_find(vm, said->driver, said->boot_id);
    if (stream && stream_guest(stream)) {
        void *former = stream_guest(stream);

        route_close(route, stream, false, "the driver has connected again");
        route->guest_ops.replaced(former, "the driver has connected again");
    }
    if (!stream)
        stream = route_add_stream(route, vm, said->driver, said->boot_id, said->first_held);
    if (!stream)
        return reject(why, why_size, GR_REJECT_LIMIT, "too many streams of this VM wait to be delivered");
    stream_describe(stream, hello->build, hello->guest_os, hello->cid);
    if (dropped > stream_last(stream) && dropped - stream_last(stream) > ROUTE_LOST_MAX)
        return reject(why, why_size, GR_REJECT_LIMIT, "first_held is too far ahead of what gimuxd has");
    if (dropped > stream_last(stream) && !route_lost(route, stream, dropped))
        return reject(why, why_size, GR_REJECT_LIMIT, "the VM's log is full");
    stream_set_ended(stream, false);
    stream_set_guest(stream, guest);
    route_connected(route, vm);
    tell_lifecycle(route, stream, true, NULL, hello->door);
    if (route_vm(vm)->paused)
        route->guest_ops.pause(guest);
    *out = stream;
    return 0;
}

void
route_close(struct route *route, struct stream *stream, bool ended, const char *reason)
{
    stream_set_guest(stream, NULL);
    if (--route_vm(stream_vm(stream))->connected == 0)
        route->vms_connected--;
    stream_set_ended(stream, ended);
    if (!stream_about(stream)->silent) /* else that it is lost was told already */
        tell_lifecycle(route, stream, false, reason, "");
    stream_set_silent(stream, false);
}
