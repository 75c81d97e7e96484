/* Guest records: the little-endian binary messages between a driver in a guest and gimuxd; one codec for both
 * ends.
 *
 * The tables of guest_fields.h say for every type which fields its body has, in the order of the wire;
 * decoding and encoding read the same table, so they cannot disagree. */
#include "proto/guest_record.h"

#include <assert.h>
#include <endian.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/guest_fields.h"

static_assert(GR_MAX_TEXT <= UINT16_MAX, "a text's length is a u16 on the wire");

static const struct type_info *
type_info(uint16_t type)
{
    if (gr_type_is_event(type))
        return &event_types[type - GR_EVENT_FIRST];
    if (type >= GR_HELLO && type < sizeof(control_types) / sizeof(control_types[0]))
        return &control_types[type];
    return NULL;
}

/* ---- little-endian numbers at any alignment ---- */

static uint64_t
get_number(const uint8_t *at, size_t width)
{
    uint64_t value = 0;

    memcpy(&value, at, width);
    return le64toh(value);
}

static void
put_number(uint8_t *at, size_t width, uint64_t value)
{
    value = htole64(value);
    memcpy(at, &value, width);
}

/* Bytes that a field takes in the fixed part. */
static size_t
field_width(uint8_t kind)
{
    static const uint8_t width[] = {
        [U8] = 1, [U16] = 2, [U32] = 4, [U64] = 8, [BYTES16] = 16, [TEXT] = 2, [LONG_TEXT] = 4
    };

    return width[kind];
}

/* Numbers in struct gr_record have their own width, in the host's order. */
static uint64_t
load_number(const uint8_t *member, uint8_t kind)
{
    switch (kind) {
    case U8:
        return *member;
    case U16: {
        uint16_t value;
        memcpy(&value, member, sizeof(value));
        return value;
    }
    case U32: {
        uint32_t value;
        memcpy(&value, member, sizeof(value));
        return value;
    }
    default: {
        uint64_t value;
        memcpy(&value, member, sizeof(value));
        return value;
    }
    }
}

static void
store_number(uint8_t *member, uint8_t kind, uint64_t value)
{
    uint8_t u8 = (uint8_t)value;
    uint16_t u16 = (uint16_t)value;
    uint32_t u32 = (uint32_t)value;

    switch (kind) {
    case U8:
        memcpy(member, &u8, sizeof(u8));
        break;
    case U16:
        memcpy(member, &u16, sizeof(u16));
        break;
    case U32:
        memcpy(member, &u32, sizeof(u32));
        break;
    default:
        memcpy(member, &value, sizeof(value));
        break;
    }
}

/* ---- decode ---- */

static enum gr_result __attribute__((format(printf, 2, 3)))
invalid(char why[GR_WHY_MAX], const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why, GR_WHY_MAX, format, args);
    va_end(args);
    return GR_INVALID;
}

static enum gr_result
decode_body(const struct type_info *info, const uint8_t *body, size_t len, struct gr_record *record,
            char why[GR_WHY_MAX])
{
    const struct field *field;
    size_t at = 0;
    size_t text_at;

    for (field = info->fields; field->kind != END; field++) {
        size_t width = field_width(field->kind);
        uint8_t *member = (uint8_t *)record + field->offset;
        uint64_t value;

        if (len - at < width)
            return invalid(why, "%s record too short: %zu bytes of body end inside its fixed part",
                           info->name, len);
        if (field->kind == BYTES16) {
            memcpy(member, body + at, width);
        } else {
            value = get_number(body + at, width);
            if (field->kind == TEXT || field->kind == LONG_TEXT)
                ((struct gr_text *)(void *)member)->len = (uint32_t)value;
            else if (field->max != 0 && (value < field->min || value > field->max))
                return invalid(why, "%s record: the number at byte %zu is %llu, expected %u to %u",
                               info->name, at + GR_HEADER_SIZE, (unsigned long long)value, field->min,
                               field->max);
            else
                store_number(member, field->kind, value);
        }
        at += width;
    }
    text_at = at;
    for (field = info->fields; field->kind != END; field++) {
        struct gr_text *text = (struct gr_text *)(void *)((uint8_t *)record + field->offset);

        if (field->kind != TEXT && field->kind != LONG_TEXT)
            continue;
        if (field->kind == TEXT && text->len > GR_MAX_TEXT)
            return invalid(why, "%s record: a text of %u bytes, expected at most %u", info->name, text->len,
                           GR_MAX_TEXT);
        if (text->len > len - text_at)
            return invalid(why, "%s record: a text of %u bytes, but only %zu are left in the record",
                           info->name, text->len, len - text_at);
        text->data = body + text_at;
        text_at += text->len;
    }
    return GR_OK;
}

