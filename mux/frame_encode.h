/* Frames with an event or a gap, encoded in one pass: the very bytes of protobuf-c, several times faster. */
#ifndef GIMUX_FRAME_ENCODE_H
#define GIMUX_FRAME_ENCODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/delimited.h"
#include "proto/gimux.pb-c.h"

#define FRAME_ENCODED_MAX (DELIMITED_PREFIX_MAX + DELIMITED_FRAME_MAX)

struct frame_encoded {
    const uint8_t *data; /* the frame, its length in front; it ends where the buffer ends */
    size_t len;          /* bytes, of both */
    size_t key;          /* where the key begins, from data */
    size_t key_len;      /* 0: the frame has no key */
};

/* Encodes the frame, whose body is an event or a gap, into the end of buf[0..cap). `key` may be NULL, or a
 * text of the event (the same pointer; not one of a list). A oneof that is set must point to its message;
 * unknown fields are left out. Returns false, with *out as it was, if the frame takes more than `cap` bytes
 * or its body more than DELIMITED_FRAME_MAX; a buffer of FRAME_ENCODED_MAX bytes is enough for every frame.
 */
bool frame_encode(const Gimux__V1__Frame *frame, const char *key, uint8_t *buf, size_t cap,
                  struct frame_encoded *out);

#endif
