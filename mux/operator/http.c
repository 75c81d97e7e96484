/* The admin door: HTTP on a root-only UNIX socket, with /metrics (Prometheus text) and /v1/status (JSON).
 *
 * A reply about thousands of VMs is megabytes long, and making it takes a fifth of a second. So it is made in
 * portions, each when the client has taken the one before: meanwhile the loop serves guests and SVMs. A
 * client that does not read is cut off (TIMEOUT_S). */
#include "mux/operator/http.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "mux/base/log.h"
#include "mux/operator/inner.h"

#define REQUEST_MAX 16384  /* bytes of headers, and of a body */
#define REST_US     500000 /* how long the door rests when descriptors have run out */
#define TIMEOUT_S   10

struct reply {
    struct http *http;
    struct evhttp_request *request;
    const struct reply_kind *kind;
    struct progress progress;
    LIST_ENTRY(reply) in_list;
};

struct http {
    struct loop *loop;
    struct evhttp *evhttp;
    struct address address;
    struct http_view view;
    struct evconnlistener *listener;
    LIST_HEAD(replies, reply) replies; /* under way */
    int fd;
};

/* ---- replies ---- */

bool
next_vm(const struct http_view *view, struct progress *progress, bool streams, struct vm_snapshot *out)
{
    while (progress->vm < progress->vm_count)
        if (vm_snapshot(view->route, progress->uuids[progress->vm++], streams, out))
            return true;
    return false;
}

static void
free_reply(struct reply *reply)
{
    LIST_REMOVE(reply, in_list);
    free(reply->progress.uuids);
    free(reply);
}

/* The client is gone; the request goes with its connection. */
static void
on_gone(struct evhttp_connection *connection, void *arg)
{
    (void)connection;
    free_reply(arg);
}

static void on_taken(struct evhttp_connection *connection, void *arg);

static void
send_portion(struct reply *reply)
{
    struct evhttp_connection *connection = evhttp_request_get_connection(reply->request);
    struct evbuffer *portion = evbuffer_new();
    bool more;

    loop_begin(reply->http->loop);
    more = portion && reply->kind->more(&reply->http->view, &reply->progress, portion);
    if (more) {
        evhttp_send_reply_chunk_with_cb(reply->request, portion, on_taken, reply);
        evbuffer_free(portion);
        return;
    }
    if (portion)
        evhttp_send_reply_chunk(reply->request, portion);
    evhttp_connection_set_closecb(connection, NULL, NULL);
    evhttp_send_reply_end(reply->request);
    if (portion)
        evbuffer_free(portion);
    free_reply(reply);
}

static void
on_taken(struct evhttp_connection *connection, void *arg)
{
    (void)connection;
    send_portion(arg);
}

static void
begin_reply(struct http *http, struct evhttp_request *request, const struct reply_kind *kind)
{
    struct reply *reply = calloc(1, sizeof(*reply));

    if (!reply) {
        evhttp_send_error(request, HTTP_INTERNAL, NULL);
        return;
    }
    loop_begin(http->loop);
    reply->http = http;
    reply->request = request;
    reply->kind = kind;
    reply->progress.uuids = route_list_vms(http->view.route, &reply->progress.vm_count);
    LIST_INSERT_HEAD(&http->replies, reply, in_list);
    evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", kind->content_type);
    evhttp_send_reply_start(request, HTTP_OK, "OK");
    if (evhttp_request_get_command(request) == EVHTTP_REQ_HEAD) {
        evhttp_send_reply_end(request);
        free_reply(reply);
        return;
    }
    evhttp_connection_set_closecb(evhttp_request_get_connection(request), on_gone, reply);
    send_portion(reply);
}

static void
on_metrics(struct evhttp_request *request, void *arg)
{
    begin_reply(arg, request, &metrics_reply);
}

static void
on_status(struct evhttp_request *request, void *arg)
{
    begin_reply(arg, request, &status_reply);
}

/* ---- the door ---- */

static void
on_rested(evutil_socket_t fd, short what, void *listener)
{
    (void)fd;
    (void)what;
    evconnlistener_enable(listener);
}

/* The connection waits in the kernel: to try again at once would be a busy loop. */
static void
on_accept_error(struct evconnlistener *listener, void *evhttp)
{
    const struct timeval rest = { .tv_usec = REST_US };

    (void)evhttp;
    log_error(NULL, "admin: cannot accept: %s; resting for %d ms", strerror(errno), REST_US / 1000);
    evconnlistener_disable(listener);
    event_base_once(evconnlistener_get_base(listener), -1, EV_TIMEOUT, on_rested, listener, &rest);
}

/* Takes over the listening socket, if it succeeds. */
static bool
serve(struct http *http, struct loop *loop, int fd)
{
    struct evhttp_bound_socket *bound;

    http->evhttp = evhttp_new(loop_base(loop));
    bound = http->evhttp ? evhttp_accept_socket_with_handle(http->evhttp, fd) : NULL;
    if (!bound)
        return false;
    http->listener = evhttp_bound_socket_get_listener(bound);
    evconnlistener_set_error_cb(http->listener, on_accept_error);
    return true;
}

struct http *
http_new(struct loop *loop, const struct address *address, int fd, const struct http_view *view)
{
    struct http *http = calloc(1, sizeof(*http));

    if (!http || !serve(http, loop, fd)) {
        close(fd);
        if (http && http->evhttp)
            evhttp_free(http->evhttp);
        free(http);
        return NULL;
    }
    http->loop = loop;
    http->address = *address;
    http->view = *view;
    http->fd = fd;
    LIST_INIT(&http->replies);
    evhttp_set_max_headers_size(http->evhttp, REQUEST_MAX);
    evhttp_set_max_body_size(http->evhttp, REQUEST_MAX);
    evhttp_set_timeout(http->evhttp, TIMEOUT_S);
    evhttp_set_allowed_methods(http->evhttp, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
    evhttp_set_cb(http->evhttp, "/metrics", on_metrics, http);
    evhttp_set_cb(http->evhttp, "/v1/status", on_status, http);
    return http;
}

void
http_set_conf(struct http *http, const struct conf *conf)
{
    http->view.conf = conf;
}

void
http_freeze(struct http *http, bool frozen)
{
    if (frozen)
        evconnlistener_disable(http->listener);
    else
        evconnlistener_enable(http->listener);
}

int
http_fd(const struct http *http)
{
    return http->fd;
}

void
http_free(struct http *http)
{
    if (!http)
        return;
    evhttp_free(http->evhttp); /* which ends connections, and with them their replies */
    unlink(http->address.path);
    free(http);
}
