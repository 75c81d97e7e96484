/* The event loop: watches on descriptors, timers, signals, names, and work put off to the end of a turn. */
#include "mux/net/loop.h"

#include <event2/dns.h>
#include <event2/event.h>
#include <event2/util.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mux/base/stats.h"

#define LOOP_SIGNALS 8

struct signal_handler {
    struct loop *loop;
    loop_timer_fn *fn;
    void *arg;
};

struct loop {
    struct event_base *base;
    struct evdns_base *dns; /* made at the first lookup */
    struct loop_task *tasks;
    struct loop_task **tasks_end;
    struct event *signals[LOOP_SIGNALS];
    struct signal_handler handlers[LOOP_SIGNALS];
    int signal_count;
    uint64_t began; /* when this turn began; 0: it has not */
    bool stopping;
};

struct loop_watch {
    struct event *event;
    struct loop *loop;
    int fd;
    unsigned events;
    loop_watch_fn *fn;
    void *arg;
};

struct loop_timer {
    struct event *event;
    struct loop *loop;
    loop_timer_fn *fn;
    void *arg;
};

struct loop_lookup {
    struct evdns_getaddrinfo_request *request;
    struct loop *loop;
    struct loop_task answer;
    struct sockaddr_storage address;
    socklen_t len;
    const char *why;
    loop_lookup_fn *fn;
    void *arg;
};

struct loop *
loop_new(void)
{
    struct loop *loop = calloc(1, sizeof(*loop));

    if (!loop)
        return NULL;
    loop->base = event_base_new();
    if (!loop->base) {
        loop_free(loop);
        return NULL;
    }
    loop->tasks_end = &loop->tasks;
    return loop;
}

void
loop_flush(struct loop *loop)
{
    struct loop_task *task;

    while ((task = loop->tasks)) {
        loop->tasks = task->next;
        if (!loop->tasks)
            loop->tasks_end = &loop->tasks;
        task->queued = false;
        task->fn(task->arg);
    }
}

void
loop_free(struct loop *loop)
{
    if (!loop)
        return;
    loop_flush(loop);
    for (int i = 0; i < loop->signal_count; i++)
        event_free(loop->signals[i]);
    if (loop->dns)
        evdns_base_free(loop->dns, 0);
    if (loop->base)
        event_base_free(loop->base);
    free(loop);
}

void
loop_run(struct loop *loop)
{
    loop_flush(loop);
    while (!loop->stopping) {
        if (event_base_loop(loop->base, EVLOOP_ONCE) < 0)
            break;
        loop_flush(loop);
        if (loop->began != 0)
            histogram_observe(&stats.loop_busy, loop_now_ns() - loop->began);
        loop->began = 0;
    }
}

void
loop_stop(struct loop *loop)
{
    loop->stopping = true;
}

struct event_base *
loop_base(struct loop *loop)
{
    return loop->base;
}

uint64_t
loop_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t
loop_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void
loop_begin(struct loop *loop)
{
    if (loop->began == 0)
        loop->began = loop_now_ns();
}

uint64_t
loop_turn_began(const struct loop *loop)
{
    return loop->began;
}

/* ---- descriptors ---- */

static void
on_ready(evutil_socket_t fd, short what, void *arg)
{
    struct loop_watch *watch = arg;

    (void)fd;
    loop_begin(watch->loop);
    watch->fn(watch->arg, ((what & EV_READ) ? LOOP_READ : 0) | ((what & EV_WRITE) ? LOOP_WRITE : 0));
}

struct loop_watch *
loop_watch_new(struct loop *loop, int fd, loop_watch_fn *fn, void *arg)
{
    struct loop_watch *watch = calloc(1, sizeof(*watch));

    if (!watch)
        return NULL;
    *watch = (struct loop_watch){ .loop = loop, .fd = fd, .fn = fn, .arg = arg };
    watch->event = event_new(loop->base, fd, EV_PERSIST, on_ready, watch);
    if (!watch->event) {
        free(watch);
        return NULL;
    }
    return watch;
}

void
loop_watch_set(struct loop_watch *watch, unsigned events)
{
    short what = EV_PERSIST;

    if (events == watch->events)
        return;
    if (watch->events)
        event_del(watch->event);
    watch->events = events;
    if (!events)
        return;
    if (events & LOOP_READ)
        what |= EV_READ;
    if (events & LOOP_WRITE)
        what |= EV_WRITE;
    event_assign(watch->event, event_get_base(watch->event), watch->fd, what, on_ready, watch);
    event_add(watch->event, NULL);
}

void
loop_watch_free(struct loop_watch *watch)
{
    if (!watch)
        return;
    event_free(watch->event);
    free(watch);
}

/* ---- timers ---- */

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct loop_timer *timer = arg;

    (void)fd;
    (void)what;
    loop_begin(timer->loop);
    timer->fn(timer->arg);
}

