/* The UUIDs of VMs and boots: derived from a name, derived for a copy, this machine's own, or random. */
#ifndef SIM_IDENTITY_H
#define SIM_IDENTITY_H

#include <stdint.h>

#include "proto/guest_record.h"

/* The same UUID (version 8) for the same pair of texts at every run. `what` keeps apart the UUIDs of
 * different things that share a name, as a VM and its boot do. */
void identity_of_name(const char *what, const char *name, uint8_t out[GR_UUID_SIZE]);

/* The UUID of the copy number `copy` of a VM; copy 0 is the VM itself. */
void identity_of_copy(const uint8_t original[GR_UUID_SIZE], uint32_t copy, uint8_t out[GR_UUID_SIZE]);

/* A random UUID (version 4). */
void identity_random(uint8_t out[GR_UUID_SIZE]);

/* The UUID of the machine this runs on: the firmware's, or else a random one that is kept in
 * /var/lib/thinagent-sim/vm-uuid where that can be written. */
void identity_of_machine(uint8_t out[GR_UUID_SIZE]);

/* The kernel's id of this boot; a random one where /proc does not say. */
void identity_of_boot(uint8_t out[GR_UUID_SIZE]);

#endif
