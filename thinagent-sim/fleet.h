/* The agents of one run: made, run in a loop, recorded, and summed up. */
#ifndef SIM_FLEET_H
#define SIM_FLEET_H

#include <stdbool.h>

#include "thinagent-sim/agent.h"
#include "thinagent-sim/loop.h"
#include "thinagent-sim/options.h"

struct fleet;

/* Opens the recording and makes the loop as the options say. Returns NULL after a message on stderr. */
struct fleet *fleet_new(const struct options *options);
void fleet_free(struct fleet *fleet);

/* Adds an agent. Fills in by itself what is the same for all (recording, number, verbosity), and build and
 * guest_os if config has none. Takes over config->source, also when it returns false after a message. */
bool fleet_add(struct fleet *fleet, struct agent_config *config);

/* The loop that will run them. */
struct loop *fleet_loop(struct fleet *fleet);

/* Runs all agents to their end, closes the recording, and gives the summary. Returns the exit status. */
int fleet_run(struct fleet *fleet);

/* Sets the boot id of a VM: that of --boot-id, else with "keep" what is in `kept`, else a new one for every
 * run, which all drivers of the VM share, as they do in a guest. */
void fleet_boot_id(const struct options *options, const uint8_t vm_uuid[GR_UUID_SIZE],
                   const uint8_t kept[GR_UUID_SIZE], uint8_t out[GR_UUID_SIZE]);

#endif
