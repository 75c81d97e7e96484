/* The route: who gets what, and who may read on.
 *
 * Down: a guest session hands over a decoded record; the route has it normalized and packed straight into the
 * VM's log (route_publish), and marks the sinks that are up. At the end of the loop's turn every marked sink
 * is woken once and sends what all the turn's guests brought. Up: an SVM's acknowledgement moves its cursor
 * (route_ack); what thereby every sink has settled is stream->log.accepted, and at the end of the turn the
 * guests are told, once each.
 *
 * Who may read on. A VM is full when its log has reached limits.vm_log, or all logs together limits.memory.
 * The guests of a full VM are paused, and resumed when a quarter of the limit is free again, or nothing holds
 * them back. So a sink with policy pause reaches back to the guest's own sockets, for the VMs that are full
 * and no others.
 *
 * A sink with policy drop does not. At the end of the turn, when every sink was sent what it takes, the sink
 * with policy drop that is the furthest behind in a VM that is strained (full, or a driver has half its
 * window unacknowledged) gives up what it was not sent (vmlog_skip). But only if no sink with policy pause is
 * as far behind: then it would lose events, and free nothing. When memory is full, the VMs with the longest
 * logs are relieved so, whoever was reading.
 *
 * Invariants: a VM is in the list `paused` exactly while vm->paused; a record is consumed from a guest's
 * connection only when route_publish has returned true; per VM, every sink in a slot has joined its log. */
#include "mux/route.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "mux/conn.h"
#include "mux/log.h"
#include "mux/stats.h"
#include "proto/delimited.h"

static_assert(CONF_SOLUTIONS_MAX <= VMLOG_SINKS, "every solution has a slot in the VM logs");

/* Bytes that a full log still takes of events about a VM's drivers that come and go; a record that made it
 * full may be as long as a frame. */
#define FLAP_ROOM (DELIMITED_FRAME_MAX + 2 * (uint64_t)VMLOG_LARGE_CHUNK)

static void end_of_turn(void *arg);

static void
set_limits(struct route *route)
{
    route->pool.limit = route->conf->limits.memory;
    route->pool.own = (size_t)route->conf->limits.vms * VMLOG_SMALL_CHUNK;
    route->table.limit = route->conf->limits.vms;
}

uint64_t
route_memory_bound(const struct conf *conf)
{
    uint64_t guest = GR_MAX_RECORD + CONN_READ_SIZE + GUEST_OUT_MAX;
    uint64_t solution =
        8 * DELIMITED_FRAME_MAX; /* a frame in, and unpacked; what waits to go out, while it grows */
    uint64_t vm = VMLOG_SMALL_CHUNK + sizeof(struct vm) + VM_STREAMS_MAX * sizeof(struct stream);

    return conf->limits.memory + conf->limits.connections * guest + conf->limits.vms * vm +
           CONF_SOLUTIONS_MAX * solution;
}

void
route_init(struct route *route, struct loop *loop, const struct conf *conf, const struct route_guest_ops *ops)
{
    memset(route, 0, sizeof(*route));
    route->loop = loop;
    route->conf = conf;
    route->guest_ops = *ops;
    route->table.pool = &route->pool;
    route->event = normalized_new();
    route->task = (struct loop_task){ .fn = end_of_turn, .arg = route };
    LIST_INIT(&route->paused);
    LIST_INIT(&route->dirty);
    if (getrandom(route->own_boot, sizeof(route->own_boot), 0) != sizeof(route->own_boot))
        abort();
    set_limits(route);
}

void
route_fini(struct route *route)
{
    loop_cancel(route->loop, &route->task);
    vm_table_fini(&route->table);
    normalized_free(route->event);
}

/* ---- the end of the turn ---- */

static void
mark(void *arg, struct vm *vm)
{
    struct route *route = arg;

    if (!vm->dirty) {
        vm->dirty = true;
        LIST_INSERT_HEAD(&route->dirty, vm, in_dirty);
    }
    loop_defer(route->loop, &route->task);
}

