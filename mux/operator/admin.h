/* The admin door: HTTP on a root-only UNIX socket, with /metrics (Prometheus text) and /v1/status (JSON). */
#ifndef GIMUX_OPERATOR_ADMIN_H
#define GIMUX_OPERATOR_ADMIN_H

#include <stdbool.h>

#include "mux/base/conf.h"
#include "mux/guest/guest.h"
#include "mux/net/loop.h"
#include "mux/route/route.h"
#include "mux/svm/svm.h"

struct admin;

/* What the door shows; all of it belongs to the caller and outlives the door. */
struct admin_view {
    const struct route *route;
    const struct svm_list *svms;
    const struct guest_list *guests;
};

/* Serves a socket that listens on a UNIX address (see listen_open), and takes it over. NULL, with the socket
 * closed, if memory is out. */
struct admin *admin_new(struct loop *loop, const struct address *address, int fd,
                        const struct admin_view *view);

/* The socket. */
int admin_fd(const struct admin *admin);

/* Lets nobody in for a while: who comes, waits in the kernel. */
void admin_freeze(struct admin *admin, bool frozen);

/* Closes it and removes it from the file system. NULL is fine. */
void admin_free(struct admin *admin);

#endif
