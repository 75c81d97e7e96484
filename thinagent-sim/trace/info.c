/* The command info: says what is in a trace. */
#include "thinagent-sim/trace/info.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include <jansson.h>

#include "thinagent-sim/clock.h"
#include "thinagent-sim/text.h"
#include "thinagent-sim/trace/trace.h"

#define TIME_MAX 40

/* What a stream's records add up to. */
struct sums {
    uint64_t by_type[GR_EVENT_LAST + 1];
    int64_t first; /* driver time of the first and the last event, Unix nanoseconds */
    int64_t last;
    uint64_t events;
};

static struct sums
sum_up(const struct trace_stream *stream)
{
    struct sums sums = { .first = INT64_MAX, .last = INT64_MIN };

    for (size_t i = 0; i < stream->count; i++) {
        struct gr_record record;
        int64_t time;

        sums.by_type[stream->records[i].type]++;
        if (!gr_type_is_event(stream->records[i].type))
            continue;
        trace_record_decode(stream, i, &record);
        time = driver_time_to_unix(stream->driver, record.time);
        sums.events++;
        sums.first = time < sums.first ? time : sums.first;
        sums.last = time > sums.last ? time : sums.last;
    }
    return sums;
}

static const char *
format_time(int64_t ns, char out[TIME_MAX])
{
    int64_t fraction = ns % SECOND;
    time_t seconds = ns / SECOND - (fraction < 0);
    struct tm tm;
    size_t len;

    gmtime_r(&seconds, &tm);
    len = strftime(out, TIME_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + len, TIME_MAX - len, ".%03dZ",
             (int)((fraction < 0 ? fraction + SECOND : fraction) / 1000000));
    return out;
}

static json_t *
stream_json(const struct trace_stream *stream)
{
    struct sums sums = sum_up(stream);
    json_t *by_kind = json_object();
    char vm[GR_UUID_TEXT];
    char boot[GR_UUID_TEXT];
    char first[TIME_MAX];
    char last[TIME_MAX];
    json_t *object;

    for (unsigned type = 0; type <= GR_EVENT_LAST; type++)
        if (sums.by_type[type] > 0)
            json_object_set_new(by_kind, gr_type_name((uint16_t)type),
                                json_integer((json_int_t)sums.by_type[type]));
    object =
        json_pack("{s:s, s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:o}", "vm_uuid",
                  gr_uuid_format(stream->vm_uuid, vm), "driver", gr_driver_name(stream->driver), "boot_id",
                  gr_uuid_format(stream->boot_id, boot), "connections", (int)stream->connections, "events",
                  (json_int_t)sums.events, "last_sequence", (json_int_t)stream->last_sequence, "resent",
                  (json_int_t)stream->resent, "bytes", (json_int_t)stream->bytes.len, "records", by_kind);
    if (sums.events > 0) {
        json_object_set_new(object, "first_time", json_string(format_time(sums.first, first)));
        json_object_set_new(object, "last_time", json_string(format_time(sums.last, last)));
    }
    return object;
}

static void
print_json(const struct trace *trace)
{
    json_t *streams = json_array();
    json_t *all;

    for (size_t i = 0; i < trace->count; i++)
        json_array_append_new(streams, stream_json(trace->streams[i]));
    all = json_pack("{s:I, s:I, s:i, s:b, s:s, s:o}", "packets", (json_int_t)trace->packets, "bytes_read",
                    (json_int_t)trace->bytes, "foreign_connections", (int)trace->foreign, "damaged",
                    (int)trace->damaged, "damage", trace->damage, "streams", streams);
    json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(all);
}

static void
print_stream(const struct trace_stream *stream)
{
    struct sums sums = sum_up(stream);
    char uuid[GR_UUID_TEXT];
    char time[TIME_MAX];

    printf("vm %s  driver %s\n", gr_uuid_format(stream->vm_uuid, uuid), gr_driver_name(stream->driver));
    printf("  boot %s, %u connections, %zu bytes, last sequence %" PRIu64 "\n",
           gr_uuid_format(stream->boot_id, uuid), stream->connections, stream->bytes.len,
           stream->last_sequence);
    if (sums.events > 0) {
        printf("  from %s", format_time(sums.first, time));
        printf(" to %s\n", format_time(sums.last, time));
    }
    for (unsigned type = 0; type <= GR_EVENT_LAST; type++)
        if (sums.by_type[type] > 0)
            printf("  %-10s %10" PRIu64 "\n", gr_type_name((uint16_t)type), sums.by_type[type]);
}

int
info_run(const struct options *options)
{
    char why[TRACE_WHY_MAX];
    struct trace *trace = trace_read(options->file, why);
    int status = EXIT_GOOD;

    if (!trace) {
        fprintf(stderr, "thinagent-sim: %s: %s\n", options->file, why);
        return EXIT_ERROR;
    }
    if (options->json) {
        print_json(trace);
    } else {
        for (size_t i = 0; i < trace->count; i++)
            print_stream(trace->streams[i]);
        printf("%zu streams, %" PRIu64 " packets, %" PRIu64 " bytes, %u connections of others\n",
               trace->count, trace->packets, trace->bytes, trace->foreign);
    }
    if (trace->damaged) {
        fprintf(stderr, "thinagent-sim: %s: damaged, read as far as it goes: %s\n", options->file,
                trace->damage);
        status = EXIT_ERROR;
    }
    trace_free(trace);
    return status;
}
