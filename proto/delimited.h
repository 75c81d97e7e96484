/* Frame lengths: the varint before every frame on an SVM connection (protobuf's "delimited" form). */
#ifndef GIMUX_DELIMITED_H
#define GIMUX_DELIMITED_H

#include <stddef.h>
#include <stdint.h>

/* The largest frame in bytes, its length prefix not counted. */
#define DELIMITED_FRAME_MAX ((size_t)1 << 20)

/* The longest prefix that a length of at most DELIMITED_FRAME_MAX takes, in bytes. */
#define DELIMITED_PREFIX_MAX ((size_t)3)

enum delimited_result {
    DELIMITED_FRAME, /* a whole frame is there */
    DELIMITED_MORE,  /* not yet: read on */
    DELIMITED_BAD,   /* no length, or one over the limit: close the connection */
};

/* Looks for one frame at the start of buf[0..len).
 * On DELIMITED_FRAME, *body points into buf and *body_len is the frame's length without its prefix; the frame
 * takes (*body - buf) + *body_len bytes of buf. `max` (bytes, at most DELIMITED_FRAME_MAX) bounds the length
 * that is accepted. A zero length is a frame: an empty message. On the other results nothing is written. */
enum delimited_result delimited_next(const uint8_t *buf, size_t len, size_t max, const uint8_t **body,
                                     size_t *body_len);

/* Bytes that the prefix of a frame of `len` bytes takes. */
size_t delimited_prefix_size(size_t len);

/* Writes the prefix for a frame of `len` bytes (at most DELIMITED_FRAME_MAX) to out, which must have room for
 * DELIMITED_PREFIX_MAX bytes. Returns the number of bytes written. */
size_t delimited_put_prefix(uint8_t *out, size_t len);

#endif
