/* The functions of gimux_client.h: listening, the loop, and a client's life. */
#include "client/context.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "client/config.h"
#include "client/link.h"
#include "client/session.h"
#include "client/stream.h"
#include "client/tls.h"

/* What epoll reports: a link's slot, or one of these. */
#define SOURCE_LISTENER GIMUX_CONNECTIONS_MAX
#define SOURCE_TIMER    (GIMUX_CONNECTIONS_MAX + 1)
#define SOURCE_COUNT    (GIMUX_CONNECTIONS_MAX + 2)

#define ACCEPT_PAUSE_MS 1000 /* when descriptors have run out */

/* ---- listening ---- */

/* The written form of a socket address. */
static void
write_address(const struct gimux_client *client, const struct sockaddr_storage *from, socklen_t len,
              char out[ADDRESS_TEXT_MAX])
{
    struct address address = { .kind = client->tls ? ADDRESS_TLS : ADDRESS_TCP };
    char port[8] = "0";

    if (getnameinfo((const struct sockaddr *)from, len, address.host, sizeof(address.host), port,
                    sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        snprintf(address.host, sizeof(address.host), "unknown");
    address.port = (uint32_t)strtoul(port, NULL, 10);
    address_format(&address, out);
}

/* Finds the socket address to listen on. Returns its length, or 0 and says why not. */
static socklen_t
resolve(const struct address *address, struct sockaddr_storage *out, char error[GIMUX_ERROR_MAX])
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
    struct addrinfo *found = NULL;
    socklen_t len = address_to_sockaddr(address, out);
    char port[8];
    int result;

    if (len > 0)
        return len;
    snprintf(port, sizeof(port), "%u", (unsigned)(uint16_t)address->port);
    result = getaddrinfo(address->host, port, &hints, &found);
    if (result != 0) {
        snprintf(error, GIMUX_ERROR_MAX, "cannot resolve %s: %s", address->host, gai_strerror(result));
        return 0;
    }
    len = found->ai_addrlen;
    memcpy(out, found->ai_addr, len);
    freeaddrinfo(found);
    return len;
}

static bool
listen_on(struct gimux_client *client, const char *text, const struct address *address,
          char error[GIMUX_ERROR_MAX])
{
    struct epoll_event event = { .events = EPOLLIN, .data.u32 = SOURCE_LISTENER };
    struct sockaddr_storage bound;
    socklen_t len = resolve(address, &bound, error);
    int one = 1;

    if (len == 0)
        return false;
    client->listener = socket(bound.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->listener >= 0)
        setsockopt(client->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (client->listener < 0 || bind(client->listener, (struct sockaddr *)&bound, len) != 0 ||
        listen(client->listener, GIMUX_CONNECTIONS_MAX) != 0 ||
        getsockname(client->listener, (struct sockaddr *)&bound, &len) != 0 ||
        epoll_ctl(client->epoll, EPOLL_CTL_ADD, client->listener, &event) != 0) {
        snprintf(error, GIMUX_ERROR_MAX, "cannot listen on %s: %s", text, strerror(errno));
        return false;
    }
    write_address(client, &bound, len, client->address);
    return true;
}

/* ---- links ---- */

static void
reap(struct gimux_client *client, uint32_t slot)
{
    gimux_session_close(client->links[slot]);
    gimux_link_free(client->links[slot]);
    client->links[slot] = NULL;
}

/* A free slot; if there is none, that of the connection that has been longest in its handshake, since a host
 * that comes back must not be kept out by those who only connect. GIMUX_CONNECTIONS_MAX if all are open. */
static uint32_t
find_slot(struct gimux_client *client)
{
    uint32_t oldest = GIMUX_CONNECTIONS_MAX;

    for (uint32_t i = 0; i < GIMUX_CONNECTIONS_MAX; i++) {
        struct link *link = client->links[i];

        if (!link)
            return i;
        if (!link->connected &&
            (oldest == GIMUX_CONNECTIONS_MAX || link->accepted_at < client->links[oldest]->accepted_at))
            oldest = i;
    }
    if (oldest < GIMUX_CONNECTIONS_MAX) {
        gimux_link_fail(client->links[oldest], GIMUX_DISCONNECT_SILENT, "made room for a new connection");
        reap(client, oldest);
    }
    return oldest;
}

static void
admit(struct gimux_client *client, int fd, const struct sockaddr_storage *from, socklen_t len)
{
    uint32_t slot = find_slot(client);
    char peer[ADDRESS_TEXT_MAX];
    int one = 1;

    write_address(client, from, len, peer);
    if (slot == GIMUX_CONNECTIONS_MAX) {
        gimux_log(client, GIMUX_LOG_WARNING, "%s: refused: %d connections are open", peer,
                  GIMUX_CONNECTIONS_MAX);
        client->stats.refused++;
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    client->links[slot] = gimux_link_new(client, slot, fd, peer);
    if (!client->links[slot]) {
        gimux_log(client, GIMUX_LOG_ERROR, "%s: refused: out of memory", peer);
        client->stats.refused++;
    }
}

static void
watch_listener(struct gimux_client *client, bool on)
{
    struct epoll_event event = { .events = on ? EPOLLIN : 0, .data.u32 = SOURCE_LISTENER };

    epoll_ctl(client->epoll, EPOLL_CTL_MOD, client->listener, &event);
    client->accept_at = on ? 0 : gimux_now() + ACCEPT_PAUSE_MS;
}

static void
accept_links(struct gimux_client *client)
{
    struct sockaddr_storage from;
    socklen_t len;

    for (int i = 0; i < GIMUX_CONNECTIONS_MAX; i++) {
        int fd;

        len = sizeof(from);
        fd = accept4(client->listener, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            admit(client, fd, &from, len);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            gimux_log(client, GIMUX_LOG_ERROR, "cannot accept: %s; trying again in %d ms", strerror(errno),
                      ACCEPT_PAUSE_MS);
            watch_listener(client, false);
            return;
        } else if (errno == EAGAIN) {
            return;
        }
    }
}

/* ---- the loop ---- */

/* Notes which links are ready, and accepts new ones. */
static void
collect(struct gimux_client *client, const struct epoll_event *events, int count)
{
    uint64_t expirations;

    for (int i = 0; i < count; i++) {
        uint32_t source = events[i].data.u32;

        if (source < GIMUX_CONNECTIONS_MAX && client->links[source]) {
            client->links[source]->ready = true;
        } else if (source == SOURCE_TIMER) {
            if (read(client->timer, &expirations, sizeof(expirations)) > 0)
                client->timer_at = INT64_MAX;
        }
    }
    for (int i = 0; i < count; i++)
        if (events[i].data.u32 == SOURCE_LISTENER)
            accept_links(client);
    if (client->accept_at && gimux_now() >= client->accept_at)
        watch_listener(client, true);
}

static void
run_links(struct gimux_client *client)
{
    int64_t wake = client->accept_at ? client->accept_at : INT64_MAX;

    for (uint32_t i = 0; i < GIMUX_CONNECTIONS_MAX; i++) {
        struct link *link = client->links[i];

        if (link && (link->ready || link->more))
            gimux_session_run(link);
    }
    for (uint32_t i = 0; i < GIMUX_CONNECTIONS_MAX; i++)
        if (client->links[i])
            gimux_session_tick(client->links[i]);
    for (uint32_t i = 0; i < GIMUX_CONNECTIONS_MAX; i++) {
        struct link *link = client->links[i];

        if (link && link->state == LINK_DEAD)
            reap(client, i);
        else if (link && gimux_session_deadline(link) < wake)
            wake = gimux_session_deadline(link);
    }
    gimux_wake_at(client, wake);
}

int
gimux_client_dispatch(struct gimux_client *client, int timeout_ms)
{
    struct epoll_event events[SOURCE_COUNT];
    int count;

    if (client->dispatching) {
        errno = EBUSY;
        return -1;
    }
    count = epoll_wait(client->epoll, events, SOURCE_COUNT, timeout_ms);
    if (count < 0)
        return errno == EINTR ? 0 : -1;
    client->dispatching = true;
    client->stopping = false;
    collect(client, events, count);
    run_links(client);
    client->dispatching = false;
    return 0;
}

int
gimux_client_run(struct gimux_client *client)
{
    int result;

    do
        result = gimux_client_dispatch(client, -1);
    while (result == 0 && !client->stopping);
    return result;
}

void
gimux_client_stop(struct gimux_client *client)
{
    client->stopping = true;
}

int
gimux_client_fd(const struct gimux_client *client)
{
    return client->epoll;
}

const char *
gimux_client_address(const struct gimux_client *client)
{
    return client->address;
}

void
gimux_client_get_stats(const struct gimux_client *client, struct gimux_client_stats *out)
{
    *out = client->stats;
    out->streams = HASH_COUNT(client->positions.table);
}

int
gimux_client_ack(struct gimux_client *client, struct gimux_stream *stream, uint64_t sequence)
{
    struct position *position = (struct position *)stream; /* its first member */

    if (!client->explicit_ack || !gimux_position_ack(position, sequence)) {
        errno = EINVAL;
        return -1;
    }
    gimux_stream_acknowledge(position);
    if (!client->dispatching)
        gimux_wake_at(client, 0);
    return 0;
}

/* ---- a client's life ---- */

static bool
set_up_tls(struct gimux_client *client, char error[GIMUX_ERROR_MAX])
{
    if (!client->cert_file || !client->key_file || !client->ca_file) {
        snprintf(error, GIMUX_ERROR_MAX, "a tls address needs a certificate, a key and a CA file");
        return false;
    }
    client->tls_bio = gimux_tls_bio();
    client->tls = client->tls_bio ? gimux_tls_context(client, error) : NULL;
    return client->tls != NULL;
}

static bool
set_up_loop(struct gimux_client *client, char error[GIMUX_ERROR_MAX])
{
    struct epoll_event event = { .events = EPOLLIN, .data.u32 = SOURCE_TIMER };

    client->timer_at = INT64_MAX;
    client->epoll = epoll_create1(EPOLL_CLOEXEC);
    client->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (client->epoll < 0 || client->timer < 0 ||
        epoll_ctl(client->epoll, EPOLL_CTL_ADD, client->timer, &event) != 0) {
        snprintf(error, GIMUX_ERROR_MAX, "cannot make descriptors: %s", strerror(errno));
        return false;
    }
    return true;
}

static bool
set_up(struct gimux_client *client, const struct gimux_client_config *config, char error[GIMUX_ERROR_MAX])
{
    const char *listen = config->listen ? config->listen : "";
    struct address address;
    const char *why = address_parse(listen, &address);

    if (!why && address.kind != ADDRESS_TCP && address.kind != ADDRESS_TLS)
        why = "expected tcp:HOST:PORT or tls:HOST:PORT";
    if (why) {
        snprintf(error, GIMUX_ERROR_MAX, "address %.200s: %s", listen, why);
        return false;
    }
    snprintf(error, GIMUX_ERROR_MAX, "out of memory");
    return gimux_config_copy(client, config, error) && gimux_decoder_init(&client->decoder) &&
           set_up_loop(client, error) && (address.kind == ADDRESS_TCP || set_up_tls(client, error)) &&
           listen_on(client, listen, &address, error);
}

struct gimux_client *
gimux_client_new(const struct gimux_client_config *config, char error[GIMUX_ERROR_MAX])
{
    char unwanted[GIMUX_ERROR_MAX];
    struct gimux_client *client = calloc(1, sizeof(*client));

    if (!error)
        error = unwanted;
    if (!client) {
        snprintf(error, GIMUX_ERROR_MAX, "out of memory");
        return NULL;
    }
    client->epoll = client->timer = client->listener = -1;
    if (!set_up(client, config, error)) {
        gimux_client_free(client);
        return NULL;
    }
    error[0] = '\0';
    return client;
}

static void
close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

void
gimux_client_free(struct gimux_client *client)
{
    if (!client)
        return;
    client->dispatching = true; /* nothing may start again from these last callbacks */
    for (uint32_t i = 0; i < GIMUX_CONNECTIONS_MAX; i++) {
        if (client->links[i]) {
            gimux_session_stop(client->links[i]);
            reap(client, i);
        }
    }
    for (struct position *position; (position = client->positions.table);) {
        if (client->callbacks.on_stream_forget)
            client->callbacks.on_stream_forget(client->user, &position->stream);
        gimux_position_remove(&client->positions, position);
    }
    close_fd(client->listener);
    close_fd(client->timer);
    close_fd(client->epoll);
    SSL_CTX_free(client->tls);
    BIO_meth_free(client->tls_bio);
    gimux_decoder_free(&client->decoder);
    gimux_config_free(client);
    free(client);
}

bool
gimux_client_reload_certificates(struct gimux_client *client, char error[GIMUX_ERROR_MAX])
{
    char unwanted[GIMUX_ERROR_MAX];
    SSL_CTX *fresh;

    if (!client->tls)
        return true;
    fresh = gimux_tls_context(client, error ? error : unwanted);
    if (!fresh)
        return false;
    SSL_CTX_free(client->tls);
    client->tls = fresh;
    for (uint32_t i = 0; i < GIMUX_CONNECTIONS_MAX; i++)
        if (client->links[i])
            gimux_link_check_revocation(client->links[i]);
    if (!client->dispatching)
        gimux_wake_at(client, 0); /* to take down the links that have ended */
    return true;
}
