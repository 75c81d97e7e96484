/* Frame lengths: the varint before every frame on an SVM connection (protobuf's "delimited" form). */
#include "proto/delimited.h"

#include <assert.h>

static_assert(DELIMITED_FRAME_MAX < ((size_t)1 << (7 * DELIMITED_PREFIX_MAX)),
              "prefix holds the largest frame");

enum delimited_result
delimited_next(const uint8_t *buf, size_t len, size_t max, const uint8_t **body, size_t *body_len)
{
    size_t value = 0;
    size_t used = 0;

    for (;;) {
        if (used == DELIMITED_PREFIX_MAX)
            return DELIMITED_BAD;
        if (used == len)
            return DELIMITED_MORE;
        value |= (size_t)(buf[used] & 0x7f) << (7 * used);
        if (!(buf[used++] & 0x80))
            break;
    }
    if (value > max)
        return DELIMITED_BAD;
    if (len - used < value)
        return DELIMITED_MORE;
    *body = buf + used;
    *body_len = value;
    return DELIMITED_FRAME;
}

size_t
delimited_prefix_size(size_t len)
{
    size_t size = 1;

    while (len >>= 7)
        size++;
    return size;
}

size_t
delimited_put_prefix(uint8_t *out, size_t len)
{
    size_t used = 0;

    assert(len <= DELIMITED_FRAME_MAX);
    while (len >= 0x80) {
        out[used++] = (uint8_t)(len | 0x80);
        len >>= 7;
    }
    out[used++] = (uint8_t)len;
    return used;
}
