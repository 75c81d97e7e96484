/* What a driver's link draws its records from: a trace, a made-up load, or what is watched on this machine.
 */
#ifndef SIM_SOURCE_H
#define SIM_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SOURCE_NEVER INT64_MAX

enum source_result {
    SOURCE_RECORD, /* item->data is a record: an event, or VOLUMES */
    SOURCE_LOST,   /* item->lost events were dropped here */
    SOURCE_LATER,  /* nothing before item->later, or before the source has been given something */
    SOURCE_END,    /* nothing more will come */
};

struct source_item {
    const uint8_t *data; /* encoded, with any sequence; lives until the next call */
    size_t len;
    uint16_t type;
    uint64_t lost;
    int64_t later; /* monotonic nanoseconds, or SOURCE_NEVER */
};

struct source {
    /* Gives the next item. Is only called when the link can send it. */
    enum source_result (*next)(struct source *source, int64_t now, struct source_item *item);

    /* NULL, or called whether the link can send or not, for sources whose events do not wait. `interest` has
     * the GR_KIND bits of the events that are wanted. Returns when to call again. */
    int64_t (*tick)(struct source *source, int64_t now, uint64_t interest);

    void (*free)(struct source *source);
    bool stopped;     /* set from outside: end as soon as what was already taken on is given */
    uint64_t backlog; /* items taken on and not yet given; only sources whose events do not wait have any */
};

#endif
