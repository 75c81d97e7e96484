/* The end of a round: waits until everything that was made is settled, and compares it. */
#ifndef GIMUX_CHAOS_SETTLE_H
#define GIMUX_CHAOS_SETTLE_H

struct world;

/* No events are made meanwhile. Faults of SVMs and relays must be over. */
void settle(struct world *world);

#endif
