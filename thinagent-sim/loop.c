/* The event loop: connects the agents with gimuxd and gives them their time. The only user of libevent.
 *
 * A link is one agent's way to gimuxd. When it is lost, it is opened again, with growing pauses, until its
 * agent has ended. All that happens to a link goes through link_pump, which sends what the agent has, up to
 * what the socket takes, and sets the one timer for whatever comes next. */
#include "thinagent-sim/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "thinagent-sim/clock.h"
#include "thinagent-sim/door.h"
#include "thinagent-sim/memory.h"
#include "thinagent-sim/nowhere.h"
#include "thinagent-sim/progress.h"

#define BACKOFF_FIRST 50u /* milliseconds */
#define BACKOFF_LAST  2000u
#define LINGER_TIME   (1 * SECOND) /* for gimuxd to close after BYE */
#define PROGRESS_TIME 200          /* milliseconds */
#define GREETING_MAX  64u          /* bytes of the CONNECT line */

enum link_state {
    LINK_CLOSED,     /* a timer opens it again, or the listener does */
    LINK_CONNECTING, /* until it can be written to */
    LINK_GREETING,   /* CONNECT is expected */
    LINK_OPEN,
    LINK_LINGER, /* BYE is out: until gimuxd closes */
    LINK_ENDED,
};

/* A listening socket, shared by the links of one path. */
struct listener {
    struct listener *next;
    struct loop *loop;
    char path[ADDRESS_PATH_MAX];
    struct event *event;
};

struct link {
    struct loop *loop;
    struct agent *agent;
    struct door door;
    struct listener *listener;
    enum link_state state;
    int fd;
    struct event *reading;
    struct event *writing;
    struct event *timer;
    unsigned backoff; /* milliseconds */
    char greeting[GREETING_MAX];
    size_t greeting_len;
    char *complaint; /* the last one, so that it is printed once */
};

struct loop {
    const struct options *options;
    struct event_base *base;
    struct link **links;
    size_t count;
    size_t running; /* links that have not ended */
    struct listener *listeners;
    struct event *signals[2];
    struct event *stop_timer;
    struct event *drain_timer;
    struct event *progress_timer;
    struct event *watching;
    void (*readable)(void *arg);
    void *readable_arg;
    struct progress *progress;
};

static void link_open(struct link *link);
static void link_pump(struct link *link);

static int64_t
now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static void
set_timer(struct event *timer, int64_t wait)
{
    struct timeval time = { .tv_sec = wait / SECOND, .tv_usec = wait % SECOND / 1000 };

    event_add(timer, &time);
}

/* ---- the life of a link ---- */

static void
link_close(struct link *link, enum link_state state)
{
    if (link->reading) {
        event_free(link->reading);
        event_free(link->writing);
        close(link->fd);
    }
    link->reading = NULL;
    link->writing = NULL;
    link->fd = -1;
    if (link->state != LINK_ENDED && state == LINK_ENDED && --link->loop->running == 0)
        event_base_loopbreak(link->loop->base);
    link->state = state;
}

/* Says once what is wrong with a link; always with --verbose. */
static void
complain(struct link *link, const char *why)
{
    const struct agent_config *config = agent_config(link->agent);
    char uuid[GR_UUID_TEXT];

    if (link->complaint && strcmp(link->complaint, why) == 0 && !config->verbose)
        return;
    free(link->complaint);
    link->complaint = must_strdup(why);
    fprintf(stderr, "vm=%s driver=%s: %s\n", gr_uuid_format(config->vm_uuid, uuid),
            gr_driver_name(config->driver), why);
}

/* The connection is lost, or must be closed: opens it again after a pause, unless the agent has ended. */
static void
link_lost(struct link *link, const char *why)
{
    enum agent_state state = agent_state(link->agent);
    int64_t pause;

    if (state == AGENT_DONE || state == AGENT_FAILED) {
        if (state == AGENT_FAILED)
            complain(link, agent_why(link->agent));
        agent_link_down(link->agent);
        link_close(link, LINK_ENDED);
        return;
    }
    complain(link, why);
    if (state == AGENT_UP || state == AGENT_BYE)
        link->backoff = BACKOFF_FIRST;
    agent_link_down(link->agent);
    link_close(link, LINK_CLOSED);
    pause = link->backoff / 2 + random() % link->backoff; /* so that not all links come at once */
    link->backoff = 2 * link->backoff < BACKOFF_LAST ? 2 * link->backoff : BACKOFF_LAST;
    set_timer(link->timer, pause * MILLISECOND);
}

