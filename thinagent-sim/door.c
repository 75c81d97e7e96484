/* Ways to gimuxd: opens what connects one agent, without waiting for it. */
#include "thinagent-sim/door.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Copies `text` with the VM's UUID for every %u. Returns false if it does not fit. */
static bool
expand(const char *text, const uint8_t vm_uuid[GR_UUID_SIZE], char *out, size_t size)
{
    char uuid[GR_UUID_TEXT];
    size_t len = 0;

    gr_uuid_format(vm_uuid, uuid);
    while (*text != '\0') {
        bool here = text[0] == '%' && text[1] == 'u';
        size_t part = here ? strlen(uuid) : 1;

        if (len + part >= size)
            return false;
        memcpy(out + len, here ? uuid : text, part);
        len += part;
        text += here ? 2 : 1;
    }
    out[len] = '\0';
    return true;
}

bool
door_of(const struct options *options, const uint8_t vm_uuid[GR_UUID_SIZE], struct door *door)
{
    const char *text = options->listen ? options->listen : options->connect;
    char expanded[ADDRESS_TEXT_MAX];
    const char *why;

    memset(door, 0, sizeof(*door));
    door->device = options->device;
    door->kind = options->device ? DOOR_DEVICE : options->listen ? DOOR_LISTEN : DOOR_CONNECT;
    if (options->device)
        return true;
    if (!text) {
        door->kind = DOOR_NONE;
        return true;
    }
    if (!expand(text, vm_uuid, expanded, sizeof(expanded)))
        why = "expected a shorter address";
    else
        why = address_parse(expanded, &door->address);
    if (!why && door->address.kind != ADDRESS_UNIX &&
        (door->kind == DOOR_LISTEN || door->address.kind != ADDRESS_VSOCK))
        why = door->kind == DOOR_LISTEN ? "expected unix:PATH" : "expected vsock:CID:PORT or unix:PATH";
    if (why)
        fprintf(stderr, "thinagent-sim: address %s: %s\n", text, why);
    return !why;
}

int
door_open(const struct door *door)
{
    struct sockaddr_storage storage;
    socklen_t len;
    int fd;

    if (door->kind == DOOR_DEVICE)
        return open(door->device, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    len = address_to_sockaddr(&door->address, &storage);
    fd = socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (connect(fd, (struct sockaddr *)&storage, len) < 0 && errno != EINPROGRESS) {
        int error = errno;

        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

int
door_listen(const struct door *door)
{
    struct sockaddr_storage storage;
    socklen_t len = address_to_sockaddr(&door->address, &storage);
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (probe >= 0 && connect(probe, (struct sockaddr *)&storage, len) < 0 && errno == ECONNREFUSED)
        unlink(door->address.path);
    if (probe >= 0)
        close(probe);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&storage, len) == 0 && listen(fd, 16) == 0)
        return fd;
    fprintf(stderr, "thinagent-sim: cannot listen on %s: %s\n", door->address.path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}
