/* The log: what a line says, and that a reader who does not read stops nobody. Standard error is a pipe here.
 */
#include <fcntl.h>
#include <regex.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "mux/base/log.h"

struct world {
    int kept_stderr;
    int reader;
    char lines[256 * 1024]; /* what the last `read_lines` brought */
};

/* Everything that was written and not read yet. */
static const char *
read_lines(struct world *world)
{
    ssize_t got;
    size_t len = 0;

    while ((got = read(world->reader, world->lines + len, sizeof(world->lines) - 1 - len)) > 0)
        len += (size_t)got;
    world->lines[len] = '\0';
    return world->lines;
}

static int
open_world(void **state)
{
    struct world *world = calloc(1, sizeof(*world));
    int ends[2];

    if (!world || pipe(ends) != 0)
        return -1;
    fflush(stderr);
    world->kept_stderr = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    world->reader = ends[0];
    fcntl(world->reader, F_SETFL, O_NONBLOCK);
    signal(SIGPIPE, SIG_IGN);
    log_setup(false, LOG_LEVEL_INFO);
    log_next_interval();
    read_lines(world);
    *state = world;
    return 0;
}

static int
close_world(void **state)
{
    struct world *world = *state;

    dup2(world->kept_stderr, STDERR_FILENO);
    close(world->kept_stderr);
    close(world->reader);
    free(world);
    return 0;
}

static void
expect_line(struct world *world, const char *rest)
{
    static const char stamp[] = "2026-01-01T00:00:00.000Z ";
    const char *line = read_lines(world);

    assert_true(strlen(line) > sizeof(stamp));
    assert_string_equal(line + sizeof(stamp) - 1, rest);
}

/* ---- a line ---- */

static void
test_a_line(void **state)
{
    struct world *world = *state;
    regex_t when;

    log_warning(NULL, "%s and %d", "text", 5);
    expect_line(world, "warning text and 5\n");
    assert_int_equal(regcomp(&when,
                             "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z warning ",
                             REG_EXTENDED | REG_NOSUB),
                     0);
    assert_int_equal(regexec(&when, world->lines, 0, NULL, 0), 0);
    regfree(&when);
}

static void
test_levels(void **state)
{
    struct world *world = *state;

    for (int level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++) {
        static const char *const expected[] = { "error e\n", "warning w\n", "info i\n", "debug d\n" };
        const char *line;

        log_setup(false, (enum log_level)level);
        log_error(NULL, "e");
        log_warning(NULL, "w");
        log_info(NULL, "i");
        log_debug(NULL, "d");
        line = read_lines(world);
        for (int told = LOG_LEVEL_ERROR; told <= LOG_LEVEL_DEBUG; told++)
            assert_int_equal(strstr(line, expected[told]) != NULL, told <= level);
    }
}

static void
test_who(void **state)
{
    struct world *world = *state;
    char name[1200];

    log_info((&(struct log_who){ .vm = "v", .driver = "d", .solution = "s" }), "text");
    expect_line(world, "info vm=v driver=d solution=s text\n");
    log_info((&(struct log_who){ .solution = "s" }), "text");
    expect_line(world, "info solution=s text\n");
    log_info(&(struct log_who){ NULL }, "text");
    expect_line(world, "info text\n");
    memset(name, 'n', sizeof(name)); /* leaves room for the text */
    name[sizeof(name) - 1] = '\0';
    log_info((&(struct log_who){ .solution = name }), "text");
    assert_non_null(strstr(read_lines(world), "n text\n"));
}

/* What a guest sends cannot make a line look like two, nor speak to a terminal. */
static void
test_control_characters(void **state)
{
    struct world *world = *state;

    log_info((&(struct log_who){ .driver = "a\nb" }), "%s", "c\r\nd\033[2Je\tf\177g \xc3\xa4 \xc2\x9b");
    expect_line(world, "info driver=a?b c??d?[2Je?f?g \xc3\xa4  ?\n");
}

static void
test_long_lines_are_cut(void **state)
{
    struct world *world = *state;
    char text[5000];
    const char *line;

    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    log_info(NULL, "%s", text);
    log_info(NULL, "next");
    line = read_lines(world);
    assert_in_range(strcspn(line, "\n"), 900, 1100);
    assert_non_null(strstr(line, "x\n2"));
    assert_non_null(strstr(line, " info next\n"));
}

/* ---- too many ---- */

static unsigned
count(const char *lines, const char *what)
{
    unsigned found = 0;

    for (; (lines = strstr(lines, what)); lines++)
        found++;
    return found;
}

