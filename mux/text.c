/* Texts of guests made fit for protobuf: UTF-16LE or UTF-8, possibly malformed, to valid UTF-8 without NUL.
 */
#include "mux/text.h"

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

/* ---- runs of ASCII, many at a time ---- */

/* Vectors of GCC and clang, whatever the processor. */
typedef uint16_t units_of_block __attribute__((vector_size(16)));
typedef uint8_t bytes_of_block __attribute__((vector_size(16)));
typedef uint8_t bytes_of_units __attribute__((vector_size(8)));

#define BLOCK sizeof(units_of_block) /* bytes of input */

static bool
any(units_of_block bits)
{
    uint64_t half[2];

    memcpy(half, &bits, sizeof(half));
    return (half[0] | half[1]) != 0;
}

/* Copies a block of UTF-16LE, if all of its units are from 0x01 to 0x7f. The subtraction makes 0xffff of 0.
 */
static bool
copy_units(const uint8_t *in, char *out)
{
    units_of_block units;
    bytes_of_units bytes;

    memcpy(&units, in, sizeof(units));
    if (BYTE_ORDER == BIG_ENDIAN)
        units = units << 8 | units >> 8;
    if (any((units | (units - 1)) & 0xff80))
        return false;
    bytes = __builtin_convertvector(units, bytes_of_units);
    memcpy(out, &bytes, sizeof(bytes));
    return true;
}

/* Copies a block of bytes, if all of them are from 0x01 to 0x7f. */
static bool
copy_bytes(const uint8_t *in, char *out)
{
    bytes_of_block bytes;

    memcpy(&bytes, in, sizeof(bytes));
    if (any((units_of_block)((bytes | (bytes - 1)) & 0x80)))
        return false;
    memcpy(out, &bytes, sizeof(bytes));
    return true;
}

/* ---- UTF-16LE ---- */

static uint32_t
unit_at(const uint8_t *in)
{
    return (uint32_t)in[0] | (uint32_t)in[1] << 8;
}

/* Copies the units from 0x01 to 0x7f that come first, as most texts are nothing else; returns how many bytes
 * of input that were. */
static size_t
copy_ascii_units(const uint8_t *in, size_t len, char *out)
{
    size_t at = 0;

    len &= ~(size_t)1;
    while (len - at >= BLOCK && copy_units(in + at, out + at / 2))
        at += BLOCK;
    if (at < len && len - at < BLOCK && len >= BLOCK && copy_units(in + len - BLOCK, out + (len - BLOCK) / 2))
        return len; /* the last block has some units of the one before it once more */
    while (at < len && unit_at(in + at) - 1 < 0x7f) {
        out[at / 2] = (char)in[at];
        at += 2;
    }
    return at;
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

size_t
text_from_utf16le(const uint8_t *in, size_t len, char *out, bool *lossy)
{
    size_t at = 0;
    char *end = out;
    uint32_t c;

    for (;;) {
        size_t ascii = copy_ascii_units(in + at, len - at, end);

        at += ascii;
        end += ascii / 2;
        if (len - at < 2)
            break;
        do {
            at += scalar_at(in + at, len - at, &c, lossy);
            end = put_scalar(end, c);
        } while (c >= 0x80 && len - at >= 2);
    }
    if (at < len) {
        end = put_scalar(end, REPLACEMENT);
        *lossy = true;
    }
    *end = '\0';
    return (size_t)(end - out);
}

/* ---- UTF-8 ---- */

/* Copies the bytes from 0x01 to 0x7f that the text begins with; returns how many. */
static size_t
copy_ascii_bytes(const uint8_t *in, size_t len, char *out)
{
    size_t at = 0;

    while (len - at >= BLOCK && copy_bytes(in + at, out + at))
        at += BLOCK;
    if (at < len && len - at < BLOCK && len >= BLOCK && copy_bytes(in + len - BLOCK, out + len - BLOCK))
        return len; /* as above */
    for (; at < len && in[at] >= 0x01 && in[at] <= 0x7f; at++)
        out[at] = (char)in[at];
    return at;
}

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

size_t
text_from_utf8(const uint8_t *in, size_t len, char *out, bool *lossy)
{
    size_t at = 0;
    char *end = out;

    while (at < len) {
        size_t size = copy_ascii_bytes(in + at, len - at, end);

        at += size;
        end += size;
        while (at < len && (in[at] == 0 || in[at] >= 0x80)) {
            size = sequence_size(in + at, len - at);
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
