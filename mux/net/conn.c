/* A connection: one opaque byte stream over a socket, with TLS inside or not, and a handful of callbacks.
 *
 * Reading. One buffer for the whole process takes what a read brings. The owner consumes whole messages from
 * it; only the rest, the beginning of a message that is not complete, is copied to memory of the
 * connection's own. So an idle connection holds no buffer, and a busy one copies at most one partial message
 * for each read. When that memory has room enough behind a long partial message, the next read goes straight
 * there, so that a peer that sends it byte by byte does not cost a copy for each byte. A peer that announces
 * a long message makes us hold no more than limits.in. A readable socket is read once, so that a peer that
 * sends without end takes its turn among the others.
 *
 * Writing (conn_write.c). There are two ways. conn_write copies small things (hellos, acknowledgements,
 * answers) to a queue. conn_writev sends pieces of somebody else's memory, after the queue, without a copy;
 * what the socket does not take stays with its owner. With TLS, a record that OpenSSL has begun must be
 * finished with the same bytes, wherever they are; these, at most one record, are copied to the queue and
 * count as taken. Pieces smaller than a record are gathered into one.
 *
 * Closing. Every end of a connection, whatever the reason, goes through conn_close: the socket is closed at
 * once, the owner is told at the end of the turn, and then the memory is freed. Until then every call is
 * harmless. */
#include "mux/net/conn.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mux/net/inner.h"

#define FINISH_MS  2000
#define DIRECT_MIN ((size_t)16384) /* room behind what is unconsumed from which on a read goes there */

void
conn_watch(struct conn *conn)
{
    unsigned events = 0;

    switch (conn->state) {
    case CONN_CONNECTING:
        events = LOOP_WRITE;
        break;
    case CONN_HANDSHAKE:
        return; /* shake_hands does that */
    case CONN_OPEN:
        if (!conn->paused || conn->read_to_write)
            events |= LOOP_READ;
        if ((conn->out_len > 0 || conn->refused) && !conn->read_to_write)
            events |= LOOP_WRITE;
        break;
    case CONN_FINISHING:
        events = LOOP_WRITE;
        break;
    case CONN_CLOSED:
        return;
    }
    loop_watch_set(conn->watch, events);
}

/* ---- reading ---- */

