/* A driver of one VM: numbers its events, keeps them until they are acknowledged, and sends them again after
 * a break, as docs/guest-protocol.md wants it. It never drops an event. Its connection can be cut at any
 * byte. */
#ifndef GIMUX_CHAOS_DRIVER_H
#define GIMUX_CHAOS_DRIVER_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/chaos/ledger.h"

#define DRIVER_HELD_MAX 1024 /* events kept; then no new one happens until some are acknowledged */
#define DRIVER_OUT_MAX  (256u << 10)
#define DRIVER_IN_MAX   (16u << 10)

enum driver_state { DRIVER_DOWN, DRIVER_GREETING, DRIVER_OPEN };

struct driver {
    struct stream *stream; /* of the present boot */
    const char *path;      /* gimuxd's shared socket */
    struct tally *tally;
    uint16_t kind; /* enum gr_driver */
    enum driver_state state;
    int fd;           /* -1: none */
    int64_t retry_at; /* when it connects again */
    int64_t spoke_at;
    uint64_t next;                   /* to be sent on this connection */
    uint64_t window;                 /* bytes */
    uint64_t flight;                 /* bytes of held events below next */
    bool waits;                      /* the next one does not fit the window */
    uint32_t sizes[DRIVER_HELD_MAX]; /* of held events' records, by sequence */
    uint8_t *out;
    size_t out_at, out_end;
    uint8_t in[DRIVER_IN_MAX];
    size_t in_len;
    int64_t cut_out; /* bytes that are still sent before the connection is cut; -1: no cut */
    int64_t cut_in;  /* the same for bytes that are read */
    uint64_t cuts;   /* that happened */
    uint64_t breaks; /* connections that ended otherwise, once they were open */
    uint64_t hellos; /* connections that were begun */
    /* An ACK has come, and stream->acked is not yet what it says. */
    void (*acked)(void *arg, struct stream *stream, uint64_t sequence, uint16_t level);
    void *arg;
};

void driver_init(struct driver *driver, uint32_t vm, uint16_t kind, const char *path, struct tally *tally);
void driver_fini(struct driver *driver);

/* One more event happens, if there is room to keep it. Returns whether. */
bool driver_make(struct driver *driver);

/* The guest boots again: another stream. Everything must be acknowledged. */
void driver_boot(struct driver *driver);

/* Everything that was made is acknowledged. */
bool driver_is_done(const struct driver *driver);

/* Closes the connection now; it comes again by itself. */
void driver_cut(struct driver *driver);

/* What to poll for. fd -1: nothing. */
struct pollfd driver_poll(const struct driver *driver);

/* Does what is due. */
void driver_turn(struct driver *driver, short revents, int64_t now);

#endif
