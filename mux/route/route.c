/* The route: who gets what, and who may read on.
 *
 * Down: a guest session hands over a decoded record; the route has it made a frame and puts that into the
 * VM's log (route_publish), and marks the VM. At the end of the loop's turn sinks hear of every VM that has
 * grown (offer); then each is woken once and sends what all the turn's guests brought. Up: an SVM's
 * acknowledgement moves its cursor (route_ack); what thereby every sink has settled is stream->log.accepted,
 * and at the end of the turn the guests are told, once each.
 *
 * Invariants: a VM is in the list `paused` exactly while vm->paused; a record is consumed from a guest's
 * connection only when route_publish has returned true; per VM, every sink in a slot has joined its log. */
#include "mux/route/inner.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "mux/base/log.h"
#include "mux/base/stats.h"
#include "mux/event/frame.h"
#include "mux/net/conn.h"
#include "mux/store/recover.h"
#include "proto/delimited.h"

static_assert(CONF_SOLUTIONS_MAX <= VMLOG_SINKS, "every solution has a slot in the VM logs");
static_assert(CONF_LOG_CHUNK == VMLOG_LARGE_CHUNK, "the configuration is checked in chunks");

static void end_of_turn(void *arg);

void
route_set_limits(struct route *route)
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
    route->normalizer = normalizer_new();
    route->task = (struct loop_task){ .fn = end_of_turn, .arg = route };
    LIST_INIT(&route->paused);
    TAILQ_INIT(&route->dirty);
    if (getrandom(route->own_boot, sizeof(route->own_boot), 0) != sizeof(route->own_boot))
        abort();
    route_set_limits(route);
}

void
route_fini(struct route *route)
{
    loop_cancel(route->loop, &route->task);
    if (route->store)
        route->table.forgets = store_leave;
    vm_table_fini(&route->table);
    store_free(route->store);
    normalizer_free(route->normalizer);
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
    for (unsigned slot = 0; slot < route->table.slots; slot++) {
        struct sink *sink = route->sinks[slot];

        if (!sink || !sink->starving || !sink->up ||
            route->pool.loaded[slot] > store_load_share(route->conf) / 2)
            continue;
        sink_feed(sink, &route->table);
        route_wake(route, sink);
    }
}

/* The VM's log has grown: whoever takes part in it takes its turn, or passes over what it does not want. */
static void
offer(struct route *route, struct vm *vm)
{
    uint64_t began = loop_turn_began(route->loop);

    vm->grown = false;
    for (unsigned slot = 0; slot < route->table.slots; slot++) {
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
    for (unsigned slot = 0; slot < route->table.slots; slot++) {
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

void
route_appended(struct route *route, struct vm *vm)
{
    if (route_is_full(route, vm))
        route_pause_vm(route, vm);
    vm->grown = true;
    route_mark(route, vm);
}

bool
route_append(struct vm *vm, const uint8_t *frame, size_t len, struct vmlog_entry *entry, bool beyond)
{
    uint8_t *at = vmlog_reserve(&vm->log, len, beyond);

    if (!at && !beyond)
        vm->refused = sizeof(struct vmlog_chunk) + 2 * sizeof(struct vmlog_entry) + len;
    if (!at)
        return false;
    memcpy(at, frame, len);
    entry->end = (uint32_t)len;
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
    struct normalized event;

    normalize_record(route->normalizer, record, stream->driver, volumes, stream->log.id, &event);
    entry.cls = (uint8_t)event.cls;
    if (event.key_len <= UINT16_MAX) {
        entry.key = (uint32_t)event.key;
        entry.key_len = (uint16_t)event.key_len;
    }
    if (!route_append(vm, event.data, event.len, &entry, false)) {
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
    route_appended(route, vm);
    return true;
}

bool
route_lost(struct route *route, struct stream *stream, uint64_t last)
{
    Gimux__V1__Gap gap = GIMUX__V1__GAP__INIT;
    Gimux__V1__Frame frame = GIMUX__V1__FRAME__INIT;
    struct vmlog_entry entry = { .stream = &stream->log, .sequence = last, .cls = VMLOG_GAP };
    uint8_t buf[FRAME_OWN_MAX];
    size_t len;

    assert(last > stream->log.last && last - stream->log.last <= ROUTE_LOST_MAX);
    entry.count = (uint32_t)(last - stream->log.last);
    gap.stream = stream->log.id;
    gap.first_sequence = stream->log.last + 1;
    gap.last_sequence = last;
    gap.reason = GIMUX__V1__GAP_REASON__GAP_REASON_DRIVER;
    frame.body_case = GIMUX__V1__FRAME__BODY_GAP;
    frame.gap = &gap;
    len = frame_pack(&frame, buf, sizeof(buf));
    if (!route_append(stream->vm, buf, len, &entry, false)) {
        route_pause_vm(route, stream->vm);
        return false;
    }
    stream->vm->events += entry.count;
    route_appended(route, stream->vm);
    return true;
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
    for (unsigned slot = 0; slot < route->table.slots; slot++) {
        if (!route->sinks[slot] || !route->sinks[slot]->up)
            continue;
        sink_activate(route->sinks[slot], vm);
        route_wake(route, route->sinks[slot]);
    }
    route_mark(route, vm);
}

bool
route_load_stub(void *arg, struct vm *vm, struct vmlog_chunk *stub, unsigned slot)
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
    route_set_limits(route);
    return recover_logs(route->store, &route->table);
}

void
route_set_durability(struct route *route, struct vm *vm)
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
        route_set_durability(route, vm);
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
