/* Texts of guests made fit for protobuf: UTF-16LE or UTF-8, possibly malformed, to valid UTF-8 without NUL.
 */
#include "mux/event/text.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

#define REPLACEMENT 0xfffdu

/* Writes one scalar value as UTF-8 and returns the end of it. */
static char *
put_scalar(char *out, uint32_t c)
{
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
        *out++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *out++ = (char)(0xe0 | c >> 12);
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    } else {
        *out++ = (char)(0xf0 | c >> 18);
        *out++ = (char)(0x80 | (c >> 12 & 0x3f));
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    }
    return out;
}

/* ---- ASCII, many at a time: most texts are nothing else ---- */

/* Vectors of GCC and clang, whatever the processor. */
typedef uint16_t units_of_block __attribute__((vector_size(16)));
typedef uint16_t units_of_pair __attribute__((vector_size(32)));
typedef uint8_t bytes_of_block __attribute__((vector_size(16)));
typedef uint8_t bytes_of_units __attribute__((vector_size(8)));

#define BLOCK sizeof(units_of_block) /* bytes of input */

static inline bool
any(units_of_block bits)
{
    uint64_t half[2];

    memcpy(half, &bits, sizeof(half));
    return (half[0] | half[1]) != 0;
}

/* Copies a block of UTF-16LE; that was right if the result is 0, else not all of its units are from 0x01 to
 * 0x7f. The subtraction makes 0xffff of 0. */
static inline units_of_block
copy_units(const uint8_t *in, char *out)
{
    units_of_block units;
    bytes_of_units bytes;

    memcpy(&units, in, sizeof(units));
    if (BYTE_ORDER == BIG_ENDIAN)
        units = units << 8 | units >> 8;
    bytes = __builtin_convertvector(units, bytes_of_units);
    memcpy(out, &bytes, sizeof(bytes));
    return (units | (units - 1)) & 0xff80;
}

/* The same for a block of bytes. */
static inline units_of_block
copy_bytes(const uint8_t *in, char *out)
{
    bytes_of_block bytes;

    memcpy(&bytes, in, sizeof(bytes));
    memcpy(out, &bytes, sizeof(bytes));
    return (units_of_block)((bytes | (bytes - 1)) & 0x80);
}

/* ---- UTF-16LE ---- */

static uint32_t
unit_at(const uint8_t *in)
{
    return (uint32_t)in[0] | (uint32_t)in[1] << 8;
}

/* Sets *c to the scalar value that in[0..len), at least a unit, begins with, and returns its bytes. */
static size_t
scalar_at(const uint8_t *in, size_t len, uint32_t *c, bool *lossy)
{
    uint32_t low = 0;

    *c = unit_at(in);
    if (*c >= 0xd800 && *c <= 0xdbff && len >= 4)
        low = unit_at(in + 2);
    if (low >= 0xdc00 && low <= 0xdfff) {
        *c = 0x10000 + ((*c - 0xd800) << 10) + (low - 0xdc00);
        return 4;
    }
    if (*c == 0 || (*c >= 0xd800 && *c <= 0xdfff)) {
        *c = REPLACEMENT;
        *lossy = true;
    }
    return 2;
}

/* A text that is not ASCII alone: where a block cannot be copied, as many letters are looked at one by one.
 */
static __attribute__((noinline)) size_t
mixed_from_utf16le(const uint8_t *in, size_t len, char *out, bool *lossy)
{
    size_t at = 0;
    char *end = out;
    uint32_t c;

    while (len - at >= 2) {
        while (len - at >= BLOCK && !any(copy_units(in + at, end))) {
            at += BLOCK;
            end += BLOCK / 2;
        }
        for (size_t i = 0; i < BLOCK / 2 && len - at >= 2; i++) {
            at += scalar_at(in + at, len - at, &c, lossy);
            end = put_scalar(end, c);
        }
    }
    if (at < len) {
        end = put_scalar(end, REPLACEMENT);
        *lossy = true;
    }
    *end = '\0';
    return (size_t)(end - out);
}

/* Whether the text, shorter than a block, was copied because all of it is from 0x01 to 0x7f. */
static inline bool
copy_few_units(const uint8_t *in, size_t len, char *out)
{
    size_t at = 0;

    for (; len - at >= 2 && unit_at(in + at) - 1 < 0x7f; at += 2)
        out[at / 2] = (char)in[at];
    return at == len;
}

/* Two blocks at a time: collects in *high all bits of their units, in *low those that judge their bytes, of
 * which the subtraction makes 0xff of 0. */
static inline void
copy_pair(const uint8_t *in, char *out, units_of_block *high, bytes_of_block *low)
{
    units_of_pair units;
    units_of_block half[2];
    bytes_of_block bytes;

    memcpy(&units, in, sizeof(units));
    if (BYTE_ORDER == BIG_ENDIAN)
        units = units << 8 | units >> 8;
    memcpy(half, &units, sizeof(half));
    bytes = __builtin_convertvector(units, bytes_of_block);
    memcpy(out, &bytes, sizeof(bytes));
    *high |= half[0] | half[1];
    *low |= bytes | (bytes - 1);
}

