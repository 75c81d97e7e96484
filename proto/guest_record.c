/* Guest records: the little-endian binary messages between a driver in a guest and gimuxd; one codec for both
 * ends.
 *
 * One table says, for every type, which fields its body has, in the order of the wire; decode and encode walk
 * the same table, so they cannot disagree. */
#include "proto/guest_record.h"

#include <assert.h>
#include <endian.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static_assert(GR_MAX_TEXT <= UINT16_MAX, "a text's length is a u16 on the wire");

/* How a field stands on the wire. A text is its length in the fixed part, its bytes behind the fixed part. */
enum field_kind { END, U8, U16, U32, U64, BYTES16, TEXT, LONG_TEXT };

struct field {
    uint8_t kind;
    uint16_t offset; /* in struct gr_record */
    uint16_t min;    /* numbers only: bounds; max 0 means any value */
    uint16_t max;
};

#define NUM(kind, member)                                                                                    \
    {                                                                                                        \
        kind, offsetof(struct gr_record, body.member), 0, 0                                                  \
    }
#define RANGE(kind, member, min, max)                                                                        \
    {                                                                                                        \
        kind, offsetof(struct gr_record, body.member), min, max                                              \
    }
#define UUID(member)                                                                                         \
    {                                                                                                        \
        BYTES16, offsetof(struct gr_record, body.member), 0, 0                                               \
    }
#define STR(member)                                                                                          \
    {                                                                                                        \
        TEXT, offsetof(struct gr_record, body.member), 0, 0                                                  \
    }
#define LONG_STR(member)                                                                                     \
    {                                                                                                        \
        LONG_TEXT, offsetof(struct gr_record, body.member), 0, 0                                             \
    }

static const struct field hello_fields[] = {
    NUM(U32, hello.magic),
    RANGE(U16, hello.version_min, 1, UINT16_MAX),
    RANGE(U16, hello.version_max, 1, UINT16_MAX),
    NUM(U16, hello.driver),
    NUM(U16, hello.padding),
    UUID(hello.vm_uuid),
    UUID(hello.boot_id),
    NUM(U64, hello.first_held),
    STR(hello.build),
    STR(hello.guest_os),
    { END, 0, 0, 0 },
};
static const struct field welcome_fields[] = {
    NUM(U16, welcome.version),
    NUM(U16, welcome.padding),
    NUM(U32, welcome.heartbeat_ms),
    NUM(U64, welcome.next_wanted),
    NUM(U64, welcome.window),
    NUM(U64, welcome.interest),
    { END, 0, 0, 0 },
};
static const struct field reject_fields[] = {
    NUM(U16, reject.code),
    STR(reject.reason),
    { END, 0, 0, 0 },
};
static const struct field ack_fields[] = {
    NUM(U64, ack.sequence),
    NUM(U16, ack.level),
    { END, 0, 0, 0 },
};
static const struct field verdict_fields[] = {
    NUM(U64, verdict.sequence),
    RANGE(U16, verdict.answer, 1, 2),
    NUM(U16, verdict.source),
    { END, 0, 0, 0 },
};
static const struct field file_read_fields[] = {
    NUM(U64, file_read.request), NUM(U64, file_read.file_id), NUM(U64, file_read.offset),
    NUM(U32, file_read.length),  STR(file_read.path),         { END, 0, 0, 0 },
};
static const struct field file_data_fields[] = {
    NUM(U64, file_data.request),     NUM(U64, file_data.offset), NUM(U32, file_data.status),
    RANGE(U32, file_data.end, 0, 1), LONG_STR(file_data.data),   { END, 0, 0, 0 },
};
static const struct field interest_fields[] = { NUM(U64, interest.kinds), { END, 0, 0, 0 } };
static const struct field ping_fields[] = { NUM(U64, ping.token), { END, 0, 0, 0 } };
static const struct field lost_fields[] = {
    NUM(U64, lost.last),
    NUM(U32, lost.reason),
    { END, 0, 0, 0 },
};
static const struct field bye_fields[] = {
    NUM(U16, bye.code),
    STR(bye.reason),
    { END, 0, 0, 0 },
};
static const struct field volumes_fields[] = {
    RANGE(U32, volumes.count, 0, 64),
    LONG_STR(volumes.entries),
    { END, 0, 0, 0 },
};
static const struct field file_fields[] = {
    RANGE(U16, file.op, GR_FILE_OP_OPEN, GR_FILE_OP_SET_ATTR),
    NUM(U16, file.padding),
    NUM(U32, file.status),
    NUM(U32, file.pid),
    NUM(U32, file.tid),
    NUM(U64, file.file_id),
    NUM(U64, file.size),
    NUM(U32, file.result),
    NUM(U32, file.create_mask),
    NUM(U32, file.access_mask),
    NUM(U32, file.attributes),
    STR(file.path),
    STR(file.target),
    STR(file.process),
    STR(file.user_name),
    STR(file.user_id),
    { END, 0, 0, 0 },
};
static const struct field net_fields[] = {
    RANGE(U16, net.op, GR_NET_OP_PRECONNECT, GR_NET_OP_LISTEN),
    NUM(U8, net.protocol),
    RANGE(U8, net.direction, 0, GR_OUTBOUND),
    RANGE(U16, net.family, 4, 6),
    NUM(U16, net.padding),
    NUM(U32, net.status),
    NUM(U32, net.pid),
    NUM(U32, net.tid),
    NUM(U16, net.local_port),
    NUM(U16, net.remote_port),
    UUID(net.local),
    UUID(net.remote),
    NUM(U64, net.flow_id),
    NUM(U64, net.bytes_in),
    NUM(U64, net.bytes_out),
    STR(net.process),
    STR(net.user_name),
    STR(net.user_id),
    { END, 0, 0, 0 },
};
static const struct field dns_fields[] = {
    RANGE(U16, dns.op, GR_DNS_OP_QUERY, GR_DNS_OP_ANSWER),
    NUM(U16, dns.type),
    NUM(U16, dns.transaction_id),
    NUM(U16, dns.rcode),
    NUM(U32, dns.status),
    NUM(U32, dns.pid),
    STR(dns.name),
    STR(dns.answers),
    STR(dns.process),
    STR(dns.user_name),
    STR(dns.user_id),
    { END, 0, 0, 0 },
};
static const struct field process_fields[] = {
    RANGE(U16, process.op, GR_PROCESS_OP_START, GR_PROCESS_OP_END),
    NUM(U16, process.padding),
    NUM(U32, process.pid),
    NUM(U32, process.parent_pid),
    NUM(U32, process.exit_code),
    STR(process.image),
    STR(process.command_line),
    STR(process.parent_image),
    STR(process.user_name),
    STR(process.user_id),
    { END, 0, 0, 0 },
};
static const struct field logon_fields[] = {
    RANGE(U16, logon.op, GR_LOGON_OP_LOGON, GR_LOGON_OP_LOGOFF),
    NUM(U16, logon.logon_type),
    NUM(U32, logon.status),
    NUM(U64, logon.logon_id),
    NUM(U32, logon.pid),
    STR(logon.user_name),
    STR(logon.user_id),
    STR(logon.source),
    STR(logon.process),
    { END, 0, 0, 0 },
};
static const struct field power_fields[] = {
    RANGE(U16, power.op, GR_POWER_OP_ON, GR_POWER_OP_MIGRATE),
    NUM(U16, power.padding),
    UUID(power.vm_uuid),
    STR(power.vm_name),
    STR(power.target_host),
    { END, 0, 0, 0 },
};

