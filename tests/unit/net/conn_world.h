/* What the tests of connections stand on: a connection to a far end in the same thread, plain or with TLS,
 * over sockets with buffers so small that everything happens in parts. Loop and far end take turns; nothing
 * waits for a time. */
#ifndef GIMUX_TESTS_CONN_WORLD_H
#define GIMUX_TESTS_CONN_WORLD_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <errno.h>
#include <event2/event.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "mux/net/conn.h"
#include "tests/unit/certificates.h"

#define SMALL_BUFFER 4096
#define LIMIT        ((size_t)100000)
#define MUCH         ((size_t)3 << 20)
#define GIVE_UP_MS   20000

static const char *const plain = "plain";
static const char *const with_tls = "tls";

struct bytes {
    uint8_t *data;
    size_t len;
    size_t room;
};

struct owner {
    struct conn *conn;
    size_t (*take)(struct owner *owner, const uint8_t *buf, size_t len); /* NULL: all */
    struct bytes received;
    unsigned opened;
    unsigned calls; /* of data */
    unsigned writable;
    unsigned closed;
    struct owner *next; /* of a connection that changes hands */
    char why[300];
};

struct world {
    struct loop *loop;
    struct conn *conn;
    struct owner owner;
    int peer;
    SSL *ssl; /* the peer's; NULL: plain */
    SSL_CTX *server;
    struct tls_context *client;
    struct certificates certificates;
    uint32_t random;
    uint64_t started;
};

/* ---- small things ---- */

static inline uint32_t
below(struct world *world, uint32_t bound)
{
    world->random = world->random * 1664525u + 1013904223u;
    return (world->random >> 8) % bound;
}

static inline void
append(struct bytes *bytes, const void *data, size_t len)
{
    if (bytes->len + len > bytes->room) {
        bytes->room = (bytes->len + len) * 2;
        bytes->data = realloc(bytes->data, bytes->room);
        assert_non_null(bytes->data);
    }
    if (len > 0)
        memcpy(bytes->data + bytes->len, data, len);
    bytes->len += len;
}

static inline struct bytes
noise(struct world *world, size_t len)
{
    struct bytes bytes = { .data = malloc(len), .len = len, .room = len };

    assert_non_null(bytes.data);
    for (size_t i = 0; i < len; i++)
        bytes.data[i] = (uint8_t)below(world, 256);
    return bytes;
}

static inline void
expect_same(const struct bytes *got, const struct bytes *expected)
{
    assert_int_equal(got->len, expected->len);
    assert_memory_equal(got->data, expected->data, got->len);
}

/* ---- the owner ---- */

static inline void
on_open(void *arg)
{
    ((struct owner *)arg)->opened++;
}

static inline size_t
on_data(void *arg, const uint8_t *buf, size_t len)
{
    struct owner *owner = arg;

    owner->calls++;
    assert_int_equal(owner->closed, 0);
    if (owner->take)
        return owner->take(owner, buf, len);
    append(&owner->received, buf, len);
    return len;
}

static inline void
on_writable(void *arg)
{
    ((struct owner *)arg)->writable++;
}

static inline void
on_closed(void *arg, const char *why)
{
    struct owner *owner = arg;

    owner->closed++;
    owner->conn = NULL;
    snprintf(owner->why, sizeof(owner->why), "%s", why);
}

static const struct conn_ops ops = {
    .open = on_open, .data = on_data, .writable = on_writable, .closed = on_closed
};

static inline size_t
take_nothing(struct owner *owner, const uint8_t *buf, size_t len)
{
    (void)owner;
    (void)buf;
    (void)len;
    return 0;
}

/* Messages are two bytes of length and as many bytes. */
static inline size_t
take_messages(struct owner *owner, const uint8_t *buf, size_t len)
{
    size_t used = 0;

    while (len - used >= 2 && len - used - 2 >= (size_t)(buf[used] | buf[used + 1] << 8))
        used += 2 + (size_t)(buf[used] | buf[used + 1] << 8);
    append(&owner->received, buf, used);
    return used;
}

/* ---- the far end ---- */

/* What became of a call: bytes, 0 if there is nothing now, or -1 at the end. */
static inline ssize_t
plain_result(ssize_t returned)
{
    return returned < 0 && errno == EAGAIN ? 0 : returned > 0 ? returned : -1;
}

static inline ssize_t
tls_result(SSL *ssl, int returned, size_t done)
{
    int error = SSL_get_error(ssl, returned);

    ERR_clear_error();
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return 0;
    return returned == 1 ? (ssize_t)done : -1;
}

static inline ssize_t
peer_read(struct world *world, struct bytes *into, size_t max)
{
    static uint8_t buf[1 << 17];
    size_t done = 0;
    ssize_t got;

    assert_true(max <= sizeof(buf));
    if (world->ssl) {
        int returned = SSL_read_ex(world->ssl, buf, max, &done);

        got = tls_result(world->ssl, returned, done);
    } else {
        got = plain_result(recv(world->peer, buf, max, MSG_DONTWAIT));
    }
    if (got > 0)
        append(into, buf, (size_t)got);
    return got;
}