/* Reads once. False if nothing has come, or the connection has ended. */
static bool
read_some(struct conn *conn, uint8_t *buf, size_t cap, size_t *len)
{
    ssize_t got;

    if (conn->tls) {
        switch (tls_read(conn->tls, buf, cap, len)) {
        case TLS_DONE:
            return true;
        case TLS_WANT_READ:
        case TLS_WANT_WRITE:
            return false;
        case TLS_CLOSED:
            conn_close(conn, "the peer closed the connection");
            return false;
        case TLS_FAILED:
            break;
        }
        conn_close(conn, tls_why(conn->tls));
        return false;
    }
    got = recv(conn->fd, buf, cap, 0);
    if (got > 0) {
        *len = (size_t)got;
        return true;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    conn_close(conn, got == 0 ? "the peer closed the connection" : strerror(errno));
    return false;
}

/* Keeps what the owner did not consume. */
static bool
keep_rest(struct conn *conn, const uint8_t *rest, size_t len)
{
    if (len == 0) {
        free(conn->in);
        conn->in = NULL;
        conn->in_room = 0;
    } else if (len > conn->in_room) {
        size_t most = conn->limits.in + CONN_READ_SIZE;
        size_t room = len < DIRECT_MIN ? len : len + len / 2 + DIRECT_MIN;
        uint8_t *grown;

        if (room > most)
            room = most;
        grown = malloc(room);
        if (!grown) {
            conn_close(conn, "out of memory");
            return false;
        }
        memcpy(grown, rest, len);
        free(conn->in);
        conn->in = grown;
        conn->in_room = room;
    } else {
        assert(conn->in);
        memmove(conn->in, rest, len);
    }
    conn->in_len = len;
    return true;
}

static void
deliver(struct conn *conn, const uint8_t *buf, size_t len)
{
    size_t used = 0;

    if (len > 0 && conn->state == CONN_OPEN && !conn->paused)
        used = conn->ops.data(conn->arg, buf, len);
    if (conn->state != CONN_OPEN)
        return;
    if (!conn->paused && len - used > conn->limits.in)
        conn_close(conn, "a message longer than the limit");
    else
        keep_rest(conn, buf + used, len - used);
}

static void
on_readable(struct conn *conn)
{
    static uint8_t scratch[CONN_IN_MAX + CONN_READ_SIZE]; /* the process's one input buffer */
    uint8_t *buf = scratch;
    size_t had = conn->in_len;
    size_t room = CONN_READ_SIZE;
    size_t len = 0;

    assert(had <= conn->limits.in);
    if (conn->in_room - had >= DIRECT_MIN) {
        buf = conn->in;
        if (conn->in_room - had < room)
            room = conn->in_room - had;
    } else if (had > 0) {
        memcpy(scratch, conn->in, had);
    }
    if (read_some(conn, buf + had, room, &len))
        deliver(conn, buf, had + len);
}

/* ---- the end ---- */

/* The connection has ended; or reading continues, after a pause or with another owner, and begins with what
 * was left. */
static void
end_of_turn(void *arg)
{
    struct conn *conn = arg;

    if (conn->state != CONN_CLOSED) {
        /* That is all there is: OpenSSL reads one record at a time from the socket, and so keeps none back.
         */
        if (conn->state == CONN_OPEN && !conn->paused && conn->in_len > 0)
            deliver(conn, conn->in, conn->in_len);
        return;
    }
    conn->ops.closed(conn->arg, conn->why);
    loop_timer_free(conn->finish);
    free(conn->in);
    free(conn->out);
    free(conn);
}

void
conn_close(struct conn *conn, const char *why)
{
    if (conn->state == CONN_CLOSED)
        return;
    if (why != conn->why)
        snprintf(conn->why, sizeof(conn->why), "%s", why);
    conn->state = CONN_CLOSED;
    loop_watch_free(conn->watch);
    conn->watch = NULL;
    tls_free(conn->tls);
    conn->tls = NULL;
    close(conn->fd);
    conn->fd = -1;
    loop_defer(conn->loop, &conn->task);
}

static void
on_finish_timeout(void *arg)
{
    struct conn *conn = arg;

    conn_close(conn, conn->why);
}

void
conn_finish(struct conn *conn, const char *why)
{
    char reason[CONN_WHY_MAX];

    if (conn->state == CONN_FINISHING)
        return;
    if (conn->state != CONN_OPEN || conn->out_len == 0) {
        conn_close(conn, why);
        return;
    }
    snprintf(reason, sizeof(reason), "%s", why);
    memcpy(conn->why, reason, sizeof(reason));
    conn->state = CONN_FINISHING;
    conn->finish = loop_timer_new(conn->loop, on_finish_timeout, conn);
    if (!conn->finish) {
        conn_close(conn, reason);
        return;
    }
    loop_timer_start(conn->finish, FINISH_MS);
    conn_watch(conn);
}

/* ---- connecting ---- */

static void
opened(struct conn *conn)
{
    conn->state = CONN_OPEN;
    conn->ops.open(conn->arg);
    if (conn->state == CONN_OPEN && conn->out_len > 0)
        conn_flush(conn);
}

static void
shake_hands(struct conn *conn)
{
    conn->state = CONN_HANDSHAKE;
    switch (tls_handshake(conn->tls)) {
    case TLS_DONE:
        opened(conn);
        break;
    case TLS_WANT_READ:
        loop_watch_set(conn->watch, LOOP_READ);
        break;
    case TLS_WANT_WRITE:
        loop_watch_set(conn->watch, LOOP_WRITE);
        break;
    case TLS_CLOSED:
        conn_close(conn, "the peer closed the connection");
        break;
    case TLS_FAILED:
        conn_close(conn, tls_why(conn->tls));
        break;
    }
}

static void
on_connected(struct conn *conn)
{
    int why = 0;
    socklen_t len = sizeof(why);

    getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &why, &len);
    if (why)
        conn_close(conn, strerror(why));
    else if (conn->tls)
        shake_hands(conn);
    else
        opened(conn);
}

static void
on_ready(void *arg, unsigned events)
{
    struct conn *conn = arg;

    switch (conn->state) {
    case CONN_CONNECTING:
        on_connected(conn);
        break;
    case CONN_HANDSHAKE:
        shake_hands(conn);
        break;
    case CONN_OPEN:
    case CONN_FINISHING:
        conn->read_to_write = false;
        if (events & LOOP_WRITE || conn->out_len > 0)
            conn_flush(conn);
        if ((events & LOOP_READ) && conn->state == CONN_OPEN && !conn->paused)
            on_readable(conn);
        break;
    case CONN_CLOSED:
        return;
    }
    if (conn->state != CONN_CLOSED)
        conn_watch(conn);
}

