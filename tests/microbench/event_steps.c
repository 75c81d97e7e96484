/* The steps that make an event of a record: decode, and normalize, which encodes, too. */
#include <stdlib.h>
#include <string.h>

#include "mux/event/normalize.h"
#include "proto/delimited.h"
#include "proto/gimux.pb-c.h"
#include "tests/microbench/step.h"
#include "thinagent-sim/memory.h"

static struct mix *mix;
static struct normalizer *normalizer;
static uint8_t *out; /* room for the longest frame, as in a chunk */

/* Something of every result goes here, so that the compiler cannot leave the work out. */
static volatile uint64_t result;

static void
open_event(struct mix *of)
{
    mix = of;
    normalizer = normalizer_new();
    out = must_calloc(1, DELIMITED_PREFIX_MAX + DELIMITED_FRAME_MAX);
}

static void
close_event(void)
{
    normalizer_free(normalizer);
    free(out);
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

/* ---- normalize: the encoding is part of it ---- */

/* Each frame goes behind the one before it, as in a chunk. */
static void
run_normalize(void)
{
    size_t used = 0;

    for (size_t i = 0; i < mix->count; i++) {
        const struct mix_event *in = &mix->events[i];
        struct normalized event;

        normalize_record(normalizer, &in->record, in->stream->driver, mix_volumes(in), 7, &event);
        if (used + event.len > DELIMITED_FRAME_MAX)
            used = 0;
        memcpy(out + used, event.data, event.len);
        used += event.len;
    }
    result += used;
}

const struct step step_normalize = { .name = "normalize",
                                     .what = "normalize_record: struct gr_record to a frame's bytes",
                                     .times = 1,
                                     .open = open_event,
                                     .run = run_normalize,
                                     .close = close_event };

/* ---- pack ---- */

static Gimux__V1__Frame **frames; /* of all events, as an SVM unpacks them */

static void
open_pack(struct mix *of)
{
    open_event(of);
    frames = must_calloc(mix->count, sizeof(Gimux__V1__Frame *));
    for (size_t i = 0; i < mix->count; i++) {
        const struct mix_event *in = &mix->events[i];
        struct normalized event;
        const uint8_t *body;
        size_t len;

        normalize_record(normalizer, &in->record, in->stream->driver, mix_volumes(in), 7, &event);
        if (delimited_next(event.data, event.len, DELIMITED_FRAME_MAX, &body, &len) != DELIMITED_FRAME)
            abort();
        frames[i] = gimux__v1__frame__unpack(NULL, len, body);
        if (!frames[i])
            abort();
    }
}

static void
close_pack(void)
{
    for (size_t i = 0; i < mix->count; i++)
        gimux__v1__frame__free_unpacked(frames[i], NULL);
    free(frames);
    close_event();
}

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
                                .what = "protobuf-c: Event to a frame's bytes; not on the path",
                                .times = 1,
                                .open = open_pack,
                                .run = run_pack,
                                .close = close_pack };
