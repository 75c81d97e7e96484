/* A connection: one opaque byte stream over a socket, with TLS inside or not, and a handful of callbacks.
 *
 * Reading. One buffer for the whole process takes what a read brings; the owner consumes whole messages from
 * it, and only what is left of a message that has not come to its end is kept, in memory of the connection's
 * own. So an idle connection holds no buffer, and a busy one copies at most one partial message a read. What
 * follows a long one is read to where it is, so that a peer that sends it byte by byte costs no copy a byte.
 * A peer that says "my message is long" makes us hold no more than limits.in. One read a readiness: a peer
 * that sends without end takes its turn among the others.
 *
 * Writing. Two ways. conn_write copies small things (hellos, acknowledgements, answers) to a queue.
 * conn_writev sends pieces of somebody else's memory, after the queue, and copies nothing; what the socket
 * does not take stays there. With TLS a record that OpenSSL has begun must be finished with the same bytes,
 * wherever they are; these, at most one record, are copied to the queue and count as taken. Pieces smaller
 * than a record are gathered into one.
 *
 * Closing. Whoever ends a connection, for whatever reason, comes through conn_close: the socket is closed at
 * once, the owner hears of it at the end of the turn, and the memory goes with that. Until then every call is
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

#define FINISH_MS   2000
#define TLS_RECORD  ((size_t)16384)
#define DIRECT_MIN  TLS_RECORD /* room behind what is unconsumed in which a read is worth it */
#define WHY_MAX     256
#define WRITE_PARTS 66 /* pieces that one sendmsg takes: the queue and what a caller gives */

enum conn_state {
    CONN_CONNECTING, /* the kernel is connecting */
    CONN_HANDSHAKE,  /* TLS is */
    CONN_OPEN,
    CONN_FINISHING, /* sends its queue, reads nothing */
    CONN_CLOSED,    /* waits for the end of the turn */
};

struct conn {
    struct loop *loop;
    struct loop_watch *watch;
    struct loop_task task; /* closed, or data for a new owner */
    struct loop_timer *finish;
    struct tls *tls;
    struct conn_ops ops;
    void *arg;
    struct conn_limits limits;
    int fd;
    enum conn_state state;
    bool paused;
    bool refused;       /* conn_writev took less than it was given */
    bool read_to_write; /* TLS must read before it can write */
    uint8_t *in;        /* unconsumed */
    size_t in_len;
    size_t in_room;
    uint8_t *out; /* queued */
    size_t out_at;
    size_t out_len;
    size_t out_room;
    char why[WHY_MAX];
};

static void on_ready(void *arg, unsigned events);
static void take_up(struct conn *conn);

