/* What the process may still do once everything is open: as which user it goes on, and which system calls it
 * may make. */
#ifndef GIMUX_PROCESS_SANDBOX_H
#define GIMUX_PROCESS_SANDBOX_H

#include <stdbool.h>
#include <sys/types.h>

/* A user of this host. */
struct sandbox_user {
    bool given; /* false: the process stays who it is */
    const char *name;
    uid_t uid;
    gid_t gid;
};

/* Finds out whom to become: nobody else if `name` is empty or the process is not root, which it logs if that
 * is not what the name says. False, having logged why, if there is no such user, or it is root. */
bool sandbox_find_user(const char *name, struct sandbox_user *user);

/* Becomes that user, for good: its group and the groups of which it is a member, no capabilities, no way
 * back, and no core dump or debugger that would show other users what is in memory. False, having logged why,
 * if that cannot be. Nothing if no user is given. */
bool sandbox_become(const struct sandbox_user *user);

/* Gives a file that was just made in the file system to that user, and to a group if `group` is not -1; links
 * are not followed. False with errno set if that cannot be. */
bool sandbox_give(const struct sandbox_user *user, const char *path, gid_t group);

/* From now on all threads can make only those system calls that the event loop and the storage thread need.
 * Execution of programs and the like end the process; what else is not allowed fails with ENOSYS. If the
 * system has no such filter, says so and goes on without. */
void sandbox_filter(void);

/* " (as user NAME)" if the process has become one, else "": for messages about files. */
const char *sandbox_as(void);

#endif
