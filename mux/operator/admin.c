/* The admin door: HTTP on a root-only UNIX socket, with /metrics (Prometheus text) and /v1/status (JSON). */
#include "mux/operator/admin.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mux/base/log.h"
#include "mux/base/stats.h"
#include "mux/guest/door.h"

#define REQUEST_MAX 16384  /* bytes of headers, and of a body */
#define REST_US     500000 /* how long the door rests when descriptors have run out */

struct admin {
    struct loop *loop;
    struct evhttp *http;
    struct address address;
    struct admin_view view;
    struct evconnlistener *listener;
    int fd;
};

/* ---- /metrics ---- */

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

/* One metric of STATS_OBJECTS for one object, or for the daemon. */
struct sample {
    struct evbuffer *out;
    const struct admin_view *view;
};

static void
put_vm_values(struct sample *sample, const char *name, uint64_t (*value)(const struct vm *))
{
    const struct vm *vm;

    for (vm = sample->view->route->table.vms; vm; vm = vm->hh.next)
        evbuffer_add_printf(sample->out, "gimux_%s{vm=\"%s\"} %llu\n", name, vm->uuid_text,
                            (unsigned long long)value(vm));
}

static void
put_solution_values(struct sample *sample, const char *name,
                    uint64_t (*value)(const struct admin_view *, const struct svm *))
{
    const struct svm *svm = NULL;

    while ((svm = svm_next(sample->view->svms, svm)))
        evbuffer_add_printf(sample->out, "gimux_%s{solution=\"%s\"} %llu\n", name, svm_sink(svm)->conf->name,
                            (unsigned long long)value(sample->view, svm));
}

