/* The systems that are measured side by side: how each is started, how producers and receivers join it, and
 * what its messages look like on the wire. Producers and receivers are the same code for all. */
#ifndef GIMUX_BENCH_SYSTEM_H
#define GIMUX_BENCH_SYSTEM_H

#include <stdbool.h>
#include <string.h>

#include "tests/bench/process.h"
#include "tests/bench/producer.h"
#include "tests/bench/receiver.h"
#include "tests/bench/tape.h"

struct run;

struct system {
    const char *name;
    const char *text;
    const char *program; /* that it needs, or NULL; "@NAME" is one beside the benchmark itself */
    bool filetime;       /* reads the time of Windows records */
    bool durable, tls;   /* gimuxd only */

    /* Writes its configuration and starts it. */
    bool (*start)(struct run *run);
    /* Connects and goes through the opening, waiting. Sets fd. All receivers join before the first producer.
     */
    bool (*join_receiver)(struct run *run, struct receiver *receiver);
    bool (*join_producer)(struct run *run, struct producer *producer);

    tape_wrap *wrap;
    producer_listen *listen; /* NULL: it acknowledges nothing to producers */
    receiver_take *take;
    receiver_ack *ack; /* NULL: it takes no acknowledgements */
};

/* All of them, ended by NULL; the first is the limit. */
extern const struct system *const systems[];

extern const struct system system_limit, system_gimuxd, system_gimuxd_process, system_gimuxd_tls,
    system_redis, system_nats, system_jetstream, system_zeromq;

/* Whether what it needs is installed. */
bool system_is_there(const struct system *system, const char *programs);

/* The wrap of systems whose messages are records, with nothing in front or behind. */
static inline size_t
system_wrap_nothing(const uint8_t *record, size_t len, uint8_t *out, uint32_t *head, uint32_t *tag)
{
    (void)head;
    (void)tag;
    memcpy(out, record, len);
    return len;
}

/* Counts the record that begins at data and has all of its bytes there: for systems that deliver records as
 * they are. */
static inline void
system_record(struct receiver *receiver, const uint8_t *data, uint64_t *count)
{
    uint16_t flags;
    uint64_t sequence, time;

    memcpy(&flags, data + 6, sizeof(flags));
    memcpy(&sequence, data + 8, sizeof(sequence));
    memcpy(&time, data + 16, sizeof(time));
    receiver_event(receiver, flags >> 1, sequence, time, count);
}

#endif
