/* Users and groups of this host: the user that gimuxd becomes, and the owners of its files. */
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

/* Finds out whom to become. The process stays who it is (`given` is false) if `name` is empty or it is not
 * root; logs that where it is a surprise. `name` is not copied and must remain valid until user_become.
 * False, having logged why, if there is no such user, or root is to become root. */
bool user_find(const char *name, struct user *user);

/* Becomes that user, for good: with its own group and those of which it is a member, without capabilities or
 * a way back to root, and without core dumps or debuggers, which would show other users what is in memory.
 * False, having logged why, if that fails. Does nothing if no user is given. */
bool user_become(const struct user *user);

/* " (as user NAME)" if the process has become one, else "": for messages about files. Static memory. */
const char *user_as(void);

/* Gives a file that was just created to that user and to a group; -1: to the user's own, if one is given.
 * Links are not followed. False with errno set on failure. */
bool user_give(const struct user *user, const char *path, gid_t group);

/* The number of a group, from its name or its number as text. False if no group has that name. */
bool user_find_group(const char *name, gid_t *gid);

#endif
