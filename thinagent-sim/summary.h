/* What a run did: a table for people, JSON for programs. */
#ifndef SIM_SUMMARY_H
#define SIM_SUMMARY_H

#include <stdbool.h>
#include <stdint.h>

#include "thinagent-sim/agent.h"
#include "thinagent-sim/options.h"

/* Writes the JSON file of --summary and prints the table, or the JSON with --json. Returns false, after a
 * message on stderr, if something cannot be written. */
bool summary_give(const struct options *options, struct agent *const *agents, uint32_t count);

#endif
