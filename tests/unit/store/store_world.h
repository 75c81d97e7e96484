/* What the tests of the store stand on: a directory of its own, a disk that does one job when it is told to
 * and may fail or stop for good in the middle of any call, a loop that runs when it is told to.
 *
 * disk_* and loop_* are defined here, and so neither disk.c nor loop.c is linked; pwrite and its like stand
 * before those of the C library. Include it in one file of a test. */
#ifndef GIMUX_TESTS_STORE_WORLD_H
#define GIMUX_TESTS_STORE_WORLD_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "mux/net/loop.h"
#include "mux/store/disk.h"

/* ---- calls of the disk thread ---- */

/* What becomes of them. */
static struct {
    bool dead;       /* killed: nothing reaches the files any more */
    unsigned die_in; /* calls until then; 0: not */
    size_t torn;     /* bytes that the write then still takes */
    int write_error; /* errno of every write; 0: none */
    size_t room;     /* bytes that are written before it */
    int sync_error;  /* errno of the next fdatasync; 0: none */
    int read_error;  /* errno of every read; 0: none */
    off_t readable;  /* bytes of a file that are read before it */
    uint32_t takes;  /* ms that a write takes */
    unsigned calls;
} io;

static uint64_t the_time; /* ms */

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset);
ssize_t pread(int fd, void *data, size_t len, off_t offset);
int fdatasync(int fd);
int unlinkat(int dir, const char *name, int flags);

/* Whether the process is still there after this call. */
static inline bool
io_lives(void)
{
    io.calls++;
    if (!io.dead && io.die_in > 0 && --io.die_in == 0)
        io.dead = true;
    return !io.dead;
}

ssize_t
pwrite(int fd, const void *data, size_t len, off_t offset)
{
    bool was_dead = io.dead;

    the_time += io.takes;
    if (!io_lives()) {
        if (!was_dead && io.torn > 0)
            syscall(SYS_pwrite64, fd, data, io.torn < len ? io.torn : len, offset);
        return (ssize_t)len;
    }
    if (io.write_error) {
        size_t part = io.room < len ? io.room : len;

        io.room -= part;
        if (part > 0)
            return syscall(SYS_pwrite64, fd, data, part, offset);
        errno = io.write_error;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, data, len, offset);
}

ssize_t
pread(int fd, void *data, size_t len, off_t offset)
{
    if (io.read_error && offset >= io.readable) {
        errno = io.read_error;
        return -1;
    }
    if (io.read_error && offset + (off_t)len > io.readable)
        len = (size_t)(io.readable - offset);
    return syscall(SYS_pread64, fd, data, len, offset);
}

int
fdatasync(int fd)
{
    (void)fd;
    if (io_lives() && io.sync_error) {
        errno = io.sync_error;
        io.sync_error = 0;
        return -1;
    }
    return 0;
}

int
unlinkat(int dir, const char *name, int flags)
{
    return io_lives() ? (int)syscall(SYS_unlinkat, dir, name, flags) : 0;
}

/* ---- the disk ---- */

struct disk {
    STAILQ_HEAD(, disk_job) jobs;
};

static struct disk *the_disk; /* of the store that is open */

struct disk *
disk_new(struct loop *loop)
{
    (void)loop;
    the_disk = calloc(1, sizeof(*the_disk));
    assert_non_null(the_disk);
    STAILQ_INIT(&the_disk->jobs);
    return the_disk;
}

void
disk_add(struct disk *disk, struct disk_job *job)
{
    STAILQ_INSERT_TAIL(&disk->jobs, job, in_queue);
}

/* Does one job; false if there is none. One that was killed is never done. */
static inline bool
disk_do_one(void)
{
    struct disk_job *job = the_disk ? STAILQ_FIRST(&the_disk->jobs) : NULL;
    bool was_dead = io.dead;

    if (!job)
        return false;
    job->run(job);
    if (io.dead && !was_dead)
        return false;
    STAILQ_REMOVE_HEAD(&the_disk->jobs, in_queue);
    job->done(job);
    return true;
}

