/* The route: who gets what, and who may read on.
 *
 * Down: a guest session hands over a decoded record; the route has it normalized and encoded into the
 * VM's log (route_publish), and marks the sinks that are up. At the end of the loop's turn every marked sink
 * is woken once and sends what all the turn's guests brought. Up: an SVM's acknowledgement moves its cursor
 * (route_ack); what thereby every sink has settled is stream->log.accepted, and at the end of the turn the
 * guests are told, once each.
 *
 * Invariants: a VM is in the list `paused` exactly while vm->paused; a record is consumed from a guest's
 * connection only when route_publish has returned true; per VM, every sink in a slot has joined its log. */
#include "mux/route_inner.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "mux/conn.h"
#include "mux/frame_encode.h"
#include "mux/log.h"
#include "mux/recover.h"
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
    if (route->store) /* the rest is for what is read back */
        route->pool.limit -= route->conf->solution_count * store_load_share(route->conf);
    route->pool.own = (size_t)route->conf->limits.vms * VMLOG_SMALL_CHUNK;
    route->table.limit = route->conf->limits.vms;
}

uint64_t
route_memory_bound(const struct conf *conf)
{
    uint64_t guest = GR_MAX_RECORD + CONN_READ_SIZE + GUEST_OUT_MAX;
    uint64_t solution =
        8 * DELIMITED_FRAME_MAX; /* a frame in, and unpacked; what waits to go out, while it grows */
    uint64_t stream = sizeof(struct stream) + VMLOG_SINKS * sizeof(struct vmlog_progress);
    uint64_t vm = VMLOG_SMALL_CHUNK + sizeof(struct vm) + VMLOG_SINKS * sizeof(struct vmlog_cursor) +
                  VM_STREAMS_MAX * stream;

    return conf->limits.memory + conf->limits.connections * guest + conf->limits.vms * vm +
           CONF_SOLUTIONS_MAX * solution + store_memory_bound(conf);
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
    TAILQ_INIT(&route->dirty);
    if (getrandom(route->own_boot, sizeof(route->own_boot), 0) != sizeof(route->own_boot))
        abort();
    set_limits(route);
}

void
route_fini(struct route *route)
{
    loop_cancel(route->loop, &route->task);
    if (route->store)
        route->table.forgets = store_leave;
    vm_table_fini(&route->table);
    store_free(route->store);
    normalized_free(route->event);
}

/* ---- the end of the turn ---- */

void
route_mark(void *arg, struct vm *vm)
{
    struct route *route = arg;

    if (!vm->dirty) {
        vm->dirty = true;
        TAILQ_INSERT_TAIL(&route->dirty, vm, in_dirty);
    }
    loop_defer(route->loop, &route->task);
}

void
route_wake(struct route *route, struct sink *sink)
{
    sink->awake = true;
    loop_defer(route->loop, &route->task);
}

static void
tell_accepted(struct route *route)
{
    struct vm *vm;
    struct stream *stream;

    while ((vm = TAILQ_FIRST(&route->dirty))) {
        TAILQ_REMOVE(&route->dirty, vm, in_dirty);
        vm->dirty = false;
        if (route->store)
            store_touch(route->store, vm);
        LIST_FOREACH (stream, &vm->streams, of_vm) {
            if (!stream->log.moved)
                continue;
            stream->log.moved = false;
            if (stream->guest)
                route->guest_ops.accepted(stream->guest);
        }
    }
}

/* Sinks for which more may be loaded from files again. Only after something has come about that makes room: a
 * sink that is refused once more would else have the turn never end. */
static void
feed_sinks(struct route *route)
{
    if (!route->may_load)
        return;
    route->may_load = false;
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++) {
        struct sink *sink = route->sinks[slot];

        if (!sink || !sink->starving || !sink->up ||
            route->pool.loaded[slot] > store_load_share(route->conf) / 2)
            continue;
        sink_feed(sink, &route->table);
        route_wake(route, sink);
    }
}

static void
offer(struct route *route, struct vm *vm)
{
    uint64_t began = loop_turn_began(route->loop);

    vm->grown = false;
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++) {
        struct sink *sink = route->sinks[slot];

        if (!sink)
            continue;
        if (!sink->up || !sink_wants_vm(sink, vm))
            sink_pass(sink, vm);
        sink_mark(sink, vm, began);
        if (!sink->up)
            continue;
        sink_activate(sink, vm);
        sink->awake = true;
    }
}

static void
end_of_turn(void *arg)
{
    struct route *route = arg;
    struct vm *vm;

    TAILQ_FOREACH (vm, &route->dirty, in_dirty)
        if (vm->grown)
            offer(route, vm);
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++) {
        struct sink *sink = route->sinks[slot];

        if (!sink || !sink->awake)
            continue;
        sink->awake = false;
        if (sink->up)
            sink->ops.wake(sink->arg);
    }
    route_relieve(route);
    if (route->store)
        feed_sinks(route);
    tell_accepted(route);
    route_resume_vms(route);
    if (route->store)
        store_flush(route->store);
}

