/* distil: from traces of real guests, the table of kinds and text lengths by which the benchmark makes its
 * events (mix_rows.h), without anything that was in them.
 *
 *     build/bench/distil linux.pcap... windows.pcap... > tests/bench/mix_rows.h
 *
 * All events of one driver, sorted by kind and size, and of these ROWS at equal distances: that keeps the
 * shares of the kinds and how long their texts are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/mix.h"
#include "thinagent-sim/trace/trace.h"

struct found {
    struct mix_row row;
    uint32_t size;
};

struct kind {
    uint16_t driver;
    const char *name;
    struct found *all;
    size_t count;
};

static struct kind kinds[] = {
    { GR_LINUX, "mix_linux", NULL, 0 },
    { GR_VSEPFLT, "mix_vsepflt", NULL, 0 },
    { GR_VNETWFP, "mix_vnetwfp", NULL, 0 },
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void
add(struct kind *kind, const struct gr_record *record)
{
    struct gr_record copy = *record;
    struct gr_text *texts[MIX_TEXTS];
    struct found *found;
    unsigned count = mix_texts(&copy, texts);

    kind->all = realloc(kind->all, (kind->count + 1) * sizeof(*kind->all));
    if (!kind->all)
        abort();
    found = &kind->all[kind->count++];
    memset(found, 0, sizeof(*found));
    found->size = record->size;
    found->row.type = record->type;
    found->row.op = *mix_op(&copy);
    if (record->type == GR_FILE)
        found->row.detail = (uint16_t)record->body.file.result;
    else if (record->type == GR_NET)
        found->row.detail = record->body.net.family;
    found->row.device = count > 0 && texts[0]->len > 2 && memcmp(texts[0]->data, "\\\0", 2) == 0;
    for (unsigned i = 0; i < count; i++)
        found->row.len[i] = (uint16_t)(texts[i]->len / (gr_driver_is_windows(kind->driver) ? 2 : 1));
}

static void
take(const char *path)
{
    char why[TRACE_WHY_MAX];
    struct trace *trace = trace_read(path, why);

    if (!trace) {
        fprintf(stderr, "distil: %s: %s\n", path, why);
        exit(1);
    }
    for (size_t i = 0; i < trace->count; i++) {
        const struct trace_stream *stream = trace->streams[i];

        for (size_t j = 0; j < stream->count; j++) {
            struct gr_record record;

            trace_record_decode(stream, j, &record);
            for (size_t k = 0; k < KINDS; k++)
                if (gr_type_is_event(record.type) && kinds[k].driver == stream->driver)
                    add(&kinds[k], &record);
        }
    }
    trace_free(trace);
}

static int
compare(const void *left, const void *right)
{
    const struct found *a = left, *b = right;

    if (a->row.type != b->row.type)
        return a->row.type < b->row.type ? -1 : 1;
    if (a->row.op != b->row.op)
        return a->row.op < b->row.op ? -1 : 1;
    return a->size < b->size ? -1 : a->size > b->size;
}

static void
print(const struct kind *kind)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < kind->count; i++)
        bytes += kind->all[i].size;
    qsort(kind->all, kind->count, sizeof(*kind->all), compare);
    printf(
        "\n/* %s: of %zu events of %zu bytes on average */\nstatic const struct mix_row %s[MIX_ROWS] = {\n",
        gr_driver_name(kind->driver), kind->count, (size_t)(bytes / kind->count), kind->name);
    for (size_t i = 0; i < MIX_ROWS; i++) {
        const struct mix_row *row = &kind->all[(i * kind->count + kind->count / 2) / MIX_ROWS].row;

        printf("    { 0x%04x, %u, %u, %d, { %u, %u, %u, %u, %u } },\n", row->type, row->op, row->detail,
               row->device, row->len[0], row->len[1], row->len[2], row->len[3], row->len[4]);
    }
    printf("};\n");
}

int
main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        take(argv[i]);
    printf("/* What guests really say: kinds of events and lengths of their texts, %d of each driver. Made "
           "by distil.c\n"
           " * from recordings of real machines; type, operation, detail, device path, lengths in "
           "characters. */\n",
           MIX_ROWS);
    for (size_t k = 0; k < KINDS; k++) {
        if (kinds[k].count == 0) {
            fprintf(stderr, "distil: no events of %s in these traces\n", gr_driver_name(kinds[k].driver));
            return 1;
        }
        print(&kinds[k]);
        free(kinds[k].all);
    }
    return 0;
}
