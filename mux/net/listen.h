/* Listening sockets, opened in spite of what a gimuxd that was killed has left in their place. */
#ifndef GIMUX_NET_LISTEN_H
#define GIMUX_NET_LISTEN_H

#include <sys/types.h>

#include "mux/base/user.h"
#include "proto/address.h"

/* Opens a non-blocking socket that listens on a UNIX or vsock address; the caller closes it. The file of a
 * UNIX socket gets that mode and belongs to the user; one that a killed process left is replaced. While the
 * address is in use, blocks up to patience_ms, trying again. Returns -1 with errno set on failure. */
int listen_open(const struct address *address, mode_t mode, const struct user *user, unsigned patience_ms);

/* Patience for a process that starts: one that was killed holds its sockets for a little while. */
#define LISTEN_PATIENCE_MS 1000u

#endif