/* A number in the fixed part, by its kind: for decode_fields, where the kind is a constant. */
static inline uint64_t
get_kind(const uint8_t *at, uint8_t kind)
{
    return kind == U8    ? get_number(at, 1)
           : kind == U16 ? get_number(at, 2)
           : kind == U32 ? get_number(at, 4)
                         : get_number(at, 8);
}

/* Does the same as decode_body, with the table as a constant: once it is unrolled, only loads, stores and
 * comparisons are left. False if anything is wrong; decode_body will find it again, and say what it is. */
static inline __attribute__((always_inline)) bool
decode_fields(const struct field *fields, size_t count, const uint8_t *body, size_t len,
              struct gr_record *record)
{
    const uint8_t *at = body;
    size_t fixed = 0;
    size_t left;

#pragma GCC unroll 32
    for (size_t i = 0; i < count; i++)
        fixed += field_width(fields[i].kind);
    if (len < fixed)
        return false;
    body += fixed; /* where the texts are */
    left = len - fixed;
#pragma GCC unroll 32
    for (size_t i = 0; i < count; i++) {
        const struct field *field = &fields[i];
        uint8_t *member = (uint8_t *)record + field->offset;

        if (field->kind == BYTES16) {
            memcpy(member, at, 16);
        } else if (field->kind == TEXT) {
            struct gr_text *text = (struct gr_text *)(void *)member;
            uint32_t text_len = (uint32_t)get_kind(at, U16);

            if (text_len > GR_MAX_TEXT || text_len > left)
                return false;
            text->data = body;
            text->len = text_len;
            body += text_len;
            left -= text_len;
        } else {
            uint64_t value = get_kind(at, field->kind);

            if (field->max != 0 && (value < field->min || value > field->max))
                return false;
            store_number(member, field->kind, value);
        }
        at += field_width(field->kind);
    }
    return true;
}

/* Most records are events. False for other types, and if anything is wrong. */
static bool
decode_event(const uint8_t *body, size_t len, struct gr_record *record)
{
#define DECODE(fields) decode_fields(fields, sizeof(fields) / sizeof((fields)[0]) - 1, body, len, record)
    switch (record->type) {
    case GR_FILE:
        return DECODE(file_fields);
    case GR_NET:
        return DECODE(net_fields);
    case GR_DNS:
        return DECODE(dns_fields);
    case GR_PROCESS:
        return DECODE(process_fields);
    case GR_LOGON:
        return DECODE(logon_fields);
    default:
        return false;
    }
#undef DECODE
}

static bool
is_sequence(uint64_t number)
{
    return number - 1 < GR_SEQUENCE_MAX;
}

static enum gr_result
bad_sequence(char why[GR_WHY_MAX], uint16_t type, const char *what, uint64_t number)
{
    return invalid(why, "%s record: %s %llu, expected 1 to %llu", gr_type_name(type), what,
                   (unsigned long long)number, (unsigned long long)GR_SEQUENCE_MAX);
}

