/* What it costs a driver that an operator asks: how long it waits for a PONG without, and with. */
#ifndef GIMUX_BENCH_ASK_H
#define GIMUX_BENCH_ASK_H

#include "tests/bench/run.h"

/* Of PONGs, in microseconds. */
struct ask_delay {
    double p50, p99, most;
};

struct ask_result {
    struct ask_delay quiet; /* nobody asks */
    struct ask_delay asked; /* one client asks all the time */
    double reply_kib;       /* on average */
    double reply_ms;        /* from the request to the last byte, on average */
    double rss_mb;
};

/* All VMs connect, and say nothing but the last, which PINGs every millisecond, for conf->seconds while
 * nobody asks and as long while GETs of `path` follow each other at the admin door. False, with a message, if
 * something broke. */
bool ask_measure(const struct run_conf *conf, const char *path, struct ask_result *result);

#endif
