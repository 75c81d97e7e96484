/* The handover: how one gimuxd gives a parcel to another over a socket, and what the two say to each other
 * meanwhile. */
#ifndef GIMUX_PROCESS_HANDOVER_H
#define GIMUX_PROCESS_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>

#include "mux/base/parcel.h"

/* What the two say on the socket, each the first byte of a packet. Old and new versions must understand each
 * other, so these stay. */
enum handover_word {
    HANDOVER_TAKE = 't', /* the new one: I have read the configuration; give */
    HANDOVER_DATA =
        'd', /* the old one: a file with the message comes along; u32: so many descriptors follow */
    HANDOVER_FILES = 'f', /* the old one: some of them */
    HANDOVER_NOT = 'n',   /* the old one: I cannot; a text says why */
    HANDOVER_READY = 'r', /* the new one: I have everything, and have touched nothing */
    HANDOVER_GO = 'g',    /* the old one: it is yours; the socket closes when I have let go of everything */
};

/* Says one word, with a text (NULL: none). False if the other end is gone. */
bool handover_say(int socket, enum handover_word word, const char *text);

/* Waits up to wait_ms for the next word; 0 if none came, -1 at the end. A text that came with it, cut to
 * `cap`, is in text. */
int handover_hear(int socket, unsigned wait_ms, char *text, size_t cap);

/* Sends a parcel; waits up to wait_ms for the other end to read. False with errno set if that cannot be, or
 * if the parcel is not complete. */
bool handover_give(int socket, const struct parcel *parcel, unsigned wait_ms);

/* Receives what handover_give has sent, which the caller frees with parcel_fini. False, with the reason in
 * why and nothing in the parcel, if it cannot. */
bool handover_take(int socket, struct parcel *parcel, unsigned wait_ms, char *why, size_t cap);

#endif
