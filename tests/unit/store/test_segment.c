/* Segments: what is written is read again; damage costs the record that it hits, and nothing passes for a
 * record that is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mux/store/segment.h"

#define ROOM  8192u
#define COUNT 7u /* records of the small segment */

struct segment {
    struct segment_name name;
    uint8_t bytes[ROOM];
    size_t len;
    size_t starts[COUNT + 1]; /* of its records, and its end */
};

static const struct segment_stream stream = { .boot_id = "0123456789abcde",
                                              .driver = 4,
                                              .ended = true,
                                              .id = 77,
                                              .start = 5,
                                              .last = GR_SEQUENCE_MAX,
                                              .build = "a build",
                                              .guest_os = "an OS" };
static const struct segment_position position = { .boot_id = "0123456789abcde",
                                                  .driver = 4,
                                                  .settled = 10,
                                                  .acked = 11,
                                                  .delivered = 7,
                                                  .filtered = 2,
                                                  .gapped = 1,
                                                  .solution = "an SVM" };

static void
put_frame(struct segment *segment, uint64_t sequence, const void *data, uint32_t len)
{
    struct segment_frame frame = { .boot_id = "0123456789abcde",
                                   .driver = 4,
                                   .cls = 3,
                                   .id = 77,
                                   .sequence = sequence,
                                   .count = 2,
                                   .record_bytes = 1000,
                                   .key = 1,
                                   .key_len = 2,
                                   .len = len,
                                   .data = data };

    segment->len +=
        segment_put_frame(segment->bytes + segment->len, segment->name.seed, segment->len, &frame);
}

/* Header, stream, position, three frames, position. */
static void
make(struct segment *segment)
{
    unsigned n = 0;

    memset(segment, 0, sizeof(*segment));
    memset(segment->name.vm_uuid, 'v', GR_UUID_SIZE);
    segment->name.number = 0xabcdef012345;
    segment->name.seed = UINT64_C(0xfedcba9876543210);
    segment->len = segment_put_header(segment->bytes, &segment->name);
    segment->starts[++n] = segment->len;
    segment->len +=
        segment_put_stream(segment->bytes + segment->len, segment->name.seed, segment->len, &stream);
    segment->starts[++n] = segment->len;
    segment->len +=
        segment_put_position(segment->bytes + segment->len, segment->name.seed, segment->len, &position);
    segment->starts[++n] = segment->len;
    for (unsigned i = 0; i < 3; i++) {
        put_frame(segment, 12 + 2 * i, "abcdefghijkl", 5 + i);
        segment->starts[++n] = segment->len;
    }
    segment->len +=
        segment_put_position(segment->bytes + segment->len, segment->name.seed, segment->len, &position);
    segment->starts[++n] = segment->len;
    assert_int_equal(n, COUNT);
}

static struct segment_reader
reader_of(const struct segment *segment, const uint8_t *bytes, size_t len)
{
    return (struct segment_reader){ .buf = bytes, .len = len, .seed = segment->name.seed };
}

/* Each member by itself: what is between them is whatever the compiler leaves there. */
static bool
is_position(const struct segment_position *seen)
{
    return memcmp(seen->boot_id, position.boot_id, GR_UUID_SIZE) == 0 && seen->driver == position.driver &&
           seen->settled == position.settled && seen->acked == position.acked &&
           seen->delivered == position.delivered && seen->filtered == position.filtered &&
           seen->gapped == position.gapped && strcmp(seen->solution, position.solution) == 0;
}

/* The record is one of those that were written, at its place. */
static unsigned
number_of(const struct segment *segment, const struct segment_record *record)
{
    static const enum segment_kind kinds[COUNT] = { SEGMENT_HEADER,  SEGMENT_STREAM, SEGMENT_POSITION,
                                                    SEGMENT_FRAME,   SEGMENT_FRAME,  SEGMENT_FRAME,
                                                    SEGMENT_POSITION };
    unsigned n = 0;

    while (n < COUNT - 1 && segment->starts[n] != record->offset)
        n++;
    assert_int_equal(segment->starts[n], record->offset);
    assert_int_equal(record->size, segment->starts[n + 1] - segment->starts[n]);
    assert_int_equal(record->kind, kinds[n]);
    if (record->kind == SEGMENT_HEADER)
        assert_memory_equal(&record->of.header, &segment->name, sizeof(segment->name));
    else if (record->kind == SEGMENT_STREAM)
        assert_true(record->of.stream.id == stream.id && record->of.stream.last == stream.last &&
                    record->of.stream.start == stream.start && record->of.stream.ended &&
                    strcmp(record->of.stream.build, stream.build) == 0 &&
                    strcmp(record->of.stream.guest_os, stream.guest_os) == 0);
    else if (record->kind == SEGMENT_POSITION)
        assert_true(is_position(&record->of.position));
    else
        assert_true(record->of.frame.sequence == 12 + 2 * (n - 3) && record->of.frame.count == 2 &&
                    record->of.frame.len == 5 + n - 3 && record->of.frame.key_len == 2 &&
                    memcmp(record->of.frame.data, "abcdefghijkl", record->of.frame.len) == 0);
    return n;
}

