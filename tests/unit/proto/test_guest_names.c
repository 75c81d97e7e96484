/* Names of drivers, records and kinds of events, and UUIDs as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/guest_record.h"

static void
test_names(void **state)
{
    (void)state;
    assert_string_equal(gr_type_name(GR_HELLO), "HELLO");
    assert_string_equal(gr_type_name(GR_POWER), "POWER");
    assert_string_equal(gr_type_name(0), "?");
    assert_string_equal(gr_type_name(GR_VOLUMES + 1), "?");
    assert_string_equal(gr_driver_name(0), "?");
    assert_string_equal(gr_driver_name(GR_VMX + 1), "?");
    assert_true(gr_driver_is_windows(GR_VSEPFLT) && gr_driver_is_windows(GR_VNETFLT));
    assert_true(gr_driver_is_windows(GR_VNETWFP));
    assert_false(gr_driver_is_windows(GR_LINUX) || gr_driver_is_windows(GR_VMX) || gr_driver_is_windows(0));
    assert_true(gr_type_is_event(GR_FILE) && gr_type_is_event(GR_POWER));
    assert_false(gr_type_is_event(GR_FILE - 1) || gr_type_is_event(GR_POWER + 1));
}

static void
test_uuids(void **state)
{
    static const char *const wrong[] = {
        "",
        "01234567-89ab-cdef-0123-456789abcde",
        "01234567-89ab-cdef-0123-456789abcdef0",
        "01234567-89ab-cdef-0123_456789abcdef",
        "0123456789abcdef0123456789abcdef",
        "g1234567-89ab-cdef-0123-456789abcdef",
        "01234567-89ab-cdef-0123-456789abcde ",
        "{1234567-89ab-cdef-0123-456789abcdef}",
    };
    uint8_t uuid[GR_UUID_SIZE] = { 9 };
    char text[GR_UUID_TEXT];

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_false(gr_uuid_parse(wrong[i], uuid));
    assert_int_equal(uuid[0], 9);
    assert_true(gr_uuid_parse("01234567-89AB-cdef-0123-456789ABCDEF", uuid));
    assert_int_equal(uuid[0], 0x01);
    assert_int_equal(uuid[15], 0xef);
    assert_string_equal(gr_uuid_format(uuid, text), "01234567-89ab-cdef-0123-456789abcdef");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_uuids),
    };

    return cmocka_run_group_tests_name("guest_names", tests, NULL, NULL);
}
