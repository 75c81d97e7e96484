/* A bounded queue of events that do not wait: what does not fit is dropped and becomes LOST. */
#ifndef SIM_QUEUE_H
#define SIM_QUEUE_H

#include <stddef.h>
#include <stdint.h>

#include "thinagent-sim/source.h"

#define QUEUE_SIZE ((size_t)4 << 20) /* bytes of records that a driver queues unless told otherwise */

/* Makes a queue of at most `max` bytes; it is a source, freed by its `free`. If `feeder` is not NULL, the
 * queue owns it and draws what is due from it by itself; it ends when the feeder does. Otherwise it is filled
 * with queue_put and ends when it is stopped. */
struct source *queue_new(size_t max, struct source *feeder);

/* Adds an encoded event, or counts it as lost if there is no room and `interest` has its kind's bit. */
void queue_put(struct source *queue, uint16_t type, const uint8_t *data, size_t len);

/* Adds `count` events that were lost before they came here. */
void queue_put_lost(struct source *queue, uint64_t count);

#endif
