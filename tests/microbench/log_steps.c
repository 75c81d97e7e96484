/* The steps of a VM log: append, and send from a sink's cursor and acknowledge. Nothing is copied and nothing
 * is written to a socket: this is what the bookkeeping costs. */
#include <stdlib.h>

#include "mux/event/normalize.h"
#include "mux/vmlog/inner.h"
#include "proto/delimited.h"
#include "tests/microbench/step.h"
#include "thinagent-sim/memory.h"

#define CONNECTION 1u
#define PIECES     64
#define SEND_BYTES ((size_t)64 * 1024) /* that one turn sends, about MIX_BATCH frames of each of some VMs */

static struct mix *mix;
static struct vmlog_pool pool;
static struct vmlog vmlog;
static struct vmlog_stream stream;
static struct vmlog_entry *entries; /* of all events, as the route fills them */
static size_t *lengths;             /* of their frames */

static void
send_all(void)
{
    const struct vmlog_filter filter = { .class_mask = CLASS_MASK_ALL | 1u << VMLOG_GAP };

    for (unsigned sink = 0; sink < STEP_SINKS; sink++) {
        while (vmlog_has_more(&vmlog, sink)) {
            struct iovec iov[PIECES];
            struct vmlog_batch batch = { .iov = iov, .max = PIECES };
            struct vmlog_stream *unknown;
            struct iovec rest;

            if (vmlog_peek(&vmlog, sink, &filter, CONNECTION, &batch, SEND_BYTES, &unknown) != VMLOG_FRAMES)
                vmlog_announce(unknown, sink, CONNECTION);
            vmlog_sent(&vmlog, sink, batch.bytes, &rest);
            if (!vmlog_ack(&vmlog, sink, &stream, stream.sinks[sink].sent))
                abort();
        }
    }
}

static void
run_append(void)
{
    for (size_t i = 0; i < mix->count; i++) {
        struct vmlog_entry entry = entries[i];

        if (!vmlog_reserve(&vmlog, lengths[i], false))
            abort();
        entry.sequence = stream.last + 1;
        vmlog_commit(&vmlog, &entry);
    }
}

static void
fill_entries(void)
{
    struct normalizer *normalizer = normalizer_new();

    entries = must_calloc(mix->count, sizeof(*entries));
    lengths = must_calloc(mix->count, sizeof(*lengths));
    for (size_t i = 0; i < mix->count; i++) {
        const struct mix_event *in = &mix->events[i];
        struct normalized event;

        normalize_record(normalizer, &in->record, in->stream->driver, mix_volumes(in), 7, &event);
        lengths[i] = event.len;
        entries[i] = (struct vmlog_entry){ .stream = &stream,
                                           .count = 1,
                                           .end = (uint32_t)lengths[i],
                                           .record_bytes = in->record.size,
                                           .cls = (uint8_t)event.cls };
    }
    normalizer_free(normalizer);
}

static void
open_log(struct mix *of)
{
    mix = of;
    pool = (struct vmlog_pool){ .limit = (size_t)64 << 20 };
    stream = (struct vmlog_stream){ .id = 1 };
    fill_entries();
    vmlog_init(&vmlog, &pool);
    if (!vmlog_make_slots(&vmlog, STEP_SINKS) || !vmlog_stream_make_slots(&stream, STEP_SINKS))
        abort();
    for (unsigned sink = 0; sink < STEP_SINKS; sink++) {
        vmlog_join(&vmlog, sink);
        vmlog_join_stream(&stream, sink);
    }
}

static void
close_log(void)
{
    vmlog_fini(&vmlog);
    vmlog_stream_fini(&stream);
    vmlog_pool_fini(&pool);
    free(entries);
    free(lengths);
}

static void
refill(void)
{
    send_all();
    run_append();
}

const struct step step_append = { .name = "append",
                                  .what = "vmlog_reserve, vmlog_commit: an entry in the VM's log",
                                  .times = 1,
                                  .open = open_log,
                                  .prepare = send_all,
                                  .run = run_append,
                                  .close = close_log };

const struct step step_send = { .name = "send",
                                .what = "vmlog_peek, _sent, _ack: a delivery from a cursor",
                                .times = STEP_SINKS,
                                .open = open_log,
                                .prepare = refill,
                                .run = send_all,
                                .close = close_log };
