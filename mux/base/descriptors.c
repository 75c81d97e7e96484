/* Descriptors that are passed from one process to another over a UNIX socket, and lists of them. */
#include "mux/base/descriptors.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- lists ---- */

uint32_t
descriptors_add(struct descriptors *list, int fd)
{
    if (list->count == list->room) {
        size_t room = list->room > 0 ? list->room * 2 : 64;
        int *grown = realloc(list->fds, room * sizeof(int));

        if (!grown)
            return 0;
        list->fds = grown;
        list->room = room;
    }
    list->fds[list->count++] = fd;
    return (uint32_t)list->count;
}

int
descriptors_take(struct descriptors *list, uint32_t number)
{
    int fd;

    if (number == 0 || number > list->count)
        return -1;
    fd = list->fds[number - 1];
    list->fds[number - 1] = -1;
    return fd;
}

void
descriptors_fini(struct descriptors *list, bool close_all)
{
    for (size_t i = 0; close_all && i < list->count; i++)
        if (list->fds[i] >= 0)
            close(list->fds[i]);
    free(list->fds);
    *list = (struct descriptors){ 0 };
}

/* ---- packets ---- */

union rights {
    char buf[CMSG_SPACE(DESCRIPTORS_AT_ONCE * sizeof(int))];
    struct cmsghdr align;
};

static bool
wait_for(int socket, short events, unsigned wait_ms)
{
    struct pollfd ready = { .fd = socket, .events = events };
    int result;

    do
        result = poll(&ready, 1, (int)wait_ms);
    while (result < 0 && errno == EINTR);
    if (result == 0)
        errno = ETIMEDOUT;
    return result > 0;
}

bool
descriptors_send(int socket, const void *data, size_t len, const int *fds, size_t count, unsigned wait_ms)
{
    union rights rights = { .buf = { 0 } };
    struct iovec iov = { (void *)(uintptr_t)data, len };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
    struct cmsghdr *header;

    assert(len > 0 && count <= DESCRIPTORS_AT_ONCE);
    if (count > 0) {
        message.msg_control = rights.buf;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    }
    for (;;) {
        ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent == (ssize_t)len)
            return true;
        if (sent >= 0 || (errno != EAGAIN && errno != EINTR) || !wait_for(socket, POLLOUT, wait_ms))
            return false;
    }
}

/* Adds the packet's descriptors to the list. */
static void
keep(struct msghdr *message, struct descriptors *list)
{
    struct cmsghdr *header;

    for (header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
            if (descriptors_add(list, fd) == 0)
                close(fd);
        }
    }
}

ssize_t
descriptors_receive(int socket, void *data, size_t cap, struct descriptors *list, unsigned wait_ms)
{
    union rights rights;
    struct iovec iov = { data, cap };
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = rights.buf, .msg_controllen = sizeof(rights.buf)
    };
    ssize_t len;

    if (!wait_for(socket, POLLIN, wait_ms))
        return -1;
    len = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (len >= 0)
        keep(&message, list);
    return len;
}
