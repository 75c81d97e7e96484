/* The disk thread: does what may wait for a disk, one job after the other, so that the loop never does. */
#ifndef GIMUX_STORE_DISK_H
#define GIMUX_STORE_DISK_H

#include <stdbool.h>
#include <sys/queue.h>

#include "mux/net/loop.h"

/* Embedded in what is to be done; the owner's memory until `done` was called. */
struct disk_job {
    void (*run)(struct disk_job *job);  /* in the thread: touches nothing but the job */
    void (*done)(struct disk_job *job); /* in the loop, after run; may free the job */
    STAILQ_ENTRY(disk_job) in_queue;
};

struct disk;

/* Starts the thread. NULL if that cannot be, with errno set. */
struct disk *disk_new(struct loop *loop);

/* Lets all jobs be done, `done` included and those that it adds, then ends the thread. NULL is fine. */
void disk_free(struct disk *disk);

void disk_add(struct disk *disk, struct disk_job *job);

/* Waits until all jobs are done, `done` included and those that it adds: for the end, and for an upgrade. */
void disk_finish(struct disk *disk);

#endif
