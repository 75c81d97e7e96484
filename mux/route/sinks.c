/* Sinks come and go, with the configuration and with their SVMs. */
#include "mux/route/inner.h"

#include <stdlib.h>

#include "mux/base/log.h"

static void
tell_interest(struct route *route)
{
    uint32_t mask = 0;
    uint64_t kinds;
    struct stream *stream = NULL;

    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++)
        if (route->sinks[slot])
            mask |= route->sinks[slot]->conf->class_mask;
    kinds = event_class_kinds(mask);
    if (kinds == route->interest)
        return;
    route->interest = kinds;
    while ((stream = vm_table_next_stream(route->table, stream)))
        if (stream_guest(stream))
            route->guest_ops.interest(stream_guest(stream), kinds);
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

/* The sink takes part in the VM's log: from where its solution was, if that was in files, or from now on. If
 * files were damaged, nobody knows who was there: all that are configured then were. */
static void
join(const struct route *route, const struct sink *sink, struct vm *vm)
{
    const char *name = sink->conf->name;
    bool known = route->recovering && (store_was_damaged(vm) || store_saved(vm, NULL, name));
    struct stream *stream;

    VM_EACH_STREAM (vm, stream) {
        const struct vmlog_saved *saved = known ? store_saved(vm, stream, name) : NULL;
        struct vmlog_saved none = { .settled = stream_about(stream)->start - 1 };

        if (known)
            vmlog_join_stream_saved(vm_log(vm), sink->slot, stream_log(stream), saved ? saved : &none);
        else
            vmlog_join_stream(stream_log(stream), sink->slot);
    }
    if (!known) {
        vmlog_join(vm_log(vm), sink->slot);
        return;
    }
    vmlog_join_saved(vm_log(vm), sink->slot);
    VM_EACH_STREAM (vm, stream)
        vmlog_gap_saved(vm_log(vm), sink->slot, stream_log(stream),
                        GIMUX__V1__GAP_REASON__GAP_REASON_RESTART);
}

struct sink *
route_add_sink(struct route *route, const struct conf_solution *conf, const struct sink_ops *ops, void *arg)
{
    struct sink *sink;
    unsigned slot = 0;

    while (slot < VMLOG_SINKS && route->sinks[slot])
        slot++;
    if (slot == VMLOG_SINKS || !vm_table_make_slots(route->table, slot + 1))
        return NULL;
    sink = malloc(sizeof(*sink));
    if (!sink)
        return NULL;
    sink_init(sink, slot, conf, ops, arg);
    sink->moved = route_mark;
    sink->load = route_load_stub;
    sink->route = route;
    route->sinks[slot] = sink;
    route->pool.counts[slot] = (struct vmlog_counts){ 0 };
    for (struct vm *vm = NULL; (vm = vm_next(route->table, vm));) {
        join(route, sink, vm);
        if (!route->recovering)
            route_set_durability(route, vm);
    }
    set_windows(route);
    tell_interest(route);
    return sink;
}

void
route_remove_sink(struct route *route, struct sink *sink)
{
    struct vm *vm;

    for (vm = NULL; (vm = vm_next(route->table, vm));) {
        sink_deactivate(sink, vm);
        sink_unmark(sink, vm);
        vmlog_leave(vm_log(vm), sink->slot);
        route_mark(route, vm);
    }
    route->sinks[sink->slot] = NULL;
    sink_clear_hello(sink);
    free(sink);
    tell_interest(route);
}

void
route_set_conf(struct route *route, const struct conf *conf)
{
    route->conf = conf;
    if (route->store)
        store_set_conf(route->store, conf);
    else if (conf->storage.dir[0] != '\0')
        log_warning(NULL, "storage: dir = %s is used after a restart", conf->storage.dir);
    for (struct vm *vm = NULL; (vm = vm_next(route->table, vm));) {
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
    const char *why = sink_up(sink, route->table, hello);

    if (!why)
        route_wake(route, sink);
    return why;
}

void
route_sink_down(struct route *route, struct sink *sink)
{
    route->may_load = true;
    sink_down(sink, route->table);
}

bool
route_ack(struct route *route, struct sink *sink, uint32_t stream, uint64_t sequence)
{
    if (!sink_ack(sink, route->table, stream, sequence))
        return false;
    route->may_load = true;
    route_wake(route, sink);
    return true;
}

void
route_tell_progress(struct route *route, struct sink *sink)
{
    sink_tell_progress(sink, route->table);
}
