/* Event classes: the names, the OCSF numbers and the records of each lead to one another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/event_class.h"
#include "proto/guest_record.h"

static void
test_uids_and_names_lead_back(void **state)
{
    (void)state;
    for (enum event_class cls = 0; cls < CLASS_COUNT; cls++) {
        assert_int_equal(event_class_by_uid(event_class_uid(cls)), cls);
        assert_int_equal(event_class_by_name(event_class_name(cls)), cls);
    }
}

static void
test_the_uids_are_those_of_ocsf(void **state)
{
    (void)state;
    assert_int_equal(event_class_uid(CLASS_FILE), 1001);
    assert_int_equal(event_class_uid(CLASS_PROCESS), 1007);
    assert_int_equal(event_class_uid(CLASS_POWER), 1011);
    assert_int_equal(event_class_uid(CLASS_AUTHENTICATION), 3002);
    assert_int_equal(event_class_uid(CLASS_NETWORK), 4001);
    assert_int_equal(event_class_uid(CLASS_DNS), 4003);
    assert_int_equal(event_class_uid(CLASS_LIFECYCLE), 6002);
}

static void
test_what_is_unknown_has_no_class(void **state)
{
    (void)state;
    assert_int_equal(event_class_by_uid(0), CLASS_COUNT);
    assert_int_equal(event_class_by_uid(1002), CLASS_COUNT);
    assert_int_equal(event_class_by_name(""), CLASS_COUNT);
    assert_int_equal(event_class_by_name("File"), CLASS_COUNT);
    assert_int_equal(event_class_of_record(GR_HELLO), CLASS_COUNT);
    assert_int_equal(event_class_of_record(GR_EVENT_LAST + 1), CLASS_COUNT);
}

static void
test_records_have_their_class(void **state)
{
    (void)state;
    assert_int_equal(event_class_of_record(GR_FILE), CLASS_FILE);
    assert_int_equal(event_class_of_record(GR_NET), CLASS_NETWORK);
    assert_int_equal(event_class_of_record(GR_DNS), CLASS_DNS);
    assert_int_equal(event_class_of_record(GR_PROCESS), CLASS_PROCESS);
    assert_int_equal(event_class_of_record(GR_LOGON), CLASS_AUTHENTICATION);
    assert_int_equal(event_class_of_record(GR_POWER), CLASS_POWER);
}

static void
test_masks_of_classes_become_masks_of_kinds(void **state)
{
    (void)state;
    assert_int_equal(event_class_kinds(0), 0);
    assert_int_equal(event_class_kinds(CLASS_MASK_ALL), GR_KIND_ALL);
    assert_int_equal(event_class_kinds(1u << CLASS_LIFECYCLE), 0);
    for (uint16_t type = GR_EVENT_FIRST; type <= GR_EVENT_LAST; type++)
        assert_int_equal(event_class_kinds(1u << event_class_of_record(type)), GR_KIND(type));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uids_and_names_lead_back),
        cmocka_unit_test(test_the_uids_are_those_of_ocsf),
        cmocka_unit_test(test_what_is_unknown_has_no_class),
        cmocka_unit_test(test_records_have_their_class),
        cmocka_unit_test(test_masks_of_classes_become_masks_of_kinds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
