/* The codec of guest records: every type there and back, byte for byte, and what hostile bytes get. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/guest_record.h"

#define TEXT(literal)                                                                                        \
    {                                                                                                        \
        (const uint8_t *)(literal), sizeof(literal) - 1                                                      \
    }

static const uint8_t volume_entries[] = { 'C', 0, 4, 0, '\\', 0, 'd', 0, 'D', 0, 0, 0 };

/* One of every type, no two fields of a type alike; wire is what another encoder, written from the protocol's
 * page, made of the same values. */
static const struct sample {
    struct gr_record record;
    const char *wire;
} samples[] = {
    { { .type = GR_HELLO,
        .time = 7,
        .body.hello = { .magic = GR_MAGIC,
                        .version_min = 1,
                        .version_max = 2,
                        .driver = GR_LINUX,
                        .vm_uuid = { 1, 2, 3 },
                        .boot_id = { 4, 5, 6 },
                        .first_held = 9,
                        .build = TEXT("b1"),
                        .guest_os = TEXT("Debian") } },
      "580000000100000000000000000000000700000000000000474d55580100020004000000010203000000000000000000"
      "0000000004050600000000000000000000000000090000000000000002000600623144656269616e" },
    { { .type = GR_WELCOME,
        .body.welcome = { .version = 1, .heartbeat_ms = 2, .next_wanted = 3, .window = 4, .interest = 5 } },
      "380000000200000000000000000000000000000000000000010000000200000003000000000000000400000000000000"
      "0500000000000000" },
    { { .type = GR_REJECT, .body.reject = { .code = GR_REJECT_CLONE, .reason = TEXT("why") } },
      "1f000000030000000000000000000000000000000000000003000300776879" },
    { { .type = GR_ACK, .body.ack = { .sequence = 1, .level = GR_LEVEL_DISK } },
      "22000000040000000000000000000000000000000000000001000000000000000300" },
    { { .type = GR_VERDICT, .body.verdict = { .sequence = 1, .answer = 2, .source = 3 } },
      "240000000500000000000000000000000000000000000000010000000000000002000300" },
    { { .type = GR_FILE_READ,
        .body.file_read = { .request = 1, .file_id = 2, .offset = 3, .length = 4, .path = TEXT("/p") } },
      "380000000600000000000000000000000000000000000000010000000000000002000000000000000300000000000000"
      "0400000002002f70" },
    { { .type = GR_FILE_DATA,
        .body.file_data = { .request = 1, .offset = 2, .status = 3, .end = 1, .data = TEXT("data") } },
      "380000000700000000000000000000000000000000000000010000000000000002000000000000000300000001000000"
      "0400000064617461" },
    { { .type = GR_INTEREST, .body.interest = { .kinds = 0x3f } },
      "2000000008000000000000000000000000000000000000003f00000000000000" },
    { { .type = GR_PING, .body.ping = { .token = 1 } },
      "2000000009000000000000000000000000000000000000000100000000000000" },
    { { .type = GR_PONG, .body.ping = { .token = 2 } },
      "200000000a000000000000000000000000000000000000000200000000000000" },
    { { .type = GR_LOST, .sequence = 4, .body.lost = { .last = 5, .reason = 1 } },
      "240000000b00000004000000000000000000000000000000050000000000000001000000" },
    { { .type = GR_BYE, .body.bye = { .code = 1, .reason = TEXT("end") } },
      "1f0000000c0000000000000000000000000000000000000001000300656e64" },
    { { .type = GR_VOLUMES,
        .body.volumes = { .count = 2, .entries = { volume_entries, sizeof(volume_entries) } } },
      "2c0000000d00000000000000000000000000000000000000020000000c000000430004005c00640044000000" },
    { { .type = GR_FILE,
        .flags = GR_FLAG_WAITS,
        .sequence = 1,
        .body.file = { .op = GR_FILE_OP_RENAME,
                       .status = 1,
                       .pid = 2,
                       .tid = 3,
                       .file_id = 4,
                       .size = 5,
                       .result = 6,
                       .create_mask = 7,
                       .access_mask = 8,
                       .attributes = 9,
                       .path = TEXT("/a"),
                       .target = TEXT("/bc"),
                       .process = TEXT("/def"),
                       .user_name = TEXT("root"),
                       .user_id = TEXT("00") } },
      "610000000001010001000000000000000000000000000000050000000100000002000000030000000400000000000000"
      "050000000000000006000000070000000800000009000000020003000400040002002f612f62632f646566726f6f7430"
      "30" },
    { { .type = GR_NET,
        .sequence = 1,
        .body.net = { .op = GR_NET_OP_CLOSED,
                      .protocol = 6,
                      .direction = GR_OUTBOUND,
                      .family = 6,
                      .status = 1,
                      .pid = 2,
                      .tid = 3,
                      .local_port = 4,
                      .remote_port = 5,
                      .local = { 6 },
                      .remote = { 7 },
                      .flow_id = 8,
                      .bytes_in = 9,
                      .bytes_out = 10,
                      .process = TEXT("/n"),
                      .user_name = TEXT("net"),
                      .user_id = TEXT("1000") } },
      "770000000101000001000000000000000000000000000000030006020600000001000000020000000300000004000500"
      "060000000000000000000000000000000700000000000000000000000000000008000000000000000900000000000000"
      "0a000000000000000200030004002f6e6e657431303030" },
    { { .type = GR_DNS,
        .sequence = 1,
        .body.dns = { .op = GR_DNS_OP_ANSWER,
                      .type = 28,
                      .transaction_id = 3,
                      .rcode = 4,
                      .status = 5,
                      .pid = 6,
                      .name = TEXT("a.b"),
                      .answers = TEXT("::1;"),
                      .process = TEXT("/dns"),
                      .user_name = TEXT("user"),
                      .user_id = TEXT("10001") } },
      "46000000020100000100000000000000000000000000000002001c000300040005000000060000000300040004000400"
      "0500612e623a3a313b2f646e73757365723130303031" },
    { { .type = GR_PROCESS,
        .sequence = 1,
        .body.process = { .op = GR_PROCESS_OP_END,
                          .pid = 1,
                          .parent_pid = 2,
                          .exit_code = 3,
                          .image = TEXT("1"),
                          .command_line = TEXT("22"),
                          .parent_image = TEXT("333"),
                          .user_name = TEXT("4444"),
                          .user_id = TEXT("55555") } },
      "410000000301000001000000000000000000000000000000020000000100000002000000030000000100020003000400"
      "0500313232333333343434343535353535" },
    { { .type = GR_LOGON,
        .sequence = 1,
        .body.logon = { .op = GR_LOGON_OP_LOGOFF,
                        .logon_type = 10,
                        .status = 2,
                        .logon_id = 3,
                        .pid = 4,
                        .user_name = TEXT("1"),
                        .user_id = TEXT("22"),
                        .source = TEXT("333"),
                        .process = TEXT("4444") } },
      "3e000000040100000100000000000000000000000000000002000a000200000003000000000000000400000001000200"
      "0300040031323233333334343434" },
    { { .type = GR_POWER,
        .sequence = GR_SEQUENCE_MAX,
        .time = UINT64_MAX,
        .body.power = { .op = GR_POWER_OP_MIGRATE,
                        .vm_uuid = { 8 },
                        .vm_name = TEXT("v"),
                        .target_host = TEXT("hh") } },
      "3300000005010000ffffffffffffff7fffffffffffffffff050000000800000000000000000000000000000001000200"
      "766868" },
};
#define SAMPLES (sizeof(samples) / sizeof(samples[0]))

