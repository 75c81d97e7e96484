/* Fuzzes the reader of VM log files: what was written and is whole is found again as it was, nothing else is
 * found, whatever damage lies between; and a record whose checksum is right but whose fields lie does no
 * harm.
 *
 * The input is a program: a seed, then records, junk and hostile records one after the other, then damage. */
#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "mux/store/segment.h"

#define ROOM        ((size_t)48 * 1024)
#define RECORDS_MAX 128

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum what { OURS, HOSTILE };

struct written {
    enum what what;
    size_t offset;
    size_t size; /* padding included */
    bool damaged;
};

static const uint8_t *input;
static size_t left;
static uint8_t file[ROOM];
static uint8_t original[ROOM]; /* before the damage */
static size_t len;
static struct written records[RECORDS_MAX];
static unsigned count;

static uint8_t
u8(void)
{
    return left > 0 ? (left--, *input++) : 0;
}

static uint64_t
u64(void)
{
    uint64_t value = 0;

    for (uint8_t bytes = u8() % 9; bytes > 0; bytes--)
        value = value << 8 | u8();
    return value;
}

static void
put_bytes(void *out, size_t max)
{
    for (size_t i = u8() < max ? u8() % max : max; i > 0; i--)
        ((uint8_t *)out)[i - 1] = u8();
}

static void
wrote(enum what what, size_t size)
{
    assert(size % 8 == 0 && count < RECORDS_MAX);
    records[count++] = (struct written){ .what = what, .offset = len, .size = size };
    len += size;
}

/* ---- writing ---- */

static void
write_stream(uint64_t seed)
{
    struct segment_stream stream = { .driver = u8(), .ended = u8() % 2, .id = 1 + u8(), .start = 1 };

    stream.start += u64() / 4;
    stream.last = stream.start - 1 + u8();
    put_bytes(stream.boot_id, sizeof(stream.boot_id));
    put_bytes(stream.build, sizeof(stream.build) - 1);
    put_bytes(stream.guest_os, sizeof(stream.guest_os) - 1);
    wrote(OURS, segment_put_stream(file + len, seed, len, &stream));
}

static void
write_position(uint64_t seed)
{
    struct segment_position position = {
        .driver = u8(), .settled = u64() / 2, .acked = u64() / 2, .gapped = u64()
    };

    put_bytes(position.boot_id, sizeof(position.boot_id));
    put_bytes(position.solution, sizeof(position.solution) - 1);
    wrote(OURS, segment_put_position(file + len, seed, len, &position));
}

static void
write_frame(uint64_t seed)
{
    static uint8_t bytes[1024];
    struct segment_frame frame = { .driver = u8(), .cls = u8() % 32, .id = 1 + u8(), .count = 1 + u8() };

    frame.sequence = frame.count + u64() / 4;
    frame.len = 1 + u8() * 4u;
    frame.key = u8() % frame.len;
    frame.key_len = (uint16_t)(u8() % (frame.len - frame.key + 1));
    frame.data = bytes;
    put_bytes(bytes, sizeof(bytes));
    wrote(OURS, segment_put_frame(file + len, seed, len, &frame));
}

/* Mark and checksum are right, as only gimuxd itself could make them; the rest is what the input says. */
static void
write_hostile(uint64_t seed)
{
    static const uint32_t sizes[] = { 56, 53, 248, 241, 144, 139, 17, 64, 63, 300 };
    uint32_t size = sizes[u8() % (sizeof(sizes) / sizeof(sizes[0]))];
    uint32_t mark;
    uint64_t checksum;

    memset(file + len, u8(), (size + 7) / 8 * 8);
    put_bytes(file + len + 16, size - 16);
    mark = (uint32_t)XXH3_64bits_withSeed(&size, sizeof(size), seed + len);
    memcpy(file + len + 8, &mark, sizeof(mark));
    memcpy(file + len + 12, &size, sizeof(size));
    checksum = XXH3_64bits_withSeed(file + len + 8, size - 8, seed + len);
    memcpy(file + len, &checksum, sizeof(checksum));
    wrote(HOSTILE, (size + 7) / 8 * 8);
}

static void
write_junk(void)
{
    size_t size = (u8() % 32 + 1) * 8u;

    memset(file + len, 0, size);
    put_bytes(file + len, size);
    len += size;
}

/* ---- damage ---- */

static void
damage(size_t from, size_t to)
{
    for (unsigned i = 0; i < count; i++)
        if (records[i].offset < to && from < records[i].offset + records[i].size)
            records[i].damaged = true;
}

static void
damage_some(void)
{
    while (left > 0 && len > 0) {
        uint8_t how = u8();
        size_t at = ((size_t)u8() << 8 | u8()) % len;

        if (how == 0) { /* torn off */
            damage(at, len);
            len = at;
        } else {
            damage(at, at + 1);
            file[at] ^= how;
        }
    }
}

