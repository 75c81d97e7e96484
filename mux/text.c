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

/* ---- UTF-16LE ---- */

static uint32_t
unit_at(const uint8_t *in)
{
    return (uint32_t)in[0] | (uint32_t)in[1] << 8;
}

/* Copies units from 0x01 to 0x7f, four at a time, as most texts are nothing else; returns how many bytes of
 * input that were. The subtraction borrows into the high bits of a unit that is 0. */
static size_t
copy_ascii_units(const uint8_t *in, size_t len, char *out)
{
    const uint64_t ones = UINT64_C(0x0001000100010001);
    const uint64_t not_ascii = UINT64_C(0xff80ff80ff80ff80);
    size_t at = 0;

    for (; len - at >= 8; at += 8) {
        uint64_t units;
        uint32_t bytes;

        memcpy(&units, in + at, sizeof(units));
        units = le64toh(units);
        if ((units | (units - ones)) & not_ascii)
            break;
        units = (units | units >> 8) & UINT64_C(0x0000ffff0000ffff);
        bytes = htole32((uint32_t)(units | units >> 16));
        memcpy(out + at / 2, &bytes, sizeof(bytes));
    }
    return at;
}

size_t
text_from_utf16le(const uint8_t *in, size_t len, char *out, bool *lossy)
{
    size_t at = copy_ascii_units(in, len, out);
    char *end = out + at / 2;

    while (len - at >= 2) {
        uint32_t c = unit_at(in + at);
        uint32_t low = 0;

        at += 2;
        if (c >= 0xd800 && c <= 0xdbff && len - at >= 2)
            low = unit_at(in + at);
        if (low >= 0xdc00 && low <= 0xdfff) {
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            at += 2;
        } else if (c == 0 || (c >= 0xd800 && c <= 0xdfff)) {
            c = REPLACEMENT;
            *lossy = true;
        }
        end = put_scalar(end, c);
    }
    if (at < len) {
        end = put_scalar(end, REPLACEMENT);
        *lossy = true;
    }
    *end = '\0';
    return (size_t)(end - out);
}

/* ---- UTF-8 ---- */

/* Copies bytes from 0x01 to 0x7f, eight at a time; returns how many. */
static size_t
copy_ascii_bytes(const uint8_t *in, size_t len, char *out)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t not_ascii = UINT64_C(0x8080808080808080);
    size_t at = 0;

    for (; len - at >= 8; at += 8) {
        uint64_t bytes;

        memcpy(&bytes, in + at, sizeof(bytes));
        if ((bytes | (bytes - ones)) & not_ascii)
            break;
        memcpy(out + at, &bytes, sizeof(bytes));
    }
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
    size_t at = copy_ascii_bytes(in, len, out);
    char *end = out + at;

    while (at < len) {
        size_t size = sequence_size(in + at, len - at);

        if (size == 0) {
            end = put_scalar(end, REPLACEMENT);
            *lossy = true;
            at++;
            continue;
        }
        memcpy(end, in + at, size);
        end += size;
        at += size;
    }
    *end = '\0';
    return (size_t)(end - out);
}
