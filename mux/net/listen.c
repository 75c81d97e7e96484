/* Listening sockets, opened in spite of what a gimuxd that was killed has left in their place. */
#include "mux/net/listen.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG 256
#define STEP_MS 10 /* between attempts to listen */

/* A socket file that nobody listens on is a leftover of a process that was killed. */
static bool
remove_leftover(const struct address *address, const struct sockaddr_storage *name, socklen_t len)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct stat info;
    bool dead;

    if (fd < 0)
        return false;
    dead = connect(fd, (const struct sockaddr *)name, len) != 0 && errno == ECONNREFUSED;
    close(fd);
    return dead && lstat(address->path, &info) == 0 && S_ISSOCK(info.st_mode) && unlink(address->path) == 0;
}

/* Binds and listens. Returns whether that worked, with errno set. */
static bool
try_listen(int fd, const struct address *address, const struct sockaddr_storage *name, socklen_t len)
{
    int result = bind(fd, (const struct sockaddr *)name, len);

    if (result != 0 && errno == EADDRINUSE && address->kind == ADDRESS_UNIX) {
        if (remove_leftover(address, name, len))
            result = bind(fd, (const struct sockaddr *)name, len);
        else
            errno = EADDRINUSE;
    }
    return result == 0 && listen(fd, BACKLOG) == 0;
}

int
listen_open(const struct address *address, mode_t mode, const struct user *user, unsigned patience_ms)
{
    const struct timespec step = { .tv_nsec = STEP_MS * 1000000L };
    struct sockaddr_storage name;
    socklen_t len = address_to_sockaddr(address, &name);
    int fd = socket(name.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    mode_t mask = umask(0777 & ~mode);
    bool good = fd >= 0 && try_listen(fd, address, &name, len);
    int why;

    for (unsigned waited = 0; !good && fd >= 0 && errno == EADDRINUSE && waited < patience_ms;
         waited += STEP_MS) {
        nanosleep(&step, NULL);
        good = try_listen(fd, address, &name, len);
    }
    umask(mask);
    if (good && (address->kind != ADDRESS_UNIX || user_give(user, address->path, (gid_t)-1)))
        return fd;
    why = errno;
    if (fd >= 0)
        close(fd);
    errno = why;
    return -1;
}
