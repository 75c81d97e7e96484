/* Connections: what goes in comes out, whole and in order, both ways, whoever reads slowly, pauses, or hands
 * the connection on. */
#include "tests/unit/net/conn_world.h"

/* ---- data ---- */

/* Up to 100 pieces of the source from `at` on, some of them empty, or of whole TLS records. Returns what
 * conn_writev took. */
static size_t
write_pieces(struct world *world, const struct bytes *source, size_t at)
{
    struct iovec iov[100];
    int count = 1 + (int)below(world, 100);
    uint32_t size = below(world, 4) == 0 ? 40000 : 600;

    for (int i = 0; i < count; i++) {
        size_t len = below(world, 10) == 0 ? 16384 * (size_t)below(world, 3) : below(world, size);

        iov[i].iov_base = source->data + at;
        iov[i].iov_len = len < source->len - at ? len : source->len - at;
        at += iov[i].iov_len;
    }
    return conn_writev(world->conn, iov, count);
}

/* Everything at once: pieces and small messages out, messages in with pauses between, a peer that reads
 * little and writes in fragments. All comes out as it went in. */
static void
test_both_ways(void **state)
{
    struct world *world = *state;
    struct bytes out = noise(world, MUCH);
    struct bytes in = noise(world, MUCH);
    struct bytes expected = { 0 };
    struct bytes got = { 0 };
    size_t out_at = 0;
    size_t in_at = 0;
    size_t retry = 0;
    unsigned seen = 0;
    bool paused = false;

    in.len = 0; /* made of whole messages */
    while (in.len < MUCH - 70000) {
        uint16_t len = (uint16_t)below(world, below(world, 50) == 0 ? 60000 : 500);

        in.data[in.len] = (uint8_t)len;
        in.data[in.len + 1] = (uint8_t)(len >> 8);
        in.len += 2 + (size_t)len;
    }
    world->owner.take = take_messages;
    while (got.len < expected.len || out_at < out.len || world->owner.received.len < in.len) {
        if (below(world, 20) == 0) {
            uint8_t small[300];
            size_t len = below(world, sizeof(small));

            memset(small, 'w', sizeof(small));
            if (conn_memory(world->conn) < LIMIT / 2) {
                assert_true(conn_write(world->conn, small, len));
                append(&expected, small, len);
            }
        }
        if (out_at < out.len && (out_at == 0 || world->owner.writable > seen || below(world, 30) == 0)) {
            size_t taken = write_pieces(world, &out, out_at);

            seen = world->owner.writable;
            append(&expected, out.data + out_at, taken);
            out_at += taken;
        }
        if (below(world, 40) == 0)
            set_buffers(conn_fd(world->conn), below(world, 2) == 0 ? SMALL_BUFFER : 200000);
        if (below(world, 10) == 0) {
            paused = !paused;
            (paused ? conn_pause : conn_resume)(world->conn);
        }
        if (in_at < in.len) {
            size_t len = retry ? retry : 1 + below(world, 20000); /* OpenSSL wants the same again */

            len = len < in.len - in_at ? len : in.len - in_at;
            retry = peer_write(world, in.data + in_at, len);
            in_at += retry;
            retry = retry ? 0 : len;
        }
        peer_read(world, &got, 1 + below(world, 9000));
        turn(world);
        if (out_at == out.len && in_at == in.len && paused) {
            paused = false;
            conn_resume(world->conn);
        }
    }
    expect_same(&got, &expected);
    expect_same(&world->owner.received, &in);
    assert_true(world->owner.writable > 10);
    assert_int_equal(conn_memory(world->conn), 0); /* idle: it holds nothing */
    free(out.data);
    free(in.data);
    free(expected.data);
    free(got.data);
}

/* What conn_writev took in part is not overtaken: the queue goes first, then what comes after it. */
static void
test_queue_order(void **state)
{
    struct world *world = *state;
    struct bytes big = noise(world, 60000);
    struct bytes expected = { 0 };
    struct bytes got = { 0 };
    size_t taken = conn_writev(world->conn, &(struct iovec){ big.data, big.len }, 1);

    assert_true(taken < big.len);
    append(&expected, big.data, taken);
    assert_true(conn_write(world->conn, "first", 5));
    append(&expected, "first", 5);
    assert_int_equal(conn_writev(world->conn, &(struct iovec){ (void *)"never", 5 }, 1), 0);
    assert_true(conn_write(world->conn, "second", 6));
    append(&expected, "second", 6);
    assert_int_equal(world->owner.writable, 0);
    while (got.len < expected.len) {
        peer_read(world, &got, 1000);
        turn(world);
    }
    while (world->owner.writable == 0)
        turn(world);
    turn_many(world);
    assert_int_equal(world->owner.writable, 1); /* once for each refusal */
    assert_int_equal(peer_read(world, &got, 1000), 0);
    expect_same(&got, &expected);
    free(big.data);
    free(expected.data);
    free(got.data);
}

/* The queue alone, while the peer reads now and then: it grows when it is partly sent, and moves in its
 * memory. */
