/* The client library: what it remembers of streams, and how it reads frames. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/decode.h"
#include "client/gimux_client.h"
#include "client/position.h"
#include "proto/delimited.h"

#define VM "11111111-2222-3333-4444-555555555555"

/* ---- positions ---- */

static struct position_key
key_of(unsigned number)
{
    struct position_key key;

    memset(&key, 0, sizeof(key));
    strcpy(key.vm_uuid, VM);
    snprintf(key.boot_id, sizeof(key.boot_id), "aaaaaaaa-bbbb-cccc-dddd-%012x", number);
    key.driver = GIMUX_DRIVER_LINUX;
    return key;
}

static struct position *
add(struct positions *positions, unsigned number, uint64_t first)
{
    struct position_key key = key_of(number);

    return gimux_position_add(positions, &key, first);
}

static void
empty(struct positions *positions)
{
    while (positions->table)
        gimux_position_remove(positions, positions->table);
}

static void
test_uuid(void **state)
{
    (void)state;
    assert_true(gimux_position_is_uuid(VM));
    assert_false(gimux_position_is_uuid(""));
    assert_false(gimux_position_is_uuid("11111111-2222-3333-4444-55555555555"));
    assert_false(gimux_position_is_uuid("11111111-2222-3333-4444-5555555555555"));
    assert_false(gimux_position_is_uuid("A1111111-2222-3333-4444-555555555555"));
    assert_false(gimux_position_is_uuid("11111111x2222-3333-4444-555555555555"));
}

static void
test_position_takes_each_sequence_once(void **state)
{
    struct positions positions = { .max = 4 };
    struct position *p = add(&positions, 1, 10);
    uint64_t first = 12;

    (void)state;
    assert_int_equal(p->acked, 9);
    assert_false(gimux_position_event(p, 9));
    assert_true(gimux_position_event(p, 10));
    assert_false(gimux_position_event(p, 10));
    assert_true(gimux_position_event(p, 14)); /* a hole is the filter's */
    assert_false(gimux_position_gap(p, &first, 14));
    assert_true(gimux_position_gap(p, &first, 15));
    assert_int_equal(first, 15);
    first = 17;
    assert_true(gimux_position_gap(p, &first, UINT64_MAX));
    assert_int_equal(first, 17);
    assert_false(gimux_position_event(p, UINT64_MAX));
    empty(&positions);
}

static void
test_position_falls_back_to_what_is_acknowledged(void **state)
{
    struct positions positions = { .max = 4 };
    struct position *p = add(&positions, 1, 1);

    (void)state;
    gimux_position_event(p, 1);
    gimux_position_event(p, 2);
    assert_false(gimux_position_ack(p, 3));
    assert_true(gimux_position_ack(p, 1));
    gimux_position_progress(p, 5); /* 2 still waits: nothing is settled */
    assert_int_equal(p->acked, 1);
    gimux_position_restart(p);
    assert_true(gimux_position_event(p, 2));
    assert_true(gimux_position_ack(p, 2));
    gimux_position_progress(p, 5);
    assert_int_equal(p->acked, 5);
    assert_true(gimux_position_ack(p, 3)); /* less than before changes nothing */
    assert_int_equal(p->acked, 5);
    gimux_position_progress(p, 4);
    assert_int_equal(p->delivered, 5);
    empty(&positions);
}

static void
test_positions_forget_what_ended_first(void **state)
{
    struct positions positions = { .max = 3 };
    struct position *one = add(&positions, 1, 1);
    struct position *two = add(&positions, 2, 1);
    struct position *three;
    struct link_stream *used = (struct link_stream *)one; /* any address: only looked at for NULL */

    (void)state;
    assert_null(gimux_position_victim(&positions));
    three = add(&positions, 3, 1);
    assert_null(add(&positions, 4, 1));
    one->route = two->route = three->route = used;
    assert_null(gimux_position_victim(&positions));
    two->route = NULL;
    assert_ptr_equal(gimux_position_victim(&positions), two);
    gimux_position_end(&positions, three);
    gimux_position_end(&positions, one);
    assert_ptr_equal(gimux_position_victim(&positions), three);
    gimux_position_remove(&positions, three);
    assert_non_null(add(&positions, 4, 1));
    assert_ptr_equal(gimux_position_victim(&positions), one);
    gimux_position_restart(one);
    assert_ptr_equal(gimux_position_victim(&positions), two);
    empty(&positions);
}

