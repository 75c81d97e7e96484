/* Who did it: a process's program and user, as far as /proc still has them. */
#ifndef SIM_ACTOR_H
#define SIM_ACTOR_H

#include <stdint.h>
#include <sys/types.h>

#define ACTOR_NAME_MAX 64

struct actor {
    pid_t pid;
    int64_t seen; /* when /proc said this, monotonic nanoseconds */
    char program[4096];
    char user[ACTOR_NAME_MAX]; /* by /etc/passwd; "" if it has no such user */
    char uid[16];              /* the number as text; "" if not known */
};

struct actors;

struct actors *actors_new(void);
void actors_free(struct actors *actors);

/* The process with that pid. A process that has ended is described from memory if it was asked for shortly
 * before, else with empty texts. What is returned lives until the next call. */
const struct actor *actor_of(struct actors *actors, pid_t pid, int64_t now);

#endif