static size_t
from_hex(const char *hex, uint8_t *out)
{
    size_t len = strlen(hex) / 2;

    for (size_t i = 0; i < len; i++)
        assert_int_equal(sscanf(hex + 2 * i, "%2hhx", &out[i]), 1);
    return len;
}

static const struct sample *
sample_of(uint16_t type)
{
    for (size_t i = 0; i < SAMPLES; i++)
        if (samples[i].record.type == type)
            return &samples[i];
    fail_msg("no sample of type %u", type);
    return NULL;
}

/* Decodes a copy that ends where memory ends, so that the address sanitizer sees every byte read too far. */
static enum gr_result
decode_exact(const uint8_t *buf, size_t len, struct gr_record *record, char why[GR_WHY_MAX])
{
    uint8_t *copy = malloc(len ? len : 1);
    enum gr_result result;

    assert_non_null(copy);
    memcpy(copy, buf, len);
    why[0] = '\0';
    result = gr_decode(copy, len, record, why);
    free(copy);
    return result;
}

/* The wire form of a sample with one byte changed must be refused with this text. */
static void
expect_refused(uint16_t type, size_t at, uint8_t byte, const char *expected)
{
    uint8_t buf[256];
    char why[GR_WHY_MAX];
    struct gr_record record;
    size_t len = from_hex(sample_of(type)->wire, buf);

    assert_true(at < len);
    buf[at] = byte;
    assert_int_equal(decode_exact(buf, len, &record, why), GR_INVALID);
    if (!strstr(why, expected))
        fail_msg("expected \"%s\" in \"%s\"", expected, why);
}