/* One call site, as peers make it speak. */
static void
complain(const char *vm, const char *door, int number)
{
    log_warning((&(struct log_who){ .vm = vm }), "%s: closed: record %d is wrong", door, number);
}

static void
test_alike_lines_are_counted_not_written(void **state)
{
    struct world *world = *state;
    const char *lines;

    for (int i = 1; i <= 1000; i++)
        complain("v", "unix:/a", i);
    lines = read_lines(world);
    assert_int_equal(count(lines, "is wrong\n"), LOG_ALIKE_MAX);
    assert_non_null(strstr(lines, "vm=v unix:/a: closed: record 1 is wrong\n"));
    log_next_interval();
    expect_line(world,
                "warning 990 more lines were left out like: vm=v unix:/a: closed: record 11 is wrong\n");
    log_next_interval();
    assert_string_equal(read_lines(world), "");
    complain("v", "unix:/a", 1001);
    expect_line(world, "warning vm=v unix:/a: closed: record 1001 is wrong\n");
}

/* Another VM, another door, another occurrence, and whatever is an error: each is heard. */
static void
test_what_is_not_alike_is_written(void **state)
{
    struct world *world = *state;

    for (int i = 0; i < 1000; i++)
        complain("v", "unix:/a", i);
    read_lines(world);
    complain("w", "unix:/a", 1);
    expect_line(world, "warning vm=w unix:/a: closed: record 1 is wrong\n");
    complain("v", "unix:/b", 1);
    expect_line(world, "warning vm=v unix:/b: closed: record 1 is wrong\n");
    log_info((&(struct log_who){ .vm = "v" }), "%s: disconnected", "unix:/a");
    expect_line(world, "info vm=v unix:/a: disconnected\n");
    for (int i = 0; i < 100; i++)
        log_error(NULL, "error %d", i);
    assert_int_equal(count(read_lines(world), " error error "), 100);
    log_setup(false, LOG_LEVEL_DEBUG);
    for (int i = 0; i < 100; i++)
        log_debug(NULL, "debug %d", i);
    assert_int_equal(count(read_lines(world), " debug debug "), 100);
}

/* Who thinks up another name each time finds an end, too. */
static void
test_names_without_end(void **state)
{
    struct world *world = *state;
    unsigned written = 0;
    unsigned left_out = 0;
    const char *lines;
    char vm[16];

    for (int i = 0; i < 100000; i++) {
        snprintf(vm, sizeof(vm), "%d", i);
        complain(vm, "unix:/a", 1);
        if (i % 100 == 0)
            written += count(read_lines(world), "is wrong\n");
    }
    written += count(read_lines(world), "is wrong\n");
    assert_in_range(written, 5000, 20000);
    fcntl(world->reader, F_SETPIPE_SZ, 1024 * 1024);
    log_next_interval();
    for (lines = read_lines(world); (lines = strstr(lines, " warning ")); lines++)
        left_out += (unsigned)atoi(lines + strlen(" warning "));
    assert_int_equal(written + left_out, 100000);
}

/* ---- a reader who does not read ---- */

static void
test_a_full_pipe_drops_and_counts(void **state)
{
    struct world *world = *state;
    unsigned written = 0;
    unsigned counted = 0;
    const char *line;

    for (int i = 0; i < 5000; i++) /* more than a pipe holds; would block for ever */
        log_error(NULL, "line %d of those that nobody reads", i);
    for (line = read_lines(world); (line = strstr(line, "that nobody reads\n")); line++)
        written++;
    assert_in_range(written, 100, 4999);
    log_error(NULL, "read again");
    line = strstr(read_lines(world), "error (");
    assert_non_null(line);
    assert_int_equal(sscanf(line, "error (%u lines before this could not be written) read again", &counted),
                     1);
    assert_int_equal(written + counted, 5000);
    log_info(NULL, "as before");
    expect_line(world, "info as before\n");
}

static void
test_a_closed_pipe(void **state)
{
    struct world *world = *state;
    int ends[2];

    dup2(world->reader, STDERR_FILENO); /* the last writer is gone, and this end cannot be written to */
    log_info(NULL, "lost");
    assert_int_equal(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    close(world->reader);
    world->reader = ends[0];
    fcntl(world->reader, F_SETFL, O_NONBLOCK);
    log_info(NULL, "found");
    expect_line(world, "info (1 lines before this could not be written) found\n");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_line, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_levels, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_who, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_control_characters, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_long_lines_are_cut, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_alike_lines_are_counted_not_written, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_what_is_not_alike_is_written, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_names_without_end, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_a_full_pipe_drops_and_counts, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_a_closed_pipe, open_world, close_world),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
