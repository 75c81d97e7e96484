/* A connection: one opaque byte stream over a socket, with TLS inside or not, and a handful of callbacks.
 *
 * The theory stands at the top of conn.c. */
#ifndef GIMUX_NET_CONN_H
#define GIMUX_NET_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "mux/net/loop.h"
#include "mux/net/tls.h"

struct conn;

/* What the owner is told. All run in the loop, never from within a call into conn, except `data` and
 * `sent_all`, which may run from within nothing else than the socket's own readiness. */
struct conn_ops {
    /* The connection stands, TLS included. Not called for accepted sockets without TLS. */
    void (*open)(void *arg);
    /* Bytes have come: all that are not consumed yet, from the first. Returns how many are consumed; the rest
     * comes again, with more behind it. */
    size_t (*data)(void *arg, const uint8_t *buf, size_t len);
    /* conn_writev, which took less than it was given, may be called again. */
    void (*writable)(void *arg);
    /* The end, once, whoever brought it about; why is text for the log. The connection is gone after the
     * call. */
    void (*closed)(void *arg, const char *why);
};

#define CONN_IN_MAX ((size_t)(1 << 20) + 16)

/* Bounds of one connection's memory, in bytes. */
struct conn_limits {
    size_t in;  /* the largest message that data may leave unconsumed, at most CONN_IN_MAX */
    size_t out; /* what conn_write may queue */
};

/* Takes over a connected, non-blocking socket (closed with the connection, also on failure). NULL if out of
 * memory. */
struct conn *conn_new(struct loop *loop, int fd, const struct conn_limits *limits, const struct conn_ops *ops,
                      void *arg);

/* Begins to connect to an address. `context` NULL: no TLS; else `peer` is what the peer's certificate must
 * bear. NULL with why set if even the attempt is impossible; later failures come as closed. */
struct conn *conn_dial(struct loop *loop, const struct sockaddr_storage *address, socklen_t len,
                       struct tls_context *context, const struct tls_peer *peer,
                       const struct conn_limits *limits, const struct conn_ops *ops, void *arg,
                       const char **why);

/* Gives the connection another owner: callbacks go to it from now on, beginning with data for what is
 * unconsumed. */
void conn_set_owner(struct conn *conn, const struct conn_ops *ops, void *arg);

/* Queues bytes and sends what the socket takes. False if the connection is closed, or if more than limits.out
 * would be queued: it is then closed, because the peer does not read. */
bool conn_write(struct conn *conn, const void *data, size_t len);

/* Sends queued bytes, then these pieces, without copying. Returns how many bytes of the pieces went out. What
 * did not stays the caller's, who is called back by `writable` if that is not all. */
size_t conn_writev(struct conn *conn, const struct iovec *iov, int count);

/* Stops reading, so that the kernel's buffer fills and the peer must wait; and goes on, data included that
 * was left. */
void conn_pause(struct conn *conn);
void conn_resume(struct conn *conn);

/* What it brings comes before what others bring in the same turn. */
void conn_set_first(struct conn *conn);

/* Ends the connection now: nothing more is read or sent, `closed` comes at the end of this turn. */
void conn_close(struct conn *conn, const char *why);

/* Sends what is queued, at most for two seconds, then closes. Nothing more is read. */
void conn_finish(struct conn *conn, const char *why);

/* The connected socket, for asking the kernel who the peer is. */
int conn_fd(const struct conn *conn);

/* What a connection without TLS has beside its socket, all of it the connection's. */
struct conn_rest {
    const uint8_t *in; /* read, not consumed */
    size_t in_len;
    const uint8_t *out; /* to be sent */
    size_t out_len;
};

/* For handing the connection over: false if it is not open, and so not worth it. */
bool conn_export(const struct conn *conn, struct conn_rest *rest);

/* Gives a connection that was just made what its former owner had; data comes at the end of the turn. False
 * if that is more than the limits allow, or memory is out. */
bool conn_import(struct conn *conn, const struct conn_rest *rest);

/* Its TLS; NULL: none, or it is closed. */
const struct tls *conn_tls(const struct conn *conn);

/* Memory held for bytes in and out. */
size_t conn_memory(const struct conn *conn);

/* What may be queued for a driver: WELCOME, acknowledgements, answers. */
#define GUEST_OUT_MAX ((size_t)64 * 1024)

/* Bytes that one read takes at most: input is processed in pieces of this size, plus what was left. */
#define CONN_READ_SIZE ((size_t)32 * 1024)

#endif
