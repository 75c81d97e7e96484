/* A relay before an SVM: gimuxd dials it, and it dials the SVM's client, so that the link between them can be
 * slow, stand still, be cut at any byte, or be reset, without either end knowing. */
#ifndef GIMUX_CHAOS_RELAY_H
#define GIMUX_CHAOS_RELAY_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RELAY_PAIRS  4
#define RELAY_BUFFER (32u << 10)
#define RELAY_POLLS  (1 + 2 * RELAY_PAIRS)

struct relay_way { /* one direction */
    uint8_t bytes[RELAY_BUFFER];
    size_t at, end;
};

struct relay_pair {
    int mux; /* -1: the pair is free */
    int svm;
    struct relay_way down; /* gimuxd to SVM */
    struct relay_way up;
};

struct relay {
    int listener;
    uint16_t port;   /* that gimuxd dials */
    uint16_t target; /* the client's; 0: there is none, and connections are refused */
    struct relay_pair pairs[RELAY_PAIRS];
    bool stopped;     /* nothing passes */
    bool deaf;        /* what the SVM says does not pass: no acknowledgement */
    uint64_t rate;    /* bytes a second towards the SVM; 0: as they come */
    uint64_t credit;  /* bytes that may pass now, with a rate */
    int64_t credited; /* when that was last added to */
    int64_t cut_down; /* bytes towards the SVM until the link is reset; -1: none */
    int64_t cut_up;
    uint64_t resets;
};

/* A loopback address of this process's own, as text, so that nobody else's gimuxd dials a port of ours by
 * mistake. */
const char *relay_host(void);

/* Listens on a free port of that address. False with a message if that fails. */
bool relay_open(struct relay *relay);
void relay_close(struct relay *relay);

/* Ends all connections, with a reset (RST) or as if both ends had closed. */
void relay_cut(struct relay *relay, bool reset);

/* What to poll for, at most RELAY_POLLS. Returns how many. */
unsigned relay_poll(struct relay *relay, struct pollfd *out);

/* Takes and passes what there is. */
void relay_turn(struct relay *relay, int64_t now);

#endif
