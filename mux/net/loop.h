/* The event loop: watches on descriptors, timers, signals, names, and work put off to the end of a turn. Of
 * mux, no other files but the operator room's, which serve HTTP, know libevent. One thread; every callback
 * runs to its end. */
#ifndef GIMUX_NET_LOOP_H
#define GIMUX_NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct loop;
struct event_base; /* libevent's */

struct loop *loop_new(void);       /* NULL if the system gives none */
void loop_free(struct loop *loop); /* runs the tasks that are queued first; NULL is fine */

/* Runs turns until loop_stop, or until libevent fails. A turn waits for events, runs their callbacks, then
 * the tasks. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop); /* this turn is the last */

/* For evhttp. Its callbacks do not begin a turn: those that may take long call loop_begin. */
struct event_base *loop_base(struct loop *loop);

/* When this turn began, as loop_now_ns; 0: no turn has begun. A turn begins with its first callback, and ends
 * when the tasks are done. How long it took goes into stats.loop_busy. */
uint64_t loop_turn_began(const struct loop *loop);
void loop_begin(struct loop *loop); /* begins the turn, unless it has begun */

/* Milliseconds of a clock that only goes forward. */
uint64_t loop_now(void);

/* The same clock in nanoseconds. */
uint64_t loop_now_ns(void);

/* ---- descriptors ---- */

#define LOOP_READ  1u
#define LOOP_WRITE 2u

struct loop_watch;
typedef void loop_watch_fn(void *arg, unsigned events); /* LOOP_READ | LOOP_WRITE */

/* Watches a descriptor, at first for nothing. NULL if out of memory. The descriptor stays the caller's. */
struct loop_watch *loop_watch_new(struct loop *loop, int fd, loop_watch_fn *fn, void *arg);
void loop_watch_set(struct loop_watch *watch, unsigned events); /* LOOP_READ | LOOP_WRITE; 0: for nothing */

/* The watch is not called afterwards, not even in this turn. NULL is fine. */
void loop_watch_free(struct loop_watch *watch);

/* ---- timers ---- */

struct loop_timer;
typedef void loop_timer_fn(void *arg);

/* A timer that does not run yet. NULL if out of memory. */
struct loop_timer *loop_timer_new(struct loop *loop, loop_timer_fn *fn, void *arg);
void loop_timer_start(struct loop_timer *timer,
                      uint32_t ms); /* once, in ms milliseconds; replaces an earlier start */
void loop_timer_stop(struct loop_timer *timer);
void loop_timer_free(struct loop_timer *timer); /* NULL is fine */

/* ---- signals ---- */

/* Calls fn in the loop whenever the signal comes, until loop_free. False if that cannot be set up, or eight
 * signals are. */
bool loop_signal(struct loop *loop, int signo, loop_timer_fn *fn, void *arg);

/* ---- the end of a turn ---- */

/* Embedded in its owner; zero-initialize, then set fn and arg. Queued at most once; runs once, at the end of
 * the turn, and may be queued again from then on. Objects are freed here, so that no callback loses what it
 * works on. */
struct loop_task {
    void (*fn)(void *arg);
    void *arg;
    struct loop_task *next;
    bool queued;
};
void loop_defer(struct loop *loop, struct loop_task *task);

/* Runs the queued tasks now, and those that they queue. For what is done after loop_run has returned. */
void loop_flush(struct loop *loop);

/* Takes a task out of the queue, if it is there. */
void loop_cancel(struct loop *loop, struct loop_task *task);

/* ---- names ---- */

struct loop_lookup;
/* len 0: no address was found, and `why` (static memory) says why. Called once, unless the lookup is
 * cancelled before. */
typedef void loop_lookup_fn(void *arg, const struct sockaddr_storage *address, socklen_t len,
                            const char *why);

/* Resolves a host name without blocking; the address carries `port`. The answer never comes within this call.
 * NULL if out of memory, or the resolver cannot be set up. The handle is not valid after the answer. */
struct loop_lookup *loop_resolve(struct loop *loop, const char *host, uint16_t port, loop_lookup_fn *fn,
                                 void *arg);
void loop_lookup_cancel(struct loop_lookup *lookup); /* NULL is fine */

#endif
