/* The bound of memory that the configuration adds up to, which is printed at start and shown by /metrics. */
#ifndef GIMUX_OPERATOR_BOUND_H
#define GIMUX_OPERATOR_BOUND_H

#include <stdint.h>

#include "mux/base/conf.h"

/* Bytes that events, VMs, connections and links can take at most. What the allocator and the libraries add is
 * not in it, nor what the admin door makes while it answers. */
uint64_t memory_bound(const struct conf *conf);

#endif
