/* The command import: makes a trace of a Windows event log. */
#ifndef SIM_IMPORT_H
#define SIM_IMPORT_H

#include "thinagent-sim/options.h"

/* Runs the command. Returns the exit status; lines that cannot be used are reported and left out. */
int import_run(const struct options *options);

#endif
