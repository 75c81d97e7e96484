/* The directory of the VM logs: whether it can be used, and that one gimuxd at a time does. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mux/base/log.h"
#include "mux/store/inner.h"

#define LOCK_WAIT_MS 5000 /* for a gimuxd that was just killed */

/* A gimuxd that was just killed may hold it for a moment. */
static bool
lock_dir(int dir)
{
    const struct timespec step = { .tv_nsec = 20 * 1000000L };

    for (unsigned waited = 0; flock(dir, LOCK_EX | LOCK_NB) != 0; waited += 20) {
        if (waited >= LOCK_WAIT_MS)
            return false;
        nanosleep(&step, NULL);
    }
    return true;
}

int
store_dir_open(const char *path, bool lock, char *why)
{
    int dir = -1;

    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        snprintf(why, STORE_WHY_MAX, "storage: cannot make the directory %s: %s", path, strerror(errno));
    else if ((dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        snprintf(why, STORE_WHY_MAX, "storage: %s: %s", path, strerror(errno));
    else if (faccessat(dir, ".", R_OK | W_OK | X_OK, AT_EACCESS) != 0)
        snprintf(why, STORE_WHY_MAX, "storage: %s: expected a directory that may be written: %s", path,
                 strerror(errno));
    else if (lock && !lock_dir(dir))
        snprintf(why, STORE_WHY_MAX, "storage: %s: another gimuxd uses it", path);
    else
        return dir;
    if (dir >= 0)
        close(dir);
    return -1;
}

bool
store_check_dir(const char *path, char *why)
{
    char copy[CONF_PATH_MAX];
    struct stat info;

    why[0] = '\0';
    if (stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode) && faccessat(AT_FDCWD, path, R_OK | W_OK | X_OK, AT_EACCESS) == 0)
            return true;
        snprintf(why, STORE_WHY_MAX, "storage: %s: expected a directory that may be written: %s", path,
                 strerror(S_ISDIR(info.st_mode) ? errno : ENOTDIR));
        return false;
    }
    snprintf(copy, sizeof(copy), "%s", path);
    if (errno == ENOENT && faccessat(AT_FDCWD, dirname(copy), W_OK | X_OK, AT_EACCESS) == 0) {
        snprintf(why, STORE_WHY_MAX, "storage: %s does not exist: it is made at start", path);
        return true;
    }
    snprintf(why, STORE_WHY_MAX, "storage: cannot make the directory %s: %s", path, strerror(errno));
    return false;
}

void
store_freeze(struct store *store)
{
    store->frozen = true;
}

void
store_unlock(struct store *store)
{
    flock(store->dir, LOCK_UN);
}

void
store_cut_torn(struct store *store)
{
    struct vmlog_segment *segment;

    while ((segment = LIST_FIRST(&store->torn))) {
        char file[SEGMENT_NAME_MAX];
        int fd;

        LIST_REMOVE(segment, in_torn);
        segment->torn = false;
        segment_name_format(&segment->name, file);
        fd = openat(store->dir, file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 || ftruncate(fd, (off_t)segment->end) != 0)
            log_error((&(struct log_who){ .vm = segment->of->vm ? vm_uuid_text(segment->of->vm) : NULL }),
                      "storage: %s: a torn tail cannot be cut off: %s", file, strerror(errno));
        if (fd >= 0)
            close(fd);
    }
}

void
store_thaw(struct store *store)
{
    store->frozen = false;
    if (!TAILQ_EMPTY(&store->later)) /* the tick may have come meanwhile */
        loop_timer_start(store->tick, STORE_TICK_MS);
    /* who had it is at its end, or this process has it still */
    if (flock(store->dir, LOCK_EX | LOCK_NB) != 0 && !(store->held && lock_dir(store->dir)))
        log_error(NULL, "storage: %s: another gimuxd uses it", store->conf->storage.dir);
    store->held = false;
    store_cut_torn(store);
}
