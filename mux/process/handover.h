/* The handover: how one gimuxd gives what it has to another, over a socket: a message and descriptors. What
 * is in the message is for those who fill and read it (proto/handover.proto). */
#ifndef GIMUX_PROCESS_HANDOVER_H
#define GIMUX_PROCESS_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/address.h"
#include "proto/handover.pb-c.h"

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

/* Descriptors beside a message. Zero-initialize. */
struct handover_files {
    int *fds;
    size_t count;
    size_t room;
};

/* Adds a descriptor, which stays the caller's. Returns its number for the message; 0 if out of memory. */
uint32_t handover_add(struct handover_files *files, int fd);

/* Takes the descriptor of that number out, the caller's from now on; -1 if there is none. */
int handover_take_out(struct handover_files *files, uint32_t number);

/* Frees the list; `close_all`: what is still in it is closed. */
void handover_files_fini(struct handover_files *files, bool close_all);

/* A copy for a message, freed with it; never NULL. Aborts if out of memory, as there is no way on. */
void *handover_alloc(size_t size);
char *handover_text(const char *text);
ProtobufCBinaryData handover_bytes(const void *data, size_t len);

/* Grows a repeated field by one zeroed element, which the caller initializes. */
void handover_grow(void ***list, size_t *count, void *element);

/* Adds a listening socket to the message. */
void handover_add_socket(Gimux__Handover__V1__Handover *message, struct handover_files *files,
                         const struct address *address, int fd);

/* Says one word, with a text (NULL: none). False if the other end is gone. */
bool handover_say(int socket, enum handover_word word, const char *text);

/* Waits up to wait_ms for the next word; 0 if none came, -1 at the end. A text that came with it, cut to
 * `cap`, is in text. */
int handover_hear(int socket, unsigned wait_ms, char *text, size_t cap);

/* Sends all of it; waits up to wait_ms for the other end to read. False with errno set if that cannot be. */
bool handover_give(int socket, const Gimux__Handover__V1__Handover *message,
                   const struct handover_files *files, unsigned wait_ms);

/* Receives what handover_give has sent. NULL, with the reason in why and nothing in files, if it cannot. The
 * caller frees the message with gimux__handover__v1__handover__free_unpacked. */
Gimux__Handover__V1__Handover *handover_take(int socket, struct handover_files *files, unsigned wait_ms,
                                             char *why, size_t cap);

#endif
