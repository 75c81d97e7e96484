/* The event loop: who comes first in a turn, and that others have their turn all the same. */
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

/* Turns of five calls: the first one, and then, since it is ready again, all. */
static void
test_first_comes_first_and_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < WATCHES; i++)
        loop_watch_set(watches[i], LOOP_READ);
    loop_watch_first(watches[2]);
    stop_after = 15;
    loop_run(loop);
    for (size_t turn = 0; turn < 3; turn++) {
        assert_int_equal(order[5 * turn], '2');
        for (char c = '0'; c < '0' + WATCHES; c++)
            assert_non_null(memchr(order + 5 * turn + 1, c, WATCHES));
    }
}

static void
test_one_that_had_its_turn_may_go(void **state)
{
    (void)state;
    for (size_t i = 0; i < WATCHES; i++)
        loop_watch_set(watches[i], LOOP_READ);
    loop_watch_first(watches[1]);
    stop_after = 1;
    loop_run(loop);
    assert_int_equal(order[0], '1');
    loop_watch_free(watches[1]);
    watches[1] = NULL;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_first_comes_first_and_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_that_had_its_turn_may_go, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
