/* Users and groups of this host: the user that gimuxd becomes, and the owners of its files. They are read
 * from /etc/passwd and /etc/group directly, since a static program has no NSS. */
#include "mux/base/user.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "mux/base/log.h"

#define GROUPS_MAX 64 /* of the user */

#ifdef __SANITIZE_ADDRESS__ /* its search for leaks attaches to the process */
#define DUMPABLE 1
#else
#define DUMPABLE 0
#endif

static char as_user[80]; /* " (as user NAME)" */

const char *
user_as(void)
{
    return as_user;
}

static bool
find_user(const char *name, struct user *user)
{
    FILE *file = fopen("/etc/passwd", "re");
    const struct passwd *entry;
    bool found = false;

    /* cppcheck-suppress fgetpwentCalled ; there is one thread */
    while (file && !found && (entry = fgetpwent(file))) {
        found = strcmp(entry->pw_name, name) == 0;
        user->uid = entry->pw_uid;
        user->gid = entry->pw_gid;
    }
    if (file)
        fclose(file);
    return found;
}

bool
user_find(const char *name, struct user *user)
{
    *user = (struct user){ .name = name };
    if (name[0] == '\0') {
        if (geteuid() == 0)
            log_info(NULL, "goes on as root: the configuration has no user");
        return true;
    }
    if (!find_user(name, user)) {
        log_error(NULL, "user = \"%s\": no such user in /etc/passwd", name);
        return false;
    }
    if (geteuid() != 0) {
        if (geteuid() != user->uid)
            log_warning(NULL, "user = \"%s\": not started as root, so goes on as user number %u", name,
                        (unsigned)geteuid());
        return true;
    }
    if (user->uid == 0) {
        log_error(NULL, "user = \"%s\": expected one that is not root", name);
        return false;
    }
    user->given = true;
    return true;
}

/* The user's own group, then those that /etc/group lists the user in. Returns how many. */
static size_t
find_groups(const struct user *user, gid_t groups[GROUPS_MAX])
{
    FILE *file = fopen("/etc/group", "re");
    const struct group *group;
    size_t count = 0;

    groups[count++] = user->gid;
    /* cppcheck-suppress fgetgrentCalled ; there is one thread */
    while (file && (group = fgetgrent(file)))
        for (char **member = group->gr_mem; *member && count < GROUPS_MAX; member++)
            if (strcmp(*member, user->name) == 0)
                groups[count++] = group->gr_gid;
    if (file)
        fclose(file);
    return count;
}

bool
user_become(const struct user *user)
{
    gid_t groups[GROUPS_MAX];

    if (!user->given)
        return true;
    if (setgroups(find_groups(user, groups), groups) != 0 ||
        setresgid(user->gid, user->gid, user->gid) != 0 || setresuid(user->uid, user->uid, user->uid) != 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, DUMPABLE, 0, 0, 0) != 0) {
        log_error(NULL, "cannot become user %s: %s", user->name, strerror(errno));
        return false;
    }
    if (setuid(0) == 0 || setgid(0) == 0) {
        log_error(NULL, "cannot become user %s: it could become root again", user->name);
        return false;
    }
    snprintf(as_user, sizeof(as_user), " (as user %s)", user->name);
    return true;
}

bool
user_give(const struct user *user, const char *path, gid_t group)
{
    uid_t owner = user->given ? user->uid : (uid_t)-1;

    if (group == (gid_t)-1 && user->given)
        group = user->gid;
    return (owner == (uid_t)-1 && group == (gid_t)-1) || lchown(path, owner, group) == 0;
}

bool
user_find_group(const char *name, gid_t *gid)
{
    FILE *file = fopen("/etc/group", "re");
    const struct group *group;
    char *end;

    *gid = (gid_t)strtoul(name, &end, 10);
    /* cppcheck-suppress fgetgrentCalled ; there is one thread */
    while (file && *end != '\0' && (group = fgetgrent(file))) {
        if (strcmp(group->gr_name, name) == 0) {
            *gid = group->gr_gid;
            end = (char *)"";
        }
    }
    if (file)
        fclose(file);
    return *end == '\0';
}
