/* Connections: how they begin and how they end, and that the owner hears of the end once, with the reason. */
#include "tests/unit/net/conn_world.h"

/* ---- ends ---- */

static void
test_limit_of_input(void **state)
{
    struct world *world = *state;
    struct bytes in = noise(world, LIMIT + 1);
    size_t at = 0;

    world->owner.take = take_nothing;
    while (at < LIMIT) {
        at += peer_write(world, in.data + at, LIMIT - at < 1000 ? LIMIT - at : 1000);
        turn(world);
    }
    turn_many(world);
    assert_int_equal(world->owner.closed, 0);
    assert_in_range(conn_memory(world->conn), LIMIT, 2 * LIMIT);
    assert_int_equal(peer_write(world, in.data + LIMIT, 1), 1);
    until_closed(world);
    assert_string_equal(world->owner.why, "a message longer than the limit");
    free(in.data);
}

static void
test_limit_of_output(void **state)
{
    struct world *world = *state;
    uint8_t data[1000] = { 0 };
    unsigned count = 0;

    while (conn_write(world->conn, data, sizeof(data))) {
        count++;
        assert_true(conn_memory(world->conn) <= LIMIT / 2 * 3);
        turn(world);
    }
    assert_true(count >= LIMIT / sizeof(data));
    assert_int_equal(world->owner.closed, 0); /* not from within the call */
    until_closed(world);
    assert_string_equal(world->owner.why, "the peer does not read what it is sent");
}

static void
test_too_much_at_once(void **state)
{
    struct world *world = *state;
    struct bytes out = noise(world, LIMIT + 1);

    assert_false(conn_write(world->conn, out.data, out.len));
    until_closed(world);
    assert_string_equal(world->owner.why, "the peer does not read what it is sent");
    free(out.data);
}

/* The peer reads in the end, so it gets all, and then the end. */
static void
test_finish_sends_the_queue(void **state)
{
    struct world *world = *state;
    struct bytes out = noise(world, LIMIT);
    struct bytes got = { 0 };

    assert_true(conn_write(world->conn, out.data, out.len));
    conn_finish(world->conn, "all is said");
    assert_false(conn_write(world->conn, "x", 1));
    assert_int_equal(conn_writev(world->conn, &(struct iovec){ (void *)"x", 1 }, 1), 0);
    conn_finish(world->conn, "said twice");
    assert_int_equal(peer_write(world, (const uint8_t *)"x", 1), 1); /* is not read any more */
    turn_many(world);
    assert_int_equal(world->owner.closed, 0);
    while (peer_read(world, &got, 5000) >= 0)
        turn(world);
    expect_same(&got, &out);
    until_closed(world);
    assert_string_equal(world->owner.why, "all is said");
    assert_int_equal(world->owner.calls, 0);
    free(out.data);
    free(got.data);
}

/* The peer never reads: that ends too, by conn's own clock. */
static void
test_finish_gives_up(void **state)
{
    struct world *world = *state;
    struct bytes out = noise(world, LIMIT);

    assert_true(conn_write(world->conn, out.data, out.len));
    conn_finish(world->conn, "time is up");
    while (world->owner.closed == 0) {
        event_base_loop(loop_base(world->loop), EVLOOP_ONCE);
        loop_flush(world->loop);
    }
    world->conn = NULL;
    assert_string_equal(world->owner.why, "time is up");
    assert_in_range(loop_now() - world->started, 1900, GIVE_UP_MS);
    free(out.data);
}

static size_t
close_within(struct owner *owner, const uint8_t *buf, size_t len)
{
    (void)buf;
    conn_close(owner->conn, "enough");
    return len / 2;
}

/* Until the end of the turn a closed connection is there, and every call is harmless; then it is told, once.
 */
static void
test_close_within_data(void **state)
{
    struct world *world = *state;
    struct conn *conn = world->conn;

    world->owner.take = close_within;
    assert_int_equal(peer_write(world, (const uint8_t *)"abcd", 4), 4);
    until_closed(world);
    assert_string_equal(world->owner.why, "enough");
    assert_int_equal(world->owner.calls, 1);

    dial(world, "svm.test");
    conn = world->conn;
    world->owner.closed = 0;
    conn_close(conn, "before it stood");
    conn_close(conn, "again");
    conn_finish(conn, "and again");
    conn_pause(conn);
    conn_resume(conn);
    conn_set_owner(conn, &ops, &world->owner);
    assert_false(conn_write(conn, "x", 1));
    assert_int_equal(conn_writev(conn, &(struct iovec){ (void *)"x", 1 }, 1), 0);
    assert_int_equal(world->owner.closed, 0);
    until_closed(world);
    turn_many(world);
    assert_int_equal(world->owner.closed, 1);
    assert_string_equal(world->owner.why, "before it stood");
}

