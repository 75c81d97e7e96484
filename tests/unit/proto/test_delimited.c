/* Frame lengths: prefixes of every size, whole and in part, and lengths that are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/delimited.h"

static void
test_a_frame_of_every_prefix_size(void **state)
{
    static const size_t lens[] = { 0, 1, 127, 128, 16383, 16384, DELIMITED_FRAME_MAX };
    static const size_t prefixes[] = { 1, 1, 1, 2, 2, 3, 3 };

    (void)state;
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        size_t total = prefixes[i] + lens[i];
        uint8_t *buf = calloc(1, total);
        const uint8_t *body = NULL;
        size_t body_len = 1;

        assert_non_null(buf);
        assert_int_equal(delimited_prefix_size(lens[i]), prefixes[i]);
        assert_int_equal(delimited_put_prefix(buf, lens[i]), prefixes[i]);
        assert_int_equal(delimited_next(buf, total, DELIMITED_FRAME_MAX, &body, &body_len), DELIMITED_FRAME);
        assert_ptr_equal(body, buf + prefixes[i]);
        assert_int_equal(body_len, lens[i]);
        free(buf);
    }
}

static void
test_part_of_a_frame_waits_for_more(void **state)
{
    uint8_t buf[302];
    const uint8_t *body = NULL;
    size_t body_len = 7;

    (void)state;
    memset(buf, 0xff, sizeof(buf));
    assert_int_equal(delimited_put_prefix(buf, 300), 2);
    for (size_t cut = 0; cut < sizeof(buf); cut++) {
        uint8_t *copy = malloc(cut ? cut : 1);

        assert_non_null(copy);
        memcpy(copy, buf, cut);
        assert_int_equal(delimited_next(copy, cut, DELIMITED_FRAME_MAX, &body, &body_len), DELIMITED_MORE);
        free(copy);
    }
    assert_null(body);
    assert_int_equal(body_len, 7);
    assert_int_equal(delimited_next(buf, sizeof(buf), DELIMITED_FRAME_MAX, &body, &body_len),
                     DELIMITED_FRAME);
}

static void
test_frames_follow_each_other(void **state)
{
    static const uint8_t buf[] = { 2, 'a', 'b', 0, 1, 'c' };
    const uint8_t *at = buf;
    const uint8_t *body;
    size_t left = sizeof(buf);
    size_t body_len;
    size_t count = 0;

    (void)state;
    while (delimited_next(at, left, 2, &body, &body_len) == DELIMITED_FRAME) {
        left -= (size_t)(body - at) + body_len;
        at = body + body_len;
        count++;
    }
    assert_int_equal(left, 0);
    assert_int_equal(count, 3);
}

static void
test_lengths_over_the_limit_are_refused(void **state)
{
    static const uint8_t endless[] = { 0x80, 0x80, 0x80 };
    static const uint8_t eleven[] = { 11 };
    uint8_t over[DELIMITED_PREFIX_MAX] = { 0x81, 0x80, 0x40 }; /* 2^20 + 1 */
    const uint8_t *body;
    size_t body_len;

    (void)state;
    assert_int_equal(delimited_next(endless, 2, DELIMITED_FRAME_MAX, &body, &body_len), DELIMITED_MORE);
    assert_int_equal(delimited_next(endless, 3, DELIMITED_FRAME_MAX, &body, &body_len), DELIMITED_BAD);
    assert_int_equal(delimited_next(over, 3, DELIMITED_FRAME_MAX, &body, &body_len), DELIMITED_BAD);
    over[0] = 0x80;
    assert_int_equal(delimited_next(over, 3, DELIMITED_FRAME_MAX, &body, &body_len), DELIMITED_MORE);
    assert_int_equal(delimited_next(eleven, 1, 10, &body, &body_len), DELIMITED_BAD);
    assert_int_equal(delimited_next(eleven, 1, 11, &body, &body_len), DELIMITED_MORE);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_frame_of_every_prefix_size),
        cmocka_unit_test(test_part_of_a_frame_waits_for_more),
        cmocka_unit_test(test_frames_follow_each_other),
        cmocka_unit_test(test_lengths_over_the_limit_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