static struct conn *
make(struct loop *loop, int fd, enum conn_state state, const struct conn_limits *limits,
     const struct conn_ops *ops, void *arg)
{
    struct conn *conn = calloc(1, sizeof(*conn));

    assert(limits->in <= CONN_IN_MAX);
    if (conn)
        conn->watch = loop_watch_new(loop, fd, on_ready, conn);
    if (!conn || !conn->watch) {
        free(conn);
        close(fd);
        return NULL;
    }
    conn->loop = loop;
    conn->fd = fd;
    conn->state = state;
    conn->limits = *limits;
    conn->ops = *ops;
    conn->arg = arg;
    conn->task = (struct loop_task){ .fn = end_of_turn, .arg = conn };
    conn_watch(conn);
    return conn;
}

struct conn *
conn_new(struct loop *loop, int fd, const struct conn_limits *limits, const struct conn_ops *ops, void *arg)
{
    return make(loop, fd, CONN_OPEN, limits, ops, arg);
}

struct conn *
conn_dial(struct loop *loop, const struct sockaddr_storage *address, socklen_t len,
          struct tls_context *context, const struct tls_peer *peer, const struct conn_limits *limits,
          const struct conn_ops *ops, void *arg, const char **why)
{
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct conn *conn;

    if (fd < 0) {
        *why = strerror(errno);
        return NULL;
    }
    /* An event does not wait for the acknowledgement of the one before. */
    if (address->ss_family == AF_INET || address->ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
    if (connect(fd, (const struct sockaddr *)address, len) != 0 && errno != EINPROGRESS) {
        *why = strerror(errno);
        close(fd);
        return NULL;
    }
    conn = make(loop, fd, CONN_CONNECTING, limits, ops, arg);
    *why = "out of memory";
    if (conn && context) {
        conn->tls = tls_new(context, fd, peer);
        if (!conn->tls) {
            loop_watch_free(conn->watch);
            close(fd);
            free(conn);
            return NULL;
        }
    }
    return conn;
}

/* ---- the rest ---- */

void
conn_set_owner(struct conn *conn, const struct conn_ops *ops, void *arg)
{
    conn->ops = *ops;
    conn->arg = arg;
    loop_defer(conn->loop, &conn->task); /* within data it is not known yet what will be left */
}

void
conn_pause(struct conn *conn)
{
    if (conn->paused || conn->state == CONN_CLOSED)
        return;
    conn->paused = true;
    conn_watch(conn);
}

void
conn_resume(struct conn *conn)
{
    if (!conn->paused || conn->state == CONN_CLOSED)
        return;
    conn->paused = false;
    conn_watch(conn);
    if (conn->in_len > 0)
        loop_defer(conn->loop, &conn->task);
}

int
conn_fd(const struct conn *conn)
{
    return conn->fd;
}

bool
conn_export(const struct conn *conn, struct conn_rest *rest)
{
    *rest = (struct conn_rest){ .in = conn->in,
                                .in_len = conn->in_len,
                                .out = conn->out_len > 0 ? conn->out + conn->out_at : NULL,
                                .out_len = conn->out_len };
    return conn->state == CONN_OPEN && !conn->tls;
}

bool
conn_import(struct conn *conn, const struct conn_rest *rest)
{
    assert(conn->state == CONN_OPEN && conn->in_len == 0 && conn->out_len == 0);
    /* one that is paused holds what the last read brought, too */
    if (rest->in_len > conn->limits.in + CONN_READ_SIZE || rest->out_len > conn->limits.out)
        return false;
    if ((rest->in_len > 0 && !keep_rest(conn, rest->in, rest->in_len)) ||
        (rest->out_len > 0 && !conn_queue(conn, rest->out, rest->out_len)))
        return false;
    conn_watch(conn);
    if (conn->in_len > 0)
        loop_defer(conn->loop, &conn->task);
    return true;
}

const struct tls *
conn_tls(const struct conn *conn)
{
    return conn->tls;
}

size_t
conn_memory(const struct conn *conn)
{
    return conn->in_room + conn->out_room;
}
