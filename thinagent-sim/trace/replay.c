/* The command replay: sends a trace again, as it was or as many copies of it. */
#include "thinagent-sim/trace/replay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "thinagent-sim/clock.h"
#include "thinagent-sim/fleet.h"
#include "thinagent-sim/identity.h"
#include "thinagent-sim/memory.h"
#include "thinagent-sim/trace/trace.h"

/* What is the same for all streams of a replay. */
struct pace {
    double speed;  /* 0: as fast as it is taken */
    int64_t start; /* when the replay began, monotonic nanoseconds */
    int64_t first; /* time of the trace's first record, and */
    int64_t span;  /* from there to the last, Unix nanoseconds */
};

struct replay_source {
    struct source base;
    const struct trace_stream *stream;
    const struct pace *pace;
    uint32_t loop; /* rounds made, of */
    uint32_t loops;
    size_t at;           /* the next record */
    int64_t latest_time; /* of the records so far: times that go back do not count */
};

/* When the record is due. */
static int64_t
due(struct replay_source *replay, const struct trace_record *record)
{
    const struct pace *pace = replay->pace;
    double since;

    if (record->time > replay->latest_time)
        replay->latest_time = record->time;
    since = (double)(replay->latest_time - pace->first) + (double)pace->span * replay->loop;
    return pace->start + (int64_t)(since / pace->speed);
}

static enum source_result
replay_next(struct source *source, int64_t now, struct source_item *item)
{
    struct replay_source *replay = (struct replay_source *)source;
    const struct trace_record *record;
    struct gr_record lost;

    if (source->stopped)
        return SOURCE_END;
    for (;;) {
        if (replay->at == replay->stream->count) {
            if (++replay->loop >= replay->loops)
                return SOURCE_END;
            replay->at = 0;
            replay->latest_time = 0;
        }
        record = &replay->stream->records[replay->at];
        if (gr_type_is_event(record->type) || record->type == GR_LOST || record->type == GR_VOLUMES)
            break;
        replay->at++;
    }
    if (replay->pace->speed > 0) {
        item->later = due(replay, record);
        if (item->later > now)
            return SOURCE_LATER;
    }
    if (record->type == GR_LOST) {
        trace_record_decode(replay->stream, replay->at++, &lost);
        item->lost = lost.body.lost.last - lost.sequence + 1;
        return SOURCE_LOST;
    }
    replay->at++;
    item->type = record->type;
    item->data = replay->stream->bytes.data + record->at;
    item->len = record->len;
    return SOURCE_RECORD;
}

static void
replay_free(struct source *source)
{
    free(source);
}

static bool
add_stream(struct fleet *fleet, const struct options *options, const struct trace_stream *stream,
           const struct pace *pace, uint32_t copy)
{
    struct replay_source *replay = must_calloc(1, sizeof(*replay));
    struct agent_config config = { .driver = stream->driver, .source = &replay->base };
    struct gr_record hello;

    replay->base.next = replay_next;
    replay->base.free = replay_free;
    replay->stream = stream;
    replay->pace = pace;
    replay->loops = options->loops;
    trace_record_decode(stream, 0, &hello);
    config.build = hello.body.hello.build;
    config.guest_os = hello.body.hello.guest_os;
    identity_of_copy(options->has_vm ? options->vm : stream->vm_uuid, copy, config.vm_uuid);
    fleet_boot_id(options, config.vm_uuid, stream->boot_id, config.boot_id);
    return fleet_add(fleet, &config);
}

static struct pace
pace_of(const struct trace *trace, const struct options *options)
{
    struct pace pace = { .speed = options->fast ? 0 : options->speed, .first = INT64_MAX };
    int64_t last = 0;

    for (size_t i = 0; i < trace->count; i++) {
        for (size_t j = 0; j < trace->streams[i]->count; j++) {
            int64_t time = trace->streams[i]->records[j].time;

            pace.first = time < pace.first ? time : pace.first;
            last = time > last ? time : last;
        }
    }
    pace.span = last > pace.first ? last - pace.first : 0;
    pace.start = clock_ns(CLOCK_MONOTONIC);
    return pace;
}

/* --vm names one VM, so the trace must have no other. */
static bool
has_one_vm(const struct trace *trace)
{
    for (size_t i = 1; i < trace->count; i++)
        if (memcmp(trace->streams[i]->vm_uuid, trace->streams[0]->vm_uuid, GR_UUID_SIZE) != 0)
            return false;
    return true;
}

int
replay_run(const struct options *options)
{
    char why[TRACE_WHY_MAX];
    struct trace *trace = trace_read(options->file, why);
    struct fleet *fleet = NULL;
    struct pace pace;
    int status = EXIT_ERROR;
    bool good;

    if (!trace) {
        fprintf(stderr, "thinagent-sim: %s: %s\n", options->file, why);
        return EXIT_ERROR;
    }
    if (trace->damaged)
        fprintf(stderr, "thinagent-sim: %s: damaged, replaying what could be read: %s\n", options->file,
                trace->damage);
    good = !options->has_vm || has_one_vm(trace);
    if (!good)
        fprintf(stderr, "thinagent-sim: --vm names one VM, but %s has more\n", options->file);
    else
        fleet = fleet_new(options);
    good = fleet != NULL;
    pace = pace_of(trace, options);
    for (uint32_t copy = 0; copy < options->copies && good; copy++)
        for (size_t i = 0; i < trace->count && good; i++)
            good = add_stream(fleet, options, trace->streams[i], &pace, copy);
    if (good)
        status = fleet_run(fleet);
    fleet_free(fleet);
    trace_free(trace);
    return status;
}
