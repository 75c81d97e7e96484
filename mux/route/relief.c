/* Relief: who may read on, and who gives up when logs or memory are full.
 *
 * Who may read on. A VM is full when its log has reached limits.vm_log, or when it is longer than what is
 * left for long logs, which together get three quarters of limits.memory; or when memory is full. The last
 * quarter is for logs of two chunks at most: so however many logs a sink with policy pause lets grow, a VM
 * that it does not get finds room. What is left, and not a fixed share, is the measure: few VMs may have long
 * logs, and many that grow together get the same. The guests of a full VM are paused, and resumed when a
 * quarter of the limit is free again, or nothing holds them back. So a sink with policy pause reaches back to
 * the guest's own sockets, for the VMs that are full and no others.
 *
 * A sink with policy drop does not. At the end of the turn, when every sink was sent what it takes, the sink
 * with policy drop that is the furthest behind in a VM that is strained (full, or a driver has half its
 * window unacknowledged) gives up what it was not sent (vmlog_skip). But only if no sink with policy pause is
 * as far behind: then it would lose events, and free nothing. When memory is full, the VMs with the longest
 * logs are relieved so, whoever was reading.
 *
 * For a sink with policy spill the log goes on in files: what is recorded, and what no sink has begun with,
 * leaves memory (vmlog_spill) when the log is half full. If too little may leave, because files cannot be
 * written or their bound is met, the sink is as one with policy pause. */
#include "mux/base/log.h"
#include "mux/base/stats.h"
#include "mux/route/inner.h"

static bool
is_pool_full(const struct route *route)
{
    return route->pool.used + VMLOG_LARGE_CHUNK > route->pool.limit;
}

/* Of a log that holds so many bytes. */
static bool
is_short(size_t bytes)
{
    return bytes <= VMLOG_SMALL_CHUNK + VMLOG_LARGE_CHUNK;
}

static bool
is_beyond_share(const struct route *route, size_t bytes)
{
    return !is_short(bytes) && bytes + route->pool.used > route->pool.limit / 4 * 3;
}

bool
route_is_full(const struct route *route, const struct vm *vm)
{
    size_t bytes = vmlog_bytes(vm_log_of(vm));

    return bytes >= route->conf->limits.vm_log || is_pool_full(route) || is_beyond_share(route, bytes);
}

/* Nobody holds the VM's guests back: what its log has is delivered, or in flight to those that drop. */
static bool
is_accepted(const struct vm *vm)
{
    return vmlog_accept_number(vm_log_of(vm)) == vmlog_end_number(vm_log_of(vm));
}

/* There is memory for what this VM waits with. Where nobody is waited for, waiting for more would be in vain.
 */
static bool
has_memory_again(const struct route *route, const struct vm *vm)
{
    bool much = route->pool.used + VMLOG_LARGE_CHUNK <= route->pool.limit / 8 * 7;
    bool enough = is_short(vmlog_bytes(vm_log_of(vm))) || is_accepted(vm);

    return (much || (enough && !is_pool_full(route))) &&
           route->pool.used + route_vm(vm)->refused <= route->pool.limit;
}

/* What sinks with policy drop have in flight may be more than three quarters of a small log, or than its
 * share of memory; nobody waits for it. */
static bool
has_room_again(const struct route *route, const struct vm *vm)
{
    uint64_t limit = route->conf->limits.vm_log;
    bool settled = is_accepted(vm) && vmlog_bytes(vm_log_of(vm)) < limit;

    return (settled || (vmlog_bytes(vm_log_of(vm)) <= limit / 4 * 3 &&
                        !is_beyond_share(route, vmlog_bytes(vm_log_of(vm))))) &&
           has_memory_again(route, vm);
}

void
route_pause_vm(struct route *route, struct vm *vm)
{
    struct route_vm *at = route_vm(vm);
    struct stream *stream;

    if (at->paused)
        return;
    at->paused = true;
    stats.guest_pauses_total++;
    route_mark(route, vm);
    LIST_INSERT_HEAD(&route->paused, at, in_paused);
    log_debug(&(struct log_who){ .vm = vm_uuid_text(vm) }, "paused: its log holds %zu bytes",
              vmlog_bytes(vm_log_of(vm)));
    VM_EACH_STREAM (vm, stream)
        if (stream_guest(stream))
            route->guest_ops.pause(stream_guest(stream));
}

void
route_resume_vms(struct route *route)
{
    struct route_vm *at;
    struct route_vm *next;
    struct stream *stream;

    for (at = LIST_FIRST(&route->paused); at; at = next) {
        struct vm *vm = at->vm;

        next = LIST_NEXT(at, in_paused);
        if (!has_room_again(route, vm))
            continue;
        at->paused = false;
        at->refused = 0;
        LIST_REMOVE(at, in_paused);
        log_debug(&(struct log_who){ .vm = vm_uuid_text(vm) }, "resumed: its log holds %zu bytes",
                  vmlog_bytes(vm_log_of(vm)));
        VM_EACH_STREAM (vm, stream)
            if (stream_guest(stream))
                route->guest_ops.resume(stream_guest(stream));
    }
}

