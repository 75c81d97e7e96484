/* The admin door: HTTP on a root-only UNIX socket, with /metrics (Prometheus text) and /v1/status (JSON).
 *
 * A reply about thousands of VMs is megabytes long, and making it takes a fifth of a second. So it is made in
 * portions, each when the client has taken the one before: meanwhile the loop serves guests and SVMs. A
 * client that takes no portion within TIMEOUT_S is cut off.
 *
 * A reply under way belongs to its connection and ends with it: by send_portion after the last portion, or by
 * on_gone, whichever comes first. */
#include "mux/operator/http.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
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
};

struct http {
    struct loop *loop;
    struct evhttp *evhttp;
    struct evconnlistener *listener;
    struct address address;
    int fd; /* the listener's */
    struct http_view view;
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
    free(reply->progress.uuids);
    free(reply);
}

/* The connection ends before the reply does. If that is the client's doing, libevent leaves the request to
 * whoever answers it; if it is ours, the request goes with the connection. */
static void
on_gone(struct evhttp_connection *connection, void *arg)
{
    struct reply *reply = arg;

    (void)connection;
    if (!evhttp_request_get_connection(reply->request))
        evhttp_request_free(reply->request);
    free_reply(reply);
}

/* Called again when the client has taken what is sent here. */
static void
send_portion(struct evhttp_connection *connection, void *arg)
{
    struct reply *reply = arg;
    struct evbuffer *portion = evbuffer_new();

    loop_begin(reply->http->loop);
    if (!portion) { /* the client can tell that something is missing */
        evhttp_connection_free(connection);
    } else if (reply->kind->more(&reply->http->view, &reply->progress, portion)) {
        evhttp_send_reply_chunk_with_cb(reply->request, portion, send_portion, reply);
        evbuffer_free(portion);
    } else {
        evhttp_send_reply_chunk(reply->request, portion);
        evbuffer_free(portion);
        evhttp_connection_set_closecb(connection, NULL, NULL);
        evhttp_send_reply_end(reply->request);
        free_reply(reply);
    }
}

/* HTTP/1.0 knows no chunks: the reply ends where the connection does. libevent would keep that open for a
 * client that asks for it, and announce a body of no bytes. (Newer clients need not ask.) */
static void
forbid_keep_alive(struct evhttp_request *request)
{
    struct evkeyvalq *headers = evhttp_request_get_input_headers(request);
    const char *wanted = evhttp_find_header(headers, "Connection");

    if (wanted && strncasecmp(wanted, "keep-alive", strlen("keep-alive")) == 0)
        evhttp_remove_header(headers, "Connection");
}

static void
begin_reply(struct http *http, struct evhttp_request *request, const struct reply_kind *kind)
{
    struct evhttp_connection *connection = evhttp_request_get_connection(request);
    struct reply *reply;

    loop_begin(http->loop);
    forbid_keep_alive(request);
    evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", kind->content_type);
    if (evhttp_request_get_command(request) == EVHTTP_REQ_HEAD) {
        evhttp_send_reply_start(request, HTTP_OK, "OK");
        evhttp_send_reply_end(request);
        return;
    }
    reply = calloc(1, sizeof(*reply));
    if (reply) {
        *reply = (struct reply){ .http = http, .request = request, .kind = kind };
        reply->progress.uuids = route_list_vms(http->view.route, &reply->progress.vm_count);
    }
    if (!reply || !reply->progress.uuids) {
        free(reply);
        evhttp_send_error(request, HTTP_INTERNAL, NULL);
        return;
    }
    /* libevent goes on reading while it sends: what is not asked yet waits in the kernel */
    bufferevent_setwatermark(evhttp_connection_get_bufferevent(connection), EV_READ, 0,
                             (size_t)2 * REQUEST_MAX);
    evhttp_connection_set_closecb(connection, on_gone, reply);
    evhttp_send_reply_start(request, HTTP_OK, "OK");
    send_portion(connection, reply);
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

/* The connection waits in the kernel: to try again at once would be a busy loop. If the door is frozen
 * meanwhile, it opens early: who comes in is then cut off when the upgrade comes about. */
static void
on_accept_error(struct evconnlistener *listener, void *evhttp)
{
    const struct timeval rest = { .tv_usec = REST_US };

    (void)evhttp;
    log_error(NULL, "admin: cannot accept: %s; resting for %d ms", strerror(errno), REST_US / 1000);
    evconnlistener_disable(listener);
    event_base_once(evconnlistener_get_base(listener), -1, EV_TIMEOUT, on_rested, listener, &rest);
}

struct http *
http_new(struct loop *loop, const struct address *address, int fd, const struct http_view *view)
{
    struct http *http = calloc(1, sizeof(*http));
    struct evhttp *evhttp = http ? evhttp_new(loop_base(loop)) : NULL;
    struct evhttp_bound_socket *bound = evhttp ? evhttp_accept_socket_with_handle(evhttp, fd) : NULL;

    if (!bound) {
        close(fd);
        if (evhttp)
            evhttp_free(evhttp);
        free(http);
        errno = ENOMEM;
        return NULL;
    }
    *http = (struct http){ .loop = loop,
                           .evhttp = evhttp,
                           .listener = evhttp_bound_socket_get_listener(bound),
                           .address = *address,
                           .fd = fd,
                           .view = *view };
    evconnlistener_set_error_cb(http->listener, on_accept_error);
    evhttp_set_max_headers_size(evhttp, REQUEST_MAX);
    evhttp_set_max_body_size(evhttp, REQUEST_MAX);
    evhttp_set_timeout(evhttp, TIMEOUT_S);
    evhttp_set_allowed_methods(evhttp, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
    evhttp_set_cb(evhttp, "/metrics", on_metrics, http);
    evhttp_set_cb(evhttp, "/v1/status", on_status, http);
    return http;
}

void
http_set_conf(struct http *http, const struct conf *conf)
{
    http->view.conf = conf;
}

void
http_freeze(struct http *http)
{
    evconnlistener_disable(http->listener);
}

void
http_thaw(struct http *http)
{
    evconnlistener_enable(http->listener);
}

void
http_export(const struct http *http, struct parcel *parcel)
{
    parcel_add_socket(parcel, &http->address, http->fd);
}

void
http_free(struct http *http)
{
    if (!http)
        return;
    evhttp_free(http->evhttp); /* closes the socket and all connections, each of which ends its reply */
    unlink(http->address.path);
    free(http);
}
