/* The mix: the events of some traces, in the order in which they would come from many drivers. */
#ifndef GIMUX_MICROBENCH_MIX_H
#define GIMUX_MICROBENCH_MIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/event/ntpath.h"
#include "proto/guest_record.h"

#define MIX_STREAMS_MAX 16
#define MIX_BATCH       32u /* records that one read brings, at most */

struct mix_stream {
    uint16_t driver;
    uint8_t vm_uuid[GR_UUID_SIZE];
    uint8_t *opening; /* what the driver says first: HELLO, VOLUMES */
    size_t opening_len;
    bool has_volumes;
    struct volume_map volumes;
};

struct mix_event {
    const struct mix_stream *stream;
    size_t at;               /* of its record in bytes */
    struct gr_record record; /* decoded; texts point into bytes */
};

/* Consecutive events of one stream, whose records lie back to back. */
struct mix_batch {
    unsigned stream; /* index */
    size_t first;    /* event */
    size_t count;
    size_t at; /* in bytes */
    size_t len;
};

struct mix {
    struct mix_stream streams[MIX_STREAMS_MAX];
    unsigned stream_count;
    uint8_t *bytes; /* the records of all events */
    size_t len;
    struct mix_event *events;
    size_t count;
    struct mix_batch *batches;
    size_t batch_count;
};

/* Reads the traces and takes turns between their streams, a batch each. Exits with a message if it cannot. */
void mix_read(struct mix *mix, char *const *paths, int count);
void mix_free(struct mix *mix);

/* What the event's driver said in VOLUMES, or NULL. */
static inline const struct volume_map *
mix_volumes(const struct mix_event *event)
{
    return event->stream->has_volumes ? &event->stream->volumes : NULL;
}

#endif
