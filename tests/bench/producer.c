/* The producers: drivers that write events, one thread for all of them, the same for every system. */
#include "tests/bench/producer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/wire.h"

#define EVENTS_MAX  256
#define POLL_NS     1000000u /* how often a paced run looks at its sockets */
#define IDLE_MS     5
#define BEHIND_NS   100000000u /* pacing that is this late starts again */
#define NSEC        UINT64_C(1000000000)
#define LEAD        2048 /* events that one may be ahead of the slowest: all systems get the same mix */
#define TURN_STRIDE 37   /* one after the other would be too regular */

/* ---- writing ---- */

/* Only one that was refused asks to be told when it may write: one that waits for an acknowledgement must not
 * be woken, at the cost of the system, by every read. */
static void
set_blocked(const struct producers *all, struct producer *producer, bool blocked)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLET | (blocked ? EPOLLOUT : 0),
                                 .data.ptr = producer };

    if (producer->blocked == blocked)
        return;
    producer->blocked = blocked;
    epoll_ctl(all->poller, EPOLL_CTL_MOD, producer->fd, &event);
}

static void
keep_rest(const struct producers *all, struct producer *producer, const uint8_t *data, size_t len)
{
    producer->rest = realloc(producer->rest, len);
    if (!producer->rest)
        abort();
    memcpy(producer->rest, data, len);
    producer->rest_len = len;
    set_blocked(all, producer, true);
}

static void
put_rest(struct producers *all, struct producer *producer)
{
    ssize_t put;

    if (producer->rest_len == 0)
        return;
    put = send(producer->fd, producer->rest, producer->rest_len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0) {
        set_blocked(all, producer, true);
        if (errno != EAGAIN)
            atomic_store(&all->broken, true);
        return;
    }
    producer->rest_len -= (size_t)put;
    memmove(producer->rest, producer->rest + put, producer->rest_len);
    set_blocked(all, producer, producer->rest_len > 0);
}

static bool
may_send(const struct producers *all, const struct producer *producer)
{
    if (producer->blocked)
        return false;
    return !all->listen || producer->next - producer->acked <= all->burst ||
           tape_bytes(producer->tape, producer->next - 1 + all->burst) -
                   tape_bytes(producer->tape, producer->acked) <=
               all->window;
}

/* Writes one burst. Returns whether it was taken. */
static bool
send_burst(struct producers *all, struct producer *producer)
{
    const struct tape *tape = producer->tape;
    uint32_t index = (uint32_t)((producer->next - 1) % MIX_EVENTS);
    const uint8_t *data = tape->bytes + tape->at[index];
    size_t len = tape->at[index + all->burst] - tape->at[index];
    uint64_t now = wire_now();
    ssize_t put;

    for (unsigned i = 0; i < all->burst; i++)
        tape_put(tape, index + i, producer->id, producer->tag, producer->next + i, now);
    put = send(producer->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0) {
        set_blocked(all, producer, true);
        if (errno != EAGAIN)
            atomic_store(&all->broken, true);
        return false;
    }
    producer->next += all->burst;
    if ((size_t)put < len)
        keep_rest(all, producer, data + put, len - (size_t)put);
    return true;
}

static bool
send_round(struct producers *all)
{
    uint64_t slowest = UINT64_MAX;
    bool any = false;

    for (uint32_t i = 0; i < all->count; i++)
        slowest = all->all[i].next < slowest ? all->all[i].next : slowest;
    for (uint32_t i = 0; i < all->count; i++)
        if (all->all[i].next < slowest + LEAD && may_send(all, &all->all[i]))
            any |= send_burst(all, &all->all[i]);
    return any;
}

/* Writes for the next producer that can; false if none can. */
static bool
send_any(struct producers *all)
{
    for (uint32_t tried = 0; tried < all->count; tried++) {
        struct producer *producer = &all->all[all->turn];

        all->turn = (all->turn + TURN_STRIDE) % all->count;
        if (may_send(all, producer) && send_burst(all, producer))
            return true;
    }
    return false;
}