struct loop_timer *
loop_timer_new(struct loop *loop, loop_timer_fn *fn, void *arg)
{
    struct loop_timer *timer = calloc(1, sizeof(*timer));

    if (!timer)
        return NULL;
    timer->loop = loop;
    timer->fn = fn;
    timer->arg = arg;
    timer->event = evtimer_new(loop->base, on_timer, timer);
    if (!timer->event) {
        free(timer);
        return NULL;
    }
    return timer;
}

void
loop_timer_start(struct loop_timer *timer, uint32_t ms)
{
    struct timeval after = { .tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000 };

    evtimer_add(timer->event, &after);
}

void
loop_timer_stop(struct loop_timer *timer)
{
    evtimer_del(timer->event);
}

void
loop_timer_free(struct loop_timer *timer)
{
    if (!timer)
        return;
    event_free(timer->event);
    free(timer);
}

/* ---- signals ---- */

static void
on_signal(evutil_socket_t signo, short what, void *arg)
{
    struct signal_handler *handler = arg;

    (void)signo;
    (void)what;
    loop_begin(handler->loop);
    handler->fn(handler->arg);
}

bool
loop_signal(struct loop *loop, int signo, loop_timer_fn *fn, void *arg)
{
    struct signal_handler *handler;
    struct event *event;

    if (loop->signal_count == LOOP_SIGNALS)
        return false;
    handler = &loop->handlers[loop->signal_count];
    *handler = (struct signal_handler){ loop, fn, arg };
    event = evsignal_new(loop->base, signo, on_signal, handler);
    if (!event || evsignal_add(event, NULL) != 0) {
        if (event)
            event_free(event);
        return false;
    }
    loop->signals[loop->signal_count++] = event;
    return true;
}

/* ---- the end of a turn ---- */

void
loop_defer(struct loop *loop, struct loop_task *task)
{
    if (task->queued)
        return;
    task->queued = true;
    task->next = NULL;
    *loop->tasks_end = task;
    loop->tasks_end = &task->next;
}

void
loop_cancel(struct loop *loop, struct loop_task *task)
{
    struct loop_task **at = &loop->tasks;

    if (!task->queued)
        return;
    while (*at != task)
        at = &(*at)->next;
    *at = task->next;
    if (!*at)
        loop->tasks_end = at;
    task->queued = false;
}

/* ---- names ---- */

static void
answer_lookup(void *arg)
{
    struct loop_lookup *lookup = arg;

    lookup->fn(lookup->arg, &lookup->address, lookup->len, lookup->why);
    free(lookup);
}

static void
on_resolved(int result, struct evutil_addrinfo *found, void *arg)
{
    struct loop_lookup *lookup = arg;

    lookup->request = NULL;
    if (result == EVUTIL_EAI_CANCEL) {
        free(lookup);
        return;
    }
    if (result == 0 && found && found->ai_addrlen <= sizeof(lookup->address)) {
        memcpy(&lookup->address, found->ai_addr, found->ai_addrlen);
        lookup->len = (socklen_t)found->ai_addrlen;
    } else {
        lookup->why = evutil_gai_strerror(result);
    }
    if (found)
        evutil_freeaddrinfo(found);
    loop_defer(lookup->loop, &lookup->answer);
}

struct loop_lookup *
loop_resolve(struct loop *loop, const char *host, uint16_t port, loop_lookup_fn *fn, void *arg)
{
    struct evutil_addrinfo hints = { .ai_family = AF_UNSPEC,
                                     .ai_socktype = SOCK_STREAM,
                                     .ai_protocol = IPPROTO_TCP };
    struct loop_lookup *lookup;
    struct evdns_getaddrinfo_request *request;
    char service[8];

    if (!loop->dns)
        loop->dns =
            evdns_base_new(loop->base, EVDNS_BASE_INITIALIZE_NAMESERVERS | EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    lookup = loop->dns ? calloc(1, sizeof(*lookup)) : NULL;
    if (!lookup)
        return NULL;
    lookup->loop = loop;
    lookup->fn = fn;
    lookup->arg = arg;
    lookup->answer = (struct loop_task){ .fn = answer_lookup, .arg = lookup };
    evutil_snprintf(service, sizeof(service), "%u", port);
    request = evdns_getaddrinfo(loop->dns, host, service, &hints, on_resolved, lookup);
    if (request)
        lookup->request = request;
    return lookup;
}

void
loop_lookup_cancel(struct loop_lookup *lookup)
{
    if (!lookup)
        return;
    if (lookup->request) {
        evdns_getaddrinfo_cancel(lookup->request); /* on_resolved comes later and frees */
    } else {
        loop_cancel(lookup->loop, &lookup->answer);
        free(lookup);
    }
}
