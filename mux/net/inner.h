/* What the files of this room share, and nobody else includes: a connection's insides. */
#ifndef GIMUX_NET_INNER_H
#define GIMUX_NET_INNER_H

#include "mux/net/conn.h"

#define CONN_WHY_MAX 256 /* bytes of a reason for the end, NUL included */

enum conn_state {
    CONN_CONNECTING, /* the kernel connects; what is written is queued */
    CONN_HANDSHAKE,  /* TLS shakes hands; the same */
    CONN_OPEN,       /* reads, unless it is paused, and sends */
    CONN_FINISHING,  /* sends its queue, reads nothing, takes no more */
    CONN_CLOSED,     /* has no socket; is freed at the end of the turn */
};

struct conn {
    struct loop *loop;
    struct loop_watch *watch;
    struct loop_task task;     /* for the end of the turn: `closed`, or `data` for what is left */
    struct loop_timer *finish; /* NULL: it is not finishing */
    struct tls *tls;           /* NULL: plain */
    struct conn_ops ops;
    void *arg;
    struct conn_limits limits;
    int fd;
    enum conn_state state;
    bool paused;
    bool refused;       /* conn_writev left something behind: the owner waits for `writable` */
    bool read_to_write; /* TLS must read before it can write */
    uint8_t *in;        /* unconsumed; NULL: nothing */
    size_t in_len;
    size_t in_room;
    uint8_t *out;  /* queued; NULL: nothing */
    size_t out_at; /* where in `out` it begins */
    size_t out_len;
    size_t out_room;
    char why[CONN_WHY_MAX];
};

/* Has the socket watched for what the state needs. Nothing if it is closed. */
void conn_watch(struct conn *conn);

/* Copies bytes to the end of the queue. False if memory is out: the connection is then closed. */
bool conn_queue(struct conn *conn, const uint8_t *data, size_t len);

/* Sends what is queued. When all of it is sent, a connection that is finishing is closed, and the owner of
 * an open one is told if conn_writev had left something behind. */
void conn_flush(struct conn *conn);

#endif