static void
wake(struct route *route, struct sink *sink)
{
    sink->awake = true;
    loop_defer(route->loop, &route->task);
}

static bool
is_pool_full(const struct route *route)
{
    return route->pool.used + VMLOG_LARGE_CHUNK > route->pool.limit;
}

static bool
is_full(const struct route *route, const struct vm *vm)
{
    return vm->log.bytes >= route->conf->limits.vm_log || is_pool_full(route);
}

static bool
pool_has_room_again(const struct route *route)
{
    return route->pool.used + VMLOG_LARGE_CHUNK <= route->pool.limit / 8 * 7;
}

/* There is memory for what this VM waits with. */
static bool
has_memory_again(const struct route *route, const struct vm *vm)
{
    return pool_has_room_again(route) && route->pool.used + vm->refused <= route->pool.limit;
}

/* What sinks with policy drop have in flight may be more than three quarters of a small log; nobody waits for
 * it. */
static bool
has_room_again(const struct route *route, const struct vm *vm)
{
    bool settled = vm->log.accept.number == vm->log.next_number && !is_full(route, vm);

    return (settled || vm->log.bytes <= route->conf->limits.vm_log / 4 * 3) && has_memory_again(route, vm);
}

static void
pause_vm(struct route *route, struct vm *vm)
{
    struct stream *stream;

    if (vm->paused)
        return;
    vm->paused = true;
    stats.guest_pauses_total++;
    mark(route, vm);
    LIST_INSERT_HEAD(&route->paused, vm, in_paused);
    log_debug(&(struct log_who){ .vm = vm->uuid_text }, "paused: its log holds %zu bytes", vm->log.bytes);
    LIST_FOREACH (stream, &vm->streams, of_vm)
        if (stream->guest)
            route->guest_ops.pause(stream->guest);
}

static void
resume_vms(struct route *route)
{
    struct vm *vm;
    struct vm *next;
    struct stream *stream;

    for (vm = LIST_FIRST(&route->paused); vm; vm = next) {
        next = LIST_NEXT(vm, in_paused);
        if (!has_room_again(route, vm))
            continue;
        vm->paused = false;
        vm->refused = 0;
        LIST_REMOVE(vm, in_paused);
        log_debug(&(struct log_who){ .vm = vm->uuid_text }, "resumed: its log holds %zu bytes",
                  vm->log.bytes);
        LIST_FOREACH (stream, &vm->streams, of_vm)
            if (stream->guest)
                route->guest_ops.resume(stream->guest);
    }
}

static void
tell_accepted(struct route *route)
{
    struct vm *vm;
    struct stream *stream;

    while ((vm = LIST_FIRST(&route->dirty))) {
        LIST_REMOVE(vm, in_dirty);
        vm->dirty = false;
        LIST_FOREACH (stream, &vm->streams, of_vm) {
            if (!stream->log.moved)
                continue;
            stream->log.moved = false;
            if (stream->guest)
                route->guest_ops.accepted(stream->guest);
        }
    }
}

/* ---- giving up ---- */

/* The sink that may give up something in this VM's log, and thereby free something: or NULL. */
static struct sink *
furthest_behind(const struct route *route, const struct vm *vm)
{
    struct sink *found = NULL;
    uint64_t least = vm->log.next_number;

    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++) {
        struct sink *sink = route->sinks[slot];
        uint64_t at = vm->log.cursors[slot].accept_number;

        if (!sink)
            continue;
        if (at < least) {
            least = at;
            found = sink;
        }
        if (at == least && sink->conf->policy == CONF_POLICY_PAUSE)
            found = NULL;
    }
    return found;
}