/* Which records are found, a bit each. */
static unsigned
found(const struct segment *segment, const uint8_t *bytes, size_t len)
{
    struct segment_reader reader = reader_of(segment, bytes, len);
    struct segment_record record;
    unsigned all = 0;

    while (segment_next(&reader, &record)) {
        unsigned n = number_of(segment, &record);

        assert_true((all >> n) == 0); /* in order, each once */
        all |= 1u << n;
    }
    return all;
}

static void
test_round_trip(void **state)
{
    struct segment segment;

    (void)state;
    make(&segment);
    assert_int_equal(found(&segment, segment.bytes, segment.len), (1u << COUNT) - 1);
    for (unsigned n = 0; n <= COUNT; n++)
        assert_int_equal(segment.starts[n] % 8, 0);
    assert_int_equal(segment.starts[1], SEGMENT_HEADER_SIZE);
    assert_int_equal(segment.starts[2] - segment.starts[1], SEGMENT_STREAM_SIZE);
    assert_int_equal(segment.starts[3] - segment.starts[2], SEGMENT_POSITION_SIZE);
    assert_int_equal(segment.starts[4] - segment.starts[3], segment_frame_size(5));
}

/* Padding is no part of a record: a flip there changes nothing. */
static bool
is_padding(const struct segment *segment, size_t byte, unsigned n)
{
    uint32_t size;

    memcpy(&size, segment->bytes + segment->starts[n] + 12, sizeof(size));
    return byte >= segment->starts[n] + size;
}

static void
test_every_bit_flipped(void **state)
{
    struct segment segment;
    uint8_t *bytes;

    (void)state;
    make(&segment);
    bytes = malloc(segment.len); /* exactly so long: a read beyond it is seen */
    assert_non_null(bytes);
    for (size_t bit = 0; bit < segment.len * 8; bit++) {
        unsigned n = 0;
        unsigned expected;

        memcpy(bytes, segment.bytes, segment.len);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        while (segment.starts[n + 1] <= bit / 8)
            n++;
        expected = ((1u << COUNT) - 1) & ~(is_padding(&segment, bit / 8, n) ? 0 : 1u << n);
        assert_int_equal(found(&segment, bytes, segment.len), expected);
    }
    free(bytes);
}

static void
test_every_length(void **state)
{
    struct segment segment;

    (void)state;
    make(&segment);
    for (size_t len = 0; len <= segment.len; len++) {
        uint8_t *bytes = malloc(len ? len : 1); /* no byte more: who reads on is found out */
        struct segment_reader reader;
        struct segment_record record;
        unsigned whole = 0;

        assert_non_null(bytes);
        memcpy(bytes, segment.bytes, len);
        while (whole < COUNT && (segment.starts[whole + 1] <= len || is_padding(&segment, len, whole)))
            whole++;
        assert_int_equal(found(&segment, bytes, len), (1u << whole) - 1);
        reader = reader_of(&segment, bytes, len);
        while (segment_next(&reader, &record))
            continue;
        assert_int_equal(reader.damage, 0); /* a torn tail is none */
        assert_int_equal(reader.good, segment.starts[whole]);
        free(bytes);
    }
}

static void
test_damage_is_counted(void **state)
{
    struct segment segment;
    struct segment_reader reader;
    struct segment_record record;
    unsigned count = 0;

    (void)state;
    make(&segment);
    segment.bytes[segment.starts[1] + 40] ^= 1;
    segment.bytes[segment.starts[2] + 40] ^= 1; /* its neighbour: one run */
    segment.bytes[segment.starts[5] + 12] ^= 1;
    reader = reader_of(&segment, segment.bytes, segment.len);
    while (segment_next(&reader, &record))
        count++;
    assert_int_equal(count, COUNT - 3);
    assert_int_equal(reader.damage, 2);
    assert_int_equal(reader.skipped,
                     segment.starts[3] - segment.starts[1] + segment.starts[6] - segment.starts[5]);
}

/* A guest puts whole records into its events, and knows all but the seed; and the frame about them is torn.
 */
static void
test_records_in_a_frame_are_none(void **state)
{
    struct segment segment;
    struct segment outer;

    (void)state;
    make(&segment);
    for (unsigned shift = 0; shift < 8; shift++) {
        uint8_t forged[ROOM] = { 0 };
        struct segment_reader reader;
        struct segment_record record;

        make(&outer);
        outer.name.seed = 12345;
        outer.len = 0;
        memcpy(forged + shift, segment.bytes, segment.len);
        put_frame(&outer, 12, forged, (uint32_t)segment.len + 8);
        outer.bytes[20] ^= 1;
        reader = reader_of(&outer, outer.bytes, outer.len);
        assert_false(segment_next(&reader, &record));
    }
}

