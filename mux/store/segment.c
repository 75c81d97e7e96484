/* Segments: the format of the files in which VM logs are kept. */
#include "mux/store/segment.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are written as they stand in memory");

#define ALIGN     ((size_t)8)
#define VERSION   1
#define FRAME_MAX (DELIMITED_PREFIX_MAX + DELIMITED_FRAME_MAX)

struct __attribute__((packed)) common {
    uint64_t checksum;
    uint32_t mark;
    uint32_t size;
    uint8_t kind;
};

struct __attribute__((packed)) header_record {
    struct common common;
    uint32_t version;
    uint8_t vm_uuid[GR_UUID_SIZE];
    uint64_t number;
    uint64_t seed;
};

struct __attribute__((packed)) stream_record {
    struct common common;
    uint16_t driver;
    uint8_t ended;
    uint32_t id;
    uint64_t start;
    uint64_t last;
    uint8_t boot_id[GR_UUID_SIZE];
    char build[SEGMENT_TEXT_MAX];
    char guest_os[SEGMENT_TEXT_MAX];
};

struct __attribute__((packed)) position_record {
    struct common common;
    uint16_t driver;
    uint8_t boot_id[GR_UUID_SIZE];
    uint64_t settled;
    uint64_t acked;
    uint64_t delivered;
    uint64_t filtered;
    uint64_t gapped;
    char solution[SEGMENT_SOLUTION];
};

struct __attribute__((packed)) frame_record {
    struct common common;
    uint16_t driver;
    uint8_t cls;
    uint32_t id;
    uint64_t sequence;
    uint32_t count;
    uint32_t record_bytes;
    uint32_t key;
    uint16_t key_len;
    uint8_t boot_id[GR_UUID_SIZE];
    uint8_t data[];
};

#define PADDED(size) (((size) + ALIGN - 1) & ~(ALIGN - 1))
static_assert(PADDED(sizeof(struct header_record)) == SEGMENT_HEADER_SIZE, "what others reckon with");
static_assert(PADDED(sizeof(struct stream_record)) == SEGMENT_STREAM_SIZE, "what others reckon with");
static_assert(PADDED(sizeof(struct position_record)) == SEGMENT_POSITION_SIZE, "what others reckon with");

/* ---- names ---- */

bool
segment_name_parse(const char *file, struct segment_name *name)
{
    char uuid[GR_UUID_TEXT] = "";
    char again[SEGMENT_NAME_MAX];
    char *end;

    if (strnlen(file, SEGMENT_NAME_MAX) == SEGMENT_NAME_MAX || strlen(file) < GR_UUID_TEXT)
        return false;
    memcpy(uuid, file, GR_UUID_TEXT - 1);
    if (!gr_uuid_parse(uuid, name->vm_uuid))
        return false;
    name->number = strtoull(file + GR_UUID_TEXT, &end, 16);
    name->seed = *end == '.' ? strtoull(end + 1, NULL, 16) : 0;
    return name->number <= SEGMENT_NUMBER_MAX &&
           strcmp(segment_name_format(name, again), file) == 0; /* in each digit */
}

char *
segment_name_format(const struct segment_name *name, char out[SEGMENT_NAME_MAX])
{
    char uuid[GR_UUID_TEXT];

    snprintf(out, SEGMENT_NAME_MAX, "%s.%012llx.%016llx.vmlog", gr_uuid_format(name->vm_uuid, uuid),
             (unsigned long long)name->number, (unsigned long long)name->seed);
    return out;
}

/* ---- writing ---- */

size_t
segment_frame_size(size_t len)
{
    return PADDED(sizeof(struct frame_record) + len);
}

static uint32_t
mark_of(uint32_t size, uint64_t seed, uint64_t offset)
{
    return (uint32_t)XXH3_64bits_withSeed(&size, sizeof(size), seed + offset);
}

static uint64_t
checksum_of(const uint8_t *record, uint32_t size, uint64_t seed, uint64_t offset)
{
    const size_t from = sizeof(uint64_t);

    return XXH3_64bits_withSeed(record + from, size - from, seed + offset);
}

/* Everything else of the record is in `out`. Returns its size, padding included. */
static size_t
seal(uint8_t *out, enum segment_kind kind, size_t size, uint64_t seed, uint64_t offset)
{
    struct common common = { .size = (uint32_t)size, .kind = (uint8_t)kind };

    assert(offset % ALIGN == 0);
    common.mark = mark_of(common.size, seed, offset);
    memcpy(out, &common, offsetof(struct common, kind) + 1);
    memset(out + size, 0, PADDED(size) - size);
    common.checksum = checksum_of(out, common.size, seed, offset);
    memcpy(out, &common.checksum, sizeof(common.checksum));
    return PADDED(size);
}

