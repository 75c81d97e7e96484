/* The command live: watches this Linux machine and sends what it sees. */
#ifndef SIM_LIVE_H
#define SIM_LIVE_H

#include "thinagent-sim/options.h"

/* Runs the command. Returns the exit status. */
int live_run(const struct options *options);

#endif