/* Sends one round of what the agent has. Returns false if the link was lost. */
static bool
link_send(struct link *link)
{
    size_t len;
    const uint8_t *data = agent_output(link->agent, now_ns(), &len);
    ssize_t sent;

    if (!data)
        return true;
    if (link->door.kind == DOOR_DEVICE)
        sent = write(link->fd, data, len);
    else
        sent = send(link->fd, data, len, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        link_lost(link, strerror(errno));
        return false;
    }
    if (sent > 0)
        agent_sent(link->agent, now_ns(), (size_t)sent);
    if ((size_t)(sent > 0 ? sent : 0) < len || agent_output(link->agent, now_ns(), &len))
        event_add(link->writing, NULL);
    return true;
}

/* BYE is out: waits a moment for gimuxd to close, so that it reads BYE and not an error. */
static void
link_linger(struct link *link)
{
    if (link->fd < 0 || link->door.kind == DOOR_DEVICE) {
        link_lost(link, "done");
        return;
    }
    shutdown(link->fd, SHUT_WR);
    link->state = LINK_LINGER;
    set_timer(link->timer, LINGER_TIME);
}

static void
link_pump(struct link *link)
{
    bool more = false;
    int64_t next;
    int64_t wait;

    if (link->state == LINK_LINGER || link->state == LINK_ENDED)
        return;
    if (!agent_timer(link->agent, now_ns(), &next)) {
        link_lost(link, agent_why(link->agent));
        return;
    }
    if (link->state == LINK_OPEN) {
        if (link->door.kind == DOOR_NONE)
            more = nowhere_take(link->agent, now_ns());
        else if (!link_send(link))
            return;
        if (agent_state(link->agent) == AGENT_DONE) {
            link_linger(link);
            return;
        }
        if (!agent_timer(link->agent, now_ns(), &next)) {
            link_lost(link, agent_why(link->agent));
            return;
        }
    }
    if (link->state == LINK_CLOSED && event_pending(link->timer, EV_TIMEOUT, NULL))
        return; /* it is set for opening the link again, which is soon */
    wait = more ? 0 : next - now_ns();
    if (next == SOURCE_NEVER && !more)
        event_del(link->timer);
    else
        set_timer(link->timer, wait > MILLISECOND ? wait : MILLISECOND); /* at most 1000 times a second */
}

static void
link_established(struct link *link)
{
    link->state = LINK_OPEN;
    agent_link_up(link->agent, now_ns());
    link_pump(link);
}

/* ---- what happens to a link ---- */

/* Firecracker's greeting: one line before the conversation. */
static void
read_greeting(struct link *link)
{
    static const char answer[] = "OK 1073741824\n";
    ssize_t got = read(link->fd, link->greeting + link->greeting_len, 1);

    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            link_lost(link, "closed before CONNECT");
        return;
    }
    if (link->greeting[link->greeting_len++] != '\n') {
        if (link->greeting_len == GREETING_MAX - 1)
            link_lost(link, "expected the line CONNECT PORT");
        return;
    }
    link->greeting[link->greeting_len] = '\0';
    if (strncmp(link->greeting, "CONNECT ", strlen("CONNECT ")) != 0 ||
        send(link->fd, answer, strlen(answer), MSG_NOSIGNAL) != (ssize_t)strlen(answer)) {
        link_lost(link, "expected the line CONNECT PORT");
        return;
    }
    link_established(link);
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct link *link = arg;
    uint8_t data[65536];
    ssize_t got;

    (void)what;
    if (link->state == LINK_GREETING) {
        read_greeting(link);
        return;
    }
    got = read(fd, data, sizeof(data));
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (link->state == LINK_LINGER) {
        if (got <= 0)
            link_lost(link, "done");
        return;
    }
    if (got <= 0) {
        link_lost(link, got == 0 ? "connection closed" : strerror(errno));
        return;
    }
    if (!agent_receive(link->agent, now_ns(), data, (size_t)got)) {
        link_lost(link, agent_why(link->agent));
        return;
    }
    link_pump(link);
}

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct link *link = arg;
    int error = 0;
    socklen_t len = sizeof(error);

    (void)what;
    if (link->state == LINK_CONNECTING) {
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error != 0)
            link_lost(link, strerror(error));
        else
            link_established(link);
        return;
    }
    link_pump(link);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct link *link = arg;

    (void)fd;
    (void)what;
    if (link->state == LINK_CLOSED && !link->listener)
        link_open(link);
    else if (link->state == LINK_LINGER)
        link_lost(link, "done");
    else
        link_pump(link);
}

