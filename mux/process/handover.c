/* The handover: how one gimuxd gives what it has to another, over a socket: a message and descriptors.
 *
 * The message may be large (what drivers have sent and nobody has read yet is in it), so it is not written to
 * the socket but to a file in memory, whose descriptor is sent. Descriptors go in packets of as many as the
 * kernel takes at once. */
#include "mux/process/handover.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE     253 /* descriptors in one packet: SCM_MAX_FD of Linux */
#define TEXT_MAX    200
#define MESSAGE_MAX ((size_t)1 << 32)
#define FILES_MAX   (1u << 20)

/* ---- descriptors and memory ---- */

void *
handover_alloc(size_t size)
{
    void *memory = calloc(1, size > 0 ? size : 1);

    if (!memory)
        abort();
    return memory;
}

char *
handover_text(const char *text)
{
    return strcpy(handover_alloc(strlen(text) + 1), text);
}

ProtobufCBinaryData
handover_bytes(const void *data, size_t len)
{
    ProtobufCBinaryData bytes = { len, len > 0 ? handover_alloc(len) : NULL };

    if (len > 0)
        memcpy(bytes.data, data, len);
    return bytes;
}

void
handover_grow(void ***list, size_t *count, void *element)
{
    /* in steps of powers of two: the list is full when its count is one */
    if ((*count & (*count - 1)) == 0) {
        void **grown = realloc(*list, (*count > 0 ? *count * 2 : 1) * sizeof(void *));

        if (!grown)
            abort();
        *list = grown;
    }
    (*list)[(*count)++] = element;
}

uint32_t
handover_add(struct handover_files *files, int fd)
{
    if (files->count == files->room) {
        size_t room = files->room > 0 ? files->room * 2 : 64;
        int *grown = realloc(files->fds, room * sizeof(int));

        if (!grown)
            return 0;
        files->fds = grown;
        files->room = room;
    }
    files->fds[files->count++] = fd;
    return (uint32_t)files->count;
}

int
handover_take_out(struct handover_files *files, uint32_t number)
{
    int fd;

    if (number == 0 || number > files->count)
        return -1;
    fd = files->fds[number - 1];
    files->fds[number - 1] = -1;
    return fd;
}

void
handover_files_fini(struct handover_files *files, bool close_all)
{
    for (size_t i = 0; close_all && i < files->count; i++)
        if (files->fds[i] >= 0)
            close(files->fds[i]);
    free(files->fds);
    *files = (struct handover_files){ 0 };
}

void
handover_add_socket(Gimux__Handover__V1__Handover *message, struct handover_files *files,
                    const struct address *address, int fd)
{
    Gimux__Handover__V1__Socket *to = handover_alloc(sizeof(*to));
    char text[ADDRESS_TEXT_MAX];

    gimux__handover__v1__socket__init(to);
    to->address = handover_text(address_format(address, text));
    to->descriptor = handover_add(files, fd);
    handover_grow((void ***)&message->sockets, &message->n_sockets, to);
}

/* ---- packets ---- */

union rights {
    char buf[CMSG_SPACE(AT_ONCE * sizeof(int))];
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

static bool
send_packet(int socket, const void *data, size_t len, const int *fds, size_t count, unsigned wait_ms)
{
    union rights rights = { .buf = { 0 } };
    struct iovec iov = { (void *)(uintptr_t)data, len };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
    struct cmsghdr *header;

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
static bool
keep_files(struct msghdr *message, struct handover_files *files)
{
    struct cmsghdr *header;
    bool good = !(message->msg_flags & MSG_CTRUNC);

    for (header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
            if (handover_add(files, fd) == 0) {
                close(fd);
                good = false;
            }
        }
    }
    return good;
}

/* Returns the packet's length, 0 at the end, -1 with errno set. */
static ssize_t
receive_packet(int socket, void *data, size_t cap, struct handover_files *files, unsigned wait_ms)
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
    if (len > 0 && !keep_files(&message, files)) {
        errno = EMFILE;
        return -1;
    }
    return len;
}

bool
handover_say(int socket, enum handover_word word, const char *text)
{
    char packet[TEXT_MAX];
    int len = snprintf(packet, sizeof(packet), "%c%s", word, text ? text : "");

    return send_packet(socket, packet, (size_t)len < sizeof(packet) ? (size_t)len : sizeof(packet) - 1, NULL,
                       0, 0);
}

