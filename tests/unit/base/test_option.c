/* Options: what each kind takes and refuses, and that the table keeps its own rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mux/base/conf.h"
#include "mux/base/log.h"
#include "mux/base/option.h"

/* Room for the struct of any section. */
union any {
    struct conf conf;
    struct conf_solution solution;
    struct conf_vm vm;
};

static void
test_every_kind(void **state)
{
    /* An expected value begins with '=', else it is why the text is refused. */
    static const struct {
        enum option_section section;
        const char *name;
        const char *text;
        const char *expected;
    } rows[] = {
        { SECTION_TOP, "heartbeat", "50ms", "=50ms" },
        { SECTION_TOP, "heartbeat", "2s", "=2000ms" },
        { SECTION_TOP, "heartbeat", "60m", "=3600000ms" },
        { SECTION_TOP, "heartbeat", "49ms", "out of bounds" },
        { SECTION_TOP, "heartbeat", "61m", "out of bounds" },
        { SECTION_TOP, "heartbeat", "3600001ms", "out of bounds" },
        { SECTION_TOP, "heartbeat", "5", "expected a time with ms, s or m, like 500ms" },
        { SECTION_TOP, "heartbeat", "5h", "expected a time with ms, s or m, like 500ms" },
        { SECTION_TOP, "heartbeat", "1.5s", "expected a time with ms, s or m, like 500ms" },
        { SECTION_TOP, "heartbeat", "", "expected a number" },
        { SECTION_TOP, "heartbeat", "-1s", "expected a number" },
        { SECTION_TOP, "heartbeat", " 1s", "expected a number" },
        { SECTION_TOP, "heartbeat", "18446744073709551616ms", "out of bounds" },
        { SECTION_TOP, "heartbeat", "18446744073709551615m", "out of bounds" },
        { SECTION_LIMITS, "vm_log", "262144", "=262144" },
        { SECTION_LIMITS, "vm_log", "256K", "=262144" },
        { SECTION_LIMITS, "vm_log", "64G", "=68719476736" },
        { SECTION_LIMITS, "vm_log", "262143", "out of bounds" },
        { SECTION_LIMITS, "vm_log", "65G", "out of bounds" },
        { SECTION_LIMITS, "vm_log", "17179869185G", "out of bounds" }, /* 2^34 + 1: 1 GiB modulo 2^64 */
        { SECTION_LIMITS, "vm_log", "1KB", "expected a number of bytes, or one with K, M or G" },
        { SECTION_LIMITS, "vm_log", "1k", "expected a number of bytes, or one with K, M or G" },
        { SECTION_LIMITS, "vms", "1", "=1" },
        { SECTION_LIMITS, "vms", "65536", "=65536" },
        { SECTION_LIMITS, "vms", "0", "out of bounds" },
        { SECTION_LIMITS, "vms", "65537", "out of bounds" },
        { SECTION_LIMITS, "vms", "4294967297", "out of bounds" },
        { SECTION_LIMITS, "vms", "0x10", "expected a whole number" },
        { SECTION_VM, "dial_connect", "true", "=true" },
        { SECTION_VM, "dial_connect", "yes", "=true" },
        { SECTION_VM, "dial_connect", "no", "=false" },
        { SECTION_VM, "dial_connect", "1", "expected true or false" },
        { SECTION_VM, "dial_connect", "", "expected true or false" },
        { SECTION_VM, "dial", "unix:/a", "=\"unix:/a\"" },
        { SECTION_VM, "dial", "vsock:3:4", "=\"vsock:3:4\"" },
        { SECTION_VM, "dial", "tcp:h:1", "expected unix:PATH or vsock:CID:PORT" },
        { SECTION_VM, "dial", "unix:a", "expected an absolute path after unix:" },
        { SECTION_DOORS, "vsock", "vsock:any:1", "=\"vsock:any:1\"" },
        { SECTION_DOORS, "vsock", "unix:/a", "expected vsock:CID:PORT" },
        { SECTION_DOORS, "vmx", "vsock:any:1", "expected unix:PATH" },
        { SECTION_SOLUTION, "address", "tls:[::1]:1", "=\"tls:[::1]:1\"" },
        { SECTION_SOLUTION, "address", "unix:/a", "expected tcp:HOST:PORT or tls:HOST:PORT" },
        { SECTION_SOLUTION, "policy", "drop", "=drop" },
        { SECTION_SOLUTION, "policy", "dro", "not one of the choices" },
        { SECTION_SOLUTION, "policy", "drop|", "not one of the choices" },
        { SECTION_SOLUTION, "policy", "pause|drop", "not one of the choices" },
        { SECTION_SOLUTION, "policy", "", "not one of the choices" },
        { SECTION_TOP, "log_level", "debug", "=debug" },
        { SECTION_TOP, "host", "a \"b\" \\ c", "=\"a \\\"b\\\" \\\\ c\"" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct option_info *option = option_find(rows[i].section, rows[i].name);
        union any *any = calloc(1, sizeof(*any));
        char text[1024] = "=";
        const char *why;

        assert_non_null(option);
        assert_non_null(any);
        why = option_parse(option, rows[i].text, any);
        if (!why) {
            FILE *out = fmemopen(text + 1, sizeof(text) - 1, "w");

            option_print(option, any, out);
            fclose(out);
        }
        if (strcmp(why ? why : text, rows[i].expected) != 0)
            fail_msg("%s = \"%s\": \"%s\", expected \"%s\"", rows[i].name, rows[i].text, why ? why : text,
                     rows[i].expected);
        free(any);
    }
}

/* A text option takes what its array holds, the NUL included, and no byte more. */
static void
test_text_that_just_fits(void **state)
{
    const struct option_info *option = NULL;
    union any *any = calloc(1, sizeof(*any));

    (void)state;
    assert_non_null(any);
    for (enum option_section section = SECTION_TOP; section < SECTIONS; section++) {
        while ((option = option_next(section, option))) {
            char text[CONF_PATH_MAX + 1];

            if (option->kind != KIND_TEXT)
                continue;
            memset(text, 'x', sizeof(text));
            text[option->max] = '\0';
            assert_string_equal(option_parse(option, text, any), "too long");
            text[option->max - 1] = '\0';
            assert_null(option_parse(option, text, any));
        }
    }
    free(any);
}

/* The table's own defaults pass its own bounds, and choices have names that the rest of the daemon knows. */
static void
test_table_is_sane(void **state)
{
    const struct option_info *option = NULL;
    union any *any = calloc(1, sizeof(*any));

    (void)state;
    assert_non_null(any);
    for (enum option_section section = SECTION_TOP; section < SECTIONS; section++)
        while ((option = option_next(section, option))) {
            assert_ptr_equal(option_find(section, option->name), option);
            if (option->value)
                assert_null(option_parse(option, option->value, any));
            assert_int_equal(option->kind == KIND_CHOICE, option->choices != NULL);
        }
    option = option_find(SECTION_TOP, "log_level");
    for (int level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++) {
        static const char *const names[] = { "error", "warning", "info", "debug" };

        assert_null(option_parse(option, names[level], any));
        assert_int_equal(any->conf.log_level, level);
    }
    free(any);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind),
        cmocka_unit_test(test_text_that_just_fits),
        cmocka_unit_test(test_table_is_sane),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
