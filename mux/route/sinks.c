/* Sinks come and go, with the configuration and with their SVMs. */
#include "mux/route/inner.h"

#include <string.h>

#include "mux/base/log.h"

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
    sink->load = route_load_stub;
    sink->route = route;
    route->sinks[slot] = sink;
    memset(&route->table.forgotten[slot], 0, sizeof(route->table.forgotten[slot]));
    for (struct vm *vm = route->table.vms; vm; vm = vm->hh.next) {
        join(route, sink, vm);
        if (!route->recovering)
            route_set_durability(route, vm);
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
        route_set_durability(route, vm);
        for (unsigned slot = 0; slot < VMLOG_SINKS; slot++)
            if (route->sinks[slot])
                sink_pass(route->sinks[slot], vm); /* it may want less than before */
    }
    route_set_limits(route);
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
