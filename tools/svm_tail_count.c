/* Counts what came of each stream, so that a test can do the sum. */
#include "tools/svm_tail_count.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define CLASS_KINDS 8 /* seven classes, and all that are unknown */

/* Outlives the library's own record of the stream. */
struct count_stream {
    struct count_stream *next;
    char *vm_uuid, *boot_id;
    uint32_t driver;
    uint64_t first, last; /* of events and gaps; 0 before any */
    uint64_t delivered, gapped, filtered, progress;
    struct {
        const char *name; /* NULL: free */
        uint64_t events;
    } classes[CLASS_KINDS];
    json_t *gaps;
    bool ended;
};

static struct count_stream *
new_stream(const struct gimux_stream *stream)
{
    struct count_stream *s = calloc(1, sizeof(*s));

    if (s) {
        s->vm_uuid = strdup(stream->vm_uuid);
        s->boot_id = strdup(stream->boot_id);
        s->driver = stream->driver;
        s->gaps = json_array();
    }
    if (!s || !s->vm_uuid || !s->boot_id || !s->gaps) {
        fprintf(stderr, "svm-tail: out of memory\n");
        abort();
    }
    return s;
}

static struct count_stream *
find(struct count *count, struct gimux_stream *stream)
{
    struct count_stream *s = stream->user;

    if (s)
        return s;
    /* The library may have forgotten the stream in between. */
    for (s = count->streams; s; s = s->next)
        if (s->driver == stream->driver && strcmp(s->vm_uuid, stream->vm_uuid) == 0 &&
            strcmp(s->boot_id, stream->boot_id) == 0)
            break;
    if (!s) {
        s = new_stream(stream);
        s->next = count->streams;
        count->streams = s;
    }
    stream->user = s;
    return s;
}

void
count_start(struct count *count, struct gimux_stream *stream)
{
    find(count, stream)->ended = false;
}

void
count_event(struct count *count, const struct gimux_event *event)
{
    struct count_stream *s = find(count, event->stream);
    const char *name = gimux_client_class_name(event->class_uid);
    size_t i = 0;

    if (event->sequence <= s->last) {
        count->again++;
        return;
    }
    while (s->classes[i].name && s->classes[i].name != name)
        i++;
    s->classes[i].name = name;
    s->classes[i].events++;
    s->delivered++;
    s->last = event->sequence;
    if (s->first == 0)
        s->first = event->sequence;
}

bool
count_gap(struct count *count, const struct gimux_gap *gap, uint64_t *first)
{
    struct count_stream *s = find(count, gap->stream);

    if (gap->last <= s->last)
        return false;
    *first = gap->first > s->last ? gap->first : s->last + 1;
    s->gapped += gap->last - *first + 1;
    s->last = gap->last;
    if (s->first == 0)
        s->first = *first;
    json_array_append_new(s->gaps,
                          json_pack("{sI sI ss}", "first", (json_int_t)*first, "last", (json_int_t)gap->last,
                                    "reason", gimux_client_gap_name(gap->reason)));
    return true;
}

void
count_progress(struct count *count, struct gimux_stream *stream, uint64_t sequence, uint64_t filtered)
{
    struct count_stream *s = find(count, stream);

    s->progress = sequence;
    s->filtered = filtered;
}

void
count_end(struct count *count, struct gimux_stream *stream)
{
    find(count, stream)->ended = true;
}

static json_t *
stream_json(const struct count_stream *s)
{
    json_t *classes = json_object();

    for (size_t i = 0; i < CLASS_KINDS && s->classes[i].name; i++)
        json_object_set_new(classes, s->classes[i].name, json_integer((json_int_t)s->classes[i].events));
    return json_pack("{ss ss ss sI sI sI sO sI sI sI so sb}", "vm_uuid", s->vm_uuid, "driver",
                     gimux_client_driver_name(s->driver), "boot_id", s->boot_id, "first",
                     (json_int_t)s->first, "last", (json_int_t)s->last, "delivered", (json_int_t)s->delivered,
                     "gaps", s->gaps, "gapped", (json_int_t)s->gapped, "filtered_told",
                     (json_int_t)s->filtered, "progress", (json_int_t)s->progress, "by_class", classes,
                     "ended", s->ended);
}

static json_t *
all_json(const struct count *count, const struct gimux_client *client)
{
    json_t *streams = json_array();
    struct gimux_client_stats stats;
    uint64_t delivered = 0, gapped = 0;

    gimux_client_get_stats(client, &stats);
    for (const struct count_stream *s = count->streams; s; s = s->next) {
        json_array_append_new(streams, stream_json(s));
        delivered += s->delivered;
        gapped += s->gapped;
    }
    return json_pack("{so s{sI sI sI sI sI sI sI sI sI}}", "streams", streams, "totals", "delivered",
                     (json_int_t)delivered, "gapped", (json_int_t)gapped, "again", (json_int_t)count->again,
                     "duplicates", (json_int_t)stats.duplicates, "out_of_order",
                     (json_int_t)stats.out_of_order, "protocol_errors", (json_int_t)stats.protocol_errors,
                     "connections", (json_int_t)stats.connections, "refused", (json_int_t)stats.refused,
                     "open", (json_int_t)stats.open);
}

bool
count_write(const struct count *count, const struct gimux_client *client, const char *path)
{
    char temporary[4096];
    json_t *all = all_json(count, client);
    bool written;

    snprintf(temporary, sizeof(temporary), "%s.new", path);
    written = json_dump_file(all, temporary, JSON_INDENT(2)) == 0 && rename(temporary, path) == 0;
    json_decref(all);
    return written;
}

void
count_print(const struct count *count, FILE *out)
{
    fprintf(out, "%-36s %-8s %12s %12s %12s %12s\n", "vm", "driver", "last", "delivered", "in gaps",
            "filtered");
    for (const struct count_stream *s = count->streams; s; s = s->next)
        fprintf(out, "%-36s %-8s %12" PRIu64 " %12" PRIu64 " %12" PRIu64 " %12" PRIu64 "\n", s->vm_uuid,
                gimux_client_driver_name(s->driver), s->last, s->delivered, s->gapped, s->filtered);
}

void
count_free(struct count *count)
{
    struct count_stream *next;

    for (struct count_stream *s = count->streams; s; s = next) {
        next = s->next;
        json_decref(s->gaps);
        free(s->vm_uuid);
        free(s->boot_id);
        free(s);
    }
    count->streams = NULL;
}