/* Checks what the tables cannot express. */
static enum gr_result
check_body(const struct gr_record *record, char why[GR_WHY_MAX])
{
    const struct gr_volumes *volumes = &record->body.volumes;
    struct gr_volume volume;
    size_t at = 0;
    uint32_t count = 0;

    switch (record->type) {
    case GR_HELLO:
        if (record->body.hello.magic != GR_MAGIC)
            return invalid(why, "HELLO record: magic 0x%08x, expected 0x%08x", record->body.hello.magic,
                           GR_MAGIC);
        if (!is_sequence(record->body.hello.first_held))
            return bad_sequence(why, GR_HELLO, "first sequence held is", record->body.hello.first_held);
        break;
    case GR_LOST:
        if (!is_sequence(record->body.lost.last))
            return bad_sequence(why, GR_LOST, "last sequence is", record->body.lost.last);
        if (record->body.lost.last < record->sequence)
            return invalid(why, "LOST record: ends at %llu before it starts at %llu",
                           (unsigned long long)record->body.lost.last, (unsigned long long)record->sequence);
        break;
    case GR_NET:
        if (record->body.net.family == 5)
            return invalid(why, "NET record: address family 5, expected 4 or 6");
        break;
    case GR_VOLUMES:
        while (gr_volume_next(volumes, &at, &volume)) {
            if (volume.letter < 'A' || volume.letter > 'Z')
                return invalid(why, "VOLUMES record: letter 0x%04x, expected A to Z", volume.letter);
            count++;
        }
        if (count != volumes->count)
            return invalid(why, "VOLUMES record: says %u entries, holds %u", volumes->count, count);
        break;
    default:
        break;
    }
    return GR_OK;
}

enum gr_result
gr_decode(const uint8_t *buf, size_t len, struct gr_record *record, char why[GR_WHY_MAX])
{
    const struct type_info *info;
    enum gr_result result = GR_OK;
    uint32_t size;

    if (len < sizeof(size))
        return GR_MORE;
    size = (uint32_t)get_number(buf, sizeof(size));
    if (size < GR_HEADER_SIZE || size > GR_MAX_RECORD)
        return invalid(why, "record of %u bytes, expected %u to %u", size, GR_HEADER_SIZE, GR_MAX_RECORD);
    if (len < size)
        return GR_MORE;
    record->size = size;
    record->type = (uint16_t)get_number(buf + 4, 2);
    record->flags = (uint16_t)get_number(buf + 6, 2);
    record->sequence = get_number(buf + 8, 8);
    record->time = get_number(buf + 16, 8);
    if (gr_type_is_event(record->type) || record->type == GR_LOST) {
        if (!is_sequence(record->sequence))
            return bad_sequence(why, record->type, "sequence", record->sequence);
    }
    info = type_info(record->type);
    if (!info)
        return GR_SKIP;
    if (!decode_event(buf + GR_HEADER_SIZE, size - GR_HEADER_SIZE, record))
        result = decode_body(info, buf + GR_HEADER_SIZE, size - GR_HEADER_SIZE, record, why);
    if (result == GR_OK)
        result = check_body(record, why);
    return result;
}

/* ---- encode ---- */

