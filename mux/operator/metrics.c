/* /metrics: everything that is counted, as Prometheus reads it. */
#include <stdio.h>

#include "mux/base/stats.h"
#include "mux/operator/bound.h"
#include "mux/operator/inner.h"

/* ---- lines ---- */

static void
put_head(struct evbuffer *out, const char *name, const char *kind, const char *help)
{
    evbuffer_add_printf(out, "# HELP gimux_%s %s\n# TYPE gimux_%s %s\n", name, help, name, kind);
}

static void
put_value(struct evbuffer *out, const char *name, uint64_t value)
{
    evbuffer_add_printf(out, "gimux_%s %llu\n", name, (unsigned long long)value);
}

static void
put_histogram(struct evbuffer *out, const char *name, const char *solution, const struct histogram *histogram)
{
    char label[CONF_NAME_MAX + 16] = "";
    char all[sizeof(label) + 2] = "";
    uint64_t count = 0;

    if (solution) {
        snprintf(label, sizeof(label), "solution=\"%s\"", solution);
        snprintf(all, sizeof(all), "{%s}", label);
    }
    for (unsigned i = 0; i <= HISTOGRAM_BOUNDS; i++) {
        char bound[16] = "+Inf";

        if (i < HISTOGRAM_BOUNDS)
            snprintf(bound, sizeof(bound), "%g", (double)histogram_bounds[i] / 1e9);
        count += histogram->counts[i];
        evbuffer_add_printf(out, "gimux_%s_bucket{%s%sle=\"%s\"} %llu\n", name, label, solution ? "," : "",
                            bound, (unsigned long long)count);
    }
    evbuffer_add_printf(out, "gimux_%s_sum%s %llu.%09llu\n", name, all,
                        (unsigned long long)(histogram->sum / 1000000000),
                        (unsigned long long)(histogram->sum % 1000000000));
    evbuffer_add_printf(out, "gimux_%s_count%s %llu\n", name, all, (unsigned long long)count);
}

/* ---- how the value of each metric of STATS_OBJECTS comes about ---- */

/* What a metric of one solution is read from. */
struct solution {
    const struct svm_snapshot *svm;
    uint64_t pending;
};

/* What a metric of the whole daemon is read from. */
struct daemon {
    const struct http_view *view;
    const struct route_snapshot *route;
};

/* One of these. */
struct source {
    uint64_t (*daemon)(const struct daemon *daemon);
    const struct histogram *daemon_histogram;
    bool (*solution)(const struct solution *solution, int64_t *value); /* false: it has no such thing */
    const struct histogram *(*solution_histogram)(const struct svm_snapshot *svm);
    uint64_t (*vm)(const struct vm_snapshot *vm);
};

#define OF_VM(name, expression)                                                                              \
    static uint64_t name##_of(const struct vm_snapshot *vm)                                                  \
    {                                                                                                        \
        return expression;                                                                                   \
    }                                                                                                        \
    static const struct source name##_source = { .vm = name##_of };
OF_VM(vm_log_bytes, vm->log_bytes)
OF_VM(vm_storage_bytes, vm->storage_bytes)
OF_VM(vm_paused, vm->paused)
OF_VM(vm_flooding, vm->flooding)
OF_VM(vm_events_total, vm->events)

#define OF_DAEMON(name, expression)                                                                          \
    static uint64_t name##_of(const struct daemon *daemon)                                                   \
    {                                                                                                        \
        return expression;                                                                                   \
    }                                                                                                        \
    static const struct source name##_source = { .daemon = name##_of };
OF_DAEMON(memory_bound_bytes, memory_bound(daemon->view->conf))
OF_DAEMON(log_bytes, daemon->route->log_bytes)
OF_DAEMON(log_limit_bytes, daemon->route->log_limit)
OF_DAEMON(storage_bytes, daemon->route->storage.bytes)
OF_DAEMON(storage_segments, daemon->route->storage.segments)
OF_DAEMON(storage_waiting, daemon->route->storage.waiting)
OF_DAEMON(storage_failing, daemon->route->storage.failing)
OF_DAEMON(storage_full, daemon->route->storage.full)
OF_DAEMON(vms, daemon->route->vms)
OF_DAEMON(vms_connected, daemon->route->vms_connected)

#define OF_SOLUTION(name, has, expression)                                                                   \
    static bool name##_of(const struct solution *solution, int64_t *value)                                   \
    {                                                                                                        \
        *value = (int64_t)(expression);                                                                      \
        return has;                                                                                          \
    }                                                                                                        \
    static const struct source name##_source = { .solution = name##_of };