static uint64_t
due_at(const struct producers *all, uint64_t event)
{
    return all->began + event * NSEC / all->rate;
}

static void
send_due(struct producers *all)
{
    uint64_t now = wire_clock();

    if (all->began == 0 || now > due_at(all, all->paced) + BEHIND_NS) {
        all->began = now;
        all->paced = 0;
    }
    while (due_at(all, all->paced) <= now && send_any(all))
        all->paced += all->burst;
}

/* ---- listening ---- */

static void
take_input(struct producers *all, struct producer *producer)
{
    for (;;) {
        size_t used;
        ssize_t got = recv(producer->fd, producer->in + producer->in_len,
                           sizeof(producer->in) - producer->in_len, MSG_DONTWAIT);

        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
            atomic_store(&all->broken, true);
        if (got <= 0)
            return;
        producer->in_len += (size_t)got;
        used = all->listen ? all->listen(producer, producer->in, producer->in_len) : producer->in_len;
        producer->in_len -= used;
        memmove(producer->in, producer->in + used, producer->in_len);
    }
}

static void
look(struct producers *all, int wait_ms)
{
    struct epoll_event events[EVENTS_MAX];
    int count = epoll_wait(all->poller, events, EVENTS_MAX, wait_ms);

    for (int i = 0; i < count; i++) {
        struct producer *producer = events[i].data.ptr;

        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
            take_input(all, producer);
        if (events[i].events & EPOLLOUT) {
            set_blocked(all, producer, false);
            put_rest(all, producer);
        }
    }
}

static void
tell_state(struct producers *all)
{
    bool quiet = true, acked = true;

    for (uint32_t i = 0; i < all->count; i++) {
        quiet = quiet && all->all[i].rest_len == 0;
        acked = acked && all->all[i].acked >= all->all[i].next - 1;
    }
    atomic_store(&all->all_acked, !all->listen || acked);
    atomic_store(&all->quiet, quiet);
}

static void
sleep_until_due(const struct producers *all)
{
    uint64_t due = due_at(all, all->paced);
    struct timespec at = { (time_t)(due / NSEC), (long)(due % NSEC) };

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static void *
run(void *arg)
{
    struct producers *all = arg;
    enum producer_phase phase;

    prctl(PR_SET_TIMERSLACK, 1ul);
    while ((phase = atomic_load(&all->phase)) != PRODUCE_END && !atomic_load(&all->broken)) {
        if (phase == PRODUCE_NOTHING) {
            all->began = 0;
            look(all, IDLE_MS);
            tell_state(all);
        } else if (all->rate == 0) {
            look(all, send_round(all) ? 0 : IDLE_MS);
        } else {
            send_due(all);
            if (wire_clock() - all->polled > POLL_NS) {
                look(all, 0);
                all->polled = wire_clock();
            }
            sleep_until_due(all);
        }
    }
    return NULL;
}

/* ---- the thread ---- */

bool
producers_start(struct producers *producers)
{
    producers->poller = epoll_create1(EPOLL_CLOEXEC);
    for (uint32_t i = 0; i < producers->count; i++) {
        struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.ptr = &producers->all[i] };

        if (epoll_ctl(producers->poller, EPOLL_CTL_ADD, producers->all[i].fd, &event) != 0)
            return false;
    }
    atomic_store(&producers->phase, PRODUCE_NOTHING);
    return pthread_create(&producers->thread, NULL, run, producers) == 0;
}

void
producers_stop(struct producers *producers)
{
    atomic_store(&producers->phase, PRODUCE_END);
    pthread_join(producers->thread, NULL);
    close(producers->poller);
}

uint64_t
producers_sent(const struct producers *producers)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < producers->count; i++)
        sum += producers->all[i].next - 1;
    return sum;
}