/* Solutions that have no such thing are left out. */
static void
put_solution_days(struct sample *sample, const char *name, enum credential_part part)
{
    const struct svm *svm = NULL;
    int64_t days;

    while ((svm = svm_next(sample->view->svms, svm)))
        if (svm_days_left(svm, part, &days))
            evbuffer_add_printf(sample->out, "gimux_%s{solution=\"%s\"} %lld\n", name,
                                svm_sink(svm)->conf->name, (long long)days);
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

static void
put_solution_histograms(struct sample *sample, const char *name)
{
    const struct svm *svm = NULL;

    while ((svm = svm_next(sample->view->svms, svm)))
        put_histogram(sample->out, name, svm_sink(svm)->conf->name, &svm_sink(svm)->delivery);
}

static uint64_t
vm_log_bytes_value(const struct vm *vm)
{
    return vm->log.bytes;
}

static uint64_t
vm_paused_value(const struct vm *vm)
{
    return vm->paused;
}

static uint64_t
vm_flooding_value(const struct vm *vm)
{
    return vm->traffic.flooding;
}

static uint64_t
vm_events_value(const struct vm *vm)
{
    return vm->events;
}

static struct vm_counts
solution_counts(const struct admin_view *view, const struct svm *svm)
{
    struct vm_counts counts = { 0, 0, 0 };

    vm_count(&view->route->table, NULL, svm_sink(svm)->slot, &counts);
    return counts;
}

static uint64_t
solution_up_value(const struct admin_view *view, const struct svm *svm)
{
    (void)view;
    return svm_state(svm) == SVM_UP;
}

static uint64_t
solution_delivered_value(const struct admin_view *view, const struct svm *svm)
{
    return solution_counts(view, svm).delivered;
}

static uint64_t
solution_filtered_value(const struct admin_view *view, const struct svm *svm)
{
    return solution_counts(view, svm).filtered;
}

static uint64_t
solution_gapped_value(const struct admin_view *view, const struct svm *svm)
{
    return solution_counts(view, svm).gapped;
}

static uint64_t
solution_pending_value(const struct admin_view *view, const struct svm *svm)
{
    return route_pending(view->route, svm_sink(svm));
}

static uint64_t
solution_sent_bytes_value(const struct admin_view *view, const struct svm *svm)
{
    (void)view;
    return svm_sink(svm)->sent_bytes;
}

static uint64_t
vms_connected_value(const struct route *route)
{
    uint64_t count = 0;

    for (const struct vm *vm = route->table.vms; vm; vm = vm->hh.next)
        count += vm->connected > 0;
    return count;
}

static uint64_t
storage_value(const struct sample *sample, uint64_t (*value)(const struct store *))
{
    return sample->view->route->store ? value(sample->view->route->store) : 0;
}

/* How the value of each metric in STATS_OBJECTS comes about, by its name. */
#define put_memory_bound_bytes(s, n)             put_value((s)->out, n, route_memory_bound((s)->view->route->conf))
#define put_log_bytes(s, n)                      put_value((s)->out, n, (s)->view->route->pool.used)
#define put_log_limit_bytes(s, n)                put_value((s)->out, n, (s)->view->route->pool.limit)
#define put_loop_busy_seconds(s, n)              put_histogram((s)->out, n, NULL, &stats.loop_busy)
#define put_delivery_seconds(s, n)               put_solution_histograms(s, n)
#define put_storage_bytes(s, n)                  put_value((s)->out, n, storage_value(s, store_bytes))
#define put_storage_segments(s, n)               put_value((s)->out, n, storage_value(s, store_segments))
#define put_storage_waiting(s, n)                put_value((s)->out, n, storage_value(s, store_waiting))
#define put_storage_failing(s, n)                put_value((s)->out, n, storage_value(s, store_is_failing))
#define put_storage_full(s, n)                   put_value((s)->out, n, storage_value(s, store_is_full))
#define put_vm_storage_bytes(s, n)               put_vm_values(s, n, store_vm_bytes)
#define put_vms(s, n)                            put_value((s)->out, n, HASH_COUNT((s)->view->route->table.vms))
#define put_vms_connected(s, n)                  put_value((s)->out, n, vms_connected_value((s)->view->route))
#define put_vm_log_bytes(s, n)                   put_vm_values(s, n, vm_log_bytes_value)
#define put_vm_paused(s, n)                      put_vm_values(s, n, vm_paused_value)
#define put_vm_events_total(s, n)                put_vm_values(s, n, vm_events_value)
#define put_solution_up(s, n)                    put_solution_values(s, n, solution_up_value)
#define put_solution_delivered_total(s, n)       put_solution_values(s, n, solution_delivered_value)
#define put_solution_filtered_total(s, n)        put_solution_values(s, n, solution_filtered_value)
#define put_solution_gapped_total(s, n)          put_solution_values(s, n, solution_gapped_value)
#define put_solution_pending(s, n)               put_solution_values(s, n, solution_pending_value)
#define put_solution_sent_bytes_total(s, n)      put_solution_values(s, n, solution_sent_bytes_value)
#define put_solution_certificate_days(s, n)      put_solution_days(s, n, CREDENTIAL_OWN)
#define put_solution_peer_certificate_days(s, n) put_solution_days(s, n, CREDENTIAL_PEER)
#define put_solution_crl_days(s, n)              put_solution_days(s, n, CREDENTIAL_CRL)
#define put_vm_flooding(s, n)                    put_vm_values(s, n, vm_flooding_value)

static void
put_metrics(struct evbuffer *out, const struct admin_view *view)
{
    struct sample sample = { out, view };

#define PUT_COUNTER(name, kind, help)                                                                        \
    put_head(out, #name, #kind, help);                                                                       \
    put_value(out, #name, stats.name);
    STATS_DAEMON(PUT_COUNTER)
#undef PUT_COUNTER
#define PUT_OBJECTS(name, kind, help)                                                                        \
    put_head(out, #name, #kind, help);                                                                       \
    put_##name(&sample, #name);
    STATS_OBJECTS(PUT_OBJECTS)
#undef PUT_OBJECTS
}

/* ---- /v1/status ---- */

static json_t *
cursor_status(const struct vm *vm, const struct stream *stream, const struct svm *svm)
{
    const struct vmlog_progress *progress = &stream->log.sinks[svm_sink(svm)->slot];
    json_t *gap = progress->gap_last ? json_pack("{s:I, s:I}", "first", (json_int_t)progress->gap_first,
                                                 "last", (json_int_t)progress->gap_last)
                                     : json_null();

    (void)vm;
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:o}", "solution", svm_sink(svm)->conf->name, "settled",
                     (json_int_t)progress->settled, "acked", (json_int_t)progress->acked, "delivered",
                     (json_int_t)progress->delivered, "filtered", (json_int_t)progress->filtered, "gapped",
                     (json_int_t)progress->gapped, "open_gap", gap);
}

static json_t *
stream_status(const struct admin_view *view, const struct vm *vm, const struct stream *stream)
{
    json_t *cursors = json_array();
    const struct svm *svm = NULL;
    const char *driver = stream->driver == VM_DRIVER_GIMUXD ? "gimuxd" : gr_driver_name(stream->driver);

    while ((svm = svm_next(view->svms, svm)))
        json_array_append_new(cursors, cursor_status(vm, stream, svm));
    return json_pack("{s:I, s:s, s:s, s:s, s:s, s:b, s:b, s:I, s:I, s:o}", "stream",
                     (json_int_t)stream->log.id, "driver", driver, "boot_id", stream->boot_text, "build",
                     stream->build, "guest_os", stream->guest_os, "connected", stream->guest != NULL, "ended",
                     stream->ended, "last", (json_int_t)stream->log.last, "accepted",
                     (json_int_t)stream->log.accepted, "cursors", cursors);
}

static json_t *
vm_status(const struct admin_view *view, const struct vm *vm)
{
    static const char *const power[] = { "unknown", "on", "off", "suspended", "on", "migrating" };
    json_t *streams = json_array();
    const struct stream *stream;

    LIST_FOREACH (stream, &vm->streams, of_vm)
        json_array_append_new(streams, stream_status(view, vm, stream));
    return json_pack("{s:s, s:b, s:s, s:b, s:b, s:I, s:I, s:o}", "vm", vm->uuid_text, "connected",
                     vm->connected > 0, "power", power[vm->power], "paused", vm->paused, "flooding",
                     vm->traffic.flooding, "log_bytes", (json_int_t)vm->log.bytes, "events",
                     (json_int_t)vm->events, "streams", streams);
}

static json_t *
days_status(const struct svm *svm, enum credential_part part)
{
    int64_t days;

    return svm_days_left(svm, part, &days) ? json_integer(days) : json_null();
}

static json_t *
solution_status(const struct admin_view *view, const struct svm *svm)
{
    const struct sink *sink = svm_sink(svm);
    static const char *const policies[] = { "pause", "drop", "spill" };
    static const char *const durabilities[] = { "delivered", "process", "disk" };
    struct vm_counts counts = solution_counts(view, svm);
    char address[ADDRESS_TEXT_MAX];

    return json_pack("{s:s, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o}",
                     "solution", sink->conf->name, "altitude", (json_int_t)sink->conf->altitude, "address",
                     address_format(&sink->conf->address, address), "state", svm_state_name(svm_state(svm)),
                     "name", svm_name(svm), "last_error", svm_last_error(svm), "policy",
                     policies[sink->conf->policy], "durability", durabilities[sink->conf->durability],
                     "delivered", (json_int_t)counts.delivered, "filtered", (json_int_t)counts.filtered,
                     "gapped", (json_int_t)counts.gapped, "pending",
                     (json_int_t)route_pending(view->route, sink), "skips", (json_int_t)sink->skips,
                     "certificate_days", days_status(svm, CREDENTIAL_OWN), "peer_certificate_days",
                     days_status(svm, CREDENTIAL_PEER), "crl_days", days_status(svm, CREDENTIAL_CRL));
}

/* null: VM logs are in memory alone. */
static json_t *
storage_status(const struct route *route)
{
    if (!route->store)
        return json_null();
    return json_pack("{s:s, s:I, s:I, s:I, s:b, s:b}", "dir", route->conf->storage.dir, "bytes",
                     (json_int_t)store_bytes(route->store), "limit", (json_int_t)route->conf->storage.total,
                     "segments", (json_int_t)store_segments(route->store), "failing",
                     (int)store_is_failing(route->store), "full", (int)store_is_full(route->store));
}

static json_t *
status(const struct admin_view *view)
{
    const struct route *route = view->route;
    json_t *solutions = json_array();
    json_t *vms = json_array();
    const struct svm *svm = NULL;

    while ((svm = svm_next(view->svms, svm)))
        json_array_append_new(solutions, solution_status(view, svm));
    for (const struct vm *vm = route->table.vms; vm; vm = vm->hh.next)
        json_array_append_new(vms, vm_status(view, vm));
    return json_pack("{s:s, s:s, s:I, s:{s:I, s:I, s:I}, s:o, s:o, s:o}", "build", "gimuxd " GIMUX_VERSION,
                     "host", route->conf->host, "connections", (json_int_t)view->guests->count, "memory",
                     "bound", (json_int_t)route_memory_bound(route->conf), "log_bytes",
                     (json_int_t)route->pool.used, "log_limit", (json_int_t)route->pool.limit, "storage",
                     storage_status(route), "solutions", solutions, "vms", vms);
}

/* ---- HTTP ---- */

static void
on_metrics(struct evhttp_request *request, void *arg)
{
    struct admin *admin = arg;

    loop_begin(admin->loop);
    put_metrics(evhttp_request_get_output_buffer(request), &admin->view);
    evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type",
                      "text/plain; version=0.0.4");
    evhttp_send_reply(request, HTTP_OK, "OK", NULL);
}

static void
on_status(struct evhttp_request *request, void *arg)
{
    struct admin *admin = arg;
    json_t *value;
    char *text;

    loop_begin(admin->loop);
    value = status(&admin->view);
    text = value ? json_dumps(value, JSON_INDENT(2)) : NULL;
    json_decref(value);
    if (!text) {
        evhttp_send_error(request, HTTP_INTERNAL, NULL);
        return;
    }
    evbuffer_add_printf(evhttp_request_get_output_buffer(request), "%s\n", text);
    free(text);
    evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", "application/json");
    evhttp_send_reply(request, HTTP_OK, "OK", NULL);
}

static void
on_rested(evutil_socket_t fd, short what, void *listener)
{
    (void)fd;
    (void)what;
    evconnlistener_enable(listener);
}

/* The connection waits in the kernel: to try again at once would be a busy loop. */
static void
on_accept_error(struct evconnlistener *listener, void *http)
{
    const struct timeval rest = { .tv_usec = REST_US };

    (void)http;
    log_error(NULL, "admin: cannot accept: %s; resting for %d ms", strerror(errno), REST_US / 1000);
    evconnlistener_disable(listener);
    event_base_once(evconnlistener_get_base(listener), -1, EV_TIMEOUT, on_rested, listener, &rest);
}

/* Takes over the listening socket, if it succeeds. */
static bool
serve(struct admin *admin, struct loop *loop, int fd)
{
    struct evhttp_bound_socket *bound;

    admin->http = evhttp_new(loop_base(loop));
    bound = admin->http ? evhttp_accept_socket_with_handle(admin->http, fd) : NULL;
    if (!bound)
        return false;
    admin->listener = evhttp_bound_socket_get_listener(bound);
    evconnlistener_set_error_cb(admin->listener, on_accept_error);
    return true;
}

struct admin *
admin_new(struct loop *loop, const struct address *address, int fd, const struct admin_view *view)
{
    struct admin *admin = calloc(1, sizeof(*admin));

    if (!admin || !serve(admin, loop, fd)) {
        close(fd);
        if (admin && admin->http)
            evhttp_free(admin->http);
        free(admin);
        return NULL;
    }
    admin->loop = loop;
    admin->address = *address;
    admin->view = *view;
    admin->fd = fd;
    evhttp_set_max_headers_size(admin->http, REQUEST_MAX);
    evhttp_set_max_body_size(admin->http, REQUEST_MAX);
    evhttp_set_timeout(admin->http, 10);
    evhttp_set_allowed_methods(admin->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
    evhttp_set_cb(admin->http, "/metrics", on_metrics, admin);
    evhttp_set_cb(admin->http, "/v1/status", on_status, admin);
    return admin;
}

void
admin_freeze(struct admin *admin, bool frozen)
{
    if (frozen)
        evconnlistener_disable(admin->listener);
    else
        evconnlistener_enable(admin->listener);
}

int
admin_fd(const struct admin *admin)
{
    return admin->fd;
}

void
admin_free(struct admin *admin)
{
    if (!admin)
        return;
    evhttp_free(admin->http);
    unlink(admin->address.path);
    free(admin);
}