void
disk_finish(struct disk *disk)
{
    (void)disk;
    while (disk_do_one())
        continue;
}

void
disk_free(struct disk *disk)
{
    if (!disk)
        return;
    disk_finish(disk);
    free(disk);
    the_disk = NULL;
}

/* ---- the loop ---- */

struct loop {
    struct loop_task *tasks;
};

struct loop_timer {
    loop_timer_fn *fn;
    void *arg;
    bool runs;
};

static struct loop the_loop;
static struct loop_timer the_timers[2]; /* the store's: the beat and the tick */

void
loop_defer(struct loop *loop, struct loop_task *task)
{
    if (task->queued)
        return;
    task->queued = true;
    task->next = loop->tasks;
    loop->tasks = task;
}

void
loop_flush(struct loop *loop)
{
    unsigned turns = 0;

    while (loop->tasks) {
        struct loop_task *task = loop->tasks;

        assert_true(++turns < 100000); /* else it never comes to rest */
        loop->tasks = task->next;
        task->queued = false;
        task->fn(task->arg);
    }
}

void
loop_cancel(struct loop *loop, struct loop_task *task)
{
    if (task->queued)
        loop->tasks = task->next; /* there is only one */
    task->queued = false;
}

uint64_t
loop_turn_began(const struct loop *loop)
{
    (void)loop;
    return 0;
}

uint64_t
loop_now(void)
{
    return the_time;
}

uint64_t
loop_now_ns(void)
{
    return 0;
}

struct loop_timer *
loop_timer_new(struct loop *loop, loop_timer_fn *fn, void *arg)
{
    struct loop_timer *timer = &the_timers[the_timers[0].fn ? 1 : 0];

    (void)loop;
    assert_null(timer->fn);
    *timer = (struct loop_timer){ .fn = fn, .arg = arg };
    return timer;
}

void
loop_timer_start(struct loop_timer *timer, uint32_t ms)
{
    (void)ms;
    timer->runs = true;
}

void
loop_timer_free(struct loop_timer *timer)
{
    if (timer)
        *timer = (struct loop_timer){ .fn = NULL };
}

static inline bool
fire(struct loop_timer *timer)
{
    if (!timer->runs)
        return false;
    timer->runs = false;
    timer->fn(timer->arg);
    return true;
}

/* The store's beat comes, if it is awaited. */
static inline bool
beat(void)
{
    return fire(&the_timers[0]);
}

/* The same, and its tick. */
static inline bool
tick(void)
{
    bool beaten = beat();

    return fire(&the_timers[1]) || beaten;
}

/* ---- the directory ---- */

/* Calls fn for every file of it that is not hidden; returns how many. */
static inline unsigned
each_file(const char *dir, void (*fn)(void *arg, const char *path, const struct stat *info), void *arg)
{
    DIR *stream = opendir(dir);
    struct dirent *entry;
    unsigned count = 0;

    assert_non_null(stream);
    /* cppcheck-suppress readdirCalled ; a stream of our own */
    while ((entry = readdir(stream))) {
        char path[600];
        struct stat info;

        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        assert_int_equal(stat(path, &info), 0);
        count++;
        if (fn)
            fn(arg, path, &info);
    }
    closedir(stream);
    return count;
}

static inline void
remove_file(void *arg, const char *path, const struct stat *info)
{
    (void)arg;
    (void)info;
    remove(path);
}

static inline void
add_size(void *arg, const char *path, const struct stat *info)
{
    (void)path;
    *(uint64_t *)arg += (uint64_t)info->st_size;
}

static inline void
make_dir(char dir[64])
{
    snprintf(dir, 64, "%s/gimux-store.XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(dir));
}

static inline void
remove_dir(const char *dir)
{
    each_file(dir, remove_file, NULL);
    rmdir(dir);
}

#endif