static void
give_up(struct route *route, struct vm *vm, struct sink *sink)
{
    uint64_t skipped = vmlog_skip(&vm->log, sink->slot, GIMUX__V1__GAP_REASON__GAP_REASON_OVERFLOW);

    mark(route, vm);
    if (skipped == 0)
        return;
    sink->skips++;
    log_info((&(struct log_who){ .vm = vm->uuid_text, .solution = sink->conf->name }),
             "fell behind: %llu events become a gap", (unsigned long long)skipped);
    sink_activate(sink, vm);
    wake(route, sink);
}

static bool
is_strained(const struct route *route, const struct vm *vm)
{
    const struct stream *stream;

    if (is_full(route, vm) || (vm->paused && !has_room_again(route, vm)))
        return true;
    LIST_FOREACH (stream, &vm->streams, of_vm)
        if (stream->log.unaccepted_bytes >= route->conf->limits.vm_window / 2)
            return true;
    return false;
}

static void
relieve(struct route *route, struct vm *vm)
{
    struct sink *sink;

    while (is_strained(route, vm) && (sink = furthest_behind(route, vm)))
        give_up(route, vm, sink);
}

static bool
waits_for_memory(const struct route *route)
{
    const struct vm *vm;

    LIST_FOREACH (vm, &route->paused, in_paused)
        if (!has_memory_again(route, vm))
            return true;
    return false;
}

/* Other VMs than those that wait for memory may hold it. */
static void
relieve_longest(struct route *route)
{
    while (waits_for_memory(route)) {
        struct vm *longest = NULL;

        for (struct vm *vm = route->table.vms; vm; vm = vm->hh.next)
            if ((!longest || vm->log.bytes > longest->log.bytes) && furthest_behind(route, vm))
                longest = vm;
        if (!longest)
            return;
        give_up(route, longest, furthest_behind(route, longest));
    }
}

static void
end_of_turn(void *arg)
{
    struct route *route = arg;
    struct vm *vm;

    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++) {
        struct sink *sink = route->sinks[slot];

        if (!sink || !sink->awake)
            continue;
        sink->awake = false;
        if (sink->up)
            sink->ops.wake(sink->arg);
    }
    LIST_FOREACH (vm, &route->paused, in_paused)
        relieve(route, vm);
    LIST_FOREACH (vm, &route->dirty, in_dirty)
        relieve(route, vm);
    relieve_longest(route);
    tell_accepted(route);
    resume_vms(route);
}

/* ---- into the log ---- */

static void
after_append(struct route *route, struct vm *vm)
{
    if (is_full(route, vm))
        pause_vm(route, vm);
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++) {
        struct sink *sink = route->sinks[slot];

        if (!sink || !sink->up)
            continue;
        sink_activate(sink, vm);
        if (!sink->awake)
            wake(route, sink);
    }
    mark(route, vm);
}

/* Packs the frame into the VM's log. The entry's stream, sequence, count, cls and record_bytes are the
 * caller's; `key` is what filters look at, a text inside the frame, or NULL. */
static bool
append(struct vm *vm, const Gimux__V1__Frame *frame, struct vmlog_entry *entry, const char *key,
       size_t key_len, bool beyond)
{
    size_t body = gimux__v1__frame__get_packed_size(frame);
    size_t len = body + delimited_prefix_size(body);
    uint8_t *at = vmlog_reserve(&vm->log, len, beyond);
    const uint8_t *found;

    if (!at && !beyond)
        vm->refused = sizeof(struct vmlog_chunk) + 2 * sizeof(struct vmlog_entry) + len;
    if (!at)
        return false;
    gimux__v1__frame__pack(frame, at + delimited_put_prefix(at, body));
    entry->end = (uint32_t)len;
    found = key_len > 0 && key_len <= UINT16_MAX ? memmem(at, len, key, key_len) : NULL;
    if (found) {
        entry->key = (uint32_t)(found - at);
        entry->key_len = (uint16_t)key_len;
    }
    vmlog_commit(&vm->log, entry);
    stats.frames_total++;
    stats.frame_bytes_total += len;
    return true;
}

