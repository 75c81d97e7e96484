/* The admin door: HTTP on a root-only UNIX socket, with /metrics (Prometheus text) and /v1/status (JSON). */
#ifndef GIMUX_OPERATOR_HTTP_H
#define GIMUX_OPERATOR_HTTP_H

#include <stdbool.h>

#include "mux/base/conf.h"
#include "mux/guest/guest.h"
#include "mux/net/loop.h"
#include "mux/route/route.h"
#include "mux/svm/svm.h"

struct http;

/* What the door shows; all of it belongs to the caller and outlives the door. */
struct http_view {
    const struct conf *conf; /* in force; see http_set_conf */
    const struct route *route;
    const struct svm_list *svms;
    const struct guest_list *guests;
};

/* Serves a socket that listens on a UNIX address (see listen_open), and takes it over. NULL, with the socket
 * closed, if memory is out. */
struct http *http_new(struct loop *loop, const struct address *address, int fd, const struct http_view *view);

/* Another configuration is in force. */
void http_set_conf(struct http *http, const struct conf *conf);

/* The socket. */
int http_fd(const struct http *http);

/* Lets nobody in for a while: who comes, waits in the kernel. */
void http_freeze(struct http *http, bool frozen);

/* Closes it and removes it from the file system. NULL is fine. */
void http_free(struct http *http);

#endif
