/* Fields of a protobuf message, written from the end of a buffer to its front: numbers of several bytes. */
#include "mux/event/field.h"

uint8_t *
field_put_long(uint8_t *at, uint64_t value)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll(value);
    unsigned size = bits * 9 / 64 + 1; /* 7 bits a byte, without a division by 7 */
    uint8_t *out;

    at -= size;
    for (out = at; value >= 0x80; value >>= 7)
        *out++ = (uint8_t)(value | 0x80);
    *out = (uint8_t)value;
    return at;
}
