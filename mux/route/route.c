/* The route: who gets what, and who may read on.
 *
 * Down: a guest session hands over a decoded record; the route has it made a frame and puts that into the
 * VM's log (route_publish), and marks the VM. At the end of the loop's turn sinks hear of every VM that has
 * grown (offer); then each is woken once and sends what all the turn's guests brought. Up: an SVM's
 * acknowledgement moves its cursor (route_ack); what thereby every sink has settled is
 * stream_accepted(stream), and at the end of the turn the guests are told, once each.
 *
 * Invariants: a VM is in the list `paused` exactly while route_vm(vm)->paused; a record is consumed from a
 * guest's connection only when route_publish has returned true; per VM, every sink in a slot has joined its
 * log. */
#include "mux/route/inner.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "mux/base/log.h"
#include "mux/base/stats.h"
#include "mux/event/frame.h"
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
    vm_table_set_limit(route->table, route->conf->limits.vms);
}

uint64_t
route_memory_bound(const struct conf *conf)
{
    uint64_t vm = VMLOG_SMALL_CHUNK + vm_memory_bound(sizeof(struct route_vm));

    return conf->limits.memory + conf->limits.vms * vm + store_memory_bound(conf);
}

static void
vm_made(struct vm *vm)
{
    struct route_vm *at = route_vm(vm);

    at->vm = vm;
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++)
        at->turns[slot].vm = vm;
}

static bool
vm_in_turn(const struct vm *vm)
{
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++)
        if (route_vm(vm)->turns[slot].active)
            return true;
    return false;
}

/* Somebody could still ask for it. */
static bool
vm_in_use(const struct vm *vm)
{
    const struct route_vm *at = route_vm(vm);

    return at->connected > 0 || at->paused || at->dirty || vm_in_turn(vm);
}

const struct vm_table_ops route_table_ops = {
    .part = sizeof(struct route_vm), .made = vm_made, .in_use = vm_in_use, .in_turn = vm_in_turn
};

struct route *
route_new(struct loop *loop, const struct conf *conf, const struct route_guest_ops *ops)
{
    struct route *route = calloc(1, sizeof(*route));

    if (!route)
        return NULL;
    route->loop = loop;
    route->conf = conf;
    route->guest_ops = *ops;
    route->task = (struct loop_task){ .fn = end_of_turn, .arg = route };
    LIST_INIT(&route->paused);
    TAILQ_INIT(&route->dirty);
    route->table = vm_table_new(&route->pool, &route_table_ops);
    route->normalizer = normalizer_new();
    if (!route->table || !route->normalizer ||
        getrandom(route->own_boot, sizeof(route->own_boot), 0) != sizeof(route->own_boot)) {
        route_free(route);
        return NULL;
    }
    route_set_limits(route);
    return route;
}

void
route_free(struct route *route)
{
    if (!route)
        return;
    loop_cancel(route->loop, &route->task);
    if (route->store)
        vm_table_on_forget(route->table, store_leave);
    vm_table_free(route->table);
    store_free(route->store);
    normalizer_free(route->normalizer);
    free(route);
}

/* ---- the end of the turn ---- */

