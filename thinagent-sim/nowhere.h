/* Stands in for gimuxd when a run only makes a recording: welcomes a driver and acknowledges all that it
 * says. */
#ifndef SIM_NOWHERE_H
#define SIM_NOWHERE_H

#include <stdbool.h>
#include <stdint.h>

#include "thinagent-sim/agent.h"

/* Answers what the agent says, for a while. Returns whether there may be more. */
bool nowhere_take(struct agent *agent, int64_t now);

#endif
