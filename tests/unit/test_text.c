/* Texts: UTF-16LE and UTF-8 of guests, well-formed and not, as valid UTF-8. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <uchar.h>

#include <cmocka.h>

#include "mux/text.h"
#include "proto/guest_record.h"

#define W(literal) ((struct gr_text){ (const uint8_t *)(u"" literal), sizeof(u"" literal) - 2 })
#define B(literal) ((struct gr_text){ (const uint8_t *)(literal), sizeof(literal) - 1 })

#define FFFD "\xef\xbf\xbd"

static void
expect_utf16(struct gr_text in, const char *expected, bool expected_lossy)
{
    uint8_t *copy = malloc(in.len ? in.len : 1);
    char *out = malloc(TEXT_ROOM(in.len));
    bool lossy = false;

    assert_non_null(copy);
    assert_non_null(out);
    memcpy(copy, in.data, in.len);
    assert_int_equal(text_from_utf16le(copy, in.len, out, &lossy), strlen(expected));
    assert_string_equal(out, expected);
    assert_int_equal(lossy, expected_lossy);
    free(copy);
    free(out);
}

static void
test_utf16_becomes_utf8(void **state)
{
    static const char16_t edges[] = { 0x01, 0x7f, 0x80, 0x7ff, 0x800, 0xffff };

    (void)state;
    expect_utf16(W(""), "", false);
    expect_utf16(W("abc"), "abc", false);
    expect_utf16(W("C:\\Program Files\\x.exe"), "C:\\Program Files\\x.exe", false);
    expect_utf16((struct gr_text){ (const uint8_t *)edges, sizeof(edges) },
                 "\x01\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf", false);
    expect_utf16(W("abcd\u00e4efgh"),
                 "abcd\xc3\xa4"
                 "efgh",
                 false);
    expect_utf16(W("\U00010000\U0010ffff"), "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", false);
    expect_utf16(W("\ufffd"), FFFD, false);
}

static void
test_utf16_that_is_malformed_is_replaced(void **state)
{
    static const char16_t lone_high[] = { 'a', 0xd800, 'b' };
    static const char16_t lone_low[] = { 'a', 0xdc00, 'b' };
    static const char16_t high_at_end[] = { 'a', 'b', 'c', 'd', 0xdbff };
    static const char16_t two_high[] = { 0xd83d, 0xd83d, 0xde00 };
    static const char16_t nul[] = { 'a', 'b', 0, 'c', 'd' };

    (void)state;
    expect_utf16((struct gr_text){ (const uint8_t *)lone_high, 6 }, "a" FFFD "b", true);
    expect_utf16((struct gr_text){ (const uint8_t *)lone_low, 6 }, "a" FFFD "b", true);
    expect_utf16((struct gr_text){ (const uint8_t *)high_at_end, 10 }, "abcd" FFFD, true);
    expect_utf16((struct gr_text){ (const uint8_t *)high_at_end, 9 }, "abcd" FFFD, true);
    expect_utf16((struct gr_text){ (const uint8_t *)two_high, 6 }, FFFD "\xf0\x9f\x98\x80", true);
    expect_utf16((struct gr_text){ (const uint8_t *)nul, 10 }, "ab" FFFD "cd", true);
    expect_utf16(B("a\0b"), "a" FFFD, true);
    expect_utf16(B("x"), FFFD, true);
}

static void
expect_utf8(struct gr_text in, const char *expected, bool expected_lossy)
{
    uint8_t *copy = malloc(in.len ? in.len : 1);
    char *out = malloc(TEXT_ROOM(in.len));
    bool lossy = false;

    assert_non_null(copy);
    assert_non_null(out);
    memcpy(copy, in.data, in.len);
    assert_int_equal(text_from_utf8(copy, in.len, out, &lossy), strlen(expected));
    assert_string_equal(out, expected);
    assert_int_equal(lossy, expected_lossy);
    free(copy);
    free(out);
}

/* Runs of ASCII are copied in blocks: whatever is in their midst is seen, at every place of every length. */
static void
test_utf16_is_the_same_at_every_place(void **state)
{
    static const struct {
        char16_t unit;
        const char *text;
    } odd[] = { { 0, FFFD },           { 0x7f, "\x7f" },           { 0x80, "\xc2\x80" },
                { 0x141, "\xc5\x81" }, { 0x4100, "\xe4\x84\x80" }, { 0x8041, "\xe8\x81\x81" },
                { 0xdc41, FFFD } };
    char16_t units[70];
    char expected[220];

    (void)state;
    for (size_t len = 1; len <= 70; len++) {
        for (size_t at = 0; at < len; at++) {
            size_t which = (len + at) % (sizeof(odd) / sizeof(odd[0]));
            char *end = expected;

            for (size_t i = 0; i < len; i++) {
                units[i] = i == at ? odd[which].unit : (char16_t)('!' + i);
                if (i == at)
                    end = stpcpy(end, odd[which].text);
                else
                    *end++ = (char)('!' + i);
            }
            *end = '\0';
            expect_utf16((struct gr_text){ (const uint8_t *)units, (uint32_t)(2 * len) }, expected,
                         odd[which].unit == 0 || odd[which].unit == 0xdc41);
        }
    }
}

