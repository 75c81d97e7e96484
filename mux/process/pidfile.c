/* The pid file: which process is gimuxd, and a lock that says that it still is.
 *
 * The lock is on the file itself, and whoever inherited the descriptor holds it: so a keeper that was killed
 * still has it as long as its worker goes on. The descriptor is only for reading: a worker, which has it too,
 * cannot write another process's number. What somebody else may have put in the file's place is neither
 * followed nor written to. */
#include "mux/process/pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mux/base/conf.h"
#include "mux/base/log.h"

#define STEP_MS 20

/* A regular file of ours alone, made anew if what is there is anything else. */
static int
open_own(const char *path, int flags)
{
    struct stat info;
    int fd = open(path, flags | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0644);

    if (fd < 0 && errno != ELOOP && errno != ENXIO)
        return -1;
    if (fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_nlink <= 1 &&
        info.st_uid == geteuid())
        return fd;
    if (fd >= 0)
        close(fd);
    if (unlink(path) != 0)
        return -1;
    return open(path, flags | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
}

/* Whether the locked file is still the one that has the name: its last owner removed it if it ended
 * meanwhile. */
static bool
is_named(int fd, const char *path)
{
    struct stat open_file;
    struct stat named;

    return fstat(fd, &open_file) == 0 && lstat(path, &named) == 0 && open_file.st_ino == named.st_ino &&
           open_file.st_dev == named.st_dev;
}

static void
say_taken(const char *path)
{
    char text[16] = "";
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    ssize_t len = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
    long pid = len > 0 ? strtol(text, NULL, 10) : 0;

    if (fd >= 0)
        close(fd);
    if (pid > 0)
        log_error(NULL, "another gimuxd (pid %ld) runs with this pid file: %s", pid, path);
    else
        log_error(NULL, "another gimuxd, which is not up yet, runs with this pid file: %s", path);
}

/* Writes a line over what the file has. Nobody reads an empty one. */
static bool
put_line(const char *path, const char *line)
{
    size_t len = strlen(line);
    int fd = open_own(path, O_WRONLY);
    bool good = fd >= 0 && pwrite(fd, line, len, 0) == (ssize_t)len && ftruncate(fd, (off_t)len) == 0;

    if (!good)
        log_error(NULL, "pid file %s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return good;
}

/* Opens the file and tries the lock. Returns the descriptor; or -1 with *why 0 if somebody has it. */
static int
try_lock(const char *path, int *why)
{
    int fd = open_own(path, O_RDONLY);

    *why = errno;
    if (fd < 0)
        return -1;
    *why = 0;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        if (is_named(fd, path))
            return fd;
    } else if (errno != EWOULDBLOCK) {
        *why = errno;
    }
    close(fd);
    return -1;
}

int
pidfile_lock(const char *path, unsigned wait_ms)
{
    const struct timespec step = { .tv_nsec = STEP_MS * 1000000L };

    for (unsigned waited = 0; waited <= wait_ms; waited += STEP_MS) {
        int why;
        int fd = try_lock(path, &why);

        if (fd >= 0 && put_line(path, ""))
            return fd;
        if (fd >= 0) {
            close(fd);
            return -1;
        }
        if (why != 0) {
            log_error(NULL, "pid file %s: %s", path, strerror(why));
            return -1;
        }
        if (waited == 0)
            log_info(NULL, "pid file %s: waiting for the gimuxd that has it", path);
        nanosleep(&step, NULL);
    }
    say_taken(path);
    return -1;
}

bool
pidfile_write(const char *path)
{
    char line[16];

    snprintf(line, sizeof(line), "%d\n", (int)getpid());
    return put_line(path, line);
}

void
pidfile_tell_upgrade(const char *path, bool good)
{
    char name[CONF_PATH_MAX + 16];

    snprintf(name, sizeof(name), "%s.upgrade", path);
    put_line(name, good ? "done\n" : "failed\n");
}

void
pidfile_remove(const char *path)
{
    char name[CONF_PATH_MAX + 16];

    snprintf(name, sizeof(name), "%s.upgrade", path);
    unlink(name);
    unlink(path);
}
