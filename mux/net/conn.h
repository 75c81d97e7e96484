/* A connection: one opaque byte stream over a socket, with TLS inside or not, and a handful of callbacks.
 *
 * The theory is at the top of conn.c. */
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

/* What the owner is told. All are called by the loop, never from within a call into conn. */
struct conn_ops {
    /* A connection that was dialled is open, its TLS included. Not called for those of conn_new. */
    void (*open)(void *arg);
    /* Bytes have come: all that are not consumed yet, from the first, valid until it returns. Returns how
     * many it consumed; the rest comes again, with more behind it. */
    size_t (*data)(void *arg, const uint8_t *buf, size_t len);
    /* conn_writev left something behind, in the queue or with its caller; the queue is now sent. */
    void (*writable)(void *arg);
    /* The connection has ended, for whatever reason; `why` is text for the log. Called once, at the end of
     * the turn. The connection is freed when it returns. */
    void (*closed)(void *arg, const char *why);
};

/* The largest conn_limits.in: the largest frame, its length included. */
#define CONN_IN_MAX ((size_t)(1 << 20) + 16)

/* Bounds of one connection's memory, in bytes. */
struct conn_limits {
    size_t in;  /* what `data` may leave unconsumed: the largest message, at most CONN_IN_MAX */
    size_t out; /* what conn_write may queue */
};

/* Takes over a connected, non-blocking socket (closed with the connection, also on failure), without TLS.
 * NULL if out of memory. */
struct conn *conn_new(struct loop *loop, int fd, const struct conn_limits *limits, const struct conn_ops *ops,
                      void *arg);

/* Begins to connect to an address. `context` NULL: no TLS; else `peer` is what the peer's certificate must
 * bear. NULL with *why set to text in static memory if it fails at once; later failures come as `closed`. */
struct conn *conn_dial(struct loop *loop, const struct sockaddr_storage *address, socklen_t len,
                       struct tls_context *context, const struct tls_peer *peer,
                       const struct conn_limits *limits, const struct conn_ops *ops, void *arg,
                       const char **why);

/* Gives the connection another owner, who gets all callbacks from now on; if bytes are unconsumed, `data` at
 * the end of this turn. */
void conn_set_owner(struct conn *conn, const struct conn_ops *ops, void *arg);

/* Queues bytes and sends what the socket takes; before the connection is open, it only queues. False if the
 * connection is closed or finishing, or is closed now: because the write failed, memory is out, or more than
 * limits.out would be queued, since the peer does not read. */
bool conn_write(struct conn *conn, const void *data, size_t len);

/* Sends queued bytes, then these pieces, without copying. Returns how many bytes of the pieces were taken:
 * sent, or copied to the queue as the rest of a TLS record that was begun. What was not taken stays with the
 * caller, to be given again. `writable` follows if that is not all, or if something is still queued; 0 and
 * no `writable` on a connection that is closed or finishing. */
size_t conn_writev(struct conn *conn, const struct iovec *iov, int count);

/* Stops reading, so that the kernel's buffer fills and the peer must wait. */
void conn_pause(struct conn *conn);

/* Reads again; if bytes are unconsumed, `data` comes at the end of this turn. */
void conn_resume(struct conn *conn);

/* Ends the connection now: nothing more is read or sent, `closed` comes at the end of this turn. Nothing if
 * it is closed already. */
void conn_close(struct conn *conn, const char *why);

/* Sends what is queued, at most for two seconds, then closes; closes at once if it is not open or nothing is
 * queued. Nothing more is read. */
void conn_finish(struct conn *conn, const char *why);

/* The socket, which stays the connection's, for asking the kernel who the peer is. -1: it is closed. */
int conn_fd(const struct conn *conn);

/* What a connection without TLS has beside its socket: bytes, and how many. */
struct conn_rest {
    const uint8_t *in; /* read, not consumed */
    size_t in_len;
    const uint8_t *out; /* to be sent; NULL: nothing */
    size_t out_len;
};

/* For another process that takes the socket over. The bytes stay the connection's and are valid until the
 * next call into it. False if it cannot be taken over: it is not open, or has TLS. */
bool conn_export(const struct conn *conn, struct conn_rest *rest);

/* Copies what conn_export gave elsewhere into a connection that was just made; what is unconsumed comes as
 * `data` at the end of this turn. False if it is more than a connection can hold that is paused (limits.in
 * and a read) or may send (limits.out), or if memory is out, in which case the connection is closed. */
bool conn_import(struct conn *conn, const struct conn_rest *rest);

/* Its TLS, which stays the connection's; NULL: it has none, or is closed. */
const struct tls *conn_tls(const struct conn *conn);

/* Bytes of memory that it holds for what is unconsumed and what is queued. */
size_t conn_memory(const struct conn *conn);

/* Bytes that one read takes at most; `data` gets these, behind what was left. */
#define CONN_READ_SIZE ((size_t)32 * 1024)

#endif