static void
link_attach(struct link *link, int fd)
{
    link->fd = fd;
    link->reading = event_new(link->loop->base, fd, EV_READ | EV_PERSIST, on_readable, link);
    link->writing = event_new(link->loop->base, fd, EV_WRITE, on_writable, link);
    event_add(link->reading, NULL);
}

static void
link_open(struct link *link)
{
    int fd;

    if (link->door.kind == DOOR_NONE) {
        link_established(link);
        return;
    }
    fd = door_open(&link->door);
    if (fd < 0) {
        char why[ADDRESS_TEXT_MAX + 128];
        char address[ADDRESS_TEXT_MAX];

        snprintf(why, sizeof(why), "cannot open %s: %s; trying again",
                 link->door.device ? link->door.device : address_format(&link->door.address, address),
                 strerror(errno));
        link_lost(link, why);
        return;
    }
    link_attach(link, fd);
    if (link->door.kind == DOOR_DEVICE) {
        link_established(link);
        return;
    }
    link->state = LINK_CONNECTING;
    event_add(link->writing, NULL);
}

/* ---- being dialled ---- */

static void
on_accept(evutil_socket_t fd, short what, void *arg)
{
    struct listener *listener = arg;
    struct loop *loop = listener->loop;
    int peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    (void)what;
    if (peer < 0)
        return;
    for (size_t i = 0; i < loop->count; i++) {
        struct link *link = loop->links[i];

        if (link->listener != listener || link->state != LINK_CLOSED)
            continue;
        link_attach(link, peer);
        link->greeting_len = 0;
        if (loop->options->firecracker)
            link->state = LINK_GREETING;
        else
            link_established(link);
        return;
    }
    close(peer); /* all links of this path are taken */
}

static struct listener *
listener_get(struct loop *loop, const struct door *door)
{
    struct listener *listener;
    int fd;

    for (listener = loop->listeners; listener; listener = listener->next)
        if (strcmp(listener->path, door->address.path) == 0)
            return listener;
    fd = door_listen(door);
    if (fd < 0)
        return NULL;
    listener = must_calloc(1, sizeof(*listener));
    strcpy(listener->path, door->address.path);
    listener->loop = loop;
    listener->event = event_new(loop->base, fd, EV_READ | EV_PERSIST, on_accept, listener);
    event_add(listener->event, NULL);
    listener->next = loop->listeners;
    loop->listeners = listener;
    return listener;
}

/* ---- the loop ---- */

/* The time to drain is over: ends with what is acknowledged by now. */
static void
on_drained(evutil_socket_t fd, short what, void *arg)
{
    struct loop *loop = arg;

    (void)fd;
    (void)what;
    event_base_loopbreak(loop->base);
}

static void
on_stop(evutil_socket_t fd, short what, void *arg)
{
    struct loop *loop = arg;

    (void)fd;
    (void)what;
    if (loop->watching) {
        loop->readable(loop->readable_arg); /* what happened before the signal still counts */
        event_del(loop->watching);
    }
    set_timer(loop->drain_timer, (int64_t)(loop->options->drain * SECOND));
    for (size_t i = 0; i < loop->count; i++) {
        struct link *link = loop->links[i];

        agent_stop(link->agent);
        if (link->state != LINK_OPEN && link->state != LINK_LINGER && agent_idle(link->agent))
            link_close(link, LINK_ENDED);
        else
            link_pump(link);
    }
}