OF_SOLUTION(solution_up, true, solution->svm->up)
OF_SOLUTION(solution_delivered_total, true, solution->svm->sink.counts.delivered)
OF_SOLUTION(solution_filtered_total, true, solution->svm->sink.counts.filtered)
OF_SOLUTION(solution_gapped_total, true, solution->svm->sink.counts.gapped)
OF_SOLUTION(solution_pending, true, solution->pending)
OF_SOLUTION(solution_sent_bytes_total, true, solution->svm->sink.sent_bytes)
OF_SOLUTION(solution_certificate_days, solution->svm->has_days[CREDENTIAL_OWN],
            solution->svm->days[CREDENTIAL_OWN])
OF_SOLUTION(solution_peer_certificate_days, solution->svm->has_days[CREDENTIAL_PEER],
            solution->svm->days[CREDENTIAL_PEER])
OF_SOLUTION(solution_crl_days, solution->svm->has_days[CREDENTIAL_CRL], solution->svm->days[CREDENTIAL_CRL])

static const struct histogram *
delivery_seconds_of(const struct svm_snapshot *svm)
{
    return svm->sink.delivery;
}
static const struct source delivery_seconds_source = { .solution_histogram = delivery_seconds_of };
static const struct source loop_busy_seconds_source = { .daemon_histogram = &stats.loop_busy };

/* ---- the reply: the daemon's counters, then one metric after the other ---- */

static const struct metric {
    const char *name;
    const char *kind;
    const char *help;
    const struct source *source;
} metrics[] = {
#define ROW(name, kind, help) { #name, #kind, help, &name##_source },
    STATS_OBJECTS(ROW)
#undef ROW
};
#define METRICS (sizeof(metrics) / sizeof(metrics[0]))

static void
put_counters(struct evbuffer *out)
{
#define PUT_COUNTER(name, kind, help)                                                                        \
    put_head(out, #name, #kind, help);                                                                       \
    put_value(out, #name, stats.name);
    STATS_DAEMON(PUT_COUNTER)
#undef PUT_COUNTER
}

static void
put_solutions(const struct http_view *view, struct evbuffer *out, const struct metric *metric)
{
    const struct source *source = metric->source;
    uint64_t pending[VMLOG_SINKS] = { 0 };
    struct svm_snapshot svm;
    int64_t value;

    if (source == &solution_pending_source)
        route_pending_by_slot(view->route, pending);
    for (unsigned place = 0; svm_snapshot(view->svms, place, &svm); place++) {
        const struct solution solution = { &svm, pending[svm.slot] };

        if (source->solution_histogram)
            put_histogram(out, metric->name, svm.solution, source->solution_histogram(&svm));
        else if (source->solution(&solution, &value))
            evbuffer_add_printf(out, "gimux_%s{solution=\"%s\"} %lld\n", metric->name, svm.solution,
                                (long long)value);
    }
}

/* Puts the metric of further VMs, of one at least. Returns false if that was the last. */
static bool
put_vms(const struct http_view *view, struct progress *progress, struct evbuffer *out,
        const struct metric *metric)
{
    struct vm_snapshot vm;

    do {
        if (!next_vm(view, progress, false, &vm)) {
            progress->vm = 0;
            return false;
        }
        evbuffer_add_printf(out, "gimux_%s{vm=\"%s\"} %llu\n", metric->name, vm.uuid_text,
                            (unsigned long long)metric->source->vm(&vm));
        vm_snapshot_fini(&vm);
    } while (evbuffer_get_length(out) < PORTION_BYTES);
    return true;
}

/* Step 0 is the counters, step n is metrics[n - 1]. */
static bool
more(const struct http_view *view, struct progress *progress, struct evbuffer *out)
{
    struct route_snapshot route;
    const struct daemon daemon = { view, &route };

    route_snapshot(view->route, &route);
    if (progress->step == 0) {
        put_counters(out);
        progress->step = 1;
    }
    while (progress->step <= METRICS && evbuffer_get_length(out) < PORTION_BYTES) {
        const struct metric *metric = &metrics[progress->step - 1];
        const struct source *source = metric->source;

        if (progress->vm == 0)
            put_head(out, metric->name, metric->kind, metric->help);
        if (source->daemon)
            put_value(out, metric->name, source->daemon(&daemon));
        else if (source->daemon_histogram)
            put_histogram(out, metric->name, NULL, source->daemon_histogram);
        else if (!source->vm)
            put_solutions(view, out, metric);
        else if (put_vms(view, progress, out, metric))
            return true;
        progress->step++;
    }
    return progress->step <= METRICS;
}

const struct reply_kind metrics_reply = { .content_type = "text/plain; version=0.0.4", .more = more };
