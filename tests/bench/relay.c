/* relay: the limit. One thread that hands on what producers write to all receivers, and looks at none of it.
 *
 *     relay SOCKET PORT RECEIVERS
 *
 * Producers come by a UNIX socket, receivers by a TCP port of 127.0.0.1. What one read brings goes out to
 * each receiver in one write. Nothing is lost: a receiver that is slow makes the relay wait. Producers write
 * whole events at a time, and only a full buffer can cut one; then the same producer is read on, so that no
 * event is torn. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BUFFER        (128u << 10)
#define RECEIVERS_MAX 64
#define EVENTS_MAX    256

static int receivers[RECEIVERS_MAX];
static unsigned receiver_count;

static void
check(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void
put(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t done = send(fd, data, len, MSG_NOSIGNAL);

        check(done > 0 || errno == EINTR, "send");
        data += done > 0 ? done : 0;
        len -= done > 0 ? (size_t)done : 0;
    }
}

/* Returns false at the end. */
static bool
hand_on(int fd)
{
    static char buffer[BUFFER];
    ssize_t got;

    do {
        got = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
        if (got <= 0)
            return got < 0 && (errno == EAGAIN || errno == EINTR);
        for (unsigned i = 0; i < receiver_count; i++)
            put(receivers[i], buffer, (size_t)got);
    } while (got == (ssize_t)sizeof(buffer));
    return true;
}

static int
listen_unix(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    check(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 4096) == 0, path);
    return fd;
}

static void
take_receivers(uint16_t port, unsigned count)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(port),
                                   .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int one = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    check(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 64) == 0, "listen");
    for (receiver_count = 0; receiver_count < count; receiver_count++) {
        receivers[receiver_count] = accept(fd, NULL, NULL);
        check(receivers[receiver_count] >= 0, "accept");
        setsockopt(receivers[receiver_count], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    close(fd);
}

int
main(int argc, char **argv)
{
    struct epoll_event events[EVENTS_MAX];
    unsigned count = argc == 4 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
    int poller = epoll_create1(0);
    int listener;

    if (count < 1 || count > RECEIVERS_MAX) {
        fprintf(stderr, "usage: relay SOCKET PORT RECEIVERS\n");
        return 2;
    }
    listener = listen_unix(argv[1]);
    take_receivers((uint16_t)strtoul(argv[2], NULL, 10), count);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener,
              &(struct epoll_event){ .events = EPOLLIN, .data.fd = listener });
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS_MAX, -1);

        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;

            if (fd == listener) {
                fd = accept(listener, NULL, NULL);
                if (fd >= 0)
                    epoll_ctl(poller, EPOLL_CTL_ADD, fd,
                              &(struct epoll_event){ .events = EPOLLIN, .data.fd = fd });
            } else if (!hand_on(fd)) {
                close(fd);
            }
        }
    }
}