static void
put_size(uint8_t *buf, uint32_t size)
{
    for (int i = 0; i < 4; i++)
        buf[i] = (uint8_t)(size >> 8 * i);
}

/* ---- there and back ---- */

static void
test_every_type_has_a_sample(void **state)
{
    (void)state;
    for (uint16_t type = GR_HELLO; type <= GR_VOLUMES; type++)
        sample_of(type);
    for (uint16_t type = GR_EVENT_FIRST; type <= GR_EVENT_LAST; type++)
        sample_of(type);
}

static void
test_encode_gives_the_wire_form(void **state)
{
    uint8_t expected[256];
    uint8_t buf[256];

    (void)state;
    for (size_t i = 0; i < SAMPLES; i++) {
        size_t len = from_hex(samples[i].wire, expected);

        assert_int_equal(gr_encode(&samples[i].record, buf, sizeof(buf)), len);
        assert_memory_equal(buf, expected, len);
    }
}

static void
test_decode_gives_it_back(void **state)
{
    uint8_t wire[256];
    uint8_t again[256];
    char why[GR_WHY_MAX];

    (void)state;
    for (size_t i = 0; i < SAMPLES; i++) {
        struct gr_record record;
        size_t len = from_hex(samples[i].wire, wire);

        memset(&record, 0xaa, sizeof(record));
        assert_int_equal(gr_decode(wire, len, &record, why), GR_OK);
        assert_int_equal(record.size, len);
        assert_int_equal(record.type, samples[i].record.type);
        assert_int_equal(record.flags, samples[i].record.flags);
        assert_int_equal(record.sequence, samples[i].record.sequence);
        assert_int_equal(record.time, samples[i].record.time);
        assert_int_equal(gr_encode(&record, again, sizeof(again)), len);
        assert_memory_equal(again, wire, len);
    }
}

static void
test_decoded_texts_point_into_the_buffer(void **state)
{
    uint8_t wire[256];
    char why[GR_WHY_MAX];
    struct gr_record record;
    size_t len = from_hex(sample_of(GR_FILE)->wire, wire);

    (void)state;
    assert_int_equal(gr_decode(wire, len, &record, why), GR_OK);
    assert_int_equal(record.body.file.target.len, 3);
    assert_memory_equal(record.body.file.target.data, "/bc", 3);
    assert_ptr_equal(record.body.file.user_id.data, wire + len - 2);
    assert_int_equal(record.body.file.attributes, 9);
}

/* ---- records that end too early or too late ---- */

static void
test_part_of_a_record_waits_for_more(void **state)
{
    uint8_t wire[256];
    char why[GR_WHY_MAX];
    struct gr_record record;

    (void)state;
    for (size_t i = 0; i < SAMPLES; i++) {
        size_t len = from_hex(samples[i].wire, wire);

        for (size_t cut = 0; cut < len; cut++)
            assert_int_equal(decode_exact(wire, cut, &record, why), GR_MORE);
    }
}

