/* A relay before an SVM, whose link can be slow, stand still, be cut at any byte, or be reset. */
#include "tests/chaos/relay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

const char *
relay_host(void)
{
    static char text[INET_ADDRSTRLEN];
    unsigned pid = (unsigned)getpid();

    snprintf(text, sizeof(text), "127.%u.%u.%u", 1 + (pid >> 16) % 250, (pid >> 8) % 256, 1 + pid % 254);
    return text;
}

static struct sockaddr_in
own_address(uint16_t port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };

    inet_pton(AF_INET, relay_host(), &address.sin_addr);
    return address;
}

bool
relay_open(struct relay *relay)
{
    struct sockaddr_in address = own_address(0);
    socklen_t len = sizeof(address);
    int size = RELAY_BUFFER;

    memset(relay, 0, sizeof(*relay));
    relay->cut_down = relay->cut_up = -1;
    for (int i = 0; i < RELAY_PAIRS; i++)
        relay->pairs[i].mux = relay->pairs[i].svm = -1;
    relay->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* small, so that a link that stands still is felt at its other end; inherited by what is accepted */
    if (relay->listener >= 0)
        setsockopt(relay->listener, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    if (relay->listener < 0 || bind(relay->listener, (struct sockaddr *)&address, len) != 0 ||
        listen(relay->listener, 16) != 0 ||
        getsockname(relay->listener, (struct sockaddr *)&address, &len) != 0) {
        fprintf(stderr, "chaos: cannot listen: %s\n", strerror(errno));
        return false;
    }
    relay->port = ntohs(address.sin_port);
    return true;
}

static void
end_socket(int fd, bool reset)
{
    struct linger linger = { 1, 0 };

    if (reset)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    close(fd);
}

static void
end_pair(struct relay_pair *pair, bool reset)
{
    if (pair->mux < 0)
        return;
    end_socket(pair->mux, reset);
    end_socket(pair->svm, reset);
    pair->mux = pair->svm = -1;
}

void
relay_cut(struct relay *relay, bool reset)
{
    for (int i = 0; i < RELAY_PAIRS; i++)
        end_pair(&relay->pairs[i], reset);
    relay->resets++;
    relay->cut_down = relay->cut_up = -1;
}

void
relay_close(struct relay *relay)
{
    relay_cut(relay, false);
    if (relay->listener >= 0)
        close(relay->listener);
    relay->listener = -1;
}

/* ---- connecting ---- */

static int
dial(const struct relay *relay)
{
    struct sockaddr_in address = own_address(relay->target);
    int fd = relay->target ? socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) : -1;
    int one = 1;
    int size = RELAY_BUFFER;

    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EINPROGRESS)
        return fd;
    close(fd);
    return -1;
}

static void
admit(struct relay *relay, int mux)
{
    int one = 1;

    for (int i = 0; i < RELAY_PAIRS; i++) {
        struct relay_pair *pair = &relay->pairs[i];
        int svm;

        if (pair->mux >= 0)
            continue;
        svm = dial(relay);
        if (svm < 0)
            break;
        setsockopt(mux, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        pair->mux = mux;
        pair->svm = svm;
        pair->down.at = pair->down.end = pair->up.at = pair->up.end = 0;
        return;
    }
    end_socket(mux, true);
}

/* ---- passing on ---- */

/* At most `max` bytes. Returns how many went out, or -1 when the pair has ended. */
static ssize_t
pass(struct relay_way *way, int from, int to, size_t max)
{
    ssize_t count;

    if (way->at == way->end) {
        count = recv(from, way->bytes, sizeof(way->bytes), MSG_DONTWAIT);
        if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR))
            return -1;
        way->at = 0;
        way->end = count > 0 ? (size_t)count : 0;
    }
    if (max > way->end - way->at)
        max = way->end - way->at;
    if (max == 0)
        return 0;
    count = send(to, way->bytes + way->at, max, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0)
        return errno == EAGAIN || errno == EINTR || errno == ENOTCONN ? 0 : -1;
    way->at += (size_t)count;
    return count;
}

/* How many bytes may pass on that way now. */
static size_t
allowance(uint64_t limit, int64_t cut)
{
    return cut >= 0 && (uint64_t)cut < limit ? (size_t)cut : (size_t)limit;
}

static void
turn_pair(struct relay *relay, struct relay_pair *pair)
{
    size_t max = allowance(relay->rate ? relay->credit : RELAY_BUFFER, relay->cut_down);
    ssize_t down = pass(&pair->down, pair->mux, pair->svm, max);
    ssize_t up = 0;

    if (down >= 0 && !relay->deaf)
        up = pass(&pair->up, pair->svm, pair->mux, allowance(RELAY_BUFFER, relay->cut_up));
    if (down < 0 || up < 0) {
        end_pair(pair, false);
        return;
    }
    relay->credit -= relay->rate ? (uint64_t)down : 0;
    relay->cut_down -= relay->cut_down > 0 ? down : 0;
    relay->cut_up -= relay->cut_up > 0 ? up : 0;
    if (relay->cut_down == 0 || relay->cut_up == 0)
        relay_cut(relay, true);
}

static void
add_credit(struct relay *relay, int64_t now)
{
    uint64_t more = relay->rate * (uint64_t)(now - relay->credited) / 1000;

    if (more == 0)
        return;
    relay->credited = now;
    relay->credit = more < RELAY_BUFFER ? more : RELAY_BUFFER;
}

unsigned
relay_poll(struct relay *relay, struct pollfd *out)
{
    unsigned count = 0;

    out[count++] = (struct pollfd){ .fd = relay->listener, .events = POLLIN };
    for (int i = 0; i < RELAY_PAIRS && !relay->stopped; i++) {
        struct relay_pair *pair = &relay->pairs[i];
        bool down = pair->down.at < pair->down.end;
        bool up = pair->up.at < pair->up.end;

        if (pair->mux < 0)
            continue;
        out[count++] =
            (struct pollfd){ .fd = pair->mux,
                             .events = (short)((down || relay->rate ? 0 : POLLIN) | (up ? POLLOUT : 0)) };
        out[count++] = (struct pollfd){ .fd = pair->svm,
                                        .events = (short)((up || relay->deaf ? 0 : POLLIN) |
                                                          (down && !relay->rate ? POLLOUT : 0)) };
    }
    return count;
}

void
relay_turn(struct relay *relay, int64_t now)
{
    int fd;

    while ((fd = accept4(relay->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        admit(relay, fd);
    if (relay->stopped)
        return;
    if (relay->rate)
        add_credit(relay, now);
    for (int i = 0; i < RELAY_PAIRS; i++)
        if (relay->pairs[i].mux >= 0)
            turn_pair(relay, &relay->pairs[i]);
}
