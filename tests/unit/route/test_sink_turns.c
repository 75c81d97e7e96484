/* A sink: whose turn it is, how much of the link each VM gets, and where a window or a full socket stops it.
 */
#include "tests/unit/route/sink_world.h"

static size_t
difference(size_t a, size_t b)
{
    return a < b ? b - a : a - b;
}

/* Sends 2 MB of three VMs' backlog in pieces and expects that their shares differ by little. */
static void
expect_fair(struct world *world, struct stream *streams[3], size_t max_bytes, size_t room, size_t slack)
{
    size_t sent = 0;

    up_plainly(world);
    while (sent < (2 << 20))
        sent += pump_once(world, max_bytes, room);
    for (int i = 0; i < 3; i++) {
        size_t bytes = world->bytes_of[streams[i]->log.id];

        assert_true(
            route_vm(streams[i]->about.vm)->turns[SLOT].active); /* all have something to send until now */
        if (difference(bytes, sent / 3) > slack)
            fail_msg("VM %d: %zu bytes of %zu", i, bytes, sent);
    }
}

static void
test_fair_whatever_the_backlog(void **state)
{
    struct world *world = *state;
    struct stream *streams[3];

    for (int i = 0; i < 3; i++)
        streams[i] = add_stream(world, (char)('a' + i), '1', 1);
    append(world, streams[0], 20000, 1000);
    append(world, streams[1], 1000, 1000);
    append(world, streams[2], 1500, 1000);
    expect_fair(world, streams, BATCH, NO_LIMIT, 64 * 1024);
}

/* Events of 60 kB are no way to a larger share. */
static void
test_fair_whatever_the_size(void **state)
{
    struct world *world = *state;
    struct stream *streams[3];

    for (int i = 0; i < 3; i++)
        streams[i] = add_stream(world, (char)('a' + i), '1', 1);
    append(world, streams[0], 100, 60000);
    append(world, streams[1], 30000, 100);
    append(world, streams[2], 100, 200000);
    expect_fair(world, streams, BATCH, NO_LIMIT, 256 * 1024);
}

/* Not even for a VM that has nothing more in between. */
static void
test_what_was_too_much_is_owed(void **state)
{
    struct world *world = *state;
    struct stream *a = add_stream(world, 'a', '1', 1);
    struct stream *b = add_stream(world, 'b', '1', 1);

    up_plainly(world);
    append(world, a, 1, 60000);
    append(world, b, 1, 100);
    pump(world);
    append(world, a, 1, 60000);
    append(world, b, 100, 1000);
    pump_once(world, BATCH, NO_LIMIT);
    assert_int_equal(world->bytes_of[a->log.id], 60000);
    assert_in_range(world->bytes_of[b->log.id], 16000, 20000);
    pump(world);
    assert_int_equal(world->bytes_of[a->log.id], 120000);
}

/* Turns in which all was filtered are not saved up. */
static void
test_credit_has_a_bound(void **state)
{
    struct world *world = *state;
    struct stream *a = add_stream(world, 'a', '1', 1);
    struct stream *b = add_stream(world, 'b', '1', 1);

    world->conf.class_mask = 1u << CLASS_FILE;
    sink_set_conf(&world->sink, &world->conf);
    for (int i = 0; i < 60; i++)
        append_as(world, a, CLASS_DNS, "", 16000);
    append(world, a, 200, 1000);
    append(world, b, 2000, 1000);
    up_plainly(world);
    for (int i = 0; i < 70; i++) {
        size_t before = world->bytes_of[a->log.id];

        pump_once(world, BATCH, NO_LIMIT);
        assert_true(world->bytes_of[a->log.id] - before <= 2 * 16384 + 1000);
    }
    assert_true(world->bytes_of[a->log.id] > 0);
}

/* Nor is a socket that takes little at a time. */
static void
test_fair_with_a_slow_socket(void **state)
{
    struct world *world = *state;
    struct stream *streams[3];

    for (int i = 0; i < 3; i++)
        streams[i] = add_stream(world, (char)('a' + i), '1', 1);
    for (int i = 0; i < 3; i++)
        append(world, streams[i], 3000, 1000);
    expect_fair(world, streams, BATCH, 5000, 64 * 1024);
}

/* A VM that comes to a link where others flood has its few events sent within one round. */
static void
test_a_quiet_vm_is_not_held_up(void **state)
{
    struct world *world = *state;
    struct stream *flood = add_stream(world, 'a', '1', 1);
    struct stream *quiet = add_stream(world, 'b', '1', 1);

    up_plainly(world);
    append(world, flood, 5000, 1000);
    for (int i = 0; i < 10; i++)
        pump_once(world, BATCH, NO_LIMIT);
    append(world, quiet, 3, 1000);
    pump_once(world, BATCH, NO_LIMIT);
    pump_once(world, BATCH, NO_LIMIT); /* its announcement must not stand among frames of others */
    assert_int_equal(world->bytes_of[quiet->log.id], 3000);
}

/* Every frame comes once, whole and in order, wherever the socket stops. */
static void
test_partial_sends(void **state)
{
    struct world *world = *state;
    struct stream *streams[3];
    uint64_t last[4] = { 0 };
    uint32_t random = 7;
    unsigned full = 0;
    const char *at;

    for (int i = 0; i < 3; i++)
        streams[i] = add_stream(world, (char)('a' + i), '1', 1);
    up_plainly(world);
    for (int i = 0; i < 1000; i++)
        append(world, streams[i % 3], 1, 16 + (uint32_t)i * 7 % 900);
    while (!TAILQ_EMPTY(&world->sink.ring)) {
        random = random * 1664525u + 1013904223u;
        if (pump_once(world, 20000, random >> 28 == 0 ? 0 : (random >> 16) % 3000) == 0)
            full++;
    }
    assert_true(full > 3);
    assert_int_equal(world->wire_len, 0);
    for (at = words(world); at; at = strchr(at, ' ') ? strchr(at, ' ') + 1 : NULL) {
        unsigned stream;
        unsigned sequence;

        if (sscanf(at, "%u.%u", &stream, &sequence) == 2)
            assert_int_equal(sequence, ++last[stream]);
    }
    assert_int_equal(last[1] + last[2] + last[3], 1000);
    assert_int_equal(world->sink.sent_bytes, world->bytes_of[1] + world->bytes_of[2] + world->bytes_of[3]);
}

/* A VM's window stops that VM and no other; an acknowledgement lets it go on. */
static void
test_window(void **state)
{
    struct world *world = *state;
    struct stream *a = add_stream(world, 'a', '1', 1);
    struct stream *b = add_stream(world, 'b', '1', 1);

    world->sink.window = 2500;
    up_plainly(world);
    append(world, a, 6, 1000);
    append(world, b, 1, 1000);
    pump(world);
    assert_string_equal(words(world), "S1@1 1.1 1.2 1.3 S2@1 2.1"); /* the frame that fills it is sent */
    world->moved = 0;
    assert_true(ack(world, a, 1));
    assert_int_equal(world->moved, 1); /* its guests may have something to hear */
    pump(world);
    assert_string_equal(words(world), "1.4");
    assert_true(ack(world, a, 3));
    pump(world);
    assert_string_equal(words(world), "1.5 1.6");
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)
    const struct CMUnitTest tests[] = {
        TEST(test_fair_whatever_the_backlog),
        TEST(test_fair_whatever_the_size),
        TEST(test_what_was_too_much_is_owed),
        TEST(test_credit_has_a_bound),
        TEST(test_fair_with_a_slow_socket),
        TEST(test_a_quiet_vm_is_not_held_up),
        TEST(test_partial_sends),
        TEST(test_window),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
