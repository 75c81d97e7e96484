/* Texts: UTF-16LE and UTF-8 of guests, well-formed and not, as valid UTF-8. */
#include <iconv.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <uchar.h>

#include <cmocka.h>

#include "mux/event/text.h"
#include "proto/guest_record.h"

#define W(literal) ((struct gr_text){ (const uint8_t *)(u"" literal), sizeof(u"" literal) - 2 })
#define B(literal) ((struct gr_text){ (const uint8_t *)(literal), sizeof(literal) - 1 })

#define FFFD "\xef\xbf\xbd"

/* A text of ASCII alone is copied, to just as many bytes. */
static void
expect_copy(bool copy_text(const uint8_t *, size_t, char *), const uint8_t *in, size_t len, size_t units,
            const char *expected, bool lossy)
{
    char *out = malloc(units ? units : 1);
    bool ascii = !lossy && strlen(expected) == units;

    assert_non_null(out);
    for (const char *at = expected; *at; at++)
        ascii = ascii && (unsigned char)*at < 0x80;
    assert_int_equal(copy_text(in, len, out), ascii);
    if (ascii)
        assert_memory_equal(out, expected, units);
    free(out);
}

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
    expect_copy(text_copy_utf16le, copy, in.len, in.len / 2, expected, lossy);
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
    expect_copy(text_copy_utf8, copy, in.len, in.len, expected, lossy);
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

/* Letters of all kinds in any order, as glibc's iconv converts them. */
static void
test_well_formed_texts_become_what_iconv_makes_of_them(void **state)
{
    static const char16_t letters[][2] = {
        { 'a' },    { 'Z' },    { '\\' },           { 0x7f },           { 0x80 },
        { 0xe4 },   { 0x7ff },  { 0x800 },          { 0x4e2d },         { 0xd7ff },
        { 0xe000 }, { 0xfffd }, { 0xd800, 0xdc00 }, { 0xd83d, 0xde00 }, { 0xdbff, 0xdfff }
    };
    iconv_t converter = iconv_open("UTF-8", "UTF-16LE");
    uint32_t random = 1;

    (void)state;
    assert_ptr_not_equal(converter, (iconv_t)-1);
    for (int text = 0; text < 20000; text++) {
        uint8_t units[80 * 4];
        char expected[400] = "";
        uint8_t *end = units;
        char *in = (char *)units;
        char *out = expected;
        size_t count = (random >> 20) % 80;
        size_t in_len;
        size_t out_len = sizeof(expected) - 1;

        for (size_t i = 0; i < count; i++) {
            random = random * 1664525 + 1013904223; /* Numerical Recipes */
            size_t which = text % 4 == 0         ? 4 + (random >> 16) % 11
                           : (random >> 28) == 0 ? (random >> 16) % 15
                                                 : 0;
            size_t size = letters[which][1] ? 4 : 2;

            for (size_t k = 0; k < size; k++) /* little-endian */
                *end++ = (uint8_t)(letters[which][k / 2] >> 8 * (k % 2));
        }
        in_len = (size_t)(end - units);
        random = random * 1664525 + 1013904223;
        assert_int_equal(iconv(converter, &in, &in_len, &out, &out_len), 0);
        expect_utf16((struct gr_text){ units, (uint32_t)(end - units) }, expected, false);
        expect_utf8((struct gr_text){ (const uint8_t *)expected, (uint32_t)strlen(expected) }, expected,
                    false);
    }
    iconv_close(converter);
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
        cmocka_unit_test(test_well_formed_texts_become_what_iconv_makes_of_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
