/* Sockets and clocks of the benchmark: what is done before anything is measured, waiting. */
#include "tests/bench/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_SECONDS 10
#define NSEC_PER_SEC     UINT64_C(1000000000)

static uint64_t
now_of(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

uint64_t
wire_now(void)
{
    return now_of(CLOCK_REALTIME);
}

uint64_t
wire_clock(void)
{
    return now_of(CLOCK_MONOTONIC);
}

static void
be_patient(int fd)
{
    struct timeval patience = { PATIENCE_SECONDS, 0 };

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
}

static int
dial(const struct sockaddr *address, socklen_t len)
{
    uint64_t until = wire_clock() + PATIENCE_SECONDS * NSEC_PER_SEC;
    int one = 1;

    while (wire_clock() < until) {
        int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0)
            return -1;
        be_patient(fd);
        if (connect(fd, address, len) == 0) {
            if (address->sa_family == AF_INET)
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
            return fd;
        }
        close(fd);
        usleep(2000);
    }
    return -1;
}

int
wire_dial_unix(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    if ((size_t)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >= sizeof(address.sun_path))
        return -1;
    return dial((const struct sockaddr *)&address, sizeof(address));
}

int
wire_dial_tcp(uint16_t port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(port),
                                   .sin_addr = { htonl(INADDR_LOOPBACK) } };

    return dial((const struct sockaddr *)&address, sizeof(address));
}

int
wire_listen(uint16_t *port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    be_patient(fd);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 16) == 0 &&
        getsockname(fd, (struct sockaddr *)&address, &len) == 0) {
        *port = ntohs(address.sin_port);
        return fd;
    }
    close(fd);
    return -1;
}

uint16_t
wire_free_port(void)
{
    uint16_t port = 0;
    int fd = wire_listen(&port);

    if (fd >= 0)
        close(fd);
    return port;
}

int
wire_accept(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    int one = 1;

    if (fd < 0)
        return -1;
    be_patient(fd);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

bool
wire_send(int fd, const void *data, size_t len)
{
    const char *at = data;

    while (len > 0) {
        ssize_t put = send(fd, at, len, MSG_NOSIGNAL);
        struct pollfd poll_fd = { .fd = fd, .events = POLLOUT };

        if (put < 0 && errno == EAGAIN && poll(&poll_fd, 1, PATIENCE_SECONDS * 1000) == 1)
            continue;
        if (put < 0 && errno != EINTR)
            return false;
        at += put > 0 ? put : 0;
        len -= put > 0 ? (size_t)put : 0;
    }
    return true;
}

bool
wire_read(int fd, void *out, size_t len)
{
    char *at = out;

    while (len > 0) {
        ssize_t got = recv(fd, at, len, 0);

        if (got <= 0)
            return false;
        at += got;
        len -= (size_t)got;
    }
    return true;
}

bool
wire_expect(int fd, const char *end, char *out, size_t size)
{
    char tail[64] = "";
    size_t want = strlen(end), used = 0;
    char c;

    while (recv(fd, &c, 1, 0) == 1) {
        memmove(tail, tail + 1, want - 1);
        tail[want - 1] = c;
        if (used + 1 < size)
            out[used++] = c;
        if (memcmp(tail, end, want) == 0) {
            out[used] = '\0';
            return true;
        }
    }
    return false;
}

void
wire_no_wait(int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}
