/* The command replay: sends a trace again, as it was or as many copies of it. */
#ifndef SIM_REPLAY_H
#define SIM_REPLAY_H

#include "thinagent-sim/options.h"

/* Runs the command. Returns the exit status. */
int replay_run(const struct options *options);

#endif
