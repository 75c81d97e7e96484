/* One gimux.v1.Frame at a time: gimuxd's own small ones packed for the wire, the SVMs' unpacked in bounded
 * memory. */
#ifndef GIMUX_EVENT_FRAME_H
#define GIMUX_EVENT_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/delimited.h"
#include "proto/gimux.pb-c.h"

#define FRAME_OWN_MAX      4096u /* bytes of a frame of gimuxd's own that is no event, its length included */
#define FRAME_UNPACKED_MAX (4 * DELIMITED_FRAME_MAX)

/* Packs the frame, its length in front, into buf. Returns the bytes written, or 0 if cap is too small. */
size_t frame_pack(const Gimux__V1__Frame *frame, uint8_t *buf, size_t cap);

/* A Gap as a frame: sequences first .. last of the stream, and why (Gimux__V1__GapReason). */
struct frame_gap {
    Gimux__V1__Frame frame; /* valid as long as the struct stays where it is */
    Gimux__V1__Gap gap;
};
const Gimux__V1__Frame *frame_make_gap(struct frame_gap *out, uint32_t stream, uint64_t first, uint64_t last,
                                       uint32_t reason);

/* The same packed, as by frame_pack. Returns the bytes written. */
size_t frame_gap(uint8_t buf[FRAME_OWN_MAX], uint32_t stream, uint64_t first, uint64_t last, uint32_t reason);

/* Unpacks a frame's body. NULL if it is malformed, or takes more than FRAME_UNPACKED_MAX bytes of memory:
 * messages inside a frame may be much larger in memory than on the wire. To be freed with
 * gimux__v1__frame__free_unpacked(frame, NULL). */
Gimux__V1__Frame *frame_unpack(const uint8_t *body, size_t len);

/* An Ack, of which SVMs send one all the time, read where it is. */
struct frame_acks {
    const uint8_t *at;
    const uint8_t *end;
};

/* Whether the frame's body is an Ack as encoders write it: each field once and in order, and none that is not
 * known. Then frame_acks_next gives its streams one after the other, and false at the end. Any other body is
 * for frame_unpack. */
bool frame_acks_begin(struct frame_acks *acks, const uint8_t *body, size_t len);
bool frame_acks_next(struct frame_acks *acks, uint32_t *stream, uint64_t *sequence);

#endif
