/* Descriptors that are passed from one process to another over a UNIX socket, and lists of them. */
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

/* Adds a descriptor. The list does not close it, unless descriptors_fini is told to. Returns its number, from
 * 1; 0 if out of memory. */
uint32_t descriptors_add(struct descriptors *list, int fd);

/* Takes the descriptor of that number out; the caller closes it. -1: there is none, or it was taken. */
int descriptors_take(struct descriptors *list, uint32_t number);

/* Frees the list, which is then empty and may be used again; `close_all`: closes what is still in it. */
void descriptors_fini(struct descriptors *list, bool close_all);

/* Sends one packet of `len` (> 0) bytes and `count` descriptors, at most DESCRIPTORS_AT_ONCE, on a
 * sequenced-packet socket. Waits up to wait_ms for room in the socket. False with errno set (ETIMEDOUT: there
 * was none). */
bool descriptors_send(int socket, const void *data, size_t len, const int *fds, size_t count,
                      unsigned wait_ms);

/* Receives one packet, cut to `cap` bytes, and adds its descriptors to the list, closed on exec. Waits up to
 * wait_ms for it. Descriptors for which this process has no room or no memory are closed and missing in the
 * list. Returns how many bytes were received, 0 at the end, -1 with errno set (ETIMEDOUT: no packet came). */
ssize_t descriptors_receive(int socket, void *data, size_t cap, struct descriptors *list, unsigned wait_ms);

#endif
