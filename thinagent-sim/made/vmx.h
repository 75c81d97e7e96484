/* The command vmx: sends events of VMs' lives, as the host's own source of them does. */
#ifndef SIM_VMX_H
#define SIM_VMX_H

#include "thinagent-sim/options.h"

/* Runs the command. Returns the exit status. */
int vmx_run(const struct options *options);

#endif