static void
test_queue_moves(void **state)
{
    struct world *world = *state;
    struct bytes out = noise(world, 400000);
    struct bytes got = { 0 };
    size_t at = 0;

    while (got.len < out.len) {
        size_t len = 1 + below(world, below(world, 5) == 0 ? 30000 : 2000);

        len = len < out.len - at ? len : out.len - at;
        if (at - got.len < LIMIT - 30000) {
            assert_true(conn_write(world->conn, out.data + at, len));
            at += len;
        }
        if (at == out.len || got.len % 40000 < 20000 || below(world, 5) == 0)
            peer_read(world, &got, 1 + below(world, 5000));
        turn(world);
    }
    expect_same(&got, &out);
    free(out.data);
    free(got.data);
}

static size_t
take_one_and_pause(struct owner *owner, const uint8_t *buf, size_t len)
{
    assert_true(len > 0);
    append(&owner->received, buf, 1);
    conn_pause(owner->conn);
    return 1;
}

/* An owner that has had enough is not called for what it left until it resumes, and then without more coming.
 */
static void
test_pause_within_data(void **state)
{
    struct world *world = *state;

    world->owner.take = take_one_and_pause;
    assert_int_equal(peer_write(world, (const uint8_t *)"abcde", 5), 5);
    for (unsigned count = 1; count <= 5; count++) {
        while (world->owner.calls < count)
            turn(world);
        turn_many(world);
        assert_int_equal(world->owner.calls, count);
        conn_resume(world->conn);
        conn_resume(world->conn);
        assert_int_equal(world->owner.calls, count); /* not from within the call */
    }
    assert_memory_equal(world->owner.received.data, "abcde", 5);
}

/* A connection that is paused reads nothing, so that its peer must wait; what was left is not lost. */
static void
test_pause_holds_the_peer(void **state)
{
    struct world *world = *state;
    struct bytes in = noise(world, 500000);
    size_t at = 0;
    unsigned calls;

    for (size_t i = 0; i + 1002 <= in.len; i += 1002) { /* messages of 1,000 */
        in.data[i] = 1000 & 0xff;
        in.data[i + 1] = 1000 >> 8;
    }
    in.len = in.len / 1002 * 1002;
    world->owner.take = take_messages;
    while (at < 5500) { /* ends within a message */
        at += peer_write(world, in.data + at, 500);
        turn(world);
    }
    turn_many(world);
    calls = world->owner.calls;
    conn_pause(world->conn);
    for (int i = 0; i < 200; i++) {
        at += peer_write(world, in.data + at, 500);
        turn(world);
    }
    assert_int_equal(world->owner.calls, calls);
    assert_true(at < 70000); /* the rest of 100,000 did not fit the kernel */
    conn_resume(world->conn);
    while (world->owner.received.len < in.len) {
        if (at < in.len)
            at += peer_write(world, in.data + at, in.len - at < 500 ? in.len - at : 500);
        turn(world);
    }
    expect_same(&world->owner.received, &in);
    free(in.data);
}

/* ---- owners ---- */

static size_t
hand_over(struct owner *owner, const uint8_t *buf, size_t len)
{
    size_t used = len >= 5 && owner->next->take == NULL ? 5 : 0;

    append(&owner->received, buf, used);
    conn_set_owner(owner->conn, &ops, owner->next);
    return used;
}

/* The first message says whose the connection is. The next owner gets the rest at once, though nothing more
 * comes: whether the first one consumed something of it or nothing. */
static void
hand_over_with(struct world *world, struct owner *next, const char *first_part, const char *next_part)
{
    world->owner.take = hand_over;
    world->owner.next = next;
    next->conn = world->conn;
    assert_int_equal(peer_write(world, (const uint8_t *)"hellodata", 9), 9);
    while (next->calls == 0)
        turn(world);
    turn_many(world);
    assert_int_equal(world->owner.calls, 1);
    assert_int_equal(world->owner.received.len, strlen(first_part));
    if (!next->take)
        expect_same(&next->received,
                    &(struct bytes){ (uint8_t *)(uintptr_t)next_part, strlen(next_part), 0 });
    conn_set_owner(world->conn, &ops, &world->owner); /* back again, for the end */
    world->owner.take = NULL;
    turn_many(world);
    free(next->received.data);
}

static void
test_owner_changes_after_a_message(void **state)
{
    struct owner next = { 0 };

    hand_over_with(*state, &next, "hello", "data");
}

static void
test_owner_changes_before_anything(void **state)
{
    struct world *world = *state;
    struct owner next = { .take = take_nothing };

    hand_over_with(world, &next, "", "");
    assert_int_equal(world->owner.received.len, 9); /* which nobody had consumed */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        PLAIN(test_both_ways),
        TLS(test_both_ways),
        PLAIN(test_queue_order),
        TLS(test_queue_order),
        PLAIN(test_queue_moves),
        TLS(test_queue_moves),
        PLAIN(test_pause_within_data),
        TLS(test_pause_within_data),
        PLAIN(test_pause_holds_the_peer),
        TLS(test_pause_holds_the_peer),
        PLAIN(test_owner_changes_after_a_message),
        TLS(test_owner_changes_after_a_message),
        PLAIN(test_owner_changes_before_anything),
        TLS(test_owner_changes_before_anything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
