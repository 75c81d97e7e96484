/* The configuration: what a file may not say and in which words it is told, that what is printed can be
 * loaded, which differences count, and files that nobody should have written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "mux/base/conf.h"
#include "mux/base/log.h"
#include "mux/base/option.h"
#include "proto/event_class.h"

#define VM_A "11111111-2222-3333-4444-555555555555"
#define VM_B "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"

static char directory[] = "/tmp/test_conf.XXXXXX";
static char path[64];
static char errors[4096]; /* of the last load, with the file's name cut off each line's front */

static int
make_directory(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof(path), "%s/gimuxd.conf", directory);
    return 0;
}

static int
remove_directory(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(directory);
}

/* ---- loading ---- */

/* Cuts "FILE:" off every line; a line that does not begin so stays as it is. */
static void
cut_path(const char *text)
{
    size_t len = strlen(path);
    size_t used = 0;

    errors[0] = '\0';
    while (*text && used < sizeof(errors) - 1) {
        size_t line = strcspn(text, "\n") + 1;

        if (strncmp(text, path, len) == 0 && text[len] == ':') {
            text += len + 1;
            line -= len + 1;
        }
        used += (size_t)snprintf(errors + used, sizeof(errors) - used, "%.*s", (int)line, text);
        text += line;
    }
}

static struct conf *
load_bytes(const void *data, size_t len)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    FILE *file = fopen(path, "w");
    struct conf *conf;

    assert_non_null(out);
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    fclose(file);
    conf = conf_load(path, out);
    fclose(out);
    cut_path(text);
    free(text);
    return conf;
}

static struct conf *
load(const char *text)
{
    return load_bytes(text, strlen(text));
}

static struct conf *
load_good(const char *text)
{
    struct conf *conf = load(text);

    assert_string_equal(errors, "");
    assert_non_null(conf);
    return conf;
}

/* The caller frees it. */
static char *
printed(const struct conf *conf)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    conf_print(conf, out);
    fclose(out);
    return text;
}

/* ---- files ---- */

static void
test_defaults(void **state)
{
    struct conf *conf = load_good("");

    (void)state;
    assert_string_equal(conf->path, path);
    assert_string_equal(conf->pid_file, "/run/gimux/gimuxd.pid");
    assert_string_equal(conf->admin.path, "/run/gimux/admin.sock");
    assert_true(conf->host[0]);
    assert_int_equal(conf->log_level, LOG_LEVEL_INFO);
    assert_int_equal(conf->doors.vsock.kind, ADDRESS_NONE);
    assert_int_equal(conf->doors.port, 48100);
    assert_int_equal(conf->limits.memory, 256 << 20);
    assert_int_equal(conf->vm_count + conf->solution_count, 0);
    conf_free(conf);
    conf_free(NULL);
}

static const char full[] =
    "host = h pid_file = \"\" admin = \"unix:/a\" log = syslog log_level = error\n"
    "heartbeat = 1s silence = 2s drain = 0ms\n"
    "user = gimux sandbox = no\n"
    "doors { vsock = \"vsock:any:1\" vm_dir = /vms vm_group = kvm shared = \"unix:/s\" vmx = \"unix:/x\"\n"
    "  port = 7 unknown_cid = hello redial = 10ms }\n"
    "limits { memory = 1G vm_log = 1M vm_window = 64K vms = 2 connections = 3 }\n"
    "storage { dir = \"/var/lib/gimux\" vm = 5M total = 6M }\n"
    "vm \"" VM_A "\" { cid = 5 uds_path = /u dial = \"vsock:5:6\" dial_connect = yes }\n"
    "vm \"AAAAAAAA-bbbb-cccc-dddd-eeeeeeeeeeee\" {}\n"
    "solution \"low\" { address = \"tcp:h:1\" plain = true }\n"
    "solution \"z\" { address = \"tcp:h:1\" plain = true altitude = 9 }\n"
    "solution \"a\" { altitude = 9 address = \"tls:h:1\" cert = /c key = /k ca = /r crl = /l\n"
    "  tls_name = n policy = drop window = 3K heartbeat = 51ms redial_max = 52ms\n"
    "  classes = {file, dns} vms = {\"" VM_B "\"} mute = {\"C:\\\\\", '/proc/${x}'} }\n";