static void
test_no_size_below_the_true_one_is_taken(void **state)
{
    uint8_t wire[256];
    char why[GR_WHY_MAX];
    struct gr_record record;

    (void)state;
    for (size_t i = 0; i < SAMPLES; i++) {
        size_t len = from_hex(samples[i].wire, wire);

        for (size_t size = 0; size < len; size++) {
            put_size(wire, (uint32_t)size);
            assert_int_equal(decode_exact(wire, size < 4 ? 4 : size, &record, why), GR_INVALID);
            assert_true(strlen(why) > 0);
        }
    }
}

static void
test_bytes_of_a_newer_version_are_skipped(void **state)
{
    uint8_t wire[256];
    char why[GR_WHY_MAX];
    struct gr_record record;

    (void)state;
    for (size_t i = 0; i < SAMPLES; i++) {
        size_t len = from_hex(samples[i].wire, wire);

        put_size(wire, (uint32_t)len + 3);
        memset(wire + len, 0xee, 3);
        assert_int_equal(decode_exact(wire, len, &record, why), GR_MORE);
        assert_int_equal(decode_exact(wire, len + 3, &record, why), GR_OK);
        assert_int_equal(record.size, len + 3);
    }
}

static void
test_sizes_are_bounded(void **state)
{
    uint8_t *buf = calloc(1, GR_MAX_RECORD);
    char why[GR_WHY_MAX];
    struct gr_record record;

    (void)state;
    assert_non_null(buf);
    buf[4] = GR_PING;
    put_size(buf, GR_MAX_RECORD + 1);
    assert_int_equal(gr_decode(buf, 4, &record, why), GR_INVALID);
    assert_non_null(strstr(why, "expected 24 to 262144"));
    put_size(buf, UINT32_MAX);
    assert_int_equal(gr_decode(buf, 4, &record, why), GR_INVALID);
    put_size(buf, GR_MAX_RECORD);
    assert_int_equal(gr_decode(buf, 4, &record, why), GR_MORE);
    assert_int_equal(gr_decode(buf, GR_MAX_RECORD, &record, why), GR_OK);
    free(buf);
}

static void
test_unknown_types_are_skipped(void **state)
{
    static const uint16_t types[] = { 0, GR_VOLUMES + 1, 0xff, GR_EVENT_LAST + 1, 0xffff };
    uint8_t wire[256];
    char why[GR_WHY_MAX];
    struct gr_record record;
    size_t len = from_hex(sample_of(GR_PING)->wire, wire);

    (void)state;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        wire[4] = (uint8_t)types[i];
        wire[5] = (uint8_t)(types[i] >> 8);
        assert_int_equal(decode_exact(wire, len, &record, why), GR_SKIP);
        assert_int_equal(record.size, len);
        assert_int_equal(record.type, types[i]);
    }
}

/* ---- what a record may not say ---- */

static void
test_numbers_out_of_range_are_refused(void **state)
{
    (void)state;
    expect_refused(GR_HELLO, 24, 'X', "magic");
    expect_refused(GR_HELLO, 28, 0, "byte 28 is 0");
    expect_refused(GR_HELLO, 30, 0, "byte 30 is 0");
    expect_refused(GR_HELLO, 68, 0, "first sequence held is 0");
    expect_refused(GR_VERDICT, 32, 0, "expected 1 to 2");
    expect_refused(GR_VERDICT, 32, 3, "expected 1 to 2");
    expect_refused(GR_FILE_DATA, 44, 2, "expected 0 to 1");
    expect_refused(GR_FILE, 24, 0, "expected 1 to 7");
    expect_refused(GR_FILE, 24, 8, "expected 1 to 7");
    expect_refused(GR_NET, 24, 6, "expected 1 to 5");
    expect_refused(GR_NET, 27, 3, "expected 0 to 2");
    expect_refused(GR_NET, 28, 3, "expected 4 to 6");
    expect_refused(GR_NET, 28, 5, "family 5");
    expect_refused(GR_NET, 28, 7, "expected 4 to 6");
    expect_refused(GR_DNS, 24, 3, "expected 1 to 2");
    expect_refused(GR_PROCESS, 24, 3, "expected 1 to 2");
    expect_refused(GR_LOGON, 24, 0, "expected 1 to 2");
    expect_refused(GR_POWER, 24, 6, "expected 1 to 5");
}

