/* The line on a terminal that says how far things are. */
#ifndef SIM_PROGRESS_H
#define SIM_PROGRESS_H

#include "thinagent-sim/agent.h"

struct progress;

/* Returns NULL, which the others take too, if stderr is no terminal. */
struct progress *progress_new(void);

/* Adds one agent's numbers to what progress_show says next. */
void progress_add(struct progress *progress, const struct agent_counters *counters);

void progress_show(struct progress *progress);

/* Clears the line and frees. */
void progress_end(struct progress *progress);

#endif
