/* The command load: made-up VMs whose drivers make up plausible events. */
#ifndef SIM_LOAD_H
#define SIM_LOAD_H

#include "thinagent-sim/options.h"

/* Runs the command. Returns the exit status. */
int load_run(const struct options *options);

#endif
