/* The event loop: connects the agents with gimuxd and gives them their time. The only user of libevent. */
#ifndef SIM_LOOP_H
#define SIM_LOOP_H

#include <stdbool.h>
#include <stddef.h>

#include "thinagent-sim/agent.h"
#include "thinagent-sim/options.h"

struct loop;

/* Makes a loop that reaches gimuxd as the options say. Returns NULL, after a message on stderr, if the door's
 * address is wrong or the system refuses. The options must outlive it. */
struct loop *loop_new(const struct options *options);

/* Frees the loop, not the agents. */
void loop_free(struct loop *loop);

/* Adds an agent, to be connected when the loop runs. Returns false, after a message, if its door is malformed
 * or cannot be listened on. */
bool loop_add(struct loop *loop, struct agent *agent);

/* Calls `readable` whenever fd can be read, and then gives all agents the chance to send. One such fd. */
bool loop_watch(struct loop *loop, int fd, void (*readable)(void *arg), void *arg);

/* Stops all sources after `seconds`, as a signal does. */
void loop_stop_after(struct loop *loop, double seconds);

/* Runs until all agents have ended, or a signal came (SIGINT, SIGTERM) and the time to drain is over. */
void loop_run(struct loop *loop);

#endif