static void
test_utf8_is_kept(void **state)
{
    (void)state;
    expect_utf8(B(""), "", false);
    expect_utf8(B("/usr/bin/env bash"), "/usr/bin/env bash", false);
    expect_utf8(B("\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"),
                "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf", false);
    expect_utf8(B("\xf0\x90\x80\x80\xf3\xbf\xbf\xbf\xf4\x8f\xbf\xbf"),
                "\xf0\x90\x80\x80\xf3\xbf\xbf\xbf\xf4\x8f\xbf\xbf", false);
}

static void
test_utf8_that_is_malformed_is_replaced_byte_by_byte(void **state)
{
    (void)state;
    expect_utf8(B("a\xff"
                  "b"),
                "a" FFFD "b", true);
    expect_utf8(B("a\0b"), "a" FFFD "b", true);
    expect_utf8(B("12345678\0"), "12345678" FFFD, true);
    expect_utf8(B("\x80"), FFFD, true);
    expect_utf8(B("\xc0\xaf"), FFFD FFFD, true);                   /* overlong slash */
    expect_utf8(B("\xc1\xbf"), FFFD FFFD, true);                   /* overlong */
    expect_utf8(B("\xe0\x9f\xbf"), FFFD FFFD FFFD, true);          /* overlong */
    expect_utf8(B("\xf0\x8f\xbf\xbf"), FFFD FFFD FFFD FFFD, true); /* overlong */
    expect_utf8(B("\xed\xa0\x80"), FFFD FFFD FFFD, true);          /* surrogate */
    expect_utf8(B("\xf4\x90\x80\x80"), FFFD FFFD FFFD FFFD, true); /* over 10FFFF */
    expect_utf8(B("\xf5\x80\x80\x80"), FFFD FFFD FFFD FFFD, true);
    expect_utf8(B("\xe2\x82"), FFFD FFFD, true); /* cut off */
    expect_utf8(B("\xe2\x82z"), FFFD FFFD "z", true);
    expect_utf8(B("\xf0\x90\x80"), FFFD FFFD FFFD, true);
    expect_utf8(B("\xc3"), FFFD, true);
}

static void
test_utf8_is_the_same_at_every_place(void **state)
{
    static const struct {
        struct gr_text in;
        const char *out;
        bool lossy;
    } odd[] = { { { (const uint8_t *)"", 1 }, FFFD, true },
                { B("\x7f"), "\x7f", false },
                { B("\x80"), FFFD, true },
                { B("\xc3\xa4"), "\xc3\xa4", false },
                { B("\xff"), FFFD, true },
                { B("\xf0\x9f\x98\x80"), "\xf0\x9f\x98\x80", false },
                { B("\xe2\x82"), FFFD FFFD, true } };
    uint8_t in[80];
    char expected[80];

    (void)state;
    for (size_t len = 1; len <= 70; len++) {
        for (size_t at = 0; at < len; at++) {
            size_t which = (len + at) % (sizeof(odd) / sizeof(odd[0]));
            uint8_t *in_end = in;
            char *end = expected;

            for (size_t i = 0; i < len; i++) {
                if (i == at) {
                    in_end = mempcpy(in_end, odd[which].in.data, odd[which].in.len);
                    end = stpcpy(end, odd[which].out);
                } else {
                    *in_end++ = (uint8_t)('!' + i);
                    *end++ = (char)('!' + i);
                }
            }
            *end = '\0';
            expect_utf8((struct gr_text){ in, (uint32_t)(in_end - in) }, expected, odd[which].lossy);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf16_becomes_utf8),
        cmocka_unit_test(test_utf16_that_is_malformed_is_replaced),
        cmocka_unit_test(test_utf16_is_the_same_at_every_place),
        cmocka_unit_test(test_utf8_is_kept),
        cmocka_unit_test(test_utf8_that_is_malformed_is_replaced_byte_by_byte),
        cmocka_unit_test(test_utf8_is_the_same_at_every_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
