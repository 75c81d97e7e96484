/* The command info: says what is in a trace. */
#ifndef SIM_INFO_H
#define SIM_INFO_H

#include "thinagent-sim/options.h"

/* Runs the command. Returns the exit status: EXIT_ERROR also for a damaged trace, after a message. */
int info_run(const struct options *options);

#endif