static void
test_full_file(void **state)
{
    struct conf *conf = load_good(full);
    const struct conf_solution *first = &conf->solutions[0];
    uint8_t uuid[GR_UUID_SIZE];

    (void)state;
    assert_true(gr_uuid_parse(VM_B, uuid));
    assert_string_equal(conf->vms[1].uuid_text, VM_B);
    assert_ptr_equal(conf_vm_by_uuid(conf, uuid), &conf->vms[1]);
    assert_ptr_equal(conf_vm_by_cid(conf, 5), &conf->vms[0]);
    assert_null(conf_vm_by_cid(conf, 0)); /* which is "none", not the CID of VMs without one */
    assert_null(conf_vm_by_cid(conf, 6));
    assert_string_equal(first->name, "a"); /* the highest first, then by name */
    assert_string_equal(conf->solutions[1].name, "z");
    assert_string_equal(conf->solutions[2].name, "low");
    assert_int_equal(first->class_mask, 1u << CLASS_FILE | 1u << CLASS_DNS);
    assert_int_equal(conf->solutions[1].class_mask, CLASS_MASK_ALL);
    assert_int_equal(first->mute.count, 2);
    assert_string_equal(first->mute.texts[0], "C:\\");
    assert_string_equal(first->mute.texts[1], "/proc/${x}");
    conf_free(conf);
}

/* "full" sets every option there is, and what is printed of it loads again as the same. */
static void
test_printed_is_loaded(void **state)
{
    struct conf *conf = load_good(full);
    char *text = printed(conf);
    struct conf *again = load_good(text);
    char *twice = printed(again);

    (void)state;
    assert_string_equal(text, twice);
    for (enum option_section section = SECTION_TOP; section < SECTIONS; section++) {
        const struct option_info *option = NULL;

        while ((option = option_next(section, option))) {
            char line[64];

            snprintf(line, sizeof(line), "\n%s%s = ", section == SECTION_TOP ? "" : "    ", option->name);
            if (!strstr(text, line) && strncmp(text, line + 1, strlen(line + 1)) != 0)
                fail_msg("%s is not printed", option->name);
        }
    }
    for (unsigned i = 0; i < conf->solution_count; i++)
        assert_true(conf_solution_equal(&conf->solutions[i], &again->solutions[i]));
    for (unsigned i = 0; i < conf->vm_count; i++)
        assert_true(conf_vm_equal(&conf->vms[i], &again->vms[i]));
    free(text);
    free(twice);
    conf_free(conf);
    conf_free(again);
}

/* Whatever a text holds, printing and loading gives it back: quotes end nothing, ${} asks no environment. */
static void
test_odd_texts_come_back(void **state)
{
    struct conf *conf = load_good("solution s { address = \"tcp:h:1\" plain = yes mute = {x} }");
    static const char *const texts[] = { "${HOME}", "$HOME", "a\"b", "a\\", "a'b", "a # b", "/* b", "a\nb",
                                         "a\tb",    "{a}",   "=",    "\\n", "",    "\\x41", "\\101" };

    (void)state;
    setenv("HOME", "/expanded", 1);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct conf *again;
        char *text;

        free(conf->solutions[0].mute.texts[0]);
        conf->solutions[0].mute.texts[0] = strdup(texts[i]);
        snprintf(conf->doors.vm_dir, sizeof(conf->doors.vm_dir), "/%s", texts[i]);
        text = printed(conf);
        again = load_good(text);
        assert_string_equal(again->solutions[0].mute.texts[0], texts[i]);
        assert_string_equal(again->doors.vm_dir + 1, texts[i]);
        conf_free(again);
        free(text);
    }
    conf_free(conf);
}

static void
test_help_has_every_option(void **state)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    const char *at = NULL;

    (void)state;
    assert_non_null(out);
    conf_help(out);
    fclose(out);
    at = text;
    for (enum option_section section = SECTION_TOP; section < SECTIONS; section++) {
        const struct option_info *option = NULL;

        while ((option = option_next(section, option))) { /* in the table's order */
            char line[64];
            const char *end;

            snprintf(line, sizeof(line), "%s ", option->name);
            at = strstr(at, line);
            if (!at)
                fail_msg("%s is not in the help", option->name);
            end = strchr(at, '\n');
            assert_true(strstr(at, option->help) < end);
            if (option->choices)
                assert_true(strstr(at, option->choices) < end);
            if (option->value)
                assert_true(strstr(at, option->value) < end);
        }
    }
    free(text);
}

/* ---- what is refused, and how it is told ---- */