/* A record that stands elsewhere, in the same or another segment, is none. */
static void
test_records_elsewhere_are_none(void **state)
{
    struct segment segment;
    struct segment_reader reader;
    struct segment_record record;

    (void)state;
    make(&segment);
    memmove(segment.bytes + 8, segment.bytes, segment.len);
    assert_int_equal(found(&segment, segment.bytes, segment.len + 8), 0);
    make(&segment);
    reader = reader_of(&segment, segment.bytes, segment.len);
    reader.seed++;
    assert_false(segment_next(&reader, &record));
    reader = reader_of(&segment, segment.bytes + segment.starts[3], segment.len - segment.starts[3]);
    assert_false(segment_next(&reader, &record));
    reader = reader_of(&segment, segment.bytes + segment.starts[3], segment.len - segment.starts[3]);
    reader.base = segment.starts[3]; /* a part is read where it stands */
    assert_true(segment_next(&reader, &record));
    assert_int_equal(number_of(&segment, &record), 3);
}

/* Well written and yet nonsense. */
static void
test_fields_that_cannot_be(void **state)
{
    uint8_t bytes[ROOM];
    struct segment_stream bad_stream[] = { stream, stream, stream };
    struct segment_frame good = { .id = 1, .sequence = 5, .count = 5, .len = 3, .data = bytes + 4096 };
    struct segment_frame bad[] = { good, good, good, good, good, good };
    struct segment_record record;

    (void)state;
    memset(bytes, 0, sizeof(bytes));
    bad_stream[0].id = 0;
    bad_stream[1].start = 0;
    bad_stream[2].last = 3;
    for (unsigned i = 0; i < 3; i++) {
        struct segment_reader reader = { .buf = bytes,
                                         .len = segment_put_stream(bytes, 1, 0, &bad_stream[i]),
                                         .seed = 1 };

        assert_false(segment_next(&reader, &record));
    }
    bad[0].id = 0;
    bad[1].count = 0;
    bad[2].count = 6;
    bad[3].key = 4;
    bad[4].key_len = 4;
    bad[5].record_bytes = GR_MAX_RECORD + 1;
    for (unsigned i = 0; i < 6; i++) {
        struct segment_reader reader = { .buf = bytes,
                                         .len = segment_put_frame(bytes, 1, 0, &bad[i]),
                                         .seed = 1 };

        assert_false(segment_next(&reader, &record));
    }
}

static void
test_largest_frame(void **state)
{
    size_t len = DELIMITED_PREFIX_MAX + DELIMITED_FRAME_MAX;
    uint8_t *data = malloc(len);
    uint8_t *bytes = malloc(segment_frame_size(len));
    struct segment_frame frame = {
        .id = 1, .sequence = GR_SEQUENCE_MAX, .count = UINT32_MAX, .len = (uint32_t)len, .data = data
    };
    struct segment_reader reader = { .buf = bytes, .len = segment_frame_size(len), .base = 64, .seed = 9 };
    struct segment_record record;

    (void)state;
    assert_true(data && bytes);
    memset(data, 0xa5, len);
    assert_int_equal(segment_put_frame(bytes, 9, 64, &frame), segment_frame_size(len));
    assert_true(segment_next(&reader, &record));
    assert_int_equal(record.of.frame.len, len);
    assert_memory_equal(record.of.frame.data, data, len);
    assert_int_equal(record.of.frame.count, UINT32_MAX);
    assert_false(segment_next(&reader, &record));
    free(data);
    free(bytes);
}

static void
test_names(void **state)
{
    static const char *const wrong[] = {
        "",
        "x.vmlog",
        "76767676-7676-7676-7676-767676767676.abcdef012345.fedcba9876543210.vmlo",
        "76767676-7676-7676-7676-767676767676.abcdef012345.fedcba9876543210.vmlog~",
        "76767676-7676-7676-7676-767676767676.Abcdef012345.fedcba9876543210.vmlog",
        "76767676-7676-7676-7676-767676767676.abcdef01234.fedcba9876543210.vmlog",
        "76767676-7676-7676-7676-767676767676.-bcdef012345.fedcba9876543210.vmlog",
        "76767676-7676-7676-7676-76767676767.abcdef012345.fedcba9876543210.vmlog",
        "76767676-7676-7676-7676-767676767676.abcdef012345.fedcba987654321.vmlog",
        "76767676-7676-7676-7676-767676767676.1000000000000.fedcba9876543210.vmlog",
        "76767676-7676-7676-7676-767676767676.ffffffffffffffff.fedcba9876543210.vmlog"
    };
    struct segment segment;
    struct segment_name again;
    char file[SEGMENT_NAME_MAX];

    (void)state;
    make(&segment);
    assert_string_equal(segment_name_format(&segment.name, file),
                        "76767676-7676-7676-7676-767676767676.abcdef012345.fedcba9876543210.vmlog");
    assert_true(segment_name_parse(file, &again));
    assert_memory_equal(&again, &segment.name, sizeof(again));
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_false(segment_name_parse(wrong[i], &again));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_every_bit_flipped),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_damage_is_counted),
        cmocka_unit_test(test_records_in_a_frame_are_none),
        cmocka_unit_test(test_records_elsewhere_are_none),
        cmocka_unit_test(test_fields_that_cannot_be),
        cmocka_unit_test(test_largest_frame),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests_name("segment", tests, NULL, NULL);
}
