/* The progress line on a terminal: how much is sent and acknowledged, and how fast. */
#ifndef SIM_PROGRESS_H
#define SIM_PROGRESS_H

#include "thinagent-sim/agent.h"

struct progress;

/* Returns NULL, which only progress_end takes, if stderr is not a terminal. */
struct progress *progress_new(void);

/* Adds one agent's numbers to what progress_show says next. */
void progress_add(struct progress *progress, const struct agent_counters *counters);

void progress_show(struct progress *progress);

/* Clears the line and frees. */
void progress_end(struct progress *progress);

#endif
