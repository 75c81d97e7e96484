/* What it takes to be connected: the memory of idle VMs, and the time of drivers that come all at once. */
#ifndef GIMUX_BENCH_CONNECT_H
#define GIMUX_BENCH_CONNECT_H

#include "tests/bench/run.h"

struct connect_result {
    double kib_per_vm; /* growth of resident memory */
    double welcome_ms; /* until the last driver has its WELCOME */
    double longest_ms; /* the longest that a connected driver waited for a PONG meanwhile */
    double rss_mb;
};

/* run_open; receivers then read and acknowledge while drivers come, since gimuxd tells of that. On true
 * receivers_stop must follow; run_close in any case. */
bool connect_open(struct run *run, const struct run_conf *conf);

/* Some VMs connect, and then the others; the memory is what these have added. */
bool connect_idle(const struct run_conf *conf, struct connect_result *result);

/* One driver is connected, then all others come at once. */
bool connect_storm(const struct run_conf *conf, struct connect_result *result);

#endif