size_t
segment_put_header(uint8_t *out, const struct segment_name *name)
{
    struct header_record record;

    memset(&record, 0, sizeof(record));
    record.version = VERSION;
    memcpy(record.vm_uuid, name->vm_uuid, GR_UUID_SIZE);
    record.number = name->number;
    record.seed = name->seed;
    memcpy(out, &record, sizeof(record));
    return seal(out, SEGMENT_HEADER, sizeof(record), name->seed, 0);
}

size_t
segment_put_stream(uint8_t *out, uint64_t seed, uint64_t offset, const struct segment_stream *stream)
{
    struct stream_record record;

    memset(&record, 0, sizeof(record));
    record.driver = stream->driver;
    record.ended = stream->ended;
    record.id = stream->id;
    record.start = stream->start;
    record.last = stream->last;
    memcpy(record.boot_id, stream->boot_id, GR_UUID_SIZE);
    snprintf(record.build, sizeof(record.build), "%s", stream->build);
    snprintf(record.guest_os, sizeof(record.guest_os), "%s", stream->guest_os);
    memcpy(out, &record, sizeof(record));
    return seal(out, SEGMENT_STREAM, sizeof(record), seed, offset);
}

size_t
segment_put_position(uint8_t *out, uint64_t seed, uint64_t offset, const struct segment_position *position)
{
    struct position_record record;

    memset(&record, 0, sizeof(record));
    record.driver = position->driver;
    memcpy(record.boot_id, position->boot_id, GR_UUID_SIZE);
    record.settled = position->settled;
    record.acked = position->acked;
    record.delivered = position->delivered;
    record.filtered = position->filtered;
    record.gapped = position->gapped;
    snprintf(record.solution, sizeof(record.solution), "%s", position->solution);
    memcpy(out, &record, sizeof(record));
    return seal(out, SEGMENT_POSITION, sizeof(record), seed, offset);
}

size_t
segment_put_mark(uint8_t *out, uint64_t seed, uint64_t offset)
{
    return seal(out, SEGMENT_MARK, sizeof(struct common), seed, offset);
}

size_t
segment_put_frame(uint8_t *out, uint64_t seed, uint64_t offset, const struct segment_frame *frame)
{
    struct frame_record record;

    assert(frame->len <= FRAME_MAX);
    memset(&record, 0, sizeof(record));
    record.driver = frame->driver;
    record.cls = frame->cls;
    record.id = frame->id;
    record.sequence = frame->sequence;
    record.count = frame->count;
    record.record_bytes = frame->record_bytes;
    record.key = frame->key;
    record.key_len = frame->key_len;
    memcpy(record.boot_id, frame->boot_id, GR_UUID_SIZE);
    memcpy(out, &record, sizeof(record));
    memcpy(out + sizeof(record), frame->data, frame->len);
    return seal(out, SEGMENT_FRAME, sizeof(record) + frame->len, seed, offset);
}

/* ---- reading ---- */

static bool
has_kind_of_size(const struct common *common)
{
    switch (common->kind) {
    case SEGMENT_HEADER:
        return common->size == sizeof(struct header_record);
    case SEGMENT_STREAM:
        return common->size == sizeof(struct stream_record);
    case SEGMENT_POSITION:
        return common->size == sizeof(struct position_record);
    case SEGMENT_FRAME:
        return common->size > sizeof(struct frame_record) &&
               common->size <= sizeof(struct frame_record) + FRAME_MAX;
    case SEGMENT_MARK:
        return common->size == sizeof(struct common);
    default:
        return false;
    }
}

static bool
is_text(const char *text, size_t cap)
{
    return memchr(text, '\0', cap) != NULL;
}

static bool
take_header(const uint8_t *at, struct segment_name *out)
{
    struct header_record record;

    memcpy(&record, at, sizeof(record));
    memcpy(out->vm_uuid, record.vm_uuid, GR_UUID_SIZE);
    out->number = record.number;
    out->seed = record.seed;
    return record.version == VERSION;
}