/* ---- giving up ---- */

/* Bit per sink whose policy lets the log go on in files. */
static uint16_t
spilling(const struct route *route)
{
    uint16_t mask = 0;

    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++)
        if (route->sinks[slot] && route->sinks[slot]->conf->policy == CONF_POLICY_SPILL)
            mask |= (uint16_t)(1u << slot);
    return mask;
}

/* A log that is half full, or any if memory is short, leaves memory as far as it may. */
static void
spill(struct route *route, struct vm *vm)
{
    uint64_t limit = route->conf->limits.vm_log;
    uint16_t mask = route->store ? spilling(route) : 0;

    if (mask && vmlog_bytes(vm_log_of(vm)) >= limit / 2)
        vmlog_spill(vm_log(vm), mask, limit / 4);
    else if (mask && (is_pool_full(route) || is_beyond_share(route, vmlog_bytes(vm_log_of(vm)))))
        vmlog_spill(vm_log(vm), mask, VMLOG_LARGE_CHUNK);
}

/* The sink that may give up something in this VM's log, and thereby free something: or NULL. What is short is
 * the log's room, or, if not, what guests wait for to be accepted. */
static struct sink *
furthest_behind(const struct route *route, const struct vm *vm, bool room)
{
    const struct vmlog *log = vm_log_of(vm);
    struct sink *found = NULL;
    bool waits_for_file = !room && vmlog_is_backed(log) && vmlog_stall(log) == VMLOG_FLOWING;
    uint64_t least = waits_for_file ? vmlog_recorded_number(log) : vmlog_end_number(log);

    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++) {
        struct sink *sink = route->sinks[slot];
        uint64_t at;

        if (!sink)
            continue;
        at = room ? vmlog_passed_number(log, slot) : vmlog_accepted_by(log, slot);
        if (at < least) {
            least = at;
            found = sink;
        }
        if (at == least && sink->conf->policy != CONF_POLICY_DROP)
            found = NULL;
    }
    return found;
}

static void
give_up(struct route *route, struct vm *vm, struct sink *sink)
{
    uint64_t skipped = vmlog_skip(vm_log(vm), sink->slot, GIMUX__V1__GAP_REASON__GAP_REASON_OVERFLOW);

    route_mark(route, vm);
    route->may_load = true;
    if (skipped == 0)
        return;
    sink_unmark(sink, vm);
    sink->skips++;
    log_info((&(struct log_who){ .vm = vm_uuid_text(vm), .solution = sink->conf->name }),
             "fell behind: %llu events become a gap", (unsigned long long)skipped);
    sink_activate(sink, vm);
    route_wake(route, sink);
}

static bool
is_short_of_window(const struct route *route, const struct vm *vm)
{
    const struct stream *stream;

    VM_EACH_STREAM (vm, stream)
        if (vmlog_stream_unaccepted(stream_log_of(stream)) >= route->conf->limits.vm_window / 2)
            return true;
    return false;
}

static void
relieve(struct route *route, struct vm *vm)
{
    struct sink *sink;

    spill(route, vm);
    while ((route_is_full(route, vm) || (route_vm(vm)->paused && !has_room_again(route, vm))) &&
           (sink = furthest_behind(route, vm, true)))
        give_up(route, vm, sink);
    while (is_short_of_window(route, vm) && (sink = furthest_behind(route, vm, false)))
        give_up(route, vm, sink);
}

static bool
waits_for_memory(const struct route *route)
{
    const struct route_vm *at;

    LIST_FOREACH (at, &route->paused, in_paused)
        if (!has_memory_again(route, at->vm))
            return true;
    return false;
}

/* Other VMs than those that wait for memory may hold it. */
static void
relieve_longest(struct route *route)
{
    if (waits_for_memory(route))
        for (struct vm *vm = NULL; (vm = vm_next(route->table, vm));)
            spill(route, vm);
    while (waits_for_memory(route)) {
        struct vm *longest = NULL;

        for (struct vm *vm = NULL; (vm = vm_next(route->table, vm));)
            if ((!longest || vmlog_bytes(vm_log(vm)) > vmlog_bytes(vm_log(longest))) &&
                furthest_behind(route, vm, true))
                longest = vm;
        if (!longest)
            return;
        give_up(route, longest, furthest_behind(route, longest, true));
    }
}

void
route_relieve(struct route *route)
{
    const struct route_vm *at;

    LIST_FOREACH (at, &route->paused, in_paused)
        relieve(route, at->vm);
    TAILQ_FOREACH (at, &route->dirty, in_dirty)
        relieve(route, at->vm);
    relieve_longest(route);
}
