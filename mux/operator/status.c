/* /v1/status: everything about solutions, storage and VMs, as JSON. The VMs come last, a line each. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "mux/base/option.h"
#include "mux/operator/bound.h"
#include "mux/operator/inner.h"

/* ---- one VM ---- */

static json_t *
cursor_json(const struct cursor_snapshot *cursor)
{
    const struct vmlog_progress *at = &cursor->at;
    json_t *gap = at->gap_last ? json_pack("{s:I, s:I}", "first", (json_int_t)at->gap_first, "last",
                                           (json_int_t)at->gap_last)
                               : json_null();

    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:o}", "solution", cursor->solution, "settled",
                     (json_int_t)at->settled, "acked", (json_int_t)at->acked, "delivered",
                     (json_int_t)at->delivered, "filtered", (json_int_t)at->filtered, "gapped",
                     (json_int_t)at->gapped, "open_gap", gap);
}

static json_t *
stream_json(const struct stream_snapshot *stream)
{
    const struct stream_about *about = &stream->about;
    const char *driver = about->driver == VM_DRIVER_GIMUXD ? "gimuxd" : gr_driver_name(about->driver);
    json_t *cursors = json_array();

    for (unsigned i = 0; i < stream->cursor_count; i++)
        json_array_append_new(cursors, cursor_json(&stream->cursors[i]));
    return json_pack("{s:I, s:s, s:s, s:s, s:s, s:b, s:b, s:I, s:I, s:o}", "stream", (json_int_t)about->id,
                     "driver", driver, "boot_id", about->boot_text, "build", about->build, "guest_os",
                     about->guest_os, "connected", (int)stream->connected, "ended", (int)about->ended, "last",
                     (json_int_t)stream->last, "accepted", (json_int_t)stream->accepted, "cursors", cursors);
}

static json_t *
vm_json(const struct vm_snapshot *vm)
{
    /* what a VM is after each enum gr_power_op */
    static const char *const power[] = { "unknown", "on", "off", "suspended", "on", "migrating" };
    json_t *streams = json_array();

    for (size_t i = 0; i < vm->stream_count; i++)
        json_array_append_new(streams, stream_json(&vm->streams[i]));
    return json_pack("{s:s, s:b, s:s, s:b, s:b, s:I, s:I, s:o}", "vm", vm->uuid_text, "connected",
                     (int)vm->connected, "power", power[vm->power], "paused", (int)vm->paused, "flooding",
                     (int)vm->flooding, "log_bytes", (json_int_t)vm->log_bytes, "events",
                     (json_int_t)vm->events, "streams", streams);
}

/* ---- all but the VMs ---- */

/* null: it is not Unicode, as a path or a host's name may be. */
static json_t *
text_json(const char *text)
{
    json_t *value = json_string(text);

    return value ? value : json_null();
}

static json_t *
days_json(const struct svm_snapshot *svm, enum credential_part part)
{
    return svm->has_days[part] ? json_integer(svm->days[part]) : json_null();
}

static json_t *
solution_json(const struct svm_snapshot *svm, uint64_t pending)
{
    char policy[OPTION_CHOICE_MAX];
    char durability[OPTION_CHOICE_MAX];

    option_choice(SECTION_SOLUTION, "policy", svm->policy, policy);
    option_choice(SECTION_SOLUTION, "durability", svm->durability, durability);
    return json_pack("{s:s, s:I, s:o, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o}",
                     "solution", svm->solution, "altitude", (json_int_t)svm->altitude, "address",
                     text_json(svm->address), "state", svm->state, "name", svm->name, "last_error",
                     svm->last_error, "policy", policy, "durability", durability, "delivered",
                     (json_int_t)svm->sink.counts.delivered, "filtered",
                     (json_int_t)svm->sink.counts.filtered, "gapped", (json_int_t)svm->sink.counts.gapped,
                     "pending", (json_int_t)pending, "skips", (json_int_t)svm->sink.skips, "certificate_days",
                     days_json(svm, CREDENTIAL_OWN), "peer_certificate_days", days_json(svm, CREDENTIAL_PEER),
                     "crl_days", days_json(svm, CREDENTIAL_CRL));
}

/* null: VM logs are in memory alone. */
static json_t *
storage_json(const struct conf *conf, const struct route_snapshot *route)
{
    const struct storage_snapshot *storage = &route->storage;

    if (!route->has_storage)
        return json_null();
    return json_pack("{s:o, s:I, s:I, s:I, s:b, s:b}", "dir", text_json(conf->storage.dir), "bytes",
                     (json_int_t)storage->bytes, "limit", (json_int_t)conf->storage.total, "segments",
                     (json_int_t)storage->segments, "failing", (int)storage->failing, "full",
                     (int)storage->full);
}

static json_t *
head_json(const struct http_view *view)
{
    json_t *solutions = json_array();
    uint64_t pending[VMLOG_SINKS];
    struct route_snapshot route;
    struct svm_snapshot svm;

    route_snapshot(view->route, &route);
    route_pending_by_slot(view->route, pending);
    for (unsigned place = 0; svm_snapshot(view->svms, place, &svm); place++)
        json_array_append_new(solutions, solution_json(&svm, pending[svm.slot]));
    return json_pack("{s:s, s:o, s:I, s:{s:I, s:I, s:I}, s:o, s:o}", "build", "gimuxd " GIMUX_VERSION, "host",
                     text_json(view->conf->host), "connections", (json_int_t)guest_list_count(view->guests),
                     "memory", "bound", (json_int_t)memory_bound(view->conf), "log_bytes",
                     (json_int_t)route.log_bytes, "log_limit", (json_int_t)route.log_limit, "storage",
                     storage_json(view->conf, &route), "solutions", solutions);
}

/* ---- the reply ---- */

/* How far it is. */
enum { HEAD, FIRST_VM, FURTHER_VM };

static void
put_head(const struct http_view *view, struct evbuffer *out)
{
    json_t *head = head_json(view);
    char *text = head ? json_dumps(head, JSON_INDENT(2)) : NULL;

    if (text)
        evbuffer_add(out, text, strlen(text) - strlen("\n}")); /* the VMs go behind its last member */
    evbuffer_add_printf(out, "%s\n  \"vms\": [", text ? "," : "{");
    free(text);
    json_decref(head);
}

/* Returns false, having put nothing, if memory is out. */
static bool
put_vm(const struct vm_snapshot *vm, const char *before, struct evbuffer *out)
{
    json_t *value = vm_json(vm);
    char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
    bool good = text && evbuffer_add_printf(out, "%s\n    %s", before, text) >= 0;

    free(text);
    json_decref(value);
    return good;
}

static bool
more(const struct http_view *view, struct progress *progress, struct evbuffer *out)
{
    struct vm_snapshot vm;

    if (progress->step == HEAD) {
        put_head(view, out);
        progress->step = FIRST_VM;
    }
    while (evbuffer_get_length(out) < PORTION_BYTES && next_vm(view, progress, true, &vm)) {
        if (put_vm(&vm, progress->step == FIRST_VM ? "" : ",", out))
            progress->step = FURTHER_VM;
        vm_snapshot_fini(&vm);
    }
    if (evbuffer_get_length(out) >= PORTION_BYTES)
        return true;
    evbuffer_add_printf(out, "%s]\n}\n", progress->step == FIRST_VM ? "" : "\n  ");
    return false;
}

const struct reply_kind status_reply = { .content_type = "application/json", .more = more };
