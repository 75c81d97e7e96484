/* The admin door: HTTP on a root-only UNIX socket, with /metrics (Prometheus text) and /v1/status (JSON). */
#ifndef GIMUX_OPERATOR_HTTP_H
#define GIMUX_OPERATOR_HTTP_H

#include "mux/base/conf.h"
#include "mux/base/parcel.h"
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

/* Serves a socket that listens on that UNIX address (see listen_open), and takes it over. `view` is copied.
 * NULL with errno set, and the socket closed, if memory is out. */
struct http *http_new(struct loop *loop, const struct address *address, int fd, const struct http_view *view);

/* Another configuration is in force. Its address does not count: the door stays where it is. */
void http_set_conf(struct http *http, const struct conf *conf);

/* Lets nobody in until http_thaw: who comes, waits in the kernel. Who is in goes on being answered. */
void http_freeze(struct http *http);
void http_thaw(struct http *http);

/* Adds the listening socket, which stays ours, too, to the parcel. */
void http_export(const struct http *http, struct parcel *parcel);

/* Closes the door and all its connections, whose replies are cut off, and removes the socket from the file
 * system. NULL is fine. */
void http_free(struct http *http);

#endif
