/* One connection of one gimuxd: bytes and frames, with or without TLS. */
#include "client/link.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/delimited.h"

#define READ_SIZE ((size_t)64 << 10) /* asked of the socket at once, bytes */
#define IN_MAX    (DELIMITED_PREFIX_MAX + DELIMITED_FRAME_MAX)

static_assert(IN_MAX >= READ_SIZE, "a read fits the buffer");

struct link *
gimux_link_new(struct gimux_client *client, uint32_t slot, int fd, const char *peer)
{
    struct link *link = calloc(1, sizeof(*link));
    struct epoll_event event = { .events = EPOLLIN, .data.u32 = slot };

    if (link)
        link->in = malloc(READ_SIZE);
    if (link && client->tls)
        link->ssl = gimux_tls_new(client, fd, link->refusal);
    if (!link || !link->in || (client->tls && !link->ssl) ||
        epoll_ctl(client->epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        if (link) {
            SSL_free(link->ssl);
            free(link->in);
        }
        free(link);
        close(fd);
        return NULL;
    }
    link->client = client;
    link->slot = slot;
    link->serial = ++client->accepted;
    link->fd = fd;
    link->state = client->tls ? LINK_TLS : LINK_HELLO;
    link->interest = event.events;
    link->in_room = READ_SIZE;
    link->accepted_at = link->received_at = link->sent_at = gimux_now();
    snprintf(link->peer, sizeof(link->peer), "%s", peer);
    link->info = (struct gimux_connection){
        .peer = link->peer,
        .host = link->host,
        .build = link->build,
        .solution = link->solution,
        .tls = client->tls != NULL,
    };
    return link;
}

void
gimux_link_free(struct link *link)
{
    SSL_free(link->ssl);
    close(link->fd);
    free(link->in);
    free(link->out);
    free(link);
}

void
gimux_link_fail(struct link *link, enum gimux_disconnect reason, const char *format, ...)
{
    va_list args;

    if (link->state == LINK_DEAD)
        return;
    link->state = LINK_DEAD;
    link->reason = reason;
    va_start(args, format);
    vsnprintf(link->why, sizeof(link->why), format, args);
    va_end(args);
    if (reason == GIMUX_DISCONNECT_PROTOCOL)
        link->client->stats.protocol_errors++;
}

/* ---- the socket ---- */

/* What an SSL call that did not succeed means. */
static enum link_io
tls_result(struct link *link, int result)
{
    int saved = errno;
    char text[TLS_TEXT_MAX];

    switch (SSL_get_error(link->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        return LINK_IO_NONE;
    case SSL_ERROR_WANT_WRITE:
        link->tls_wants_write = true;
        return LINK_IO_NONE;
    case SSL_ERROR_ZERO_RETURN:
        return LINK_IO_END;
    case SSL_ERROR_SYSCALL:
        if (ERR_peek_error() == 0) {
            gimux_link_fail(link, GIMUX_DISCONNECT_ERROR, "%s", strerror(saved));
            return LINK_IO_DEAD;
        }
        break;
    default:
        break;
    }
    gimux_tls_explain(link->refusal, text);
    gimux_link_fail(link, GIMUX_DISCONNECT_TLS, "%s", text);
    return LINK_IO_DEAD;
}

/* Reads up to room bytes to `to`; sets *got. */
static enum link_io
receive(struct link *link, uint8_t *to, size_t room, size_t *got)
{
    ssize_t n;

    if (link->ssl) {
        ERR_clear_error();
        if (SSL_read_ex(link->ssl, to, room, got) == 1)
            return LINK_IO_SOME;
        return tls_result(link, 0);
    }
    n = recv(link->fd, to, room, MSG_DONTWAIT);
    if (n > 0) {
        *got = (size_t)n;
        return LINK_IO_SOME;
    }
    if (n == 0)
        return LINK_IO_END;
    if (errno == EAGAIN || errno == EINTR)
        return LINK_IO_NONE;
    gimux_link_fail(link, GIMUX_DISCONNECT_ERROR, "cannot read: %s", strerror(errno));
    return LINK_IO_DEAD;
}

/* Writes up to len bytes; sets *sent. */
static enum link_io
transmit(struct link *link, const uint8_t *from, size_t len, size_t *sent)
{
    ssize_t n;

    if (link->ssl) {
        ERR_clear_error();
        if (SSL_write_ex(link->ssl, from, len, sent) == 1)
            return LINK_IO_SOME;
        return tls_result(link, 0);
    }
    n = send(link->fd, from, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
        *sent = (size_t)n;
        return LINK_IO_SOME;
    }
    if (errno == EAGAIN || errno == EINTR)
        return LINK_IO_NONE;
    gimux_link_fail(link, GIMUX_DISCONNECT_ERROR, "cannot write: %s", strerror(errno));
    return LINK_IO_DEAD;
}

/* Asks epoll for what the link waits for. */
static void
set_interest(struct link *link)
{
    bool writes = link->out_at < link->out_end || link->tls_wants_write;
    struct epoll_event event = { .events = EPOLLIN | (writes ? EPOLLOUT : 0u), .data.u32 = link->slot };

    if (event.events == link->interest || link->state == LINK_DEAD)
        return;
    if (epoll_ctl(link->client->epoll, EPOLL_CTL_MOD, link->fd, &event) != 0)
        gimux_link_fail(link, GIMUX_DISCONNECT_ERROR, "epoll: %s", strerror(errno));
    link->interest = event.events;
}

void
gimux_link_check_revocation(struct link *link)
{
    char why[TLS_TEXT_MAX];

    if (link->ssl && link->state != LINK_DEAD && gimux_tls_is_revoked(link->client, link->ssl, why))
        gimux_link_fail(link, GIMUX_DISCONNECT_TLS, "%s", why);
}

bool
gimux_link_handshake(struct link *link)
{
    int result;

    ERR_clear_error();
    link->tls_wants_write = false;
    result = SSL_do_handshake(link->ssl);
    if (result == 1) {
        link->state = LINK_HELLO;
        gimux_link_check_revocation(link);
    } else if (tls_result(link, result) == LINK_IO_END) {
        gimux_link_fail(link, GIMUX_DISCONNECT_TLS, "closed during the TLS handshake");
    }
    set_interest(link);
    return link->state == LINK_HELLO;
}

/* ---- frames in ---- */

/* Makes room behind in_end: moves what is left to the front, or grows. A frame that is too long was refused
 * before its bytes could ask for this. */
static bool
make_room(struct link *link)
{
    size_t held = link->in_end - link->in_at;
    size_t room = link->in_room * 2 < IN_MAX ? link->in_room * 2 : IN_MAX;
    uint8_t *grown;

    if (link->in_at > 0) {
        memmove(link->in, link->in + link->in_at, held);
        link->in_at = 0;
        link->in_end = held;
    }
    if (held < link->in_room)
        return true;
    assert(held < IN_MAX);
    grown = realloc(link->in, room);
    if (!grown) {
        gimux_link_fail(link, GIMUX_DISCONNECT_ERROR, "out of memory");
        return false;
    }
    link->in = grown;
    link->in_room = room;
    return true;
}

enum link_io
gimux_link_read(struct link *link)
{
    enum link_io io;
    size_t got = 0;

    if (!make_room(link))
        return LINK_IO_DEAD;
    link->tls_wants_write = false;
    io = receive(link, link->in + link->in_end, link->in_room - link->in_end, &got);
    set_interest(link);
    if (link->state == LINK_DEAD)
        return LINK_IO_DEAD;
    if (io == LINK_IO_SOME) {
        link->in_end += got;
        link->client->stats.bytes_in += got;
        link->received_at = gimux_now();
    }
    return io;
}

bool
gimux_link_next(struct link *link, struct gimux_bytes *bytes, struct gimux_bytes *body)
{
    size_t max = link->state == LINK_OPEN ? DELIMITED_FRAME_MAX : LINK_HELLO_MAX;
    const uint8_t *start = link->in + link->in_at;

    switch (delimited_next(start, link->in_end - link->in_at, max, &body->data, &body->len)) {
    case DELIMITED_FRAME:
        bytes->data = start;
        bytes->len = (size_t)(body->data - start) + body->len;
        link->in_at += bytes->len;
        return true;
    case DELIMITED_MORE:
        return false;
    case DELIMITED_BAD:
        break;
    }
    gimux_link_refuse(link, "bad frame length: expected a varint up to %zu", max);
    return false;
}

/* ---- frames out ---- */

/* Makes room for `need` bytes behind out_end. */
static bool
make_out_room(struct link *link, size_t need)
{
    size_t held = link->out_end - link->out_at;
    size_t room = link->out_room ? link->out_room : 4096;
    uint8_t *grown;

    if (held + need > LINK_OUT_MAX) {
        gimux_link_fail(link, GIMUX_DISCONNECT_ERROR, "gimuxd does not read: %zu bytes wait to be sent",
                        held);
        return false;
    }
    if (link->out_at > 0) {
        memmove(link->out, link->out + link->out_at, held);
        link->out_at = 0;
        link->out_end = held;
    }
    while (room < held + need)
        room *= 2;
    if (room == link->out_room)
        return true;
    grown = realloc(link->out, room);
    if (!grown) {
        gimux_link_fail(link, GIMUX_DISCONNECT_ERROR, "out of memory");
        return false;
    }
    link->out = grown;
    link->out_room = room;
    return true;
}

void
gimux_link_send(struct link *link, Gimux__V1__Frame__BodyCase body_case, void *body)
{
    Gimux__V1__Frame frame = GIMUX__V1__FRAME__INIT;
    size_t size;

    frame.body_case = body_case;
    frame.svm_hello = body; /* the members of the union are all pointers to a message */
    size = gimux__v1__frame__get_packed_size(&frame);
    assert(size <= DELIMITED_FRAME_MAX);
    if (link->state == LINK_DEAD || !make_out_room(link, delimited_prefix_size(size) + size))
        return;
    link->out_end += delimited_put_prefix(link->out + link->out_end, size);
    link->out_end += gimux__v1__frame__pack(&frame, link->out + link->out_end);
    link->sent_at = gimux_now();
}

void
gimux_link_flush(struct link *link)
{
    size_t sent = 0;

    if (link->state < LINK_HELLO || link->state == LINK_DEAD)
        return;
    while (link->out_at < link->out_end &&
           transmit(link, link->out + link->out_at, link->out_end - link->out_at, &sent) == LINK_IO_SOME) {
        link->out_at += sent;
        link->client->stats.bytes_out += sent;
    }
    if (link->out_at == link->out_end) {
        link->out_at = link->out_end = 0;
        if (link->out_room > LINK_OUT_RELAXED) {
            free(link->out);
            link->out = NULL;
            link->out_room = 0;
        }
    }
    set_interest(link);
}

void
gimux_link_bye(struct link *link, const char *reason)
{
    Gimux__V1__Bye bye = GIMUX__V1__BYE__INIT;
    char text[LINK_WHY_MAX];

    snprintf(text, sizeof(text), "%s", reason);
    bye.reason = text;
    gimux_link_send(link, GIMUX__V1__FRAME__BODY_BYE, &bye);
    gimux_link_flush(link);
}

void
gimux_link_refuse(struct link *link, const char *format, ...)
{
    char text[LINK_WHY_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    gimux_link_bye(link, text);
    gimux_link_fail(link, GIMUX_DISCONNECT_PROTOCOL, "%s", text);
}
