/* The admin door: HTTP on a root-only UNIX socket, with /metrics (Prometheus text) and /v1/status (JSON). */
#ifndef GIMUX_ADMIN_H
#define GIMUX_ADMIN_H

#include <stdbool.h>

#include "mux/conf.h"
#include "mux/guest.h"
#include "mux/loop.h"
#include "mux/route.h"
#include "mux/svm.h"

struct admin;

/* What the door shows; all of it belongs to the caller and outlives the door. */
struct admin_view {
    const struct route *route;
    const struct svm_list *svms;
    const struct guest_list *guests;
};

/* Opens the door at a UNIX address. NULL, having logged why, if that cannot be. */
struct admin *admin_new(struct loop *loop, const struct address *address, const struct admin_view *view);

/* Closes it and removes the socket. NULL is fine. */
void admin_free(struct admin *admin);

#endif