/* ---- decoding ---- */

static void
test_decode_is_bounded(void **state)
{
    static const uint8_t start[] = { 0x2a, 0xfb, 0xff, 0x3f, 0x92, 0x01, 0xf6, 0xff, 0x3f };
    struct decoder decoder;
    uint8_t *body = calloc(1, DELIMITED_FRAME_MAX);
    Gimux__V1__Frame frame = GIMUX__V1__FRAME__INIT;
    Gimux__V1__Ping ping = GIMUX__V1__PING__INIT;
    size_t len;

    (void)state;
    assert_true(gimux_decoder_init(&decoder));
    /* Frame.event.dns.answers: as many empty texts as go into a frame, two bytes each. */
    for (size_t i = sizeof(start); i < DELIMITED_FRAME_MAX; i += 2)
        body[i] = 0x2a;
    memcpy(body, start, sizeof(start));
    assert_null(gimux_decode_frame(&decoder, body, DELIMITED_FRAME_MAX - 1));
    assert_in_range(decoder.used, DECODE_MEMORY / 8, DECODE_MEMORY); /* it was memory that ran out */
    ping.token = 7;
    frame.body_case = GIMUX__V1__FRAME__BODY_PING;
    frame.ping = &ping;
    len = gimux__v1__frame__pack(&frame, body);
    assert_int_equal(gimux_decode_frame(&decoder, body, len)->ping->token, 7);
    assert_null(gimux_decode_frame(&decoder, body, len - 1));
    gimux_decoder_free(&decoder);
    free(body);
}

static void
test_decode_takes_no_address_of_another_length(void **state)
{
    uint8_t address[16] = { 10 };
    Gimux__V1__Event from = GIMUX__V1__EVENT__INIT;
    Gimux__V1__Network network = GIMUX__V1__NETWORK__INIT;
    struct decoded_event out;

    (void)state;
    from.detail_case = GIMUX__V1__EVENT__DETAIL_NETWORK;
    from.network = &network;
    network.src_ip = (ProtobufCBinaryData){ .data = address, .len = 5 };
    network.dst_ip = (ProtobufCBinaryData){ .data = address, .len = 16 };
    gimux_decode_event(&from, &out);
    assert_non_null(out.event.network);
    assert_null(out.event.file);
    assert_null(out.event.actor);
    assert_null(out.event.network->src_ip.data);
    assert_int_equal(out.event.network->dst_ip.len, 16);
}

static void
test_names(void **state)
{
    (void)state;
    assert_string_equal(gimux_client_driver_name(GIMUX_DRIVER_VNETWFP), "vnetwfp");
    assert_string_equal(gimux_client_driver_name(UINT32_MAX), "unknown");
    assert_string_equal(gimux_client_activity_name(GIMUX_CLASS_FILE, 14), "open");
    assert_string_equal(gimux_client_activity_name(GIMUX_CLASS_FILE, 15), "unknown");
    assert_string_equal(gimux_client_activity_name(GIMUX_CLASS_DNS, 3), "unknown");
    assert_string_equal(gimux_client_activity_name(GIMUX_CLASS_POWER, 99), "other");
    assert_int_equal(gimux_client_class_by_name("dns"), GIMUX_CLASS_DNS);
    assert_int_equal(gimux_client_class_by_name(""), 0);
    assert_string_equal(gimux_client_gap_name(GIMUX_GAP_RESTART), "restart");
    assert_string_equal(gimux_client_disconnect_name(GIMUX_DISCONNECT_STOPPED), "stopped");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uuid),
        cmocka_unit_test(test_position_takes_each_sequence_once),
        cmocka_unit_test(test_position_falls_back_to_what_is_acknowledged),
        cmocka_unit_test(test_positions_forget_what_ended_first),
        cmocka_unit_test(test_decode_is_bounded),
        cmocka_unit_test(test_decode_takes_no_address_of_another_length),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests_name("client_streams", tests, NULL, NULL);
}
