/* Counts what came of each stream, so that a test can do the sum. */
#include "tools/svm_tail_count.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is counted of one stream. Outlives the library's own record of it. */
struct tail_stream {
    struct tail_stream *next;
    char *vm_uuid, *boot_id;
    uint32_t driver;
    uint64_t first, last; /* of events and gaps; 0 before any */
    uint64_t delivered, gapped, filtered, progress;
    json_t *by_class; /* class name -> events */
    json_t *gaps;
    bool ended;
};

static struct tail_stream *
tail_stream_of(struct tail *tail, struct gimux_stream *stream)
{
    struct tail_stream *s = stream->user;

    /* The library may have forgotten the stream in between: look for it. */
    for (struct tail_stream *known = s ? NULL : tail->streams; known && !s; known = known->next)
        if (known->driver == stream->driver && strcmp(known->vm_uuid, stream->vm_uuid) == 0 &&
            strcmp(known->boot_id, stream->boot_id) == 0)
            s = known;
    if (!s) {
        s = calloc(1, sizeof(*s));
        if (!s || !(s->vm_uuid = strdup(stream->vm_uuid)) || !(s->boot_id = strdup(stream->boot_id)))
            abort();
        s->driver = stream->driver;
        s->by_class = json_object();
        s->gaps = json_array();
        s->next = tail->streams;
        tail->streams = s;
    }
    stream->user = s;
    return s;
}

static json_t *
stream_json(const struct tail_stream *s)
{
    return json_pack("{ss ss ss sI sI sI sO sI sI sI sO sb}", "vm_uuid", s->vm_uuid, "driver",
                     gimux_client_driver_name(s->driver), "boot_id", s->boot_id, "first",
                     (json_int_t)s->first, "last", (json_int_t)s->last, "delivered", (json_int_t)s->delivered,
                     "gaps", s->gaps, "gapped", (json_int_t)s->gapped, "filtered_told",
                     (json_int_t)s->filtered, "progress", (json_int_t)s->progress, "by_class", s->by_class,
                     "ended", s->ended);
}

static json_t *
stats_json(const struct tail *tail)
{
    json_t *streams = json_array();
    struct gimux_client_stats stats;
    uint64_t delivered = 0, gapped = 0;

    gimux_client_get_stats(tail->client, &stats);
    for (const struct tail_stream *s = tail->streams; s; s = s->next) {
        json_array_append_new(streams, stream_json(s));
        delivered += s->delivered;
        gapped += s->gapped;
    }
    return json_pack("{so s{sI sI sI sI sI sI sI sI sI}}", "streams", streams, "totals", "delivered",
                     (json_int_t)delivered, "gapped", (json_int_t)gapped, "again", (json_int_t)tail->again,
                     "duplicates", (json_int_t)stats.duplicates, "out_of_order",
                     (json_int_t)stats.out_of_order, "protocol_errors", (json_int_t)stats.protocol_errors,
                     "connections", (json_int_t)stats.connections, "refused", (json_int_t)stats.refused,
                     "open", (json_int_t)stats.open);
}

/* Writes --stats: a reader sees the old file or the new one, never half of one. */
static void
write_stats(const struct tail *tail)
{
    char temporary[4096];
    json_t *stats;

    if (tail->capture)
        fflush(tail->capture);
    if (!tail->stats_path)
        return;
    snprintf(temporary, sizeof(temporary), "%s.new", tail->stats_path);
    stats = stats_json(tail);
    if (json_dump_file(stats, temporary, JSON_INDENT(2)) != 0 || rename(temporary, tail->stats_path) != 0)
        fprintf(stderr, "svm-tail: cannot write %s: %s\n", tail->stats_path, strerror(errno));
    json_decref(stats);
}

static void
print_table(const struct tail *tail)
{
    fprintf(stderr, "%-36s %-8s %12s %12s %12s %12s\n", "vm", "driver", "last", "delivered", "in gaps",
            "filtered");
    for (const struct tail_stream *s = tail->streams; s; s = s->next)
        fprintf(stderr, "%-36s %-8s %12" PRIu64 " %12" PRIu64 " %12" PRIu64 " %12" PRIu64 "\n", s->vm_uuid,
                gimux_client_driver_name(s->driver), s->last, s->delivered, s->gapped, s->filtered);
}
