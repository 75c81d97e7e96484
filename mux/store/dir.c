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
store_dir_open(const char *path, char *why)
{
    int dir = -1;

    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        snprintf(why, STORE_WHY_MAX, "storage: cannot make the directory %s: %s", path, strerror(errno));
    else if ((dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        snprintf(why, STORE_WHY_MAX, "storage: %s: %s", path, strerror(errno));
    else if (faccessat(dir, ".", R_OK | W_OK | X_OK, AT_EACCESS) != 0)
        snprintf(why, STORE_WHY_MAX, "storage: %s: expected a directory that may be written: %s", path,
                 strerror(errno));
    else if (!lock_dir(dir))
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
    flock(store->dir, LOCK_UN);
}

void
store_thaw(struct store *store)
{
    store->frozen = false;
    if (!TAILQ_EMPTY(&store->later)) /* the tick may have come meanwhile */
        loop_timer_start(store->tick, STORE_TICK_MS);
    if (flock(store->dir, LOCK_EX | LOCK_NB) != 0)
        log_error(NULL, "storage: %s: another gimuxd uses it", store->conf->storage.dir);
}
