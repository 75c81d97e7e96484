/* The scenarios: what is done to a world, and how often. */
#ifndef GIMUX_CHAOS_SCENARIO_H
#define GIMUX_CHAOS_SCENARIO_H

#include "tests/chaos/world.h"

/* Limits so small that an SVM which stands still is felt within a second. */
#define SCENARIO_LIMITS "    memory = 64M\n    vm_log = 2M\n    vm_window = 64K\n"

struct scenario {
    const char *name; /* for SCENARIO= */
    const char *text; /* for the table */
    unsigned rounds;  /* by default, as CI runs it */
    unsigned target;  /* that the contract is held to: ROUNDS=target */
    unsigned settle;  /* rounds between two comparisons */
    struct world_conf world;

    /* Before the world is opened; may change its configuration. NULL: nothing to do. */
    void (*prepare)(struct world_conf *conf);
    /* Once the world is up: NULL, or what is missing in this gimuxd. NULL: nothing is. */
    const char *(*probe)(struct world *world);
    /* One round, or several; returns how many. */
    unsigned (*round)(struct world *world);
};

/* All of them, in the order of the table; ended by one without a name. */
extern const struct scenario *const scenarios[];

/* A probe: NULL once files of VM logs have appeared. */
const char *scenario_probe_storage(struct world *world);

extern const struct scenario scenario_guests, scenario_svms, scenario_certificates, scenario_all;
extern const struct scenario scenario_kill_delivered, scenario_kill_process, scenario_kill_disk;
extern const struct scenario scenario_damage_process, scenario_damage_disk;
extern const struct scenario scenario_power_cut, scenario_disk_full, scenario_upgrade;

#endif
