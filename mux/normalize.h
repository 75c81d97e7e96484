/* Normalization: a driver's record becomes a gimux.v1.Event in OCSF's words. Pure: no socket, no allocation
 * per event. docs/events.md has the table of what becomes of what. */
#ifndef GIMUX_NORMALIZE_H
#define GIMUX_NORMALIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/ntpath.h"
#include "proto/event_class.h"
#include "proto/gimux.pb-c.h"
#include "proto/guest_record.h"

/* One event, ready to be packed. Holds the memory that its texts need (about 900 KiB): keep one and use it
 * again. What it points to lives until the next call with it. */
struct normalized;

struct normalized *normalized_new(void); /* aborts when out of memory: called once, at start */
void normalized_free(struct normalized *event);

/* Makes the event of one record (an event type; decoded by gr_decode; from a driver of kind `driver`).
 * `stream` is gimuxd's number of the stream. `volumes` may be NULL. Never fails: what the guest says wrongly
 * becomes lossy text, clamped time, or activity 99. */
void normalize_record(struct normalized *event, const struct gr_record *record, uint16_t driver,
                      const struct volume_map *volumes, uint32_t stream);

/* Makes gimuxd's own event about a driver's link: up (activity Start) or down (Stop). Texts are UTF-8 and are
 * not copied; `reason` may be NULL. time is Unix nanoseconds. */
void normalize_lifecycle(struct normalized *event, uint32_t stream, uint64_t sequence, int64_t time, bool up,
                         uint16_t driver, const uint8_t boot_id[GR_UUID_SIZE], const char *reason,
                         const char *door);

/* The whole frame; its body is the event. */
const Gimux__V1__Frame *normalized_frame(const struct normalized *event);

enum event_class normalized_class(const struct normalized *event);

/* What filters look at, a text of the event: the path of a file event, the UUID of the VM that a power event
 * is about; NULL if there is none. */
const char *normalized_key(const struct normalized *event);

#endif
