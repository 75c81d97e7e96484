/* The handover: how one gimuxd gives a parcel to another over a socket, and what the two say to each other
 * meanwhile.
 *
 * The message may be large (what drivers have sent and nobody has read yet is in it), so it is not written to
 * the socket but to a file in memory, whose descriptor is sent. Descriptors go in packets of as many as the
 * kernel takes at once. */
#include "mux/process/handover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_MAX    200
#define MESSAGE_MAX ((size_t)1 << 32)
#define FILES_MAX   (1u << 20)

/* ---- words ---- */

bool
handover_say(int socket, enum handover_word word, const char *text)
{
    char packet[TEXT_MAX];
    int len = snprintf(packet, sizeof(packet), "%c%s", word, text ? text : "");

    return descriptors_send(socket, packet, (size_t)len < sizeof(packet) ? (size_t)len : sizeof(packet) - 1,
                            NULL, 0, 0);
}

int
handover_hear(int socket, unsigned wait_ms, char *text, size_t cap)
{
    struct descriptors files = { 0 };
    char packet[TEXT_MAX + 1];
    ssize_t len = descriptors_receive(socket, packet, sizeof(packet) - 1, &files, wait_ms);

    descriptors_fini(&files, true);
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
handover_give(int socket, const struct parcel *parcel, unsigned wait_ms)
{
    const struct descriptors *files = &parcel->files;
    struct head head = { .word = HANDOVER_DATA, .files = (uint32_t)files->count };
    const char word = HANDOVER_FILES;
    int fd = -1;
    bool good;

    errno = ENOMEM;
    if (!parcel->failed)
        fd = message_file(parcel->message);
    good = fd >= 0 && descriptors_send(socket, &head, sizeof(head), &fd, 1, wait_ms);
    if (fd >= 0)
        close(fd);
    for (size_t at = 0; good && at < files->count; at += DESCRIPTORS_AT_ONCE) {
        size_t left = files->count - at;

        good = descriptors_send(socket, &word, 1, files->fds + at,
                                left < DESCRIPTORS_AT_ONCE ? left : DESCRIPTORS_AT_ONCE, wait_ms);
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
take_files(int socket, struct descriptors *files, size_t count, unsigned wait_ms)
{
    char word;

    while (files->count < count) {
        size_t had = files->count;
        ssize_t len = descriptors_receive(socket, &word, 1, files, wait_ms);

        if (len != 1 || word != HANDOVER_FILES || files->count == had)
            return false;
    }
    return files->count == count;
}

bool
handover_take(int socket, struct parcel *parcel, unsigned wait_ms, char *why, size_t cap)
{
    union {
        struct head head;
        char text[TEXT_MAX + 1];
    } packet = { .text = "" };
    struct descriptors first = { 0 };
    ssize_t len = descriptors_receive(socket, packet.text, TEXT_MAX, &first, wait_ms);

    *parcel = (struct parcel){ 0 };
    if (len > 0 && packet.text[0] == HANDOVER_NOT)
        snprintf(why, cap, "%s", packet.text + 1);
    else if (len != sizeof(packet.head) || packet.head.word != HANDOVER_DATA || packet.head.files > FILES_MAX)
        snprintf(why, cap, "%s",
                 len < 0    ? strerror(errno)
                 : len == 0 ? "the old gimuxd has ended"
                            : "what came is no handover");
    else if (!take_files(socket, &parcel->files, packet.head.files, wait_ms))
        snprintf(why, cap, "descriptors are missing: %zu came of %u", parcel->files.count, packet.head.files);
    else if (!(parcel->message = read_message(first.count == 1 ? first.fds[0] : -1)))
        snprintf(why, cap, "the message cannot be read");
    descriptors_fini(&first, true);
    if (!parcel->message)
        descriptors_fini(&parcel->files, true);
    return parcel->message != NULL;
}