static void
watch_for(struct conn *conn)
{
    unsigned events = 0;

    switch (conn->state) {
    case CONN_CONNECTING:
        events = LOOP_WRITE;
        break;
    case CONN_HANDSHAKE:
        return; /* the handshake says itself */
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

/* ---- the end ---- */

static void
end_of_turn(void *arg)
{
    struct conn *conn = arg;

    if (conn->state != CONN_CLOSED) {
        take_up(conn);
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
    char reason[WHY_MAX];

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
    watch_for(conn);
}

/* ---- reading ---- */

enum io { IO_SOME, IO_NONE, IO_ENDED };

static enum io
read_some(struct conn *conn, uint8_t *buf, size_t cap, size_t *len)
{
    ssize_t got;

    if (conn->tls) {
        switch (tls_read(conn->tls, buf, cap, len)) {
        case TLS_DONE:
            return IO_SOME;
        case TLS_WANT_READ:
        case TLS_WANT_WRITE:
            return IO_NONE;
        case TLS_CLOSED:
            conn_close(conn, "the peer closed the connection");
            return IO_ENDED;
        case TLS_FAILED:
            break;
        }
        conn_close(conn, tls_why(conn->tls));
        return IO_ENDED;
    }
    got = recv(conn->fd, buf, cap, 0);
    if (got > 0) {
        *len = (size_t)got;
        return IO_SOME;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return IO_NONE;
    conn_close(conn, got == 0 ? "the peer closed the connection" : strerror(errno));
    return IO_ENDED;
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

/* Hands bytes to the owner until it consumes no more. */
static void
deliver(struct conn *conn, const uint8_t *buf, size_t len)
{
    size_t used = 0;

    while (used < len && conn->state == CONN_OPEN && !conn->paused) {
        size_t took = conn->ops.data(conn->arg, buf + used, len - used);

        if (took == 0)
            break;
        used += took;
    }
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
    switch (read_some(conn, buf + had, room, &len)) {
    case IO_SOME:
        deliver(conn, buf, had + len);
        break;
    case IO_NONE:
    case IO_ENDED:
        break;
    }
}

/* Reading goes on after a pause, or with another owner: with what was left. OpenSSL holds nothing back: it
 * reads one record from the socket at a time. */
static void
take_up(struct conn *conn)
{
    if (conn->state == CONN_OPEN && !conn->paused && conn->in_len > 0)
        deliver(conn, conn->in, conn->in_len);
}

/* ---- writing ---- */

static bool
queue(struct conn *conn, const uint8_t *data, size_t len)
{
    if (conn->out_len + len > conn->out_room - conn->out_at) {
        size_t room = conn->out_len + len;
        uint8_t *grown;

        if (room <= conn->out_room) {
            memmove(conn->out, conn->out + conn->out_at, conn->out_len);
        } else {
            room += room / 2;
            grown = malloc(room);
            if (!grown) {
                conn_close(conn, "out of memory");
                return false;
            }
            if (conn->out_len > 0)
                memcpy(grown, conn->out + conn->out_at, conn->out_len);
            free(conn->out);
            conn->out = grown;
            conn->out_room = room;
        }
        conn->out_at = 0;
    }
    assert(conn->out);
    memcpy(conn->out + conn->out_at + conn->out_len, data, len);
    conn->out_len += len;
    return true;
}

static void
unqueue(struct conn *conn, size_t len)
{
    conn->out_at += len;
    conn->out_len -= len;
    if (conn->out_len == 0) {
        free(conn->out);
        conn->out = NULL;
        conn->out_at = conn->out_room = 0;
    }
}

static size_t
write_plain(struct conn *conn, const struct iovec *iov, int count)
{
    struct iovec parts[WRITE_PARTS];
    struct msghdr message = { .msg_iov = parts };
    size_t queued = conn->out_len;
    ssize_t sent;

    if (queued > 0)
        parts[message.msg_iovlen++] = (struct iovec){ conn->out + conn->out_at, queued };
    for (int i = 0; i < count && message.msg_iovlen < WRITE_PARTS; i++)
        parts[message.msg_iovlen++] = iov[i];
    if (message.msg_iovlen == 0)
        return 0;
    sent = sendmsg(conn->fd, &message, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN && errno != EINTR)
            conn_close(conn, strerror(errno));
        return 0;
    }
    if ((size_t)sent <= queued) {
        if (queued > 0)
            unqueue(conn, (size_t)sent);
        return 0;
    }
    if (queued > 0)
        unqueue(conn, queued);
    return (size_t)sent - queued;
}

/* A peer that turns us away says why, then closes, and our next write fails: what it said is still to be
 * read. */
static void
close_failed_write(struct conn *conn)
{
    char why[WHY_MAX];
    uint8_t byte;
    size_t len;

    snprintf(why, sizeof(why), "%s", tls_why(conn->tls));
    conn_close(conn, tls_read(conn->tls, &byte, 1, &len) == TLS_FAILED ? tls_why(conn->tls) : why);
}

/* One SSL_write. Returns whether all of it was taken; on false *taken may still be more than 0. */
static bool
write_record(struct conn *conn, const uint8_t *data, size_t len, size_t *taken)
{
    *taken = 0;
    switch (tls_write(conn->tls, data, len, taken)) {
    case TLS_DONE:
        return *taken == len;
    case TLS_WANT_READ:
        conn->read_to_write = true;
        return false;
    case TLS_WANT_WRITE:
        return false;
    case TLS_CLOSED:
        conn_close(conn, "the peer closed the connection");
        return false;
    case TLS_FAILED:
        break;
    }
    close_failed_write(conn);
    return false;
}

static bool
flush_tls(struct conn *conn)
{
    while (conn->out_len > 0) {
        size_t len = conn->out_len < TLS_RECORD ? conn->out_len : TLS_RECORD;
        size_t taken;
        bool all = write_record(conn, conn->out + conn->out_at, len, &taken);

        if (taken > 0)
            unqueue(conn, taken);
        if (!all)
            return false;
    }
    return true;
}

/* Takes the next record's bytes from the pieces: where they are, if one piece fills it, else gathered in
 * `record`. */
static const uint8_t *
next_record(const struct iovec *iov, int count, int *index, size_t *offset, uint8_t record[TLS_RECORD],
            size_t *len)
{
    size_t left = iov[*index].iov_len - *offset;
    const uint8_t *data = (const uint8_t *)iov[*index].iov_base + *offset;

    *len = 0;
    if (left >= TLS_RECORD || *index + 1 == count) {
        *len = left < TLS_RECORD ? left : TLS_RECORD;
        *offset += *len;
        return data;
    }
    while (*index < count && *len < TLS_RECORD) {
        left = iov[*index].iov_len - *offset;
        if (left > TLS_RECORD - *len)
            left = TLS_RECORD - *len;
        memcpy(record + *len, (const uint8_t *)iov[*index].iov_base + *offset, left);
        *len += left;
        *offset += left;
        if (*offset == iov[*index].iov_len) {
            (*index)++;
            *offset = 0;
        }
    }
    return record;
}

static size_t
write_tls(struct conn *conn, const struct iovec *iov, int count)
{
    uint8_t record[TLS_RECORD];
    size_t total = 0;
    size_t offset = 0;
    int index = 0;

    if (!flush_tls(conn))
        return 0;
    while (index < count) {
        size_t len;
        size_t taken;
        const uint8_t *data;

        if (offset == iov[index].iov_len) {
            index++;
            offset = 0;
            continue;
        }
        data = next_record(iov, count, &index, &offset, record, &len);
        if (!write_record(conn, data, len, &taken)) {
            /* Begun or not, these bytes come first next time. */
            if (conn->state == CONN_CLOSED || !queue(conn, data + taken, len - taken))
                return total + taken;
            return total + len;
        }
        total += len;
    }
    return total;
}

size_t
conn_writev(struct conn *conn, const struct iovec *iov, int count)
{
    size_t total = 0;
    size_t taken = 0;

    for (int i = 0; i < count; i++)
        total += iov[i].iov_len;
    if (conn->state == CONN_OPEN && !conn->read_to_write)
        taken = conn->tls ? write_tls(conn, iov, count) : write_plain(conn, iov, count);
    conn->refused = taken < total || conn->out_len > 0;
    if (conn->state != CONN_CLOSED)
        watch_for(conn);
    return taken;
}

bool
conn_write(struct conn *conn, const void *data, size_t len)
{
    size_t taken = 0;

    if (conn->state == CONN_CLOSED || conn->state == CONN_FINISHING)
        return false;
    if (conn->out_len + len > conn->limits.out) {
        conn_close(conn, "the peer does not read what it is sent");
        return false;
    }
    if (conn->state == CONN_OPEN && !conn->tls)
        taken = write_plain(conn, &(struct iovec){ (void *)data, len }, 1);
    if (taken < len && conn->state != CONN_CLOSED)
        queue(conn, (const uint8_t *)data + taken, len - taken);
    if (conn->state == CONN_OPEN && conn->tls && !conn->read_to_write)
        flush_tls(conn);
    if (conn->state == CONN_CLOSED)
        return false;
    watch_for(conn);
    return true;
}

static void
on_writable(struct conn *conn)
{
    if (conn->tls)
        flush_tls(conn);
    else
        write_plain(conn, NULL, 0);
    if (conn->state == CONN_CLOSED || conn->out_len > 0)
        return;
    if (conn->state == CONN_FINISHING) {
        conn_close(conn, conn->why);
    } else if (conn->refused) {
        conn->refused = false;
        conn->ops.writable(conn->arg);
    }
}

/* ---- connecting ---- */

static void
opened(struct conn *conn)
{
    conn->state = CONN_OPEN;
    conn->ops.open(conn->arg);
    if (conn->state == CONN_OPEN && conn->out_len > 0)
        on_writable(conn);
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
            on_writable(conn);
        if ((events & LOOP_READ) && conn->state == CONN_OPEN && !conn->paused)
            on_readable(conn);
        break;
    case CONN_CLOSED:
        return;
    }
    if (conn->state != CONN_CLOSED)
        watch_for(conn);
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
    watch_for(conn);
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
conn_set_first(struct conn *conn)
{
    if (conn->state != CONN_CLOSED)
        loop_watch_first(conn->watch);
}

void
conn_pause(struct conn *conn)
{
    if (conn->paused || conn->state == CONN_CLOSED)
        return;
    conn->paused = true;
    watch_for(conn);
}

void
conn_resume(struct conn *conn)
{
    if (!conn->paused || conn->state == CONN_CLOSED)
        return;
    conn->paused = false;
    watch_for(conn);
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
    if (rest->in_len > conn->limits.in || rest->out_len > conn->limits.out)
        return false;
    if ((rest->in_len > 0 && !keep_rest(conn, rest->in, rest->in_len)) ||
        (rest->out_len > 0 && !queue(conn, rest->out, rest->out_len)))
        return false;
    watch_for(conn);
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
