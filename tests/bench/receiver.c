/* The receivers: SVMs that read events and check their order, one thread for all of them, the same for every
 * system. */
#include "tests/bench/receiver.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/wire.h"

#define WAIT_NS   20000000l
#define ACK_AFTER 256 /* events */

void
receivers_init(struct receivers *receivers, unsigned count, uint32_t sources)
{
    memset(receivers, 0, sizeof(*receivers));
    receivers->count = count;
    for (unsigned i = 0; i < count; i++) {
        struct receiver *receiver = &receivers->all[i];

        receiver->fd = -1;
        receiver->index = i;
        receiver->sources = sources;
        receiver->buf = malloc(RECEIVER_BUFFER);
        receiver->next = calloc(sources, sizeof(uint64_t));
        if (!receiver->buf || !receiver->next)
            abort();
        for (uint32_t j = 0; j < sources; j++)
            receiver->next[j] = 1;
    }
}

void
receivers_fini(struct receivers *receivers)
{
    for (unsigned i = 0; i < receivers->count; i++) {
        struct receiver *receiver = &receivers->all[i];

        SSL_free(receiver->ssl);
        if (receiver->fd >= 0)
            close(receiver->fd);
        free(receiver->buf);
        free(receiver->next);
        free(receiver->state);
    }
}

/* All that is there, as one recv would bring it: OpenSSL gives a record at a time. */
static ssize_t
read_tls(struct receiver *receiver, uint8_t *out, size_t room)
{
    size_t len = 0, got;

    while (len < room && SSL_read_ex(receiver->ssl, out + len, room - len, &got) == 1)
        len += got;
    if (len > 0)
        return (ssize_t)len;
    return SSL_get_error(receiver->ssl, 0) == SSL_ERROR_WANT_READ ? 0 : -1;
}

ssize_t
receiver_read(struct receiver *receiver, void *out, size_t room)
{
    ssize_t got;

    if (receiver->ssl)
        return read_tls(receiver, out, room);
    got = recv(receiver->fd, out, room, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    return got > 0 ? got : -1;
}

bool
receiver_write(struct receiver *receiver, const void *data, size_t len)
{
    struct pollfd poll_fd = { .fd = receiver->fd, .events = POLLOUT };

    if (!receiver->ssl)
        return wire_send(receiver->fd, data, len);
    for (;;) {
        int put = SSL_write(receiver->ssl, data, (int)len);

        if (put > 0)
            return true;
        if (SSL_get_error(receiver->ssl, put) != SSL_ERROR_WANT_WRITE || poll(&poll_fd, 1, 10000) != 1)
            return false;
    }
}

static void
acknowledge(struct receivers *all, struct receiver *receiver)
{
    all->ack(receiver);
    receiver->unacked = 0;
    receiver->ack_due = 0;
}

/* What one read has brought. */
static void
take(struct receivers *all, struct receiver *receiver)
{
    uint64_t before = atomic_load_explicit(&receiver->count, memory_order_relaxed), after;
    size_t used;

    receiver->now = wire_now();
    receiver->timed = atomic_load_explicit(&all->timed, memory_order_relaxed);
    used = all->take(receiver, receiver->buf, receiver->len);
    receiver->len -= used;
    memmove(receiver->buf, receiver->buf + used, receiver->len);
    after = atomic_load_explicit(&receiver->count, memory_order_relaxed);
    if (after != before)
        atomic_store_explicit(&receiver->last_at, wire_clock(), memory_order_relaxed);
    if (receiver->wrong || receiver->len == RECEIVER_BUFFER)
        atomic_store(&all->broken, true);
    if (!all->ack || receiver->unacked == 0)
        return;
    if (all->ack_us == 0 || receiver->unacked >= ACK_AFTER)
        acknowledge(all, receiver);
    else if (receiver->ack_due == 0)
        receiver->ack_due = receiver->now + all->ack_us * UINT64_C(1000);
}

static void
serve(struct receivers *all, struct receiver *receiver)
{
    do {
        ssize_t got = receiver_read(receiver, receiver->buf + receiver->len, RECEIVER_BUFFER - receiver->len);

        if (got < 0)
            atomic_store(&all->broken, true);
        if (got <= 0)
            return;
        receiver->len += (size_t)got;
        take(all, receiver);
    } while (receiver->ssl && !receiver->wrong); /* what OpenSSL has already is not seen by epoll */
}

/* Sends what is due; returns how long the next one has time, in nanoseconds. */
static long
acknowledge_due(struct receivers *all)
{
    uint64_t now = 0;
    long wait = WAIT_NS;

    for (unsigned i = 0; i < all->count; i++) {
        struct receiver *receiver = &all->all[i];

        if (receiver->ack_due == 0)
            continue;
        now = now ? now : wire_now();
        if (now >= receiver->ack_due)
            acknowledge(all, receiver);
        else if ((long)(receiver->ack_due - now) < wait)
            wait = (long)(receiver->ack_due - now);
    }
    return wait;
}

static void *
run(void *arg)
{
    struct receivers *all = arg;
    struct epoll_event events[RECEIVERS_MAX];

    prctl(PR_SET_TIMERSLACK, 1ul);
    while (!atomic_load(&all->ends) && !atomic_load(&all->broken)) {
        struct timespec wait = { 0, acknowledge_due(all) };
        int count = epoll_pwait2(all->poller, events, RECEIVERS_MAX, &wait, NULL);

        for (int i = 0; i < count; i++)
            serve(all, events[i].data.ptr);
    }
    return NULL;
}

bool
receivers_start(struct receivers *receivers)
{
    receivers->poller = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; i < receivers->count; i++) {
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = &receivers->all[i] };

        if (epoll_ctl(receivers->poller, EPOLL_CTL_ADD, receivers->all[i].fd, &event) != 0)
            return false;
    }
    return pthread_create(&receivers->thread, NULL, run, receivers) == 0;
}

void
receivers_stop(struct receivers *receivers)
{
    atomic_store(&receivers->ends, true);
    pthread_join(receivers->thread, NULL);
    close(receivers->poller);
}