static void
test_events_and_lost_need_a_sequence(void **state)
{
    (void)state;
    for (uint16_t type = GR_EVENT_FIRST; type < GR_EVENT_LAST; type++)
        expect_refused(type, 8, 0, "sequence 0");
    expect_refused(GR_LOST, 8, 0, "sequence 0");
    expect_refused(GR_LOST, 8, 6, "ends at 5 before it starts at 6");
}

/* Who adds one to a sequence must not come to 0: a guest that said 2^64 - 1 had gimuxd never end. */
static void
test_sequences_have_an_end(void **state)
{
    static const uint64_t numbers[] = { GR_SEQUENCE_MAX + 1, UINT64_MAX - 1, UINT64_MAX };
    uint8_t buf[256] = { 0 };
    char why[GR_WHY_MAX];
    struct gr_record record;

    (void)state;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        struct gr_record event = { .type = GR_LOST, .sequence = numbers[i], .body.lost.last = UINT64_MAX };
        struct gr_record lost = { .type = GR_LOST, .sequence = 1, .body.lost.last = numbers[i] };
        struct gr_record hello = {
            .type = GR_HELLO,
            .body.hello = { .magic = GR_MAGIC, .version_min = 1, .version_max = 1, .first_held = numbers[i] }
        };

        assert_int_equal(decode_exact(buf, gr_encode(&event, buf, sizeof(buf)), &record, why), GR_INVALID);
        assert_non_null(strstr(why, "expected 1 to 9223372036854775807"));
        assert_int_equal(decode_exact(buf, gr_encode(&lost, buf, sizeof(buf)), &record, why), GR_INVALID);
        assert_non_null(strstr(why, "LOST record: last sequence is"));
        assert_int_equal(decode_exact(buf, gr_encode(&hello, buf, sizeof(buf)), &record, why), GR_INVALID);
        assert_non_null(strstr(why, "HELLO record: first sequence held is"));
        hello.body.hello.first_held = GR_SEQUENCE_MAX;
        assert_int_equal(decode_exact(buf, gr_encode(&hello, buf, sizeof(buf)), &record, why), GR_OK);
    }
}

static void
test_text_lengths_are_checked(void **state)
{
    uint8_t *buf = calloc(1, GR_MAX_RECORD);
    char why[GR_WHY_MAX];
    struct gr_record record;

    (void)state;
    expect_refused(GR_HELLO, 77, 0xff, "only 8 are left");
    expect_refused(GR_FILE, 80, 3, "a text of 3 bytes, but only 2 are left");
    expect_refused(GR_FILE_DATA, 51, 0xff, "only 4 are left");
    assert_non_null(buf);
    from_hex(sample_of(GR_BYE)->wire, buf);
    put_size(buf, GR_MAX_RECORD);
    buf[26] = 0xff;
    buf[27] = 0xff;
    assert_int_equal(gr_decode(buf, GR_MAX_RECORD, &record, why), GR_INVALID);
    assert_non_null(strstr(why, "a text of 65535 bytes, expected at most 65534"));
    memset(buf, 0, GR_MAX_RECORD);
    from_hex(sample_of(GR_FILE)->wire, buf);
    put_size(buf, GR_MAX_RECORD);
    buf[72] = 0xff;
    buf[73] = 0xff;
    assert_int_equal(gr_decode(buf, GR_MAX_RECORD, &record, why), GR_INVALID);
    assert_non_null(strstr(why, "FILE record: a text of 65535 bytes, expected at most 65534"));
    free(buf);
}

static void
test_volumes_hold_what_they_say(void **state)
{
    (void)state;
    expect_refused(GR_VOLUMES, 24, 65, "expected 0 to 64");
    expect_refused(GR_VOLUMES, 24, 3, "says 3 entries, holds 2");
    expect_refused(GR_VOLUMES, 24, 1, "says 1 entries, holds 2");
    expect_refused(GR_VOLUMES, 32, 'c', "letter 0x0063");
    expect_refused(GR_VOLUMES, 33, 1, "letter 0x0143");
    expect_refused(GR_VOLUMES, 35, 0xff, "holds 0");
}

/* ---- encode ---- */