static bool
take_stream(const uint8_t *at, struct segment_stream *out)
{
    struct stream_record record;

    memcpy(&record, at, sizeof(record));
    *out = (struct segment_stream){ .driver = record.driver,
                                    .ended = record.ended != 0,
                                    .id = record.id,
                                    .start = record.start,
                                    .last = record.last };
    memcpy(out->boot_id, record.boot_id, GR_UUID_SIZE);
    memcpy(out->build, record.build, sizeof(out->build));
    memcpy(out->guest_os, record.guest_os, sizeof(out->guest_os));
    return record.id > 0 && record.start > 0 && record.last >= record.start - 1 &&
           record.start <= GR_SEQUENCE_MAX && record.last <= GR_SEQUENCE_MAX &&
           is_text(out->build, sizeof(out->build)) && is_text(out->guest_os, sizeof(out->guest_os));
}

static bool
take_position(const uint8_t *at, struct segment_position *out)
{
    struct position_record record;

    memcpy(&record, at, sizeof(record));
    *out = (struct segment_position){ .driver = record.driver,
                                      .settled = record.settled,
                                      .acked = record.acked,
                                      .delivered = record.delivered,
                                      .filtered = record.filtered,
                                      .gapped = record.gapped };
    memcpy(out->boot_id, record.boot_id, GR_UUID_SIZE);
    memcpy(out->solution, record.solution, sizeof(out->solution));
    return is_text(out->solution, sizeof(out->solution)) && record.settled <= GR_SEQUENCE_MAX &&
           record.acked <= GR_SEQUENCE_MAX;
}

static bool
take_frame(const uint8_t *at, uint32_t size, struct segment_frame *out)
{
    struct frame_record record;

    memcpy(&record, at, sizeof(record));
    *out = (struct segment_frame){ .driver = record.driver,
                                   .cls = record.cls,
                                   .id = record.id,
                                   .sequence = record.sequence,
                                   .count = record.count,
                                   .record_bytes = record.record_bytes,
                                   .key = record.key,
                                   .key_len = record.key_len,
                                   .len = size - (uint32_t)sizeof(record),
                                   .data = at + sizeof(record) };
    memcpy(out->boot_id, record.boot_id, GR_UUID_SIZE);
    return record.id > 0 && record.count > 0 && record.sequence >= record.count &&
           record.sequence <= GR_SEQUENCE_MAX && record.key <= out->len &&
           record.key_len <= out->len - record.key && record.cls < 32 && record.record_bytes <= GR_MAX_RECORD;
}

static bool
take(const uint8_t *at, const struct common *common, struct segment_record *record)
{
    switch (common->kind) {
    case SEGMENT_HEADER:
        return take_header(at, &record->of.header);
    case SEGMENT_STREAM:
        return take_stream(at, &record->of.stream);
    case SEGMENT_POSITION:
        return take_position(at, &record->of.position);
    case SEGMENT_MARK:
        return true;
    default:
        return take_frame(at, common->size, &record->of.frame);
    }
}

/* Whether a good record stands here. */
static bool
read_record(const struct segment_reader *reader, size_t at, struct segment_record *record)
{
    const uint8_t *from = reader->buf + at;
    uint64_t offset = reader->base + at;
    struct common common;

    if (reader->len - at < sizeof(common))
        return false;
    memcpy(&common, from, sizeof(common));
    if (common.mark != mark_of(common.size, reader->seed, offset) || common.size < sizeof(common) ||
        common.size > reader->len - at ||
        common.checksum != checksum_of(from, common.size, reader->seed, offset) ||
        !has_kind_of_size(&common) || !take(from, &common, record))
        return false;
    record->kind = (enum segment_kind)common.kind;
    record->offset = offset;
    record->size = PADDED(common.size);
    return true;
}

bool
segment_next(struct segment_reader *reader, struct segment_record *record)
{
    size_t at = reader->at;

    while (at < reader->len && !read_record(reader, at, record))
        at += ALIGN;
    if (at >= reader->len) {
        reader->at = reader->len;
        return false;
    }
    if (at > reader->good) {
        reader->skipped += at - reader->good;
        reader->damage++;
    }
    reader->at = reader->good = at + record->size;
    return true;
}

size_t
segment_believable(const uint8_t *buf, size_t len, uint64_t seed)
{
    struct segment_reader reader = { .buf = buf, .len = len, .seed = seed };
    struct segment_record record;
    bool marked = false;
    size_t good = 0;
    size_t end = len;

    while (segment_next(&reader, &record)) {
        if (marked && end == len && record.offset > good)
            end = good;
        if (record.kind == SEGMENT_MARK) {
            marked = true;
            end = len;
        }
        good = reader.good;
    }
    return end;
}
