/* Listening sockets: opened, whatever a gimuxd that was killed has left in their place. */
#ifndef GIMUX_NET_LISTEN_H
#define GIMUX_NET_LISTEN_H

#include <sys/types.h>

#include "mux/base/user.h"
#include "proto/address.h"

/* A non-blocking socket that listens on a UNIX or vsock address. A UNIX one has that mode and belongs to the
 * user; the socket file of a process that was killed is replaced. If somebody listens there, waits up to
 * patience_ms for its end. Returns -1 with errno set if it cannot be had. */
int listen_open(const struct address *address, mode_t mode, const struct user *user, unsigned patience_ms);

/* For the patience of those who start: a process that was killed holds its sockets for a little while. */
#define LISTEN_PATIENCE_MS 1000u

#endif
