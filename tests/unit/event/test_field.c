/* Fields written from the end are what protobuf-c writes from the front: numbers of all widths, texts and
 * lists, and messages around them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mux/event/field.h"
#include "proto/gimux.pb-c.h"

#define ROOM 70000

static uint8_t buf[ROOM];
static uint8_t *const end = buf + ROOM;
static uint8_t want[ROOM];

static void
expect_same(const uint8_t *at, const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);

    assert_int_equal(end - at, len);
    protobuf_c_message_pack(message, want);
    assert_memory_equal(at, want, len);
}

static void
expect_number(uint64_t value)
{
    Gimux__V1__File file = GIMUX__V1__FILE__INIT;
    Gimux__V1__Process process = GIMUX__V1__PROCESS__INIT;
    Gimux__V1__Event event = GIMUX__V1__EVENT__INIT;

    file.size = value;
    expect_same(put_number(end, 8, value), &file.base);
    process.exit_code = (int32_t)value;
    expect_same(put_sint32(end, 7, (int32_t)value), &process.base);
    event.time = (int64_t)value;
    expect_same(put_sfixed64(end, 3, (int64_t)value), &event.base);
}

static void
test_numbers(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 64; bits++) {
        const uint64_t power = UINT64_C(1) << bits;

        expect_number(power - 1);
        expect_number(power);
        expect_number(power + 1);
        expect_number(-power);
        expect_number(~power);
    }
}

static void
test_bytes_and_lists(void **state)
{
    static const size_t lengths[] = { 0, 1, 127, 128, 129, 16383, 16384, 65535 };
    char *text = malloc(65536);

    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        Gimux__V1__Dns dns = GIMUX__V1__DNS__INIT;
        char *answers[] = { (char *)"", text };
        uint8_t *at = end;

        memset(text, 'x', lengths[i]);
        text[lengths[i]] = '\0';
        dns.hostname = text;
        expect_same(put_bytes(end, 1, text, lengths[i]), &dns.base);
        dns.hostname = (char *)protobuf_c_empty_string;
        dns.answers = answers;
        dns.n_answers = 2;
        at = put_element(at, 5, text, lengths[i]);
        expect_same(put_element(at, 5, "", 0), &dns.base);
    }
    free(text);
}

static void
test_messages_in_messages(void **state)
{
    Gimux__V1__Frame frame = GIMUX__V1__FRAME__INIT;
    Gimux__V1__Event event = GIMUX__V1__EVENT__INIT;
    Gimux__V1__Lifecycle lifecycle = GIMUX__V1__LIFECYCLE__INIT;
    char door[201];
    uint8_t *at;

    (void)state;
    memset(door, 'd', 200);
    door[200] = '\0';
    lifecycle.door = door;
    event.detail_case = GIMUX__V1__EVENT__DETAIL_LIFECYCLE;
    event.lifecycle = &lifecycle;
    event.stream = 7;
    frame.body_case = GIMUX__V1__FRAME__BODY_EVENT;
    frame.event = &event;
    at = put_length(put_bytes(end, 4, door, 200), 22, end);
    at = put_length(put_number(at, 1, 7), 5, end);
    expect_same(at, &frame.base);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_bytes_and_lists),
        cmocka_unit_test(test_messages_in_messages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
