/* The mix: the events of some traces, in the order in which they would come from many drivers. */
#include "tests/microbench/mix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "thinagent-sim/trace/trace.h"

/* Where one stream of a trace is, while it is read. */
struct source {
    const struct trace_stream *stream;
    size_t next; /* record */
};

static void
read_opening(struct mix_stream *out, const struct trace_stream *in)
{
    struct buffer opening = { 0 };

    out->driver = in->driver;
    memcpy(out->vm_uuid, in->vm_uuid, GR_UUID_SIZE);
    for (size_t i = 0; i < in->count; i++) {
        const struct trace_record *record = &in->records[i];
        struct gr_record decoded;

        if (record->type != GR_HELLO && record->type != GR_VOLUMES)
            continue;
        trace_record_decode(in, i, &decoded);
        buffer_add(&opening, in->bytes.data + record->at, record->len);
        if (record->type == GR_VOLUMES) {
            volume_map_set(&out->volumes, &decoded.body.volumes);
            out->has_volumes = true;
        }
    }
    out->opening = must_calloc(1, opening.len);
    out->opening_len = opening.len;
    memcpy(out->opening, opening.data, opening.len);
    buffer_free(&opening);
}

/* Takes the source's next events, a batch at most. */
static void
take_batch(struct mix *mix, unsigned index, struct source *source, struct buffer *bytes)
{
    const struct trace_stream *in = source->stream;
    struct mix_batch batch = { .stream = index, .first = mix->count, .at = bytes->len };

    for (; source->next < in->count && batch.count < MIX_BATCH; source->next++) {
        const struct trace_record *record = &in->records[source->next];

        if (!gr_type_is_event(record->type))
            continue;
        mix->events = must_realloc(mix->events, (mix->count + 1) * sizeof(*mix->events));
        mix->events[mix->count++] = (struct mix_event){ .stream = &mix->streams[index], .at = bytes->len };
        buffer_add(bytes, in->bytes.data + record->at, record->len);
        batch.count++;
    }
    if (batch.count == 0)
        return;
    batch.len = bytes->len - batch.at;
    mix->batches = must_realloc(mix->batches, (mix->batch_count + 1) * sizeof(batch));
    mix->batches[mix->batch_count++] = batch;
}

static void
take_turns(struct mix *mix, struct source *sources, struct buffer *bytes)
{
    size_t before;

    do {
        before = mix->count;
        for (unsigned i = 0; i < mix->stream_count; i++)
            take_batch(mix, i, &sources[i], bytes);
    } while (mix->count > before);
}

static struct trace *
open_trace(const char *path)
{
    char why[TRACE_WHY_MAX];
    struct trace *trace = trace_read(path, why);

    if (!trace || trace->damaged) {
        fprintf(stderr, "microbench: %s: %s\n", path, trace ? trace->damage : why);
        exit(1);
    }
    return trace;
}

void
mix_read(struct mix *mix, char *const *paths, int count)
{
    struct source sources[MIX_STREAMS_MAX] = { 0 };
    struct trace **traces = must_calloc((size_t)count, sizeof(struct trace *));
    struct buffer bytes = { 0 };
    char why[GR_WHY_MAX];

    memset(mix, 0, sizeof(*mix));
    for (int i = 0; i < count; i++) {
        traces[i] = open_trace(paths[i]);
        for (size_t k = 0; k < traces[i]->count && mix->stream_count < MIX_STREAMS_MAX; k++) {
            sources[mix->stream_count].stream = traces[i]->streams[k];
            read_opening(&mix->streams[mix->stream_count++], traces[i]->streams[k]);
        }
    }
    take_turns(mix, sources, &bytes);
    mix->len = bytes.len;
    mix->bytes = must_calloc(1, bytes.len + 1);
    if (bytes.len > 0)
        memcpy(mix->bytes, bytes.data, bytes.len);
    for (size_t i = 0; i < mix->count; i++)
        if (gr_decode(mix->bytes + mix->events[i].at, mix->len - mix->events[i].at, &mix->events[i].record,
                      why) != GR_OK)
            abort(); /* the reader keeps only records that it could decode */
    buffer_free(&bytes);
    for (int i = 0; i < count; i++)
        trace_free(traces[i]);
    free(traces);
    if (mix->count == 0) {
        fprintf(stderr, "microbench: no events in these traces\n");
        exit(1);
    }
}

void
mix_free(struct mix *mix)
{
    for (unsigned i = 0; i < mix->stream_count; i++)
        free(mix->streams[i].opening);
    free(mix->bytes);
    free(mix->events);
    free(mix->batches);
}