bool
route_publish(struct route *route, struct stream *stream, const struct gr_record *record,
              const struct volume_map *volumes)
{
    struct vm *vm = stream->vm;
    struct vmlog_entry entry = {
        .stream = &stream->log, .sequence = record->sequence, .count = 1, .record_bytes = record->size
    };
    char subject[GR_UUID_TEXT];
    const char *key;
    size_t key_len = 0;

    normalize_record(route->event, record, stream->driver, volumes, stream->log.id);
    entry.cls = (uint8_t)normalized_class(route->event);
    if (entry.cls == CLASS_POWER) {
        key = gr_uuid_format(record->body.power.vm_uuid, subject);
        key_len = GR_UUID_TEXT - 1;
    } else {
        key = normalized_path(route->event, &key_len);
    }
    if (!append(vm, normalized_frame(route->event), &entry, key, key_len, false)) {
        pause_vm(route, vm);
        return false;
    }
    if (entry.cls == CLASS_POWER) {
        struct vm *about = vm_find(&route->table, record->body.power.vm_uuid);

        if (about)
            about->power = record->body.power.op;
    }
    vm->events++;
    stats.guest_records_total++;
    stats.guest_record_bytes_total += record->size;
    after_append(route, vm);
    return true;
}

bool
route_lost(struct route *route, struct stream *stream, uint64_t last)
{
    Gimux__V1__Gap gap = GIMUX__V1__GAP__INIT;
    Gimux__V1__Frame frame = GIMUX__V1__FRAME__INIT;
    struct vmlog_entry entry = { .stream = &stream->log, .sequence = last, .cls = VMLOG_GAP };

    assert(last > stream->log.last && last - stream->log.last <= ROUTE_LOST_MAX);
    entry.count = (uint32_t)(last - stream->log.last);
    gap.stream = stream->log.id;
    gap.first_sequence = stream->log.last + 1;
    gap.last_sequence = last;
    gap.reason = GIMUX__V1__GAP_REASON__GAP_REASON_DRIVER;
    frame.body_case = GIMUX__V1__FRAME__BODY_GAP;
    frame.gap = &gap;
    if (!append(stream->vm, &frame, &entry, NULL, 0, false)) {
        pause_vm(route, stream->vm);
        return false;
    }
    stream->vm->events += entry.count;
    after_append(route, stream->vm);
    return true;
}

/* ---- streams come and go ---- */

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
add_vm(struct route *route, const uint8_t uuid[GR_UUID_SIZE])
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
    vm->own = add_stream(route, vm, VM_DRIVER_GIMUXD, route->own_boot, 1);
    if (vm->own)
        snprintf(vm->own->build, sizeof(vm->own->build), "gimuxd " GIMUX_VERSION);
    return vm->own ? vm : NULL;
}

static void
tell_lifecycle(struct route *route, struct stream *about, bool up, const char *reason, const char *door)
{
    struct vm *vm = about->vm;
    struct timespec now;
    struct vmlog_entry entry = { .count = 1, .cls = CLASS_LIFECYCLE };

    clock_gettime(CLOCK_REALTIME, &now);
    entry.stream = &vm->own->log;
    entry.sequence = vm->own->log.last + 1;
    normalize_lifecycle(route->event, vm->own->log.id, entry.sequence,
                        now.tv_sec * INT64_C(1000000000) + now.tv_nsec, up, about->driver, about->boot_id,
                        reason, door);
    if (append(vm, normalized_frame(route->event), &entry, NULL, 0, true))
        after_append(route, vm);
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
    struct vm *vm = add_vm(route, said->vm_uuid);
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
    struct vm *vm = add_vm(route, vm_uuid);
    struct stream *stream = vm ? vm_stream_find(vm, driver, boot_id) : NULL;

    if (!vm)
        return NULL;
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

bool
route_is_settled(const struct route *route)
{
    for (const struct vm *vm = route->table.vms; vm; vm = vm->hh.next) {
        if (vm->log.first)
            return false;
        for (unsigned slot = 0; slot < VMLOG_SINKS; slot++)
            if (route->sinks[slot] && vm->log.cursors[slot].gaps_open > 0)
                return false;
    }
    return true;
}

/* ---- sinks ---- */

static void
tell_interest(struct route *route)
{
    uint32_t mask = 0;
    uint64_t kinds;
    struct stream *stream;

    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++)
        if (route->sinks[slot])
            mask |= route->sinks[slot]->conf->class_mask;
    kinds = event_class_kinds(mask);
    if (kinds == route->interest)
        return;
    route->interest = kinds;
    for (stream = route->table.streams; stream; stream = stream->hh.next)
        if (stream->guest)
            route->guest_ops.interest(stream->guest, kinds);
}

