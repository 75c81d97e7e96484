/* One connection of one gimuxd: bytes and frames, with or without TLS. What the frames mean is session's. */
#ifndef GIMUX_CLIENT_LINK_H
#define GIMUX_CLIENT_LINK_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/context.h"
#include "client/tls.h"

#define LINK_HELLO_MAX   ((size_t)64 << 10)  /* largest frame before the handshake is done, bytes */
#define LINK_OUT_MAX     ((size_t)2 << 20)   /* bytes that may wait to be sent, else gimuxd does not read */
#define LINK_OUT_RELAXED ((size_t)64 << 10)  /* acknowledgements wait while more than this does */
#define LINK_TEXT_MAX    128                 /* kept of each text of MuxHello, NUL included */
#define LINK_WHY_MAX     (TLS_TEXT_MAX + 32) /* room for why a link ended, NUL included */

enum link_state {
    LINK_TLS,   /* TLS handshake */
    LINK_HELLO, /* MuxHello is awaited */
    LINK_OPEN,  /* frames flow */
    LINK_DEAD,  /* to be closed and freed at the end of this dispatch */
};

struct link {
    struct gimux_client *client;
    int fd;
    uint32_t slot;   /* in client->links */
    uint64_t serial; /* counts the client's links: a newer one's is higher */
    enum link_state state;
    bool ready;     /* epoll has reported it */
    bool more;      /* whole frames may be waiting in `in` */
    bool connected; /* on_connect was called */
    enum gimux_disconnect reason;
    char why[LINK_WHY_MAX];

    SSL *ssl; /* NULL: plain */
    char refusal[TLS_TEXT_MAX];
    uint32_t interest; /* what epoll is asked for */
    bool tls_wants_write;

    uint8_t *in; /* bytes received, in_at..in_end not handled yet */
    size_t in_at, in_end, in_room;
    uint8_t *out; /* bytes to be sent: out_at..out_end */
    size_t out_at, out_end, out_room;

    int64_t accepted_at; /* gimux_now */
    int64_t received_at;
    int64_t sent_at;

    struct gimux_connection info; /* its texts: */
    char peer[ADDRESS_TEXT_MAX], host[LINK_TEXT_MAX], build[LINK_TEXT_MAX], solution[LINK_TEXT_MAX];

    struct link_stream *streams; /* session's: by number */
    struct link_stream *dirty;   /* session's: those with something to acknowledge */
    unsigned unacked;            /* events and gaps since the last Ack */
};

enum link_io {
    LINK_IO_SOME, /* something was read */
    LINK_IO_NONE, /* nothing is there now */
    LINK_IO_END,  /* gimuxd has closed its end */
    LINK_IO_DEAD, /* the link was failed */
};

/* Takes an accepted socket (which it then owns) into the slot of the client; TLS if client->tls. Returns NULL
 * if memory or descriptors ran out; the socket is closed then. */
struct link *gimux_link_new(struct gimux_client *client, uint32_t slot, int fd, const char *peer);

/* Closes and frees. session must have let go of its parts. */
void gimux_link_free(struct link *link);

/* Ends the link: it is dead from here on, and freed at the end of the dispatch. The first reason counts. */
void gimux_link_fail(struct link *link, enum gimux_disconnect reason, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Ends the link if gimuxd's certificate is revoked by the lists in force. */
void gimux_link_check_revocation(struct link *link);

/* Goes on with the TLS handshake. Returns whether it is done (state LINK_HELLO). */
bool gimux_link_handshake(struct link *link);

/* Reads once into the buffer. */
enum link_io gimux_link_read(struct link *link);

/* Takes the next whole frame out of the buffer: bytes with its length prefix, body without; they live until
 * the next gimux_link_read. Returns false if there is none, or the link was failed for a bad length. */
bool gimux_link_next(struct link *link, struct gimux_bytes *bytes, struct gimux_bytes *body);

/* Queues a frame of that body (a message of the kind that body_case names); fails the link if too much waits
 * already. */
void gimux_link_send(struct link *link, Gimux__V1__Frame__BodyCase body_case, void *body);

/* Queues and sends Bye. */
void gimux_link_bye(struct link *link, const char *reason);

/* Ends the link because gimuxd broke the protocol; Bye says why. */
void gimux_link_refuse(struct link *link, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Sends what is queued, as far as the socket takes it, and asks epoll for what is left. */
void gimux_link_flush(struct link *link);

#endif
