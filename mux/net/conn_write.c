/* What a connection sends: the queue, and pieces of somebody else's memory, plain or in TLS records. The
 * theory is at the top of conn.c. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "mux/net/inner.h"

#define TLS_RECORD  ((size_t)16384)
#define WRITE_PARTS 66 /* pieces that one sendmsg takes: the queue and what a caller gives */

bool
conn_queue(struct conn *conn, const uint8_t *data, size_t len)
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

/* One SSL_write. Returns whether all of it was taken; on false *taken may still be more than 0. */
static bool
write_record(struct conn *conn, const uint8_t *data, size_t len, size_t *taken)
{
    char why[CONN_WHY_MAX];
    uint8_t byte;
    size_t got;

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
    /* A peer that refuses us says why and closes, and our next write fails: read what it said. */
    snprintf(why, sizeof(why), "%s", tls_why(conn->tls));
    conn_close(conn, tls_read(conn->tls, &byte, 1, &got) == TLS_FAILED ? tls_why(conn->tls) : why);
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
            if (conn->state == CONN_CLOSED || !conn_queue(conn, data + taken, len - taken))
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
        conn_watch(conn);
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
        conn_queue(conn, (const uint8_t *)data + taken, len - taken);
    if (conn->state == CONN_OPEN && conn->tls && !conn->read_to_write)
        flush_tls(conn);
    if (conn->state == CONN_CLOSED)
        return false;
    conn_watch(conn);
    return true;
}

void
conn_flush(struct conn *conn)
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
