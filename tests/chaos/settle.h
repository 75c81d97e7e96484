/* The end of a round: waits until everything that was made is settled, and compares it. */
#ifndef GIMUX_CHAOS_SETTLE_H
#define GIMUX_CHAOS_SETTLE_H

#include <stdbool.h>

struct world;

/* No events are made meanwhile. Faults of SVMs and relays must be over. False if something was not settled in
 * time; it is counted, and then forgotten. */
bool settle(struct world *world);

#endif