/* Whether the text, at least a block, was. Its last block may have units of the one before it once more. */
static inline bool
copy_many_units(const uint8_t *in, size_t len, char *out)
{
    units_of_block bad = copy_units(in + len - BLOCK, out + (len - BLOCK) / 2);
    units_of_block high = { 0 };
    bytes_of_block low = { 0 };
    const uint8_t *last = in + len - BLOCK;

    for (; in + BLOCK <= last; in += 2 * BLOCK, out += BLOCK)
        copy_pair(in, out, &high, &low);
    if (in < last)
        bad |= copy_units(in, out);
    return !any(bad | (high & 0xff00) | (units_of_block)(low & 0x80));
}

bool
text_copy_utf16le(const uint8_t *in, size_t len, char *out)
{
    return len % 2 == 0 && (len < BLOCK ? copy_few_units(in, len, out) : copy_many_units(in, len, out));
}

size_t
text_from_utf16le(const uint8_t *in, size_t len, char *out, bool *lossy)
{
    if (!text_copy_utf16le(in, len, out))
        return mixed_from_utf16le(in, len, out, lossy);
    out[len / 2] = '\0';
    return len / 2;
}

/* ---- UTF-8 ---- */

/* Bytes of the well-formed sequence at the start of in[0..len), or 0 (The Unicode Standard, table 3-7). The
 * lead byte bounds the second byte, which keeps out overlong forms, surrogates and what is over 0x10FFFF. */
static size_t
sequence_size(const uint8_t *in, size_t len)
{
    uint8_t lead = in[0];
    uint8_t min = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    uint8_t max = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    size_t size;

    if (lead >= 0x01 && lead <= 0x7f)
        return 1;
    if (lead >= 0xc2 && lead <= 0xdf)
        size = 2;
    else if (lead >= 0xe0 && lead <= 0xef)
        size = 3;
    else if (lead >= 0xf0 && lead <= 0xf4)
        size = 4;
    else
        return 0;
    if (len < size || in[1] < min || in[1] > max)
        return 0;
    for (size_t i = 2; i < size; i++)
        if ((in[i] & 0xc0) != 0x80)
            return 0;
    return size;
}

static __attribute__((noinline)) size_t
mixed_from_utf8(const uint8_t *in, size_t len, char *out, bool *lossy)
{
    size_t at = 0;
    char *end = out;

    while (at < len) {
        while (len - at >= BLOCK && !any(copy_bytes(in + at, end))) {
            at += BLOCK;
            end += BLOCK;
        }
        for (size_t i = 0; i < BLOCK && at < len; i++) {
            size_t size = sequence_size(in + at, len - at);

            if (size == 0) {
                end = put_scalar(end, REPLACEMENT);
                *lossy = true;
                at++;
            } else {
                end = mempcpy(end, in + at, size);
                at += size;
            }
        }
    }
    *end = '\0';
    return (size_t)(end - out);
}

/* As for UTF-16LE. */
static inline bool
copy_few_bytes(const uint8_t *in, size_t len, char *out)
{
    size_t at = 0;

    for (; at < len && in[at] >= 0x01 && in[at] <= 0x7f; at++)
        out[at] = (char)in[at];
    return at == len;
}

static inline bool
copy_many_bytes(const uint8_t *in, size_t len, char *out)
{
    units_of_block bad = copy_bytes(in + len - BLOCK, out + len - BLOCK);

    for (size_t at = 0; at < len - BLOCK; at += BLOCK)
        bad |= copy_bytes(in + at, out + at);
    return !any(bad);
}

bool
text_copy_utf8(const uint8_t *in, size_t len, char *out)
{
    return len < BLOCK ? copy_few_bytes(in, len, out) : copy_many_bytes(in, len, out);
}

size_t
text_from_utf8(const uint8_t *in, size_t len, char *out, bool *lossy)
{
    if (!text_copy_utf8(in, len, out))
        return mixed_from_utf8(in, len, out, lossy);
    out[len] = '\0';
    return len;
}

void
text_show(const uint8_t *said, size_t len, bool utf16, char *out, size_t cap)
{
    char buf[TEXT_ROOM(TEXT_SHOWN_MAX)];
    size_t most = utf16 ? cap * 2 : cap; /* each unit becomes a byte or more: what is behind does not fit */
    bool lossy = false;

    assert(cap > 0 && cap <= TEXT_SHOWN_MAX);
    if (len > most)
        len = most;
    len = utf16 ? text_from_utf16le(said, len, buf, &lossy) : text_from_utf8(said, len, buf, &lossy);
    if (len >= cap) {
        len = cap - 1;
        while (((unsigned char)buf[len] & 0xc0) ==
               0x80) /* a character goes beyond: its first byte is before */
            len--;
    }
    memcpy(out, buf, len);
    out[len] = '\0';
}