static void
test_peer_closes(void **state)
{
    struct world *world = *state;

    assert_int_equal(peer_write(world, (const uint8_t *)"last words", 10), 10);
    peer_close(world);
    until_closed(world);
    assert_string_equal(world->owner.why, "the peer closed the connection");
    assert_int_equal(world->owner.received.len, 10);
}

/* ---- beginnings ---- */

static void
test_written_before_it_stands(void **state)
{
    struct world *world = *state;
    struct bytes got = { 0 };

    conn_close(world->conn, "another one");
    until_closed(world);
    world->owner = (struct owner){ 0 };
    dial(world, "svm.test");
    assert_true(conn_write(world->conn, "early", 5));
    assert_int_equal(conn_writev(world->conn, &(struct iovec){ (void *)"x", 1 }, 1), 0);
    while (got.len < 5) {
        turn(world);
        peer_read(world, &got, 100);
    }
    assert_int_equal(world->owner.opened, 1);
    assert_memory_equal(got.data, "early", 5);
    free(got.data);
}

static void
test_accepted(void **state)
{
    struct world *world = *state;
    struct conn_limits limits = { .in = LIMIT, .out = LIMIT };
    struct owner owner = { 0 };
    struct conn *conn;
    int pair[2];
    char got[10];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    conn = conn_new(world->loop, pair[0], &limits, &ops, &owner);
    owner.conn = conn;
    assert_int_equal(conn_fd(conn), pair[0]);
    assert_int_equal(send(pair[1], "hello", 5, 0), 5);
    while (owner.calls == 0)
        turn(world);
    assert_int_equal(owner.opened, 0);
    assert_int_equal(owner.received.len, 5);
    assert_true(conn_write(conn, "answer", 6)); /* goes at once */
    assert_int_equal(recv(pair[1], got, sizeof(got), 0), 6);
    close(pair[1]);
    while (owner.closed == 0)
        turn(world);
    free(owner.received.data);
}

static void
test_refused(void **state)
{
    struct world *world = *state;
    struct conn_limits limits = { .in = LIMIT, .out = LIMIT };
    struct owner owner = { 0 };
    struct sockaddr_storage storage = { 0 };
    struct sockaddr_in *address = (struct sockaddr_in *)(void *)&storage;
    socklen_t len = sizeof(*address);
    int nobody = socket(AF_INET, SOCK_STREAM, 0); /* has a port and does not listen */
    const char *why = NULL;

    address->sin_family = AF_INET;
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(nobody, (struct sockaddr *)address, len), 0);
    assert_int_equal(getsockname(nobody, (struct sockaddr *)address, &len), 0);
    assert_non_null(conn_dial(world->loop, &storage, len, NULL, NULL, &limits, &ops, &owner, &why));
    while (owner.closed == 0)
        turn(world);
    assert_int_equal(owner.opened, 0);
    assert_string_equal(owner.why, strerror(ECONNREFUSED));
    close(nobody);
    storage = (struct sockaddr_storage){ .ss_family = AF_UNIX };
    memcpy(((struct sockaddr_un *)(void *)&storage)->sun_path, "/nonexistent", 13);
    assert_null(conn_dial(world->loop, &storage, sizeof(struct sockaddr_un), NULL, NULL, &limits, &ops,
                          &owner, &why));
    assert_string_equal(why, strerror(ENOENT));
}

/* The peer's certificate is good, and another's. */
static void
test_wrong_name(void **state)
{
    struct world *world = *state;
    struct bytes nothing = { 0 };

    conn_close(world->conn, "another one");
    until_closed(world);
    world->owner = (struct owner){ 0 };
    dial(world, "other.test");
    while (world->owner.closed == 0) {
        turn(world);
        peer_read(world, &nothing, 1);
    }
    world->conn = NULL;
    assert_int_equal(world->owner.opened, 0);
    assert_string_equal(world->owner.why, "name: the peer's certificate does not bear other.test");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        PLAIN(test_limit_of_input),
        TLS(test_limit_of_input),
        PLAIN(test_limit_of_output),
        TLS(test_limit_of_output),
        PLAIN(test_too_much_at_once),
        PLAIN(test_finish_sends_the_queue),
        TLS(test_finish_sends_the_queue),
        PLAIN(test_finish_gives_up),
        PLAIN(test_close_within_data),
        TLS(test_close_within_data),
        PLAIN(test_peer_closes),
        TLS(test_peer_closes),
        PLAIN(test_written_before_it_stands),
        TLS(test_written_before_it_stands),
        PLAIN(test_accepted),
        PLAIN(test_refused),
        TLS(test_wrong_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