int
handover_hear(int socket, unsigned wait_ms, char *text, size_t cap)
{
    struct handover_files files = { 0 };
    char packet[TEXT_MAX + 1];
    ssize_t len = receive_packet(socket, packet, sizeof(packet) - 1, &files, wait_ms);

    handover_files_fini(&files, true);
    if (len <= 0)
        return len < 0 && (errno == ETIMEDOUT || errno == EAGAIN) ? 0 : -1;
    packet[len] = '\0';
    if (cap > 0)
        snprintf(text, cap, "%s", packet + 1);
    return (unsigned char)packet[0];
}

/* ---- all of it ---- */

struct head {
    char word;
    char padding[3];
    uint32_t files;
};

static bool
write_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t wrote = write(fd, data, len);

        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return false;
        data += wrote;
        len -= (size_t)wrote;
    }
    return true;
}

static int
message_file(const Gimux__Handover__V1__Handover *message)
{
    size_t len = gimux__handover__v1__handover__get_packed_size(message);
    uint8_t *data = malloc(len + 1);
    int fd = memfd_create("gimux-handover", MFD_CLOEXEC);

    if (data && fd >= 0 && write_all(fd, data, gimux__handover__v1__handover__pack(message, data))) {
        free(data);
        return fd;
    }
    free(data);
    if (fd >= 0)
        close(fd);
    return -1;
}

bool
handover_give(int socket, const Gimux__Handover__V1__Handover *message, const struct handover_files *files,
              unsigned wait_ms)
{
    struct head head = { .word = HANDOVER_DATA, .files = (uint32_t)files->count };
    const char word = HANDOVER_FILES;
    int fd = message_file(message);
    bool good = fd >= 0 && send_packet(socket, &head, sizeof(head), &fd, 1, wait_ms);

    if (fd >= 0)
        close(fd);
    for (size_t at = 0; good && at < files->count; at += AT_ONCE) {
        size_t count = files->count - at < AT_ONCE ? files->count - at : AT_ONCE;

        good = send_packet(socket, &word, 1, files->fds + at, count, wait_ms);
    }
    return good;
}

static Gimux__Handover__V1__Handover *
read_message(int fd)
{
    Gimux__Handover__V1__Handover *message = NULL;
    struct stat info;
    void *data;

    if (fd < 0 || fstat(fd, &info) != 0 || info.st_size <= 0 || (size_t)info.st_size > MESSAGE_MAX)
        return NULL;
    data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return NULL;
    message = gimux__handover__v1__handover__unpack(NULL, (size_t)info.st_size, data);
    munmap(data, (size_t)info.st_size);
    return message;
}

/* The packets after the first, until `count` descriptors are there. */
static bool
take_files(int socket, struct handover_files *files, size_t count, unsigned wait_ms)
{
    char word;

    while (files->count < count) {
        size_t had = files->count;
        ssize_t len = receive_packet(socket, &word, 1, files, wait_ms);

        if (len != 1 || word != HANDOVER_FILES || files->count == had)
            return false;
    }
    return files->count == count;
}

Gimux__Handover__V1__Handover *
handover_take(int socket, struct handover_files *files, unsigned wait_ms, char *why, size_t cap)
{
    union {
        struct head head;
        char text[TEXT_MAX + 1];
    } packet = { .text = "" };
    struct handover_files first = { 0 };
    ssize_t len = receive_packet(socket, packet.text, TEXT_MAX, &first, wait_ms);
    Gimux__Handover__V1__Handover *message = NULL;

    if (len > 0 && packet.text[0] == HANDOVER_NOT)
        snprintf(why, cap, "%s", packet.text + 1);
    else if (len != sizeof(packet.head) || packet.head.word != HANDOVER_DATA || packet.head.files > FILES_MAX)
        snprintf(why, cap, "%s",
                 len < 0    ? strerror(errno)
                 : len == 0 ? "the old gimuxd has let go"
                            : "what came is no handover");
    else if (!take_files(socket, files, packet.head.files, wait_ms))
        snprintf(why, cap, "descriptors are missing: %zu came of %u", files->count, packet.head.files);
    else if (!(message = read_message(first.count == 1 ? first.fds[0] : -1)))
        snprintf(why, cap, "the message cannot be read");
    handover_files_fini(&first, true);
    if (!message)
        handover_files_fini(files, true);
    return message;
}
