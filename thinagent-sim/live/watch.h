/* Watches directory trees of this machine with fanotify and says in paths what happens there. */
#ifndef SIM_WATCH_H
#define SIM_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What happened to one file or directory. */
struct change {
    uint16_t op;        /* enum gr_file_op */
    uint32_t result;    /* of an open: GR_OPENED or GR_CREATED */
    pid_t pid;          /* who did it */
    const char *path;   /* lives until the call returns */
    const char *target; /* of a rename; else NULL */
};

struct watch_callbacks {
    void (*changed)(void *arg, const struct change *change);
    void (*overflowed)(
        void *arg); /* the kernel's queue was full: it does not say how many events it dropped */
    void *arg;
};

struct watch;

/* Returns NULL after a message on stderr. */
struct watch *watch_new(const struct watch_callbacks *callbacks);
void watch_free(struct watch *watch);

/* Watches a directory and all below it from now on. Where the file system cannot report names, only what
 * happens to open files is seen, and a message says so. Returns false after a message if it cannot. */
bool watch_add(struct watch *watch, const char *path);

/* A descriptor that can be read (polled) when watch_read has something to do. */
int watch_fd(const struct watch *watch);

/* Makes the calls for what has happened; does not wait. */
void watch_read(struct watch *watch);

#endif