#define TCP "address = \"tcp:h:1\" plain = true "

static void
test_refused(void **state)
{
    static const struct {
        const char *file;
        const char *expected;
    } rows[] = {
        { "log = stdout", "1: log = \"stdout\": expected one of stderr|syslog\n" },
        { "log = \"stderr|syslog\"", "1: log = \"stderr|syslog\": expected one of stderr|syslog\n" },
        { "\n\nheartbeat = 1ms", "3: heartbeat = 1ms: expected 50 to 3600000 ms\n" },
        /* lines are right whatever comments stand before; what looks like one in a text is none */
        { "# a\n\n# b\nhost = h # c\nheartbeat = 1ms", "5: heartbeat = 1ms: expected 50 to 3600000 ms\n" },
        { "// a\n/* b\n\n*/ host = a//b /* c */\nheartbeat = 1ms",
          "5: heartbeat = 1ms: expected 50 to 3600000 ms\n" },
        { "host = \"# /* \\\"\n//\"\nheartbeat = 1ms", "3: heartbeat = 1ms: expected 50 to 3600000 ms\n" },
        { "host = '/*'\nheartbeat = 1ms", "2: heartbeat = 1ms: expected 50 to 3600000 ms\n" },
        { "limits {\n  vm_log = 1K\n}", "2: vm_log = 1K: expected 262144 to 68719476736 bytes\n" },
        { "storage {\n  vm = 1M\n}", "2: vm = 1M: expected 4194304 to 1099511627776 bytes\n" },
        { "storage { dir = /d vm = 9M total = 8M }", "1: storage: vm is more than total\n" },
        { "solution s { address = \"tcp:h:1\" plain = yes policy = spill }",
          "1: solution \"s\": policy = spill: expected durability = process or disk\n" },
        { "solution s { address = \"tcp:h:1\" plain = yes durability = disk }",
          "1: solution \"s\": durability: expected a storage section with a dir\n" },
        { "limits {\n\n  vms = 0\n}", "3: vms = 0: expected 1 to 65536\n" },
        { "doors { vsock = \"unix:/a\" }", "1: vsock = \"unix:/a\": expected vsock:CID:PORT\n" },
        { "admin = nonsense",
          "1: admin = \"nonsense\": expected vsock:CID:PORT, unix:PATH, tcp:HOST:PORT or tls:HOST:PORT\n" },
        { "host = " VM_A VM_A, "1: host = \"" VM_A VM_A "\": too long\n" },
        { "\n\"\" = 1", "2: expected the name of an option or section\n" },
        { "nonsense = 1", "1: no such option 'nonsense'\n" },
        { "doors {\n nonsense = 1 }", "2: no such option 'nonsense'\n" },
        { "vm x {}", "1: vm \"x\": expected a UUID\n" },
        { "vm \"" VM_A "0\" {}", "1: vm \"" VM_A "0\": expected a UUID\n" },
        { "vm \"" VM_A "\" {}\nvm \"" VM_A "\" {}", "2: found duplicate title '" VM_A "'\n" },
        { "vm \"" VM_B "\" {}\nvm \"AAAAAAAA-bbbb-cccc-dddd-eeeeeeeeeeee\" {}\n",
          "3: vm \"" VM_B "\": a second section, expected one\n" },
        { "vm \"" VM_A "\" { cid = 3 }\nvm \"" VM_B "\" { cid = 3 }",
          "2: vm \"" VM_B "\": cid is that of vm \"" VM_A "\" already\n" },
        { "vm \"" VM_A "\" { uds_path = /a }\nvm \"" VM_B "\" { uds_path = /a }",
          "2: vm \"" VM_B "\": uds_path is that of vm \"" VM_A "\" already\n" },
        { "vm \"" VM_A "\" { dial = \"unix:/a\" }\nvm \"" VM_B "\" { dial = \"unix:/a\" }",
          "2: vm \"" VM_B "\": dial is that of vm \"" VM_A "\" already\n" },
        { "vm \"" VM_A "\" { cid = 0 }", "1: cid = 0: expected 1 to 4294967294\n" },
        { "doors { port = 1 }\ndoors { port = 2 }", "2: doors: a second section, expected one\n" },
        { "limits { vms = 1 }\nlimits { vms = 2 }", "2: limits: a second section, expected one\n" },
        { "\npid_file = gimuxd.pid", "2: pid_file = \"gimuxd.pid\": expected an absolute path\n" },
        { "solution s {}", "1: solution \"s\": expected an address\n" },
        { "solution s { address = \"tcp:h:1\" }",
          "1: solution \"s\": expected a tls: address, or plain = true\n" },
        { "solution s { address = \"tls:h:1\" cert = /a key = /b }",
          "1: solution \"s\": expected cert, key and ca with a tls: address\n" },
        { "solution \"a b\" { " TCP " }",
          "1: solution \"a b\": expected a name of 1 to 63 characters without spaces or quotes\n" },
        { "solution \"a\\nb\" { " TCP " }",
          "1: solution \"a\nb\": expected a name of 1 to 63 characters without spaces or quotes\n" },
        { "solution \"\" { " TCP " }",
          "1: solution \"\": expected a name of 1 to 63 characters without spaces or quotes\n" },
        { "solution s { " TCP " }\nsolution s { " TCP " }", "2: found duplicate title 's'\n" },
        { "solution s { " TCP " classes = {file, flie} }",
          "1: classes = \"flie\": expected file, process, power, authentication, network, dns or "
          "lifecycle\n" },
        { "solution s { " TCP " vms = {\"" VM_A "\", 1} }", "1: vms = \"1\": expected a UUID\n" },
        { "limits { memory = 1M }", "1: limits: vm_log is more than memory\n" },
        { "silence = 9s\n", "2: silence: expected at least twice the heartbeat\n" },
        { "limits { vms = 1 } vm \"" VM_A "\" {} vm \"" VM_B "\" {}",
          "1: limits: vms = 1, but there are 2 vm sections\n" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct conf *conf = load(rows[i].file);

        conf_free(conf);
        if (conf || strcmp(errors, rows[i].expected) != 0)
            fail_msg("%s\ngives   %sexpected %s", rows[i].file, errors, rows[i].expected);
    }
}

static void
test_no_file(void **state)
{
    char text[1024] = "";
    char longest[CONF_PATH_MAX + 1] = "";
    FILE *out = fmemopen(text, sizeof(text), "w");

    (void)state;
    assert_null(conf_load("/nonexistent/gimuxd.conf", out));
    assert_null(conf_load(directory, out));
    memset(longest, '/', sizeof(longest) - 1);
    assert_null(conf_load(longest, out)); /* it would be cut, and a reload would read another file */
    fclose(out);
    assert_non_null(strstr(text, "/nonexistent/gimuxd.conf: cannot be read: No such file or directory\n"));
    assert_non_null(strstr(text, ": is a directory, expected a file\n"));
    assert_non_null(strstr(text, ": the path is longer than 255 bytes\n"));
}

/* ---- equal or not ---- */

/* A text that differs from what "base" below and the defaults have. */
static const char *
other_value(const struct option_info *option)
{
    switch (option->kind) {
    case KIND_ADDRESS:
        return option->section == SECTION_VM ? "\"unix:/other\"" : "\"tls:other:2\"";
    case KIND_BOOL:
        return "true";
    case KIND_NUMBER:
        return "77";
    case KIND_SIZE:
        return "77K";
    case KIND_DURATION:
        return "77ms";
    case KIND_CHOICE:
        return strcmp(option->name, "policy") == 0 ? "drop" : "process";
    case KIND_LIST:
        return strcmp(option->name, "vms") == 0 ? "{\"" VM_B "\"}" : "{\"file\"}";
    default:
        return "/other";
    }
}

/* A reload that changes any single option of a solution or a VM is seen. */
static void
test_every_difference_counts(void **state)
{
    static const char solution[] =
        "storage { dir = /d } solution s { address = \"tls:h:1\" cert = /c key = /k ca = /r %s%s%s }";
    static const char vm[] = "vm \"" VM_A "\" { %s%s%s }";
    char text[512];

    (void)state;
    for (enum option_section section = SECTION_VM; section <= SECTION_SOLUTION; section++) {
        const struct option_info *option = NULL;
        const char *format = section == SECTION_VM ? vm : solution;

        while ((option = option_next(section, option))) {
            struct conf *a;
            struct conf *b;
            struct conf *same;
            bool equal;

            snprintf(text, sizeof(text), format, "", "", "");
            a = load_good(text);
            snprintf(text, sizeof(text), format, option->name, " = ", other_value(option));
            b = load_good(text);
            same = load_good(text);
            if (section == SECTION_VM) {
                equal = conf_vm_equal(&a->vms[0], &b->vms[0]);
                assert_true(conf_vm_equal(&b->vms[0], &same->vms[0]));
            } else {
                equal = conf_solution_equal(&a->solutions[0], &b->solutions[0]);
                assert_true(conf_solution_equal(&b->solutions[0], &same->solutions[0]));
            }
            if (equal)
                fail_msg("%s differs, and it is not seen", option->name);
            conf_free(a);
            conf_free(b);
            conf_free(same);
        }
    }
}

/* ---- files that nobody should have written ---- */

static char *
repeated(const char *head, const char *piece, unsigned count, const char *tail)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    fputs(head, out);
    while (count-- > 0)
        fputs(piece, out);
    fputs(tail, out);
    fclose(out);
    return text;
}

