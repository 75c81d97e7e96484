/* The disk thread: does what may wait for a disk, one job after the other, so that the loop never does.
 *
 * A job goes loop -> waiting -> thread -> ended -> loop. The two queues are all that both sides touch. An
 * eventfd wakes the loop, a condition the thread. */
#include "mux/store/disk.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

STAILQ_HEAD(disk_queue, disk_job);

struct disk {
    pthread_t thread;
    pthread_mutex_t lock; /* of all below, except that count is the loop's alone */
    pthread_cond_t work;
    pthread_cond_t progress;
    struct disk_queue waiting;
    struct disk_queue ended;
    bool ending;
    unsigned count; /* jobs that were added and not done */
    int wake;
    struct loop_watch *watch;
};

static void *
run_jobs(void *arg)
{
    struct disk *disk = arg;
    const uint64_t one = 1;

    pthread_mutex_lock(&disk->lock);
    for (;;) {
        struct disk_job *job = STAILQ_FIRST(&disk->waiting);

        if (!job) {
            if (disk->ending)
                break;
            pthread_cond_wait(&disk->work, &disk->lock);
            continue;
        }
        STAILQ_REMOVE_HEAD(&disk->waiting, in_queue);
        pthread_mutex_unlock(&disk->lock);
        job->run(job);
        pthread_mutex_lock(&disk->lock);
        STAILQ_INSERT_TAIL(&disk->ended, job, in_queue);
        pthread_cond_signal(&disk->progress);
        if (write(disk->wake, &one, sizeof(one)) != sizeof(one))
            continue; /* the counter is full: the loop is awake */
    }
    pthread_mutex_unlock(&disk->lock);
    return NULL;
}

static void
take_ended(struct disk *disk)
{
    struct disk_queue ended = STAILQ_HEAD_INITIALIZER(ended);
    struct disk_job *job;

    pthread_mutex_lock(&disk->lock);
    STAILQ_CONCAT(&ended, &disk->ended);
    pthread_mutex_unlock(&disk->lock);
    while ((job = STAILQ_FIRST(&ended))) {
        STAILQ_REMOVE_HEAD(&ended, in_queue);
        disk->count--;
        job->done(job);
    }
}

static void
on_wake(void *arg, unsigned events)
{
    struct disk *disk = arg;
    uint64_t count;

    (void)events;
    if (read(disk->wake, &count, sizeof(count)) == sizeof(count))
        take_ended(disk);
}

struct disk *
disk_new(struct loop *loop)
{
    struct disk *disk = calloc(1, sizeof(*disk));
    sigset_t all;
    sigset_t before;
    int why = ENOMEM;

    if (!disk)
        return NULL;
    STAILQ_INIT(&disk->waiting);
    STAILQ_INIT(&disk->ended);
    pthread_mutex_init(&disk->lock, NULL);
    pthread_cond_init(&disk->work, NULL);
    pthread_cond_init(&disk->progress, NULL);
    disk->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (disk->wake >= 0)
        disk->watch = loop_watch_new(loop, disk->wake, on_wake, disk);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the loop's */
    if (disk->watch && (why = pthread_create(&disk->thread, NULL, run_jobs, disk)) == 0) {
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        loop_watch_set(disk->watch, LOOP_READ);
        return disk;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    loop_watch_free(disk->watch);
    if (disk->wake >= 0)
        close(disk->wake);
    free(disk);
    errno = why;
    return NULL;
}

void
disk_add(struct disk *disk, struct disk_job *job)
{
    disk->count++;
    pthread_mutex_lock(&disk->lock);
    STAILQ_INSERT_TAIL(&disk->waiting, job, in_queue);
    pthread_cond_signal(&disk->work);
    pthread_mutex_unlock(&disk->lock);
}

void
disk_finish(struct disk *disk)
{
    while (disk->count > 0) {
        pthread_mutex_lock(&disk->lock);
        while (STAILQ_EMPTY(&disk->ended))
            pthread_cond_wait(&disk->progress, &disk->lock);
        pthread_mutex_unlock(&disk->lock);
        take_ended(disk);
    }
}

void
disk_free(struct disk *disk)
{
    if (!disk)
        return;
    disk_finish(disk);
    pthread_mutex_lock(&disk->lock);
    disk->ending = true;
    pthread_cond_signal(&disk->work);
    pthread_mutex_unlock(&disk->lock);
    pthread_join(disk->thread, NULL);
    loop_watch_free(disk->watch);
    close(disk->wake);
    pthread_cond_destroy(&disk->progress);
    pthread_cond_destroy(&disk->work);
    pthread_mutex_destroy(&disk->lock);
    free(disk);
}
