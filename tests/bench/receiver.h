/* The receivers: SVMs that read events and check their order, one thread for all of them, the same for every
 * system. */
#ifndef GIMUX_BENCH_RECEIVER_H
#define GIMUX_BENCH_RECEIVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/bench/histogram.h"

#define RECEIVERS_MAX   16
#define RECEIVER_BUFFER (128u << 10)

struct ssl_st;
struct receiver;

/* What a system says: calls receiver_event for each event in data, which begins with a whole message; sets
 * receiver->wrong if it cannot be read. Returns how many bytes it has used. */
typedef size_t receiver_take(struct receiver *receiver, const uint8_t *data, size_t len);

/* Acknowledges what was taken. */
typedef void receiver_ack(struct receiver *receiver);

struct receiver {
    int fd;
    unsigned index;
    struct ssl_st *ssl; /* NULL: plain */
    uint8_t *buf;       /* RECEIVER_BUFFER */
    size_t len;
    void *state;      /* the system's own */
    uint64_t *next;   /* of each producer: the sequence that comes next */
    uint32_t sources; /* producers */
    uint64_t now;     /* when the bytes at hand came */
    uint64_t unacked; /* events */
    uint64_t ack_due; /* when they are acknowledged at the latest; 0: nothing to acknowledge */
    uint64_t lost, reordered;
    const char *wrong; /* what cannot be read, or NULL */
    bool timed;
    struct histogram latency;
    _Atomic uint64_t count;   /* events */
    _Atomic uint64_t last_at; /* when the last of them came, by wire_clock */
};

struct receivers {
    struct receiver all[RECEIVERS_MAX];
    unsigned count;
    receiver_take *take;
    receiver_ack *ack; /* NULL: the system takes none */
    unsigned ack_us;   /* acknowledgements wait so long for more, 256 events at most */
    pthread_t thread;
    int poller;
    _Atomic bool timed; /* latencies are counted */
    _Atomic bool ends;
    _Atomic bool broken; /* a connection ended, or something cannot be read */
};

/* Makes `count` receivers without connections, for so many producers. Aborts without memory. */
void receivers_init(struct receivers *receivers, unsigned count, uint32_t sources);
void receivers_fini(struct receivers *receivers);

/* Starts the thread; all are connected, their sockets do not wait. */
bool receivers_start(struct receivers *receivers);
void receivers_stop(struct receivers *receivers);

/* One read. Bytes, 0 if there are none now, -1 at the end. */
ssize_t receiver_read(struct receiver *receiver, void *out, size_t room);

/* All of it. False if the connection ended. */
bool receiver_write(struct receiver *receiver, const void *data, size_t len);

/* An event has come. */
static inline void
receiver_event(struct receiver *receiver, uint32_t source, uint64_t sequence, uint64_t time, uint64_t *count)
{
    uint64_t *next;

    if (source >= receiver->sources) {
        receiver->wrong = "an event of a producer that there is not";
        return;
    }
    next = &receiver->next[source];
    if (sequence == *next)
        *next = sequence + 1;
    else if (sequence > *next) {
        receiver->lost += sequence - *next;
        *next = sequence + 1;
    } else
        receiver->reordered++;
    ++*count;
    if (receiver->timed)
        histogram_add(&receiver->latency, receiver->now > time ? receiver->now - time : 0);
}

#endif
