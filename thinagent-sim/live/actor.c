/* Who did it: a process's program and user, as far as /proc still has them. */
#include "thinagent-sim/live/actor.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "thinagent-sim/memory.h"

#define REMEMBERED  256u                 /* processes, by the low bits of their pid */
#define REMEMBER_NS INT64_C(10000000000) /* after that a pid may be another process */

struct actors {
    struct actor slots[REMEMBERED];
};

struct actors *
actors_new(void)
{
    return must_calloc(1, sizeof(struct actors));
}

void
actors_free(struct actors *actors)
{
    free(actors);
}

/* Looks into /etc/passwd itself: getpwuid needs shared libraries, which a small guest may not have. */
static void
name_user(struct actor *actor, uid_t uid)
{
    char number[sizeof(actor->uid)];
    FILE *file;
    const struct passwd *entry;

    snprintf(number, sizeof(number), "%u", uid);
    if (strcmp(number, actor->uid) == 0)
        return;
    strcpy(actor->uid, number);
    actor->user[0] = '\0';
    file = fopen("/etc/passwd", "re");
    if (!file)
        return;
    /* cppcheck-suppress fgetpwentCalled ; there is one thread */
    while ((entry = fgetpwent(file)))
        if (entry->pw_uid == uid && strlen(entry->pw_name) < sizeof(actor->user)) {
            strcpy(actor->user, entry->pw_name);
            break;
        }
    fclose(file);
}

static void
read_program(struct actor *actor, const char *directory)
{
    char path[64];
    ssize_t len;

    snprintf(path, sizeof(path), "%s/exe", directory);
    len = readlink(path, actor->program, sizeof(actor->program) - 1);
    if (len >= 0) /* kernel threads and processes that are ending have none */
        actor->program[len] = '\0';
}

const struct actor *
actor_of(struct actors *actors, pid_t pid, int64_t now)
{
    struct actor *actor = &actors->slots[(unsigned)pid % REMEMBERED];
    char directory[32];
    struct stat status;

    if (actor->pid != pid || now - actor->seen > REMEMBER_NS) {
        actor->pid = pid;
        actor->program[0] = '\0';
        actor->user[0] = '\0';
        actor->uid[0] = '\0';
    }
    snprintf(directory, sizeof(directory), "/proc/%d", pid);
    if (pid > 0 && stat(directory, &status) == 0) {
        actor->seen = now;
        name_user(actor, status.st_uid);
        read_program(actor, directory);
    }
    return actor;
}
