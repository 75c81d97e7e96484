/* Descriptors that cross from one process to another over a UNIX socket, and lists of them. */
#ifndef GIMUX_BASE_DESCRIPTORS_H
#define GIMUX_BASE_DESCRIPTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define DESCRIPTORS_AT_ONCE 253 /* in one packet: SCM_MAX_FD of Linux */

/* Zero-initialize. */
struct descriptors {
    int *fds; /* the list's own; -1: taken out */
    size_t count;
    size_t room;
};

/* Adds a descriptor, which stays the caller's until the list is closed. Returns its number, from 1; 0 if out
 * of memory. */
uint32_t descriptors_add(struct descriptors *list, int fd);

/* Takes the descriptor of that number out, the caller's from now on; -1 if there is none. */
int descriptors_take(struct descriptors *list, uint32_t number);

/* Frees the list; `close_all`: what is still in it is closed. */
void descriptors_fini(struct descriptors *list, bool close_all);

/* Sends one packet of `len` (> 0) bytes and `count` descriptors, at most DESCRIPTORS_AT_ONCE, on a
 * sequenced-packet socket; waits up to wait_ms until the other end takes it. False with errno set if it does
 * not. */
bool descriptors_send(int socket, const void *data, size_t len, const int *fds, size_t count,
                      unsigned wait_ms);

/* Receives one packet, cut to `cap` bytes, and adds its descriptors to the list, closed on exec; waits up to
 * wait_ms for it. Descriptors for which there was no room, here or in this process, are missing in the list.
 * Returns the packet's length, 0 at the end, -1 with errno set (ETIMEDOUT: none came). */
ssize_t descriptors_receive(int socket, void *data, size_t cap, struct descriptors *list, unsigned wait_ms);

#endif
