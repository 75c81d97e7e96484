/* What a driver keeps until gimuxd acknowledges it: everything that was given a sequence, oldest first. */
#ifndef SIM_HELD_H
#define SIM_HELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct held {
    struct held *next;
    uint64_t first; /* its sequence */
    uint64_t last;  /* of LOST the last one it covers; of events the same as first */
    bool sent;      /* over some connection */
    uint32_t len;
    uint8_t bytes[]; /* the record, with its sequence */
};

/* Zero-initialize; free with held_clear. Up to `unsent` gimuxd has been sent everything and has received it,
 * or will, on this connection. */
struct held_list {
    struct held *head;
    struct held *tail;
    struct held *unsent;  /* NULL: all are sent */
    uint64_t outstanding; /* bytes of those before it: sent and not acknowledged */
};

/* Adds a copy of an encoded record (an event, or LOST of `count` sequences) behind all others, and writes its
 * sequence, which must be higher than all before, into the copy. */
void held_add(struct held_list *list, uint64_t sequence, uint64_t count, const uint8_t *record, size_t len);

/* Forgets everything up to the sequence. */
void held_release(struct held_list *list, uint64_t sequence);

/* On a new connection gimuxd asks for what is from `next_wanted` on. It has received what is before, but not
 * made it safe: that stays until it is acknowledged. */
void held_rewind(struct held_list *list, uint64_t next_wanted);

/* The next one to send, or NULL if there is none or a window of that many bytes has no room for it. One
 * record always has room, however small the window. */
const struct held *held_to_send(const struct held_list *list, uint64_t window);

/* That one is sent now. Returns whether it was sent before, over another connection. */
bool held_mark_sent(struct held_list *list);

void held_clear(struct held_list *list);

#endif
