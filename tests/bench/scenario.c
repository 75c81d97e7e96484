/* The scenarios: how many producers and receivers, what they write how fast, and which systems take part. */
#include "tests/bench/scenario.h"

#include <stdio.h>
#include <string.h>

#define OURS " limit gimuxd "
#define RATE 50000

/* A write of at most 32 KiB is one piece in a UNIX socket, which the limit relies on: 32 events of 1,024
 * bytes. */

const struct scenario scenarios[] = {
    { "batch", "saturated, 32 events a write", SCENARIO_FLOW, 64, 3, 32, 0, MIX_ALL, 0, NULL, NULL },
    { "single", "saturated, one write an event", SCENARIO_FLOW, 64, 3, 1, 0, MIX_ALL, 0, NULL, NULL },
    { "paced", "50,000 events/s, one write an event", SCENARIO_FLOW, 64, 3, 1, RATE, MIX_ALL, 0, NULL, NULL },
    { "windows", "batch, Windows drivers alone", SCENARIO_FLOW, 64, 3, 32, 0, MIX_WINDOWS, 0, OURS, NULL },
    { "linux", "batch, linux drivers alone", SCENARIO_FLOW, 64, 3, 32, 0, MIX_LINUX, 0, OURS, NULL },
    { "size-128", "batch, records of 128 bytes", SCENARIO_FLOW, 64, 3, 32, 0, MIX_ALL, 128, OURS, NULL },
    { "size-256", "batch, records of 256 bytes", SCENARIO_FLOW, 64, 3, 32, 0, MIX_ALL, 256, OURS, NULL },
    { "size-512", "batch, records of 512 bytes", SCENARIO_FLOW, 64, 3, 32, 0, MIX_ALL, 512, OURS, NULL },
    { "size-1024", "batch, records of 1,024 bytes", SCENARIO_FLOW, 64, 3, 32, 0, MIX_ALL, 1024, OURS, NULL },
    { "svms-1", "batch, 1 SVM", SCENARIO_FLOW, 64, 1, 32, 0, MIX_ALL, 0, OURS, NULL },
    { "svms-4", "batch, 4 SVMs", SCENARIO_FLOW, 64, 4, 32, 0, MIX_ALL, 0, OURS, NULL },
    { "svms-16", "batch, 16 SVMs", SCENARIO_FLOW, 64, 16, 32, 0, MIX_ALL, 0, OURS, NULL },
    { "vms-64", "50,000 events/s of 64 VMs", SCENARIO_FLOW, 64, 3, 1, RATE, MIX_ALL, 0, OURS, NULL },
    { "vms-1024", "50,000 events/s of 1,024 VMs", SCENARIO_FLOW, 1024, 3, 1, RATE, MIX_ALL, 0, OURS, NULL },
    { "vms-4096", "50,000 events/s of 4,096 VMs", SCENARIO_FLOW, 4096, 3, 1, RATE, MIX_ALL, 0, OURS, NULL },
    { "idle", "1,024 VMs more, connected and idle", SCENARIO_IDLE, 1088, 3, 1, 0, MIX_ALL, 0, " gimuxd ",
      NULL },
    { "storm", "1,024 drivers connect at once", SCENARIO_STORM, 1025, 3, 1, 0, MIX_ALL, 0, " gimuxd ", NULL },
    { "status", "4,096 VMs, /v1/status asked all the time", SCENARIO_ASK, 4096, 3, 1, 0, MIX_ALL, 0,
      " gimuxd ", "/v1/status" },
    { "metrics", "4,096 VMs, /metrics asked all the time", SCENARIO_ASK, 4096, 3, 1, 0, MIX_ALL, 0,
      " gimuxd ", "/metrics" },
    { .name = NULL },
};

bool
scenario_has(const struct scenario *scenario, const struct system *system)
{
    char name[64];

    snprintf(name, sizeof(name), " %s ", system->name);
    return !scenario->systems || strstr(scenario->systems, name);
}
