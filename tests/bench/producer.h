/* The producers: drivers that write events, one thread for all of them, the same for every system. */
#ifndef GIMUX_BENCH_PRODUCER_H
#define GIMUX_BENCH_PRODUCER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/bench/tape.h"

struct producer {
    int fd;
    uint32_t id;
    const struct tape *tape;
    uint64_t next;  /* sequence, from 1 */
    uint64_t acked; /* sequences up to this one are acknowledged; without acknowledgements unused */
    bool blocked;   /* the socket took no more */
    char tag[TAPE_TAG + 1];
    uint8_t *rest; /* of an event that the socket took in part */
    size_t rest_len;
    uint8_t in[512]; /* of what the system says */
    size_t in_len;
};

/* Looks at what the system has said: moves producer->acked. Returns how many bytes it has used. */
typedef size_t producer_listen(struct producer *producer, const uint8_t *data, size_t len);

enum producer_phase { PRODUCE_NOTHING, PRODUCE, PRODUCE_END };

struct producers {
    struct producer *all;
    uint32_t count;
    unsigned burst;          /* events in one write */
    unsigned rate;           /* events a second of all of them; 0: as many as the system takes */
    uint64_t window;         /* bytes that one of them may have unacknowledged */
    producer_listen *listen; /* NULL: the system acknowledges nothing */
    pthread_t thread;
    int poller;
    uint64_t began;  /* of pacing */
    uint64_t paced;  /* events sent since */
    uint32_t turn;   /* whose turn it is */
    uint64_t polled; /* when the sockets were last looked at */
    _Atomic enum producer_phase phase;
    _Atomic bool quiet;     /* in PRODUCE_NOTHING: all that was begun is written */
    _Atomic bool all_acked; /* and acknowledged */
    _Atomic bool broken;    /* a connection ended */
};

/* Starts the thread; the producers are connected, their sockets do not wait. */
bool producers_start(struct producers *producers);
void producers_stop(struct producers *producers);

/* Events written so far; only while it is quiet. */
uint64_t producers_sent(const struct producers *producers);

#endif
