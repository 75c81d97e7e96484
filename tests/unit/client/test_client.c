/* The client library: its functions with a gimuxd of a few lines in the same thread. What it remembers is in
 * test_client_streams.c, what needs two processes and bad peers is in tests/e2e/test_client.py. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/gimux_client.h"
#include "proto/address.h"
#include "proto/delimited.h"
#include "proto/gimux.pb-c.h"

#define PATIENCE_MS 20000

#define VM "11111111-2222-3333-4444-555555555555"

/* ---- a client and a gimuxd in one thread ---- */

struct seen {
    struct gimux_client *client;
    struct gimux_stream *stream; /* of the last event */
    unsigned events, ends, forgotten, connects, disconnects;
    enum gimux_disconnect reason;
    bool stop; /* at the next event */
};

static void
on_event(void *user, const struct gimux_event *event)
{
    struct seen *seen = user;

    seen->events++;
    seen->stream = event->stream;
    assert_int_equal(gimux_client_dispatch(seen->client, 0), -1);
    assert_int_equal(errno, EBUSY);
    if (seen->stop)
        gimux_client_stop(seen->client);
}

static void
on_end(void *user, struct gimux_stream *stream, uint64_t last_sequence)
{
    struct seen *seen = user;

    assert_ptr_equal(stream, seen->stream);
    assert_true(last_sequence > 0);
    seen->ends++;
}

static void
on_forget(void *user, struct gimux_stream *stream)
{
    struct seen *seen = user;

    (void)stream;
    seen->forgotten++;
}

static void
on_connect(void *user, const struct gimux_connection *connection)
{
    struct seen *seen = user;

    assert_string_equal(connection->host, "host-1");
    assert_false(connection->tls);
    seen->connects++;
}

static void
on_disconnect(void *user, const struct gimux_connection *connection, enum gimux_disconnect reason,
              const char *text)
{
    struct seen *seen = user;

    assert_string_equal(connection->host, "host-1");
    assert_true(strlen(text) > 0);
    seen->disconnects++;
    seen->reason = reason;
}

static const struct gimux_client_callbacks callbacks = { .on_event = on_event,
                                                         .on_connect = on_connect,
                                                         .on_disconnect = on_disconnect,
                                                         .on_stream_end = on_end,
                                                         .on_stream_forget = on_forget };

static void
start_client(struct seen *seen, bool explicit_ack, size_t stream_max)
{
    struct gimux_client_config config = { .listen = "tcp:127.0.0.1:0",
                                          .callbacks = &callbacks,
                                          .user = seen,
                                          .explicit_ack = explicit_ack,
                                          .stream_max = stream_max };

    memset(seen, 0, sizeof(*seen));
    seen->client = gimux_client_new(&config, NULL);
    assert_non_null(seen->client);
}

/* Dispatches as an own loop would, when the descriptor asks for it, until the counter has that value. */
static void
dispatch_until(struct seen *seen, const unsigned *counter, unsigned value)
{
    struct pollfd fd = { .fd = gimux_client_fd(seen->client), .events = POLLIN };

    while (*counter < value) {
        assert_int_equal(poll(&fd, 1, PATIENCE_MS), 1);
        assert_int_equal(gimux_client_dispatch(seen->client, 0), 0);
    }
    assert_int_equal(*counter, value);
}

static void
send_body(int fd, Gimux__V1__Frame__BodyCase body_case, void *body)
{
    Gimux__V1__Frame frame = GIMUX__V1__FRAME__INIT;
    uint8_t bytes[1024];
    size_t len;

    frame.body_case = body_case;
    frame.event = body;
    len = delimited_put_prefix(bytes, gimux__v1__frame__get_packed_size(&frame));
    len += gimux__v1__frame__pack(&frame, bytes + len);
    assert_int_equal(send(fd, bytes, len, 0), len);
}

/* Reads a byte that the client sends, dispatching until it does. */
static uint8_t
receive_byte(struct seen *seen, int fd)
{
    struct pollfd fds[] = { { .fd = gimux_client_fd(seen->client), .events = POLLIN },
                            { .fd = fd, .events = POLLIN } };
    uint8_t byte;

    for (;;) {
        assert_true(poll(fds, 2, PATIENCE_MS) > 0);
        if (fds[1].revents)
            break;
        assert_int_equal(gimux_client_dispatch(seen->client, 0), 0);
    }
    assert_int_equal(recv(fd, &byte, 1, 0), 1);
    return byte;
}