/* ---- reading ---- */

/* Written again it is the same bytes; the checksum counts, too. */
static void
check_same(const struct segment_record *record, uint64_t seed)
{
    static uint8_t again[ROOM];
    size_t size = 0;

    switch (record->kind) {
    case SEGMENT_HEADER:
        size = segment_put_header(again, &record->of.header);
        break;
    case SEGMENT_STREAM:
        size = segment_put_stream(again, seed, record->offset, &record->of.stream);
        break;
    case SEGMENT_POSITION:
        size = segment_put_position(again, seed, record->offset, &record->of.position);
        break;
    case SEGMENT_MARK:
        break;
    case SEGMENT_FRAME:
        size = segment_put_frame(again, seed, record->offset, &record->of.frame);
        break;
    }
    assert(size == record->size);
    assert(memcmp(again, file + record->offset, size) == 0);
}

static void
check_bounds(const struct segment_record *record, const uint8_t *buf)
{
    const struct segment_frame *frame = &record->of.frame;

    switch (record->kind) {
    case SEGMENT_STREAM:
        assert(strlen(record->of.stream.build) < SEGMENT_TEXT_MAX);
        assert(strlen(record->of.stream.guest_os) < SEGMENT_TEXT_MAX);
        assert(record->of.stream.id > 0 && record->of.stream.last >= record->of.stream.start - 1);
        break;
    case SEGMENT_POSITION:
        assert(strlen(record->of.position.solution) < SEGMENT_SOLUTION);
        break;
    case SEGMENT_MARK:
        break;
    case SEGMENT_FRAME:
        assert(frame->data > buf && frame->data + frame->len <= buf + len);
        assert((size_t)frame->key + frame->key_len <= frame->len);
        assert(frame->id > 0 && frame->count > 0 && frame->sequence >= frame->count && frame->cls < 32);
        break;
    case SEGMENT_HEADER:
        break;
    }
}

/* A record that is found is what was written, but for its padding. */
static void
check_undamaged(uint64_t offset)
{
    uint32_t size;

    memcpy(&size, original + offset + 12, sizeof(size));
    assert(memcmp(file + offset, original + offset, size) == 0);
}

static void
read_back(uint64_t seed)
{
    uint8_t *buf = malloc(len > 0 ? len : 1); /* of its exact size, for the sanitizer */
    struct segment_reader reader = { .buf = buf, .len = len, .seed = seed };
    struct segment_record record;
    size_t behind = 0;
    size_t skipped = 0;
    unsigned i = 0;

    assert(buf);
    memcpy(buf, file, len);
    while (segment_next(&reader, &record)) {
        for (; i < count && records[i].offset < record.offset; i++)
            assert(records[i].what == HOSTILE || records[i].damaged); /* else it was missed */
        assert(i < count && records[i].offset == record.offset && records[i].size == record.size);
        check_bounds(&record, buf);
        check_undamaged(record.offset);
        if (records[i].what == OURS && !records[i].damaged)
            check_same(&record, seed);
        skipped += record.offset - behind;
        behind = record.offset + record.size;
        assert(reader.good == behind && reader.skipped == skipped);
        i++;
    }
    for (; i < count; i++)
        assert(records[i].what == HOSTILE || records[i].damaged);
    free(buf);
}

static void
check_name(void)
{
    struct segment_name name = { .number = u64() >> 16, .seed = u64() };
    struct segment_name parsed;
    char text[SEGMENT_NAME_MAX];
    char again[SEGMENT_NAME_MAX];

    put_bytes(name.vm_uuid, sizeof(name.vm_uuid));
    segment_name_format(&name, text);
    assert(segment_name_parse(text, &parsed) && memcmp(&parsed, &name, sizeof(name)) == 0);
    text[u8() % (sizeof(text) - 1)] = (char)u8();
    text[sizeof(text) - 1] = '\0';
    if (segment_name_parse(text, &parsed))
        assert(strcmp(segment_name_format(&parsed, again), text) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct segment_name name = { .number = 1 };
    bool more = true;

    input = data;
    left = size;
    len = count = 0;
    memset(file, 0, sizeof(file));
    name.seed = u64();
    check_name();
    wrote(OURS, segment_put_header(file, &name));
    while (more && left > 0 && len + 2048 < ROOM && count < RECORDS_MAX) {
        switch (u8() % 8) {
        case 0:
        case 1:
            write_frame(name.seed);
            break;
        case 2:
            write_stream(name.seed);
            break;
        case 3:
            write_position(name.seed);
            break;
        case 4:
        case 5:
            write_hostile(name.seed);
            break;
        case 6:
            write_junk();
            break;
        default:
            more = false;
            break;
        }
    }
    memcpy(original, file, len);
    damage_some();
    read_back(name.seed);
    return 0;
}