size_t
gr_encode(const struct gr_record *record, uint8_t *buf, size_t cap)
{
    const struct type_info *info = type_info(record->type);
    const struct field *field;
    size_t size = GR_HEADER_SIZE;
    size_t text_at;

    if (!info)
        return 0;
    for (field = info->fields; field->kind != END; field++)
        size += field_width(field->kind);
    text_at = size;
    for (field = info->fields; field->kind != END; field++) {
        const uint8_t *member = (const uint8_t *)record + field->offset;

        if (field->kind == TEXT || field->kind == LONG_TEXT) {
            uint32_t text_len = ((const struct gr_text *)(const void *)member)->len;

            if (text_len > (field->kind == TEXT ? GR_MAX_TEXT : GR_MAX_RECORD))
                return 0;
            size += text_len;
        }
    }
    if (size > cap || size > GR_MAX_RECORD)
        return 0;

    put_number(buf, 4, size);
    put_number(buf + 4, 2, record->type);
    put_number(buf + 6, 2, record->flags);
    put_number(buf + 8, 8, record->sequence);
    put_number(buf + 16, 8, record->time);
    size_t at = GR_HEADER_SIZE;
    for (field = info->fields; field->kind != END; field++) {
        const uint8_t *member = (const uint8_t *)record + field->offset;
        const struct gr_text *text = (const struct gr_text *)(const void *)member;
        size_t width = field_width(field->kind);

        if (field->kind == BYTES16) {
            memcpy(buf + at, member, width);
        } else if (field->kind == TEXT || field->kind == LONG_TEXT) {
            put_number(buf + at, width, text->len);
            if (text->len > 0)
                memcpy(buf + text_at, text->data, text->len);
            text_at += text->len;
        } else {
            put_number(buf + at, width, load_number(member, field->kind));
        }
        at += width;
    }
    return size;
}

/* ---- entries of VOLUMES: u16 letter, u16 length, device ---- */

bool
gr_volume_next(const struct gr_volumes *volumes, size_t *at, struct gr_volume *out)
{
    const struct gr_text *entries = &volumes->entries;
    size_t len;

    if (entries->len - *at < 4)
        return false;
    len = get_number(entries->data + *at + 2, 2);
    if (entries->len - *at - 4 < len)
        return false;
    out->letter = (uint16_t)get_number(entries->data + *at, 2);
    out->device.data = entries->data + *at + 4;
    out->device.len = (uint32_t)len;
    *at += 4 + len;
    return true;
}

bool
gr_volume_put(uint8_t *buf, size_t cap, size_t *len, const struct gr_volume *volume)
{
    if (volume->device.len > GR_MAX_TEXT || cap - *len < 4 + volume->device.len)
        return false;
    put_number(buf + *len, 2, volume->letter);
    put_number(buf + *len + 2, 2, volume->device.len);
    if (volume->device.len > 0)
        memcpy(buf + *len + 4, volume->device.data, volume->device.len);
    *len += 4 + volume->device.len;
    return true;
}

/* ---- names ---- */

static const char *const driver_names[] = {
    [GR_VSEPFLT] = "vsepflt", [GR_VNETFLT] = "vnetflt", [GR_VNETWFP] = "vnetwfp",
    [GR_LINUX] = "linux",     [GR_VMX] = "vmx",
};

const char *
gr_type_name(uint16_t type)
{
    const struct type_info *info = type_info(type);

    return info ? info->name : "?";
}

const char *
gr_driver_name(uint16_t driver)
{
    return driver >= GR_VSEPFLT && driver <= GR_VMX ? driver_names[driver] : "?";
}

/* ---- UUIDs ---- */

const char *
gr_uuid_format(const uint8_t uuid[GR_UUID_SIZE], char buf[GR_UUID_TEXT])
{
    static const char digits[] = "0123456789abcdef";
    char *out = buf;

    for (size_t i = 0; i < GR_UUID_SIZE; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *out++ = '-';
        *out++ = digits[uuid[i] >> 4];
        *out++ = digits[uuid[i] & 15];
    }
    *out = '\0';
    return buf;
}

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool
gr_uuid_parse(const char *text, uint8_t out[GR_UUID_SIZE])
{
    uint8_t uuid[GR_UUID_SIZE];

    for (size_t i = 0; i < GR_UUID_SIZE; i++) {
        int high;
        int low;

        if (i == 4 || i == 6 || i == 8 || i == 10) {
            if (*text++ != '-')
                return false;
        }
        high = hex_digit(text[0]);
        low = high < 0 ? -1 : hex_digit(text[1]);
        if (low < 0)
            return false;
        uuid[i] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    if (*text != '\0')
        return false;
    memcpy(out, uuid, sizeof(uuid));
    return true;
}