static void
on_watched(evutil_socket_t fd, short what, void *arg)
{
    struct loop *loop = arg;

    (void)fd;
    (void)what;
    loop->readable(loop->readable_arg);
    for (size_t i = 0; i < loop->count; i++)
        link_pump(loop->links[i]);
}

static void
on_progress(evutil_socket_t fd, short what, void *arg)
{
    struct loop *loop = arg;

    (void)fd;
    (void)what;
    for (size_t i = 0; i < loop->count; i++)
        progress_add(loop->progress, agent_counters(loop->links[i]->agent));
    progress_show(loop->progress);
}

struct loop *
loop_new(const struct options *options)
{
    static const int stop_signals[] = { SIGINT, SIGTERM };
    struct loop *loop = must_calloc(1, sizeof(*loop));

    loop->options = options;
    loop->base = event_base_new();
    if (!loop->base) {
        fputs("thinagent-sim: cannot make an event loop\n", stderr);
        free(loop);
        return NULL;
    }
    srandom((unsigned)now_ns());
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < 2; i++) {
        loop->signals[i] = evsignal_new(loop->base, stop_signals[i], on_stop, loop);
        event_add(loop->signals[i], NULL);
    }
    loop->stop_timer = evtimer_new(loop->base, on_stop, loop);
    loop->drain_timer = evtimer_new(loop->base, on_drained, loop);
    loop->progress_timer = event_new(loop->base, -1, EV_PERSIST, on_progress, loop);
    return loop;
}

bool
loop_add(struct loop *loop, struct agent *agent)
{
    struct link *link = must_calloc(1, sizeof(*link));

    link->loop = loop;
    link->agent = agent;
    link->fd = -1;
    link->backoff = BACKOFF_FIRST;
    link->timer = evtimer_new(loop->base, on_timer, link);
    loop->links = must_realloc(loop->links, (loop->count + 1) * sizeof(struct link *));
    loop->links[loop->count++] = link;
    loop->running++;
    if (!door_of(loop->options, agent_config(agent)->vm_uuid, &link->door))
        return false;
    if (link->door.kind == DOOR_LISTEN) {
        link->listener = listener_get(loop, &link->door);
        return link->listener != NULL;
    }
    return true;
}

bool
loop_watch(struct loop *loop, int fd, void (*readable)(void *arg), void *arg)
{
    loop->readable = readable;
    loop->readable_arg = arg;
    loop->watching = event_new(loop->base, fd, EV_READ | EV_PERSIST, on_watched, loop);
    return loop->watching && event_add(loop->watching, NULL) == 0;
}

void
loop_stop_after(struct loop *loop, double seconds)
{
    set_timer(loop->stop_timer, (int64_t)(seconds * SECOND));
}

void
loop_run(struct loop *loop)
{
    static const struct timeval often = { .tv_usec = PROGRESS_TIME };

    loop->progress = progress_new();
    if (loop->progress)
        event_add(loop->progress_timer, &often);
    for (size_t i = 0; i < loop->count; i++)
        set_timer(loop->links[i]->timer, 0);
    if (loop->running > 0)
        event_base_dispatch(loop->base);
    progress_end(loop->progress);
    loop->progress = NULL;
}

void
loop_free(struct loop *loop)
{
    if (!loop)
        return;
    for (size_t i = 0; i < loop->count; i++) {
        struct link *link = loop->links[i];

        link_close(link, LINK_ENDED);
        event_free(link->timer);
        free(link->complaint);
        free(link);
    }
    free(loop->links);
    while (loop->listeners) {
        struct listener *next = loop->listeners->next;

        close(event_get_fd(loop->listeners->event));
        event_free(loop->listeners->event);
        unlink(loop->listeners->path);
        free(loop->listeners);
        loop->listeners = next;
    }
    event_free(loop->signals[0]);
    event_free(loop->signals[1]);
    event_free(loop->stop_timer);
    event_free(loop->drain_timer);
    event_free(loop->progress_timer);
    if (loop->watching)
        event_free(loop->watching);
    event_base_free(loop->base);
    free(loop);
}
