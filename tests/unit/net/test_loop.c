/* The event loop: all that is ready has its turn, and tasks run at the end of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "mux/net/loop.h"

#define WATCHES 4

static struct loop *loop;
static struct loop_watch *watches[WATCHES];
static int ends[WATCHES][2];
static char order[100]; /* of those that were called, as digits */
static size_t calls;
static size_t stop_after;

static void
on_ready(void *arg, unsigned events)
{
    assert_int_equal(events, LOOP_READ);
    assert_in_range(calls, 0, sizeof(order) - 2);
    order[calls++] = (char)('0' + (struct loop_watch **)arg - watches);
    if (calls >= stop_after)
        loop_stop(loop);
}

/* All are ready to be read, and stay so. */
static int
setup(void **state)
{
    (void)state;
    memset(order, 0, sizeof(order));
    calls = 0;
    loop = loop_new();
    assert_non_null(loop);
    for (size_t i = 0; i < WATCHES; i++) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends[i]), 0);
        assert_int_equal(write(ends[i][1], "x", 1), 1);
        watches[i] = loop_watch_new(loop, ends[i][0], on_ready, &watches[i]);
        assert_non_null(watches[i]);
    }
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < WATCHES; i++) {
        loop_watch_free(watches[i]);
        close(ends[i][0]);
        close(ends[i][1]);
    }
    loop_free(loop);
    return 0;
}

/* Turns of four calls, one for each. */
static void
test_each_that_is_ready_has_its_turn(void **state)
{
    (void)state;
    for (size_t i = 0; i < WATCHES; i++)
        loop_watch_set(watches[i], LOOP_READ);
    stop_after = 3 * WATCHES;
    loop_run(loop);
    assert_int_equal(calls, 3 * WATCHES);
    for (size_t turn = 0; turn < 3; turn++)
        for (char c = '0'; c < '0' + WATCHES; c++)
            assert_non_null(memchr(order + WATCHES * turn, c, WATCHES));
}

static void
test_one_that_is_watched_for_nothing_has_none(void **state)
{
    (void)state;
    for (size_t i = 0; i < WATCHES; i++)
        loop_watch_set(watches[i], LOOP_READ);
    loop_watch_set(watches[1], 0);
    stop_after = 2 * (WATCHES - 1);
    loop_run(loop);
    assert_int_equal(calls, 2 * (WATCHES - 1));
    assert_null(strchr(order, '1'));
}

/* The first that is called frees all others, which are ready in this turn. */
static void
free_the_others(void *arg, unsigned events)
{
    on_ready(arg, events);
    for (size_t i = 0; i < WATCHES; i++) {
        if (&watches[i] == arg)
            continue;
        loop_watch_free(watches[i]);
        watches[i] = NULL;
    }
}

static void
test_one_that_was_freed_is_not_called(void **state)
{
    (void)state;
    for (size_t i = 0; i < WATCHES; i++) {
        loop_watch_free(watches[i]);
        watches[i] = loop_watch_new(loop, ends[i][0], free_the_others, &watches[i]);
        assert_non_null(watches[i]);
        loop_watch_set(watches[i], LOOP_READ);
    }
    stop_after = 1;
    loop_run(loop);
    assert_int_equal(calls, 1);
}

/* ---- the end of a turn ---- */

static struct loop_task tasks[4];

static void
on_task(void *arg)
{
    const struct loop_task *task = arg;

    order[calls++] = (char)('a' + task - tasks);
    if (task == &tasks[0])
        loop_defer(loop, &tasks[3]);
}

static void
queue_tasks(void *arg, unsigned events)
{
    on_ready(arg, events);
    for (size_t i = 0; i < 3; i++)
        loop_defer(loop, &tasks[i]);
    loop_defer(loop, &tasks[0]); /* is queued */
    loop_cancel(loop, &tasks[2]);
    loop_cancel(loop, &tasks[3]); /* is not */
}

/* Tasks run when all watches have had their turn, in order, and those that they queue with them. */
static void
test_tasks_run_at_the_end_of_the_turn(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++)
        tasks[i] = (struct loop_task){ .fn = on_task, .arg = &tasks[i] };
    loop_watch_free(watches[0]);
    watches[0] = loop_watch_new(loop, ends[0][0], queue_tasks, &watches[0]);
    assert_non_null(watches[0]);
    for (size_t i = 0; i < WATCHES; i++)
        loop_watch_set(watches[i], LOOP_READ);
    stop_after = WATCHES;
    loop_run(loop);
    assert_string_equal(order + WATCHES, "abd");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_that_is_ready_has_its_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_that_is_watched_for_nothing_has_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_that_was_freed_is_not_called, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tasks_run_at_the_end_of_the_turn, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
