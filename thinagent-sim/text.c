/* Texts and times as a driver writes them: UTF-16LE and FILETIME for Windows, bytes and nanoseconds for the
 * rest. */
#include "thinagent-sim/text.h"

#include <string.h>

#define FILETIME_EPOCH_SECONDS INT64_C(11644473600) /* 1601-01-01 to 1970-01-01 */
#define REPLACEMENT            0xfffdu

void
text_pool_reset(struct text_pool *pool, uint16_t driver)
{
    pool->wide = gr_driver_is_windows(driver);
    pool->full = false;
    pool->len = 0;
}

/* Reads one character and moves *at behind it; U+FFFD and one byte on for what is malformed. */
static uint32_t
next_character(const uint8_t **at)
{
    static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };
    const uint8_t *p = *at;
    unsigned more = p[0] < 0x80 ? 0 : p[0] >= 0xf0 ? 3 : p[0] >= 0xe0 ? 2 : 1;
    uint32_t c = more == 0 ? p[0] : p[0] & (0x3fu >> more);

    (*at)++;
    if (more > 0 && (p[0] < 0xc2 || p[0] > 0xf4))
        return REPLACEMENT;
    for (unsigned i = 1; i <= more; i++) {
        if ((p[i] & 0xc0) != 0x80) /* the NUL at the end stops here too */
            return REPLACEMENT;
        c = c << 6 | (p[i] & 0x3f);
    }
    if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return REPLACEMENT;
    *at += more;
    return c;
}

/* Writes one UTF-16 unit, if there is room before `end`. */
static uint8_t *
put_unit(uint8_t *out, const uint8_t *end, uint32_t unit)
{
    if (end - out >= 2) {
        out[0] = (uint8_t)unit;
        out[1] = (uint8_t)(unit >> 8);
    }
    return out + 2;
}

/* Returns the bytes that the whole text takes; it was written if they are at most `room`. */
static size_t
put_wide(uint8_t *start, size_t room, const char *utf8)
{
    const uint8_t *at = (const uint8_t *)utf8;
    uint8_t *out = start;

    while (*at != '\0' && (size_t)(out - start) <= room) {
        uint32_t c = next_character(&at);

        if (c >= 0x10000) {
            out = put_unit(out, start + room, 0xd800 + ((c - 0x10000) >> 10));
            c = 0xdc00 + (c & 0x3ff);
        }
        out = put_unit(out, start + room, c);
    }
    return (size_t)(out - start);
}

struct gr_text
text_put(struct text_pool *pool, const char *utf8)
{
    struct gr_text text = { pool->bytes + pool->len, 0 };
    size_t room = sizeof(pool->bytes) - pool->len;
    size_t len;

    if (!utf8)
        return text;
    if (room > GR_MAX_TEXT)
        room = GR_MAX_TEXT;
    if (pool->wide) {
        len = put_wide(pool->bytes + pool->len, room, utf8);
    } else {
        len = strlen(utf8);
        if (len <= room)
            memcpy(pool->bytes + pool->len, utf8, len);
    }
    if (len > room) {
        pool->full = true;
        return text;
    }
    pool->len += len;
    text.len = (uint32_t)len;
    return text;
}

uint64_t
driver_time(uint16_t driver, int64_t unix_ns)
{
    int64_t ticks = unix_ns;

    if (gr_driver_is_windows(driver))
        ticks = unix_ns / 100 + FILETIME_EPOCH_SECONDS * 10000000;
    return ticks > 0 ? (uint64_t)ticks : 0;
}

int64_t
driver_time_to_unix(uint16_t driver, uint64_t time)
{
    const int64_t epoch = FILETIME_EPOCH_SECONDS * 10000000;
    int64_t ticks;

    if (!gr_driver_is_windows(driver))
        return time > INT64_MAX ? INT64_MAX : (int64_t)time;
    ticks = time > INT64_MAX ? INT64_MAX : (int64_t)time;
    if (ticks - epoch > INT64_MAX / 100)
        return INT64_MAX;
    return ticks < epoch && epoch - ticks > INT64_MAX / 100 ? INT64_MIN : (ticks - epoch) * 100;
}