struct type_info {
    const char *name;
    const struct field *fields;
};

static const struct type_info control_types[] = {
    [GR_HELLO] = { "HELLO", hello_fields },
    [GR_WELCOME] = { "WELCOME", welcome_fields },
    [GR_REJECT] = { "REJECT", reject_fields },
    [GR_ACK] = { "ACK", ack_fields },
    [GR_VERDICT] = { "VERDICT", verdict_fields },
    [GR_FILE_READ] = { "FILE_READ", file_read_fields },
    [GR_FILE_DATA] = { "FILE_DATA", file_data_fields },
    [GR_INTEREST] = { "INTEREST", interest_fields },
    [GR_PING] = { "PING", ping_fields },
    [GR_PONG] = { "PONG", ping_fields },
    [GR_LOST] = { "LOST", lost_fields },
    [GR_BYE] = { "BYE", bye_fields },
    [GR_VOLUMES] = { "VOLUMES", volumes_fields },
};
static const struct type_info event_types[] = {
    [GR_FILE - GR_EVENT_FIRST] = { "FILE", file_fields }, /* NOLINT(misc-redundant-expression): 0 */
    [GR_NET - GR_EVENT_FIRST] = { "NET", net_fields },
    [GR_DNS - GR_EVENT_FIRST] = { "DNS", dns_fields },
    [GR_PROCESS - GR_EVENT_FIRST] = { "PROCESS", process_fields },
    [GR_LOGON - GR_EVENT_FIRST] = { "LOGON", logon_fields },
    [GR_POWER - GR_EVENT_FIRST] = { "POWER", power_fields },
};
static_assert(sizeof(event_types) / sizeof(event_types[0]) == GR_EVENT_LAST - GR_EVENT_FIRST + 1,
              "every event type is in the table");

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

/* The same as decode_body, with the table as a constant: unrolled, only its loads, stores and comparisons are
 * left. False if anything is wrong, which decode_body will find again, and say. */
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

/* Events are what there is most of. */
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

/* What the table cannot say. */
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
        if (record->body.hello.first_held == 0)
            return invalid(why, "HELLO record: first sequence held is 0, expected 1 or more");
        break;
    case GR_LOST:
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
        if (record->sequence == 0)
            return invalid(why, "%s record: sequence 0, expected 1 or more", gr_type_name(record->type));
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