static void
test_encode_refuses_what_does_not_fit(void **state)
{
    static uint8_t buf[GR_MAX_RECORD + 100];
    struct gr_record record = { .type = GR_BYE };

    (void)state;
    record.body.bye.reason = (struct gr_text){ buf, GR_MAX_TEXT + 1 };
    assert_int_equal(gr_encode(&record, buf + GR_MAX_TEXT + 1, GR_MAX_RECORD / 2), 0);
    record.body.bye.reason = (struct gr_text){ NULL, 0 };
    assert_int_equal(gr_encode(&record, buf, 27), 0);
    assert_int_equal(gr_encode(&record, buf, 28), 28);
    record.type = GR_EVENT_LAST + 1;
    assert_int_equal(gr_encode(&record, buf, sizeof(buf)), 0);
}

static void
test_file_data_fills_a_record_and_no_more(void **state)
{
    static uint8_t content[GR_MAX_RECORD];
    static uint8_t buf[GR_MAX_RECORD + 100];
    char why[GR_WHY_MAX];
    struct gr_record record = { .type = GR_FILE_DATA };
    uint32_t room = GR_MAX_RECORD - GR_HEADER_SIZE - 28;

    (void)state;
    record.body.file_data.data = (struct gr_text){ content, room + 1 };
    assert_int_equal(gr_encode(&record, buf, sizeof(buf)), 0);
    record.body.file_data.data.len = UINT32_MAX;
    assert_int_equal(gr_encode(&record, buf, sizeof(buf)), 0);
    record.body.file_data.data.len = room;
    assert_int_equal(gr_encode(&record, buf, sizeof(buf)), GR_MAX_RECORD);
    assert_int_equal(gr_decode(buf, GR_MAX_RECORD, &record, why), GR_OK);
    assert_int_equal(record.body.file_data.data.len, room);
}

static void
test_volume_entries_are_built_and_read(void **state)
{
    struct gr_volume c = { 'C', TEXT("\\\0d\0") };
    struct gr_volume d = { 'D', { NULL, 0 } };
    struct gr_volume out;
    struct gr_volumes volumes;
    uint8_t buf[sizeof(volume_entries)];
    size_t len = 0;
    size_t at = 0;

    (void)state;
    assert_false(gr_volume_put(buf, 7, &len, &c));
    assert_int_equal(len, 0);
    assert_true(gr_volume_put(buf, sizeof(buf), &len, &c));
    assert_true(gr_volume_put(buf, sizeof(buf), &len, &d));
    assert_false(gr_volume_put(buf, sizeof(buf), &len, &d));
    assert_int_equal(len, sizeof(volume_entries));
    assert_memory_equal(buf, volume_entries, len);
    volumes = (struct gr_volumes){ 2, { buf, (uint32_t)len } };
    assert_true(gr_volume_next(&volumes, &at, &out));
    assert_int_equal(out.letter, 'C');
    assert_int_equal(out.device.len, 4);
    assert_true(gr_volume_next(&volumes, &at, &out));
    assert_int_equal(out.letter, 'D');
    assert_false(gr_volume_next(&volumes, &at, &out));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type_has_a_sample),
        cmocka_unit_test(test_encode_gives_the_wire_form),
        cmocka_unit_test(test_decode_gives_it_back),
        cmocka_unit_test(test_decoded_texts_point_into_the_buffer),
        cmocka_unit_test(test_part_of_a_record_waits_for_more),
        cmocka_unit_test(test_no_size_below_the_true_one_is_taken),
        cmocka_unit_test(test_bytes_of_a_newer_version_are_skipped),
        cmocka_unit_test(test_sizes_are_bounded),
        cmocka_unit_test(test_unknown_types_are_skipped),
        cmocka_unit_test(test_numbers_out_of_range_are_refused),
        cmocka_unit_test(test_events_and_lost_need_a_sequence),
        cmocka_unit_test(test_sequences_have_an_end),
        cmocka_unit_test(test_text_lengths_are_checked),
        cmocka_unit_test(test_volumes_hold_what_they_say),
        cmocka_unit_test(test_encode_refuses_what_does_not_fit),
        cmocka_unit_test(test_file_data_fills_a_record_and_no_more),
        cmocka_unit_test(test_volume_entries_are_built_and_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
