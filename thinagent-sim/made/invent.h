/* Invents plausible events of a guest: files, connections, names, processes, logons. */
#ifndef SIM_INVENT_H
#define SIM_INVENT_H

#include <stdint.h>

#include "proto/event_class.h"
#include "proto/guest_record.h"
#include "thinagent-sim/text.h"

/* What a made-up guest remembers from event to event. Initialize with invent_start. */
struct guest {
    uint16_t driver;
    uint64_t random; /* state of the generator */
    uint32_t user;   /* who works there */
    uint32_t next_pid;
    uint64_t next_flow;
    uint32_t address; /* its IPv4 address, host order */
};

/* The same guest for the same seed. */
void invent_start(struct guest *guest, uint16_t driver, uint64_t seed);

/* A number from 0 to below - 1. */
uint32_t invent_number(struct guest *guest, uint32_t below);

/* Makes up an event of the class (file, network, dns, process or authentication) that happens at unix_ns. Its
 * texts are in the pool, which is emptied first. */
void invent_event(struct guest *guest, enum event_class cls, int64_t unix_ns, struct text_pool *pool,
                  struct gr_record *out);

#endif