static void
test_too_much(void **state)
{
    static const struct {
        const char *head;
        const char *piece;
        unsigned count;
        const char *tail;
        const char *expected; /* "": it is fine */
    } rows[] = {
        { "solution s { " TCP " mute = {", "a,", CONF_LIST_MAX - 1, "a} }", "" },
        { "solution s { " TCP " mute = {", "a,", CONF_LIST_MAX, "a} }", "too many elements, at most 64" },
        { "solution s { " TCP " mute = {", "a,", 100000, "a} }", "too many elements, at most 64" },
        { "host = \"", "long ", 200, "\"", "too long" },
        { "", "unquoted", 200000, "", "no such option" },
        { "/*", "\n", 200000, "", "1: a comment begins here that is not closed, expected */" },
        { "host = h\n# /*\n/* */ /*", "*", 3, "", "3: a comment begins here that is not closed" },
        { "", "doors { ", 10000, "", "no such option 'doors'" },
        { "solution s { mute = ", "{", 10000, "", "unexpected token '{'" },
        { "host = \"", "x", 10, "", "premature end of file" },
        { "vm \"", VM_A, 10, "\" {}", "expected a UUID" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *text = repeated(rows[i].head, rows[i].piece, rows[i].count, rows[i].tail);
        struct conf *conf = load(text);

        if (rows[i].expected[0] ? conf || !strstr(errors, rows[i].expected) : !conf)
            fail_msg("row %zu: %.200s, expected %s", i, errors, rows[i].expected);
        conf_free(conf);
        free(text);
    }
}

static void
test_solutions_up_to_the_limit(void **state)
{
    (void)state;
    for (unsigned count = CONF_SOLUTIONS_MAX; count <= CONF_SOLUTIONS_MAX + 1; count++) {
        char text[4096] = "";
        struct conf *conf;

        for (unsigned i = 0; i < count; i++)
            snprintf(text + strlen(text), sizeof(text) - strlen(text),
                     "solution s%u { " TCP " altitude = %u mute = {x} }", i, i);
        conf = load(text);
        if (count > CONF_SOLUTIONS_MAX) {
            assert_null(conf);
            assert_string_equal(errors, "1: 17 solutions: expected at most 16\n");
        } else {
            assert_string_equal(errors, "");
            assert_string_equal(conf->solutions[0].name, "s15");
        }
        conf_free(conf);
    }
}

/* Bytes of a good file changed at random: it is refused with a message, or it is a good file still. */
static void
test_garbage(void **state)
{
    uint32_t random = 1;

    (void)state;
    for (unsigned round = 0; round < 3000; round++) {
        char text[sizeof(full)];
        size_t len = sizeof(full) - 1;
        struct conf *conf;

        memcpy(text, full, len);
        for (unsigned i = 0; i <= round % 8; i++) {
            random = random * 1664525u + 1013904223u;
            text[(random >> 8) % len] = (char)(random >> 24);
        }
        if (round % 5 == 0)
            len = (random >> 12) % len;
        conf = load_bytes(text, len);
        if (conf) {
            char *again = printed(conf);

            conf_free(load_good(again));
            free(again);
        } else if (!errors[0]) {
            fail_msg("refused without a word: %zu %.*s", len, (int)len, text);
        }
        conf_free(conf);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_full_file),
        cmocka_unit_test(test_printed_is_loaded),
        cmocka_unit_test(test_odd_texts_come_back),
        cmocka_unit_test(test_help_has_every_option),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_file),
        cmocka_unit_test(test_every_difference_counts),
        cmocka_unit_test(test_too_much),
        cmocka_unit_test(test_solutions_up_to_the_limit),
        cmocka_unit_test(test_garbage),
    };

    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
