/* The steps that make an event of a record: decode, normalize, encode. */
#include <stdlib.h>
#include <string.h>

#include "mux/frame_encode.h"
#include "mux/normalize.h"
#include "proto/delimited.h"
#include "tests/microbench/step.h"
#include "thinagent-sim/memory.h"

static struct mix *mix;
static struct normalized *event;

/* Something of every result goes here, so that the compiler cannot leave the work out. */
static volatile uint64_t result;

static void
open_event(struct mix *of)
{
    mix = of;
    event = normalized_new();
}

static void
close_event(void)
{
    normalized_free(event);
}

/* ---- decode ---- */

static void
run_decode(void)
{
    size_t used = 0;

    while (used < mix->len) {
        struct gr_record record;
        char why[GR_WHY_MAX];

        if (gr_decode(mix->bytes + used, mix->len - used, &record, why) != GR_OK)
            abort();
        used += record.size;
        result += record.sequence;
    }
}

const struct step step_decode = { .name = "decode",
                                  .what = "gr_decode: bytes to struct gr_record",
                                  .times = 1,
                                  .open = open_event,
                                  .run = run_decode,
                                  .close = close_event };

/* ---- normalize ---- */

static void
run_normalize(void)
{
    for (size_t i = 0; i < mix->count; i++) {
        const struct mix_event *in = &mix->events[i];
        const struct volume_map *volumes = in->stream->has_volumes ? &in->stream->volumes : NULL;

        normalize_record(event, &in->record, in->stream->driver, volumes, 7);
        result += normalized_frame(event)->event->activity_id;
    }
}

const struct step step_normalize = { .name = "normalize",
                                     .what = "normalize_record: struct gr_record to Event",
                                     .times = 1,
                                     .open = open_event,
                                     .run = run_normalize,
                                     .close = close_event };

/* ---- encode ---- */

static Gimux__V1__Frame **frames; /* of all events, as an SVM unpacks them */
static uint8_t *out;              /* room for the longest, as in a chunk */

static void
open_encode(struct mix *of)
{
    open_event(of);
    frames = must_calloc(mix->count, sizeof(Gimux__V1__Frame *));
    out = must_calloc(1, DELIMITED_FRAME_MAX);
    for (size_t i = 0; i < mix->count; i++) {
        const struct mix_event *in = &mix->events[i];
        size_t len;

        normalize_record(event, &in->record, in->stream->driver,
                         in->stream->has_volumes ? &in->stream->volumes : NULL, 7);
        len = gimux__v1__frame__pack(normalized_frame(event), out);
        frames[i] = gimux__v1__frame__unpack(NULL, len, out);
        if (!frames[i])
            abort();
    }
}

static void
close_encode(void)
{
    for (size_t i = 0; i < mix->count; i++)
        gimux__v1__frame__free_unpacked(frames[i], NULL);
    free(frames);
    free(out);
    close_event();
}

/* Each frame goes behind the one before it, as in a chunk. */
static void
run_encode(void)
{
    static uint8_t buf[FRAME_ENCODED_MAX];
    size_t used = 0;

    for (size_t i = 0; i < mix->count; i++) {
        struct frame_encoded encoded;

        if (!frame_encode(frames[i], NULL, buf, sizeof(buf), &encoded))
            abort();
        if (used + encoded.len > DELIMITED_FRAME_MAX)
            used = 0;
        memcpy(out + used, encoded.data, encoded.len);
        used += encoded.len;
    }
    result += used;
}

const struct step step_encode = { .name = "encode",
                                  .what = "frame_encode: Event to a frame's bytes",
                                  .times = 1,
                                  .open = open_encode,
                                  .run = run_encode,
                                  .close = close_encode };

/* The same by protobuf-c, for comparison. */
static void
run_pack(void)
{
    size_t used = 0;

    for (size_t i = 0; i < mix->count; i++) {
        size_t body = gimux__v1__frame__get_packed_size(frames[i]);

        if (used + DELIMITED_PREFIX_MAX + body > DELIMITED_FRAME_MAX)
            used = 0;
        used += delimited_put_prefix(out + used, body);
        used += gimux__v1__frame__pack(frames[i], out + used);
    }
    result += used;
}

const struct step step_pack = { .name = "pack",
                                .what = "the same by protobuf-c; not on the path",
                                .times = 1,
                                .open = open_encode,
                                .run = run_pack,
                                .close = close_encode };
