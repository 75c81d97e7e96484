/* Tests of what an import keeps while it reads a log: what it leaves out, and what later events need. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "thinagent-sim/trace/import_known.h"
#include "thinagent-sim/trace/import_left.h"

/* A log may name handles without end. */
static void
what_is_known_is_bounded(void **state)
{
    struct import_known_key key = { KNOWN_HANDLE, 0, 1, 0 };
    static char name[65536];
    struct import_known *known = import_known_new();
    char *text;

    (void)state;
    memset(name, 'n', sizeof(name) - 1);
    for (key.second = 1; key.second <= 1000; key.second++)
        import_known_put(known, &key, name);
    key.second = 1;
    assert_null(import_known_take(known, &key));
    key.second = 1000 - 250; /* 16 MiB are 256 of them, less what is around each */
    text = import_known_take(known, &key);
    assert_non_null(text);
    free(text);
    key.second = 1000 - 260;
    assert_null(import_known_take(known, &key));
    import_known_free(known);
}

static json_int_t
number_at(const json_t *rows, size_t index, const char *name)
{
    return json_integer_value(json_object_get(json_array_get(rows, index), name));
}

static const char *
text_at(const json_t *rows, size_t index, const char *name)
{
    return json_string_value(json_object_get(json_array_get(rows, index), name));
}

static void
what_is_left_out_is_counted_by_id(void **state)
{
    struct import_left *left = import_left_new();
    json_t *rows;

    (void)state;
    import_left_count(left, "Security", 4658, "first");
    import_left_count(left, "Microsoft-\n\x1b[31m\xc3\xa9", 4658, "second");
    import_left_count(left, "Security", 4658, "first");
    import_left_count(left, "Security", 1102, "third");
    import_left_count(left, NULL, UINT64_MAX, "fourth");
    rows = import_left_json(left);
    assert_int_equal(json_array_size(rows), 4);
    assert_string_equal(text_at(rows, 0, "source"), "");
    assert_int_equal(number_at(rows, 0, "event_id"), 0);
    assert_string_equal(text_at(rows, 1, "source"), "Microsoft-??[31m??");
    assert_string_equal(text_at(rows, 2, "why"), "third");
    assert_int_equal(number_at(rows, 3, "event_id"), 4658);
    assert_int_equal(number_at(rows, 3, "count"), 2);
    json_decref(rows);
    import_left_free(left);
}

static void
ids_without_end_share_a_row(void **state)
{
    struct import_left *left = import_left_new();
    json_int_t sum = 0;
    json_t *rows;

    (void)state;
    for (uint64_t id = 1; id <= 5000; id++)
        import_left_count(left, "Security", id, "why");
    rows = import_left_json(left);
    assert_int_equal(json_array_size(rows), 1025);
    for (size_t i = 0; i < json_array_size(rows); i++)
        sum += number_at(rows, i, "count");
    assert_int_equal(sum, 5000);
    assert_string_equal(text_at(rows, 1024, "source"), "other");
    assert_int_equal(number_at(rows, 1024, "count"), 5000 - 1024);
    json_decref(rows);
    import_left_free(left);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_known_is_bounded),
        cmocka_unit_test(what_is_left_out_is_counted_by_id),
        cmocka_unit_test(ids_without_end_share_a_row),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
