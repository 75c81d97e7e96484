/* How far this SVM is in each stream, over all connections: the table that makes a resume possible. Pure: no
 * socket, no callback. */
#ifndef GIMUX_CLIENT_POSITION_H
#define GIMUX_CLIENT_POSITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/gimux_client.h"

/* A failed allocation in a table is reported to the caller instead of ending the process. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define POSITION_UUID_TEXT 37  /* a written UUID and its NUL */
#define POSITION_TEXT_MAX  128 /* kept of driver_build and guest_os, NUL included */

struct link_stream;

/* What identifies a stream across connections and restarts. Zero all of it first: it is compared as bytes. */
struct position_key {
    char vm_uuid[POSITION_UUID_TEXT];
    char boot_id[POSITION_UUID_TEXT];
    uint32_t driver;
};

/* One stream. Invariant: acked <= delivered. */
struct position {
    struct gimux_stream stream; /* what the caller sees; first, so that the one is the other */
    struct position_key key;
    char driver_build[POSITION_TEXT_MAX];
    char guest_os[POSITION_TEXT_MAX];
    uint64_t delivered;        /* everything up to here was given to the caller, or was not for it */
    uint64_t acked;            /* everything up to here is acknowledged: what is offered after a break */
    uint64_t ended;            /* 0: not ended; else counts StreamEnds: the smaller, the earlier */
    struct link_stream *route; /* the newest connection's view of it, NULL if none brings it now */
    UT_hash_handle hh;
};

struct positions {
    struct position *table; /* uthash; in the order in which they came */
    size_t max;             /* entries */
    uint64_t ends;          /* streams that have ended so far */
};

/* Whether text is a UUID in lower-case 8-4-4-4-12 form. */
bool gimux_position_is_uuid(const char *text);

/* The stream of that key, or NULL. */
struct position *gimux_position_find(struct positions *positions, const struct position_key *key);

/* Adds a stream, all that comes before `first` counting as had. Returns NULL if the table is full (make room
 * with gimux_position_victim and gimux_position_remove) or memory ran out. */
struct position *gimux_position_add(struct positions *positions, const struct position_key *key,
                                    uint64_t first);

/* The stream to forget when the table is full: the one that ended first, else the oldest that no connection
 * brings; NULL if the table is not full or all are in use. */
struct position *gimux_position_victim(struct positions *positions);

/* Takes a stream out and frees it. */
void gimux_position_remove(struct positions *positions, struct position *position);

/* Marks the stream ended. */
void gimux_position_end(struct positions *positions, struct position *position);

/* A new boot has begun: the same driver's streams of former boots of this VM, if no connection brings them,
 * count as ended. */
void gimux_position_supersede(struct positions *positions, const struct position *position);

/* A new connection brings the stream: what was delivered but not acknowledged comes again. */
void gimux_position_restart(struct position *position);

/* An event came. Returns whether it is new; then it counts as delivered. */
bool gimux_position_event(struct position *position, uint64_t sequence);

/* A gap came. Returns whether anything of it is new; then *first is moved up to what is, and all of it counts
 * as delivered. */
bool gimux_position_gap(struct position *position, uint64_t *first, uint64_t last);

/* Everything up to sequence has come that will. Counts as acknowledged if nothing before it waits to be. */
void gimux_position_progress(struct position *position, uint64_t sequence);

/* Acknowledges up to sequence. Returns false, changing nothing, if that was not delivered yet. */
bool gimux_position_ack(struct position *position, uint64_t sequence);

#endif
