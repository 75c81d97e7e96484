/* Normalization: a driver's record becomes a frame with a gimux.v1.Event in OCSF's words. Pure: no socket, no
 * allocation per event. docs/events.md has the table of what becomes of what. */
#ifndef GIMUX_EVENT_NORMALIZE_H
#define GIMUX_EVENT_NORMALIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/event/ntpath.h"
#include "proto/event_class.h"
#include "proto/guest_record.h"

/* The memory that an event is written in (about 1.3 MiB): keep one and use it again. */
struct normalizer;

/* One event, as it goes to SVMs: the frame, its length in front (proto/delimited.h). */
struct normalized {
    const uint8_t *data; /* in the normalizer, until it is used again */
    size_t len;          /* bytes, of both; the frame's own are at most DELIMITED_FRAME_MAX */
    size_t key;          /* what filters look at, a text of the event: from data; a file event's path, the */
    size_t key_len;      /* UUID of the VM that a power event is about; 0 bytes: there is none */
    enum event_class cls;
};

struct normalizer *normalizer_new(void); /* aborts when out of memory: called once, at start */
void normalizer_free(struct normalizer *normalizer);

/* Makes the event of one record (an event type; decoded by gr_decode; from a driver of kind `driver`).
 * `stream` is gimuxd's number of the stream. `volumes` may be NULL. Never fails: what the guest says wrongly
 * becomes lossy text, clamped time, or activity 99. */
void normalize_record(struct normalizer *normalizer, const struct gr_record *record, uint16_t driver,
                      const struct volume_map *volumes, uint32_t stream, struct normalized *event);

/* Makes gimuxd's own event about a driver's link: up (activity Start) or down (Stop). Texts are UTF-8 of at
 * most GR_MAX_TEXT bytes together; `reason` may be NULL. time is Unix nanoseconds. */
void normalize_lifecycle(struct normalizer *normalizer, uint32_t stream, uint64_t sequence, int64_t time,
                         bool up, uint16_t driver, const uint8_t boot_id[GR_UUID_SIZE], const char *reason,
                         const char *door, struct normalized *event);

#endif
