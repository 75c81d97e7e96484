/* Fields of a protobuf message, written from the end of a buffer to its front.
 *
 * A message inside a message is preceded by its length. Whoever writes from the front must know that length
 * first, which is why protobuf-c goes through everything twice or, for what is nested, more often. Here all
 * is written from the last byte to the first: the last field first, a message before its length, a length
 * before its tag. In that order, with the fields by falling numbers, the bytes are those of protobuf-c.
 *
 * `at` is where what is written begins, and each function returns where it begins now. None of them checks
 * for room: the caller's buffer has enough for the longest message. The encoding is that of
 * https://protobuf.dev/programming-guides/encoding/. A field with its default value is not written. */
#ifndef GIMUX_EVENT_FIELD_H
#define GIMUX_EVENT_FIELD_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum field_wire { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_LENGTH = 2 };

/* put_varint for numbers of more than 14 bits. */
uint8_t *field_put_long(uint8_t *at, uint64_t value);

static inline uint8_t *
put_varint(uint8_t *at, uint64_t value)
{
    if (value < 0x80) {
        *--at = (uint8_t)value;
        return at;
    }
    if (value >= 0x4000)
        return field_put_long(at, value);
    *--at = (uint8_t)(value >> 7);
    *--at = (uint8_t)(value | 0x80);
    return at;
}

static inline uint8_t *
put_tag(uint8_t *at, unsigned field, enum field_wire wire)
{
    return put_varint(at, field << 3 | wire);
}

/* Numbers without a sign, bools (0 or 1), and enums that are not negative. */
static inline uint8_t *
put_number(uint8_t *at, unsigned field, uint64_t value)
{
    return value == 0 ? at : put_tag(put_varint(at, value), field, WIRE_VARINT);
}

static inline uint8_t *
put_sint32(uint8_t *at, unsigned field, int32_t value)
{
    return put_number(at, field, (uint32_t)value << 1 ^ (value < 0 ? UINT32_MAX : 0));
}

static inline uint8_t *
put_sfixed64(uint8_t *at, unsigned field, int64_t value)
{
    uint64_t little = htole64((uint64_t)value);

    if (value == 0)
        return at;
    return put_tag(memcpy(at - sizeof(little), &little, sizeof(little)), field, WIRE_FIXED64);
}

/* A text, bytes or a message has been written: all from `at` up to `end`. */
static inline uint8_t *
put_length(uint8_t *at, unsigned field, const uint8_t *end)
{
    return put_tag(put_varint(at, (uint64_t)(end - at)), field, WIRE_LENGTH);
}

/* Texts and bytes. One that is an element of a list is written though it is empty. */
static inline uint8_t *
put_element(uint8_t *at, unsigned field, const void *data, size_t len)
{
    return put_length(memcpy(at - len, data, len), field, at);
}

static inline uint8_t *
put_bytes(uint8_t *at, unsigned field, const void *data, size_t len)
{
    return len == 0 ? at : put_element(at, field, data, len);
}

#endif
