/* Users and groups of this host: who gimuxd is to be, and to whom its files belong. */
#ifndef GIMUX_BASE_USER_H
#define GIMUX_BASE_USER_H

#include <stdbool.h>
#include <sys/types.h>

/* Whom the process becomes. */
struct user {
    bool given; /* false: the process stays who it is */
    const char *name;
    uid_t uid;
    gid_t gid;
};

/* Finds out whom to become: nobody else if `name` is empty or the process is not root, which it logs if that
 * is not what the name says. `name` must stay. False, having logged why, if there is no such user, or it is
 * root. */
bool user_find(const char *name, struct user *user);

/* Becomes that user, for good: its group and the groups of which it is a member, no capabilities, no way
 * back, and no core dump or debugger that would show other users what is in memory. False, having logged why,
 * if that cannot be. Nothing if no user is given. */
bool user_become(const struct user *user);

/* " (as user NAME)" if the process has become one, else "": for messages about files. */
const char *user_as(void);

/* Gives a file that was just made in the file system to that user, and to a group if `group` is not -1; links
 * are not followed. False with errno set if that cannot be. */
bool user_give(const struct user *user, const char *path, gid_t group);

/* The number of a group, from its name or its number. False if there is no such group. */
bool user_find_group(const char *name, gid_t *gid);

#endif