void
route_mark(void *arg, struct vm *vm)
{
    struct route *route = arg;
    struct route_vm *at = route_vm(vm);

    if (!at->dirty) {
        at->dirty = true;
        TAILQ_INSERT_TAIL(&route->dirty, at, in_dirty);
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
    struct route_vm *at;
    struct stream *stream;

    while ((at = TAILQ_FIRST(&route->dirty))) {
        struct vm *vm = at->vm;

        TAILQ_REMOVE(&route->dirty, at, in_dirty);
        at->dirty = false;
        if (route->store)
            store_touch(route->store, vm);
        VM_EACH_STREAM (vm, stream) {
            if (vmlog_stream_moved(stream_log(stream)) && stream_guest(stream))
                route->guest_ops.accepted(stream_guest(stream));
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
    for (unsigned slot = 0; slot < vm_table_slots(route->table); slot++) {
        struct sink *sink = route->sinks[slot];

        if (!sink || !sink->starving || !sink->up ||
            route->pool.loaded[slot] > store_load_share(route->conf) / 2)
            continue;
        sink_feed(sink, route->table);
        route_wake(route, sink);
    }
}

/* The VM's log has grown: whoever takes part in it takes its turn, or passes over what it does not want. */
static void
offer(struct route *route, struct vm *vm)
{
    uint64_t began = loop_turn_began(route->loop);

    route_vm(vm)->grown = false;
    for (unsigned slot = 0; slot < vm_table_slots(route->table); slot++) {
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
    const struct route_vm *at;

    TAILQ_FOREACH (at, &route->dirty, in_dirty)
        if (at->grown)
            offer(route, at->vm);
    for (unsigned slot = 0; slot < vm_table_slots(route->table); slot++) {
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
    route_vm(vm)->grown = true;
    route_mark(route, vm);
}

bool
route_append(struct vm *vm, const uint8_t *frame, size_t len, struct vmlog_entry *entry, bool beyond)
{
    uint8_t *at = vmlog_reserve(vm_log(vm), len, beyond);

    if (!at && !beyond)
        route_vm(vm)->refused = sizeof(struct vmlog_chunk) + 2 * sizeof(struct vmlog_entry) + len;
    if (!at)
        return false;
    memcpy(at, frame, len);
    entry->end = (uint32_t)len;
    vmlog_commit(vm_log(vm), entry);
    stats.frames_total++;
    stats.frame_bytes_total += len;
    return true;
}

bool
route_publish(struct route *route, struct stream *stream, const struct gr_record *record,
              const struct volume_map *volumes)
{
    struct vm *vm = stream_vm(stream);
    struct vmlog_entry entry = {
        .stream = stream_log(stream), .sequence = record->sequence, .count = 1, .record_bytes = record->size
    };
    struct normalized event;

    normalize_record(route->normalizer, record, stream_about(stream)->driver, volumes, stream_id(stream),
                     &event);
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
        const struct vm *about = vm_find(route->table, record->body.power.vm_uuid);

        if (about)
            route_vm(about)->power = record->body.power.op;
    }
    route_vm(vm)->events++;
    stats.guest_records_total++;
    stats.guest_record_bytes_total += record->size;
    route_appended(route, vm);
    return true;
}

bool
route_lost(struct route *route, struct stream *stream, uint64_t last)
{
    struct vm *vm = stream_vm(stream);
    struct vmlog_entry entry = { .stream = stream_log(stream), .sequence = last, .cls = VMLOG_GAP };
    uint64_t had = stream_last(stream);
    uint8_t buf[FRAME_OWN_MAX];
    size_t len;

    assert(last > had && last - had <= ROUTE_LOST_MAX);
    entry.count = (uint32_t)(last - had);
    len = frame_gap(buf, stream_id(stream), had + 1, last, GIMUX__V1__GAP_REASON__GAP_REASON_DRIVER);
    if (!route_append(vm, buf, len, &entry, false)) {
        route_pause_vm(route, vm);
        return false;
    }
    route_vm(vm)->events += entry.count;
    route_appended(route, vm);
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
    for (unsigned slot = 0; slot < vm_table_slots(route->table); slot++) {
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
route_recover(struct route *route, bool held)
{
    static const struct store_ops ops = { .solution = solution_name, .moved = on_stored };
    char why[STORE_WHY_MAX];
    bool good;

    if (route->conf->storage.dir[0] == '\0')
        return true;
    route->store = store_new(route->loop, route->conf, &route->pool, &ops, route, held, why);
    if (!route->store) {
        log_error(NULL, "%s", why);
        return false;
    }
    vm_table_on_forget(route->table, store_forget);
    route->recovering = true;
    route_set_limits(route);
    /* what was accepted is told, whatever limits.vms is by now */
    vm_table_set_limit(route->table, UINT32_MAX);
    good = recover_logs(route->store, route->table);
    vm_table_set_limit(route->table, route->conf->limits.vms);
    if (vm_table_count(route->table) > route->conf->limits.vms)
        log_warning(NULL,
                    "storage: %u VMs, limits.vms = %u: no other VM is taken until so many are done with",
                    vm_table_count(route->table), route->conf->limits.vms);
    return good;
}

void
route_set_durability(struct route *route, struct vm *vm)
{
    bool backed = route->store && store_is_needed(route->conf);

    /* Without files, though a reload may have a first storage.dir: what is not in a file is not recorded. */
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++)
        if (route->sinks[slot])
            vmlog_set_durability(vm_log(vm), slot,
                                 backed && route->sinks[slot]->conf->durability != CONF_DELIVERED
                                     ? VMLOG_RECORDED
                                     : VMLOG_DELIVERED);
    vmlog_set_backed(vm_log(vm), backed);
    route_mark(route, vm);
}

void
route_recovered(struct route *route)
{
    route->recovering = false;
    for (struct vm *vm = NULL; (vm = vm_next(route->table, vm));) {
        store_clear_saved(vm);
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

void
route_count_records(struct route *route, struct stream *stream, uint64_t records, uint64_t bytes)
{
    struct vm_traffic *traffic = &route_vm(stream_vm(stream))->traffic;

    (void)route;
    traffic->records += records;
    traffic->bytes += bytes;
}

void
route_look_for_floods(struct route *route, uint64_t ms)
{
    flood_look(route->table, &route->conf->limits, ms);
}

uint64_t
route_interest(const struct route *route)
{
    return route->interest;
}

enum gr_level
route_level(const struct route *route, const struct stream *stream)
{
    if (vmlog_is_delivered(vm_log_of(stream_vm(stream)), stream_log_of(stream)))
        return GR_LEVEL_DELIVERED;
    return store_syncs(route->store) ? GR_LEVEL_DISK : GR_LEVEL_PROCESS;
}

/* ---- everything ---- */

uint64_t
route_pending(const struct route *route, const struct sink *sink)
{
    uint64_t pending = 0;

    for (const struct vm *vm = NULL; (vm = vm_next(route->table, vm));)
        for (unsigned slot = 0; slot < VMLOG_SINKS; slot++)
            if (route->sinks[slot] && (!sink || sink == route->sinks[slot]))
                pending += vmlog_unsettled(vm_log_of(vm), slot);
    return pending;
}