/* Reads one frame; free it with gimux__v1__frame__free_unpacked. */
static Gimux__V1__Frame *
receive_frame(struct seen *seen, int fd)
{
    uint8_t bytes[1024];
    const uint8_t *body;
    size_t len = 0, body_len;
    Gimux__V1__Frame *frame;

    while (delimited_next(bytes, len, sizeof(bytes), &body, &body_len) != DELIMITED_FRAME) {
        assert_true(len < sizeof(bytes));
        bytes[len++] = receive_byte(seen, fd);
    }
    frame = gimux__v1__frame__unpack(NULL, body_len, body);
    assert_non_null(frame);
    return frame;
}

static int
connect_mux(struct seen *seen)
{
    Gimux__V1__MuxHello hello = GIMUX__V1__MUX_HELLO__INIT;
    char host[] = "host-1";
    struct address address;
    struct sockaddr_storage to;
    socklen_t len;
    int fd;
    Gimux__V1__Frame *answer;

    assert_null(address_parse(gimux_client_address(seen->client), &address));
    assert_int_not_equal(address.port, 0);
    len = address_to_sockaddr(&address, &to);
    fd = socket(to.ss_family, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, len), 0);
    hello.version_min = hello.version_max = 1;
    hello.heartbeat_ms = 60000;
    hello.host = host;
    send_body(fd, GIMUX__V1__FRAME__BODY_MUX_HELLO, &hello);
    answer = receive_frame(seen, fd);
    assert_int_equal(answer->body_case, GIMUX__V1__FRAME__BODY_SVM_HELLO);
    gimux__v1__frame__free_unpacked(answer, NULL);
    return fd;
}

static void
send_start(int fd, unsigned number)
{
    Gimux__V1__StreamStart start = GIMUX__V1__STREAM_START__INIT;
    char boot_id[40];

    snprintf(boot_id, sizeof(boot_id), "aaaaaaaa-bbbb-cccc-dddd-%012x", number);
    start.stream = number;
    start.vm_uuid = (char *)(uintptr_t)VM;
    start.boot_id = boot_id;
    start.driver = GIMUX__V1__DRIVER__DRIVER_LINUX;
    start.first_sequence = 1;
    send_body(fd, GIMUX__V1__FRAME__BODY_STREAM_START, &start);
}

static void
send_event(int fd, unsigned number, uint64_t sequence)
{
    Gimux__V1__Event event = GIMUX__V1__EVENT__INIT;

    event.stream = number;
    event.sequence = sequence;
    send_body(fd, GIMUX__V1__FRAME__BODY_EVENT, &event);
}

static void
send_end(int fd, unsigned number, uint64_t last)
{
    Gimux__V1__StreamEnd end = GIMUX__V1__STREAM_END__INIT;

    end.stream = number;
    end.last_sequence = last;
    send_body(fd, GIMUX__V1__FRAME__BODY_STREAM_END, &end);
}

static void
expect_ack(struct seen *seen, int fd, unsigned number, uint64_t sequence)
{
    Gimux__V1__Frame *frame = receive_frame(seen, fd);

    assert_int_equal(frame->body_case, GIMUX__V1__FRAME__BODY_ACK);
    assert_int_equal(frame->ack->n_streams, 1);
    assert_int_equal(frame->ack->streams[0]->stream, number);
    assert_int_equal(frame->ack->streams[0]->sequence, sequence);
    gimux__v1__frame__free_unpacked(frame, NULL);
}

static void
test_own_loop(void **state)
{
    struct seen seen;
    int fd;

    (void)state;
    start_client(&seen, false, 0);
    assert_int_equal(gimux_client_dispatch(seen.client, 0), 0); /* nothing to do: does not block */
    fd = connect_mux(&seen);
    assert_int_equal(seen.connects, 1);
    send_start(fd, 1);
    send_event(fd, 1, 1);
    dispatch_until(&seen, &seen.events, 1);
    expect_ack(&seen, fd, 1, 1);
    close(fd);
    dispatch_until(&seen, &seen.disconnects, 1);
    assert_int_equal(seen.reason, GIMUX_DISCONNECT_CLOSED);
    gimux_client_free(seen.client);
    assert_int_equal(seen.forgotten, 1);
}

/* gimuxd was killed and is back, and what the old one had sent comes after all. */
static void
test_a_start_that_comes_late(void **state)
{
    struct seen seen;
    int old, new;

    (void)state;
    start_client(&seen, false, 0);
    old = connect_mux(&seen);
    new = connect_mux(&seen);
    send_start(new, 1);
    send_event(new, 1, 1);
    expect_ack(&seen, new, 1, 1);
    send_start(old, 1);
    send_event(old, 1, 1);
    send_event(old, 1, 2);
    send_event(old, 2, 1); /* was not started: the end of that connection, so all before it was read */
    dispatch_until(&seen, &seen.disconnects, 1);
    assert_int_equal(seen.reason, GIMUX_DISCONNECT_PROTOCOL);
    assert_int_equal(seen.events, 1);
    send_event(new, 1, 2);
    send_event(new, 1, 3);
    dispatch_until(&seen, &seen.events, 3);
    close(old);
    close(new);
    gimux_client_free(seen.client);
}