static inline size_t
peer_write(struct world *world, const uint8_t *data, size_t len)
{
    size_t done = 0;
    ssize_t sent;

    if (world->ssl) {
        int returned = SSL_write_ex(world->ssl, data, len, &done);

        sent = tls_result(world->ssl, returned, done);
    } else {
        sent = plain_result(send(world->peer, data, len, MSG_DONTWAIT | MSG_NOSIGNAL));
    }
    assert_true(sent >= 0);
    return (size_t)sent;
}

static inline void
peer_close(struct world *world)
{
    if (world->ssl)
        SSL_shutdown(world->ssl);
    close(world->peer);
    world->peer = -1;
}

/* ---- turns ---- */

static inline void
turn(struct world *world)
{
    if (loop_now() - world->started > GIVE_UP_MS)
        fail_msg("nothing more happens");
    event_base_loop(loop_base(world->loop), EVLOOP_NONBLOCK | EVLOOP_ONCE);
    loop_flush(world->loop);
}

/* For what must not happen: as many turns as anything in the loop could take. */
static inline void
turn_many(struct world *world)
{
    for (int i = 0; i < 50; i++)
        turn(world);
}

static inline void
until_closed(struct world *world)
{
    while (world->owner.closed == 0)
        turn(world);
    world->conn = NULL;
}

static inline void
set_buffers(int fd, int size)
{
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

/* ---- a world ---- */

/* Begins to dial a UNIX socket that this thread listens on, and accepts there. */
static inline void
dial(struct world *world, const char *name)
{
    struct tls_peer peer = { .name = name, .solution = "av" };
    struct conn_limits limits = { .in = LIMIT, .out = LIMIT };
    struct sockaddr_storage storage = { 0 };
    struct sockaddr_un *address = (struct sockaddr_un *)(void *)&storage;
    socklen_t len = sizeof(*address);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    const char *why;

    if (world->peer >= 0)
        close(world->peer);
    SSL_free(world->ssl);
    world->ssl = NULL;
    address->sun_family = AF_UNIX; /* the kernel gives an abstract name */
    assert_int_equal(bind(listener, (struct sockaddr *)address, sizeof(sa_family_t)), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)address, &len), 0);
    assert_int_equal(listen(listener, 1), 0);
    world->conn =
        conn_dial(world->loop, &storage, len, world->client, &peer, &limits, &ops, &world->owner, &why);
    assert_non_null(world->conn);
    world->owner.conn = world->conn;
    world->peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    assert_true(world->peer >= 0);
    close(listener);
    set_buffers(conn_fd(world->conn), SMALL_BUFFER);
    set_buffers(world->peer, SMALL_BUFFER);
    if (!world->server)
        return;
    world->ssl = SSL_new(world->server);
    assert_int_equal(SSL_set_fd(world->ssl, world->peer), 1);
    SSL_set_accept_state(world->ssl);
}

static inline int
open_world(void **state)
{
    bool tls = *state == with_tls;
    struct world *world = calloc(1, sizeof(*world));
    char why[TLS_WHY_MAX];
    struct bytes nothing = { 0 };

    if (!world)
        return -1;
    signal(SIGPIPE, SIG_IGN); /* as main does */
    world->random = 1;
    world->peer = -1;
    world->started = loop_now();
    world->loop = loop_new();
    if (tls) {
        struct tls_files files = { .cert = world->certificates.cert,
                                   .key = world->certificates.key,
                                   .crl = "" };

        certificates_make(&world->certificates, "svm.test", "av");
        files.ca = files.cert;
        world->client = tls_context_new(&files, why);
        assert_non_null(world->client);
        world->server = certificates_server(&world->certificates);
    }
    dial(world, "svm.test");
    while (world->owner.opened == 0 || (tls && !SSL_is_init_finished(world->ssl))) {
        turn(world);
        assert_true(!tls || peer_read(world, &nothing, 1) == 0);
    }
    *state = world;
    return 0;
}

static inline int
close_world(void **state)
{
    struct world *world = *state;

    if (world->conn)
        conn_close(world->conn, "the test is over");
    if (world->peer >= 0)
        close(world->peer);
    loop_free(world->loop);
    assert_int_equal(world->owner.closed, 1); /* once, whatever the test did */
    SSL_free(world->ssl);
    SSL_CTX_free(world->server);
    tls_context_free(world->client);
    certificates_remove(&world->certificates);
    free(world->owner.received.data);
    free(world);
    return 0;
}

/* Tests of a plain connection, and of one with TLS. */
#define PLAIN(name)                                                                                          \
    {                                                                                                        \
#name, name, open_world, close_world, (void *)(uintptr_t)plain                                       \
    }
#define TLS(name)                                                                                            \
    {                                                                                                        \
#name " with TLS", name, open_world, close_world, (void *)(uintptr_t)with_tls                        \
    }

#endif