/* ---- into the log ---- */

static void
after_append(struct route *route, struct vm *vm)
{
    if (route_is_full(route, vm))
        route_pause_vm(route, vm);
    vm->grown = true;
    route_mark(route, vm);
}

/* Encodes the frame into the VM's log. The entry's stream, sequence, count, cls and record_bytes are the
 * caller's; `key` is what filters look at, a text of the event, or NULL. */
static bool
append(struct vm *vm, const Gimux__V1__Frame *frame, struct vmlog_entry *entry, const char *key, bool beyond)
{
    static uint8_t buf[FRAME_ENCODED_MAX];
    struct frame_encoded encoded;
    bool fits = frame_encode(frame, key, buf, sizeof(buf), &encoded);
    uint8_t *at;

    assert(fits); /* see TEXT_SPACE in normalize.c */
    at = vmlog_reserve(&vm->log, encoded.len, beyond);
    if (!at && !beyond)
        vm->refused = sizeof(struct vmlog_chunk) + 2 * sizeof(struct vmlog_entry) + encoded.len;
    if (!at)
        return false;
    memcpy(at, encoded.data, encoded.len);
    entry->end = (uint32_t)encoded.len;
    if (encoded.key_len > 0 && encoded.key_len <= UINT16_MAX) {
        entry->key = (uint32_t)encoded.key;
        entry->key_len = (uint16_t)encoded.key_len;
    }
    vmlog_commit(&vm->log, entry);
    stats.frames_total++;
    stats.frame_bytes_total += encoded.len;
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

    normalize_record(route->event, record, stream->driver, volumes, stream->log.id);
    entry.cls = (uint8_t)normalized_class(route->event);
    if (!append(vm, normalized_frame(route->event), &entry, normalized_key(route->event), false)) {
        route_pause_vm(route, vm);
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
    if (!append(stream->vm, &frame, &entry, NULL, false)) {
        route_pause_vm(route, stream->vm);
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

static void set_durability(struct route *route, struct vm *vm);

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
    set_durability(route, vm);
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

    clock_gettime(CLOCK_REALTIME, &now);
    entry.stream = &vm->own->log;
    entry.sequence = vm->own->log.last + 1;
    normalize_lifecycle(route->event, vm->own->log.id, entry.sequence,
                        now.tv_sec * INT64_C(1000000000) + now.tv_nsec, up, about->driver, about->boot_id,
                        reason, door);
    if (append(vm, normalized_frame(route->event), &entry, NULL, true))
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

/* ---- files ---- */

static const char *
solution_name(void *arg, unsigned sink)
{
    const struct route *route = arg;

    return route->sinks[sink] ? route->sinks[sink]->conf->name : NULL;
}

/* More of the VM's log is in files, or in memory again. */
static void
on_stored(void *arg, struct vm *vm)
{
    struct route *route = arg;

    route->may_load = true;
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++) {
        if (!route->sinks[slot] || !route->sinks[slot]->up)
            continue;
        sink_activate(route->sinks[slot], vm);
        route_wake(route, route->sinks[slot]);
    }
    route_mark(route, vm);
}

static bool
load_stub(void *arg, struct vm *vm, struct vmlog_chunk *stub, unsigned slot)
{
    struct route *route = arg;

    return route->store && store_load(route->store, vm, stub, slot);
}

bool
route_recover(struct route *route)
{
    static const struct store_ops ops = { .solution = solution_name, .moved = on_stored };
    char why[STORE_WHY_MAX];

    if (route->conf->storage.dir[0] == '\0')
        return true;
    route->store = store_new(route->loop, route->conf, &route->pool, &ops, route, why);
    if (!route->store) {
        log_error(NULL, "%s", why);
        return false;
    }
    route->table.forgets = store_forget;
    route->recovering = true;
    set_limits(route);
    return recover_logs(route->store, &route->table);
}

static void
set_durability(struct route *route, struct vm *vm)
{
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++)
        if (route->sinks[slot])
            vmlog_set_durability(&vm->log, slot,
                                 route->sinks[slot]->conf->durability == CONF_DELIVERED ? VMLOG_DELIVERED
                                                                                        : VMLOG_RECORDED);
    vmlog_set_backed(&vm->log, route->store && store_is_needed(route->conf));
    route_mark(route, vm);
}

void
route_recovered(struct route *route)
{
    route->recovering = false;
    for (struct vm *vm = route->table.vms; vm; vm = vm->hh.next) {
        vm_clear_saved(vm);
        set_durability(route, vm);
    }
}

void
route_finish(struct route *route)
{
    if (!route->store)
        return;
    store_finish(route->store);
    store_freeze(route->store);
}

enum gr_level
route_level(const struct route *route, const struct stream *stream)
{
    if (vmlog_is_delivered(&stream->vm->log, &stream->log))
        return GR_LEVEL_DELIVERED;
    return store_syncs(route->store) ? GR_LEVEL_DISK : GR_LEVEL_PROCESS;
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

/* A window that is not configured: all solutions together may pin half of a VM's log. And half of memory. */
static void
set_windows(struct route *route)
{
    unsigned solutions = route->conf->solution_count;
    uint64_t window = route->conf->limits.vm_log / 2 / (solutions + 1);

    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++) {
        struct sink *sink = route->sinks[slot];

        if (!sink)
            continue;
        sink->window = sink->conf->window ? sink->conf->window : window;
        sink->share = route->pool.limit / 2 / (solutions > 0 ? solutions : 1);
    }
}

static const struct vm_saved *
find_saved(const struct vm *vm, const struct stream *stream, const char *solution)
{
    const struct vm_saved *saved = vm->saved;

    while (saved && ((stream && saved->stream != stream) || strcmp(saved->solution, solution) != 0))
        saved = saved->next;
    return saved;
}

/* The sink takes part in the VM's log: from where its solution was, if that was in files, or from now on. If
 * files were damaged, nobody knows who was there: all that are configured then were. */
static void
join(const struct route *route, const struct sink *sink, struct vm *vm)
{
    bool known = route->recovering && (vm->damaged || find_saved(vm, NULL, sink->conf->name) != NULL);
    struct stream *stream;

    LIST_FOREACH (stream, &vm->streams, of_vm) {
        const struct vm_saved *saved = find_saved(vm, stream, sink->conf->name);
        struct vmlog_saved none = { .settled = stream->start - 1 };

        if (known)
            vmlog_join_stream_saved(&stream->log, sink->slot, saved ? &saved->at : &none);
        else
            vmlog_join_stream(&stream->log, sink->slot);
    }
    if (!known) {
        vmlog_join(&vm->log, sink->slot);
        return;
    }
    vmlog_join_saved(&vm->log, sink->slot);
    LIST_FOREACH (stream, &vm->streams, of_vm)
        vmlog_gap_saved(&vm->log, sink->slot, &stream->log, GIMUX__V1__GAP_REASON__GAP_REASON_RESTART);
}

bool
route_add_sink(struct route *route, struct sink *sink, const struct conf_solution *conf,
               const struct sink_ops *ops, void *arg)
{
    unsigned slot = 0;

    while (slot < VMLOG_SINKS && route->sinks[slot])
        slot++;
    if (slot == VMLOG_SINKS || !vm_table_make_slots(&route->table, slot + 1))
        return false;
    sink_init(sink, slot, conf, ops, arg);
    sink->moved = route_mark;
    sink->load = load_stub;
    sink->route = route;
    route->sinks[slot] = sink;
    memset(&route->table.forgotten[slot], 0, sizeof(route->table.forgotten[slot]));
    for (struct vm *vm = route->table.vms; vm; vm = vm->hh.next) {
        join(route, sink, vm);
        if (!route->recovering)
            set_durability(route, vm);
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
        sink_unmark(sink, vm);
        vmlog_leave(&vm->log, sink->slot);
        route_mark(route, vm);
    }
    route->sinks[sink->slot] = NULL;
    sink_fini(sink);
    tell_interest(route);
}

void
route_set_conf(struct route *route, const struct conf *conf)
{
    route->conf = conf;
    if (route->store)
        store_set_conf(route->store, conf);
    for (struct vm *vm = route->table.vms; vm; vm = vm->hh.next) {
        set_durability(route, vm);
        for (unsigned slot = 0; slot < VMLOG_SINKS; slot++)
            if (route->sinks[slot])
                sink_pass(route->sinks[slot], vm); /* it may want less than before */
    }
    set_limits(route);
    set_windows(route);
    tell_interest(route);
    loop_defer(route->loop, &route->task);
}

void
route_trim(struct route *route)
{
    vmlog_pool_trim(&route->pool);
}

const char *
route_sink_up(struct route *route, struct sink *sink, Gimux__V1__SvmHello *hello)
{
    const char *why = sink_up(sink, &route->table, hello);

    if (!why)
        route_wake(route, sink);
    return why;
}

void
route_sink_down(struct route *route, struct sink *sink)
{
    route->may_load = true;
    sink_down(sink, &route->table);
}

bool
route_ack(struct route *route, struct sink *sink, uint32_t stream, uint64_t sequence)
{
    if (!sink_ack(sink, &route->table, stream, sequence))
        return false;
    route->may_load = true;
    route_wake(route, sink);
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
