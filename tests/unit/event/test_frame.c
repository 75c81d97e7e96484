/* Acknowledgements read where they are: what protobuf-c reads, or left to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mux/event/frame.h"
#include "tests/unit/random.h"

#define ROUNDS      20000
#define STREAMS_MAX 8

/* The bytes alone in memory of their own, so that the address sanitizer sees one too many. */
static uint8_t *
copy(const void *bytes, size_t len)
{
    uint8_t *alone = malloc(len + !len);

    assert_non_null(alone);
    return memcpy(alone, bytes, len);
}

/* Whether the body is taken; then it must be what protobuf-c reads in it. */
static bool
take(const void *bytes, size_t len)
{
    uint8_t *body = copy(bytes, len);
    struct frame_acks acks;
    bool taken = frame_acks_begin(&acks, body, len);
    Gimux__V1__Frame *frame = taken ? frame_unpack(body, len) : NULL;
    uint32_t stream;
    uint64_t sequence;

    if (taken) {
        assert_non_null(frame);
        assert_int_equal(frame->body_case, GIMUX__V1__FRAME__BODY_ACK);
        for (size_t i = 0; i < frame->ack->n_streams; i++) {
            assert_true(frame_acks_next(&acks, &stream, &sequence));
            assert_int_equal(stream, frame->ack->streams[i]->stream);
            assert_int_equal(sequence, frame->ack->streams[i]->sequence);
        }
        assert_false(frame_acks_next(&acks, &stream, &sequence));
        gimux__v1__frame__free_unpacked(frame, NULL);
    }
    free(body);
    return taken;
}

/* Packs an Ack of some streams. */
static size_t
pack(uint8_t *out, size_t room)
{
    Gimux__V1__Frame frame = GIMUX__V1__FRAME__INIT;
    Gimux__V1__Ack ack = GIMUX__V1__ACK__INIT;
    Gimux__V1__StreamAck streams[STREAMS_MAX];
    Gimux__V1__StreamAck *list[STREAMS_MAX];

    frame.body_case = GIMUX__V1__FRAME__BODY_ACK;
    frame.ack = &ack;
    ack.streams = list;
    ack.n_streams = number() % (STREAMS_MAX + 1);
    for (size_t i = 0; i < ack.n_streams; i++) {
        gimux__v1__stream_ack__init(&streams[i]);
        streams[i].stream = number() % 4 ? (uint32_t)(number() >> number() % 64) : 0;
        streams[i].sequence = number() % 4 ? number() >> number() % 64 : 0;
        list[i] = &streams[i];
    }
    assert_in_range(gimux__v1__frame__get_packed_size(&frame), 0, room);
    return gimux__v1__frame__pack(&frame, out);
}

static void
test_every_ack_is_taken(void **state)
{
    uint8_t body[256];

    (void)state;
    for (unsigned i = 0; i < ROUNDS; i++)
        assert_true(take(body, pack(body, sizeof(body))));
}

/* Cut, changed, or longer: it is not taken, or it is what protobuf-c reads. */
static void
test_what_is_taken_is_what_protobuf_c_reads(void **state)
{
    uint8_t body[256];
    unsigned taken = 0;

    (void)state;
    for (unsigned i = 0; i < 10 * ROUNDS; i++) {
        size_t len = pack(body, sizeof(body) - 1);

        if (i % 3 == 0)
            len -= number() % (len + 1);
        else if (i % 3 == 1)
            body[len++] = (uint8_t)number();
        else
            body[number() % len] = (uint8_t)number();
        taken += take(body, len);
    }
    assert_in_range(taken, ROUNDS / 10, 10 * ROUNDS);
}

static void
test_anything_else_is_left_alone(void **state)
{
    (void)state;
    assert_true(take("\x42\x00", 2));
    assert_true(take("\x42\x02\x0a\x00", 4));
    assert_false(take("", 0));
    assert_false(take("\x4a\x00", 2));                                  /* a Ping */
    assert_false(take("\x42\x00\x42\x00", 4));                          /* twice */
    assert_false(take("\x42\x06\x0a\x04\x10\x01\x08\x01", 8));          /* not in order */
    assert_false(take("\x42\x08\x0a\x06\x08\x01\x10\x01\x18\x01", 10)); /* a field of a newer version */
    assert_false(take("\x42\x04\x12\x02\x08\x01", 6));                  /* another */
    assert_false(take("\x42\x05\x0a\x02\x08\x01", 6));                  /* it ends too soon */
    assert_false(take("\x42\x08\x0a\x06\x08\x80\x80\x80\x80\x10", 10)); /* a stream of 33 bits */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_ack_is_taken),
        cmocka_unit_test(test_what_is_taken_is_what_protobuf_c_reads),
        cmocka_unit_test(test_anything_else_is_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
