/* gimuxd's drivers, for what only gimuxd is measured in. */
#ifndef GIMUX_BENCH_SYSTEM_GIMUXD_H
#define GIMUX_BENCH_SYSTEM_GIMUXD_H

#include "tests/bench/producer.h"

/* Sends HELLO of a producer that is connected, and PING, whose PONG will bear the token. False if the
 * connection does not take it. */
bool system_gimuxd_hello(const struct producer *producer);
bool system_gimuxd_ping(const struct producer *producer, uint64_t token);

#endif