/* A window that is not configured: all solutions together may pin half of a VM's log. */
static void
set_windows(struct route *route)
{
    uint64_t share = route->conf->limits.vm_log / 2 / (route->conf->solution_count + 1);

    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++)
        if (route->sinks[slot])
            route->sinks[slot]->window =
                route->sinks[slot]->conf->window ? route->sinks[slot]->conf->window : share;
}

bool
route_add_sink(struct route *route, struct sink *sink, const struct conf_solution *conf,
               const struct sink_ops *ops, void *arg)
{
    unsigned slot = 0;
    struct vm *vm;
    struct stream *stream;

    while (slot < VMLOG_SINKS && route->sinks[slot])
        slot++;
    if (slot == VMLOG_SINKS)
        return false;
    sink_init(sink, slot, conf, ops, arg);
    sink->moved = mark;
    sink->route = route;
    route->sinks[slot] = sink;
    memset(&route->table.forgotten[slot], 0, sizeof(route->table.forgotten[slot]));
    for (vm = route->table.vms; vm; vm = vm->hh.next) {
        vmlog_join(&vm->log, slot);
        LIST_FOREACH (stream, &vm->streams, of_vm)
            vmlog_join_stream(&stream->log, slot);
    }
    set_windows(route);
    tell_interest(route);
    return true;
}

void
route_remove_sink(struct route *route, struct sink *sink)
{
    struct vm *vm;

    for (vm = route->table.vms; vm; vm = vm->hh.next) {
        sink_deactivate(sink, vm);
        vmlog_leave(&vm->log, sink->slot);
        mark(route, vm);
    }
    route->sinks[sink->slot] = NULL;
    sink_fini(sink);
    tell_interest(route);
}

void
route_set_conf(struct route *route, const struct conf *conf)
{
    route->conf = conf;
    set_limits(route);
    set_windows(route);
    tell_interest(route);
    loop_defer(route->loop, &route->task);
}

const char *
route_sink_up(struct route *route, struct sink *sink, Gimux__V1__SvmHello *hello)
{
    const char *why = sink_up(sink, &route->table, hello);

    if (!why)
        wake(route, sink);
    return why;
}

void
route_sink_down(struct route *route, struct sink *sink)
{
    sink_down(sink, &route->table);
}

bool
route_ack(struct route *route, struct sink *sink, uint32_t stream, uint64_t sequence)
{
    if (!sink_ack(sink, &route->table, stream, sequence))
        return false;
    wake(route, sink);
    return true;
}

/* ---- everything ---- */

uint64_t
route_pending(const struct route *route, const struct sink *sink)
{
    uint64_t pending = 0;

    for (const struct vm *vm = route->table.vms; vm; vm = vm->hh.next)
        for (unsigned slot = 0; slot < VMLOG_SINKS; slot++)
            if (route->sinks[slot] && (!sink || sink == route->sinks[slot]))
                pending += vmlog_unsettled(&vm->log, slot);
    return pending;
}
