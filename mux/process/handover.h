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
    /* The new one: I have read the configuration; give. The text HANDOVER_READS: until GO it only reads the
     * files of VM logs, and leaves the lock on their directory to the old one. */
    HANDOVER_TAKE = 't',
    /* The old one: here is a file with the message. Three bytes of padding, and a u32: how many descriptors
     * follow. */
    HANDOVER_DATA = 'd',
    /* The old one: here are some of them. */
    HANDOVER_FILES = 'f',
    /* The old one: I cannot. A text says why. */
    HANDOVER_NOT = 'n',
    /* The new one: I have everything, and have touched nothing. */
    HANDOVER_READY = 'r',
    /* The old one: it is yours. The socket closes when I have let go of everything. */
    HANDOVER_GO = 'g',
};

#define HANDOVER_READS "reads"

/* Says one word, with a text (NULL: none; cut to 198 bytes). Does not wait. False if the other end is gone or
 * does not read. */
bool handover_say(int socket, enum handover_word word, const char *text);

/* Waits up to wait_ms for the next word, which is returned; 0 if none came, -1 if the other end is gone. The
 * text that came with it goes to `text`, cut to `cap` bytes, NUL included; cap 0: nowhere. */
int handover_hear(int socket, unsigned wait_ms, char *text, size_t cap);

/* Sends a parcel; waits up to wait_ms for the other end to read. False with errno set if that cannot be, or
 * if the parcel is not complete. */
bool handover_give(int socket, const struct parcel *parcel, unsigned wait_ms);

/* Receives what handover_give has sent, which the caller frees with parcel_fini; waits up to wait_ms for each
 * packet. False, with the reason in `why` (`cap` bytes) and nothing in the parcel, if it cannot, or if the
 * other end says that it does not give. */
bool handover_take(int socket, struct parcel *parcel, unsigned wait_ms, char *why, size_t cap);

#endif