static void
test_acknowledgement_outside_of_callbacks(void **state)
{
    struct seen seen;
    int fd;
    uint8_t byte;

    (void)state;
    start_client(&seen, true, 0);
    fd = connect_mux(&seen);
    send_start(fd, 1);
    send_event(fd, 1, 1);
    send_event(fd, 1, 4);
    dispatch_until(&seen, &seen.events, 2);
    assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), -1); /* nobody has acknowledged */
    assert_int_equal(gimux_client_ack(seen.client, seen.stream, 5), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(gimux_client_ack(seen.client, seen.stream, 3), 0);
    expect_ack(&seen, fd, 1, 3);
    send_end(fd, 1, 4);
    dispatch_until(&seen, &seen.ends, 1);
    assert_int_equal(gimux_client_ack(seen.client, seen.stream, 4), 0); /* an ended stream, too */
    expect_ack(&seen, fd, 1, 4);
    close(fd);
    gimux_client_free(seen.client);
}

static void
test_stop_keeps_the_rest(void **state)
{
    struct seen seen;
    int fd;

    (void)state;
    start_client(&seen, false, 0);
    fd = connect_mux(&seen);
    seen.stop = true;
    send_start(fd, 1);
    send_event(fd, 1, 1);
    send_event(fd, 1, 2);
    assert_int_equal(gimux_client_run(seen.client), 0);
    assert_int_equal(seen.events, 1);
    expect_ack(&seen, fd, 1, 1);
    assert_int_equal(gimux_client_run(seen.client), 0);
    assert_int_equal(seen.events, 2);
    expect_ack(&seen, fd, 1, 2);
    gimux_client_free(seen.client);
    assert_int_equal(seen.reason, GIMUX_DISCONNECT_STOPPED);
    close(fd);
}

/* Streams come and go on one connection for ever; the table and the connection's view of it stay small. */
static void
test_old_streams_are_forgotten(void **state)
{
    struct gimux_client_stats stats;
    struct seen seen;
    int fd;

    (void)state;
    start_client(&seen, false, 2);
    fd = connect_mux(&seen);
    for (unsigned number = 1; number <= 20; number++) {
        send_start(fd, number);
        send_event(fd, number, 1);
        send_end(fd, number, 1);
        expect_ack(&seen, fd, number, 1);
    }
    /* A number may come again for another stream once its own has ended. */
    send_start(fd, 20);
    send_event(fd, 20, 2);
    expect_ack(&seen, fd, 20, 2);
    gimux_client_get_stats(seen.client, &stats);
    assert_int_equal(stats.streams, 2);
    assert_int_equal(stats.forgotten, 18);
    assert_int_equal(seen.forgotten, 18);
    /* Two that are in use, and no room for a third: that is the connection's fault. */
    send_start(fd, 21);
    send_start(fd, 22);
    dispatch_until(&seen, &seen.disconnects, 1);
    assert_int_equal(seen.reason, GIMUX_DISCONNECT_PROTOCOL);
    close(fd);
    gimux_client_free(seen.client);
}

static void
test_bad_configurations(void **state)
{
    static const struct gimux_client_config bad[] = {
        { .listen = NULL },
        { .listen = "udp:127.0.0.1:1" },
        { .listen = "unix:/tmp/x" },
        { .listen = "tls:127.0.0.1:0" },
        { .listen = "tcp:127.0.0.1:0", .stream_max = GIMUX_STREAMS_MAX + 1 },
    };
    char error[GIMUX_ERROR_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_null(gimux_client_new(&bad[i], error));
        assert_true(strlen(error) > 0);
    }
    gimux_client_free(NULL);
}

static void
test_address_in_use(void **state)
{
    char error[GIMUX_ERROR_MAX];
    struct seen seen;
    struct gimux_client_config config = { 0 };

    (void)state;
    start_client(&seen, false, 0);
    config.listen = gimux_client_address(seen.client);
    assert_null(gimux_client_new(&config, error));
    assert_non_null(strstr(error, config.listen));
    assert_non_null(strstr(error, strerror(EADDRINUSE)));
    gimux_client_free(seen.client);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_loop),
        cmocka_unit_test(test_a_start_that_comes_late),
        cmocka_unit_test(test_acknowledgement_outside_of_callbacks),
        cmocka_unit_test(test_stop_keeps_the_rest),
        cmocka_unit_test(test_old_streams_are_forgotten),
        cmocka_unit_test(test_bad_configurations),
        cmocka_unit_test(test_address_in_use),
    };

    return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
