/* One event of a Windows event log becomes a driver's record. */
#ifndef SIM_IMPORT_EVENT_H
#define SIM_IMPORT_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "proto/guest_record.h"
#include "thinagent-sim/text.h"
#include "thinagent-sim/trace/import_known.h"

enum import_result {
    IMPORT_DONE,     /* the record is made */
    IMPORT_SKIPPED,  /* nothing that a driver sees, such as the access to a registry key, or told already */
    IMPORT_UNUSABLE, /* something that is needed is missing or makes no sense: why says what */
};

/* The events that are imported, in the order of their ids; each has a row in the summary. */
size_t import_rule_count(void);
const char *import_rule_channel(size_t rule); /* "Sysmon" or "Security" */
int import_rule_id(size_t rule);
const char *import_rule_about(size_t rule);

/* The rule for an event, or import_rule_count() if it is none of those that are imported. */
size_t import_rule_of(const json_t *event);

/* Which of a rule's events are skipped, for people; NULL if none are. */
const char *import_rule_left_out(size_t rule);

/* The log that an event is from, "Sysmon" or "Security" if it is one of these, and its id. Returns NULL if it
 * names none; *id is 0 if it has none. What is returned belongs to the event. */
const char *import_source(const json_t *event, uint64_t *id);

/* The driver that reports such an event: GR_VSEPFLT or GR_VNETWFP. */
uint16_t import_rule_driver(size_t rule);

/* What import_event works with. */
struct import_place {
    struct text_pool *pool;     /* for the texts of one record */
    struct import_known *known; /* what earlier events said; it is added to */
    uint32_t machine;           /* a number for the machine, the same for all its events */
};

/* Makes the record, with sequence and time 0; its texts are in the pool, which is emptied first. On
 * IMPORT_UNUSABLE *why says why. */
enum import_result import_event(size_t rule, const json_t *event, const struct import_place *place,
                                struct gr_record *out, const char **why);

#endif
