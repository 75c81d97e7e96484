/* When an event of a Windows event log happened. */
#ifndef SIM_IMPORT_TIME_H
#define SIM_IMPORT_TIME_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

/* The fields that say it, the one that counts first. A field that cannot be read, or that says a time outside
 * 1970 to 2106, which is what a trace holds, is as if it were not there. */
enum import_clock {
    CLOCK_UTC_TIME,     /* Sysmon's own */
    CLOCK_TIME_CREATED, /* the event log's, UTC */
    CLOCK_EVENT_TIME,   /* the event log's; without a zone it is local time: see import_time */
    CLOCK_COLLECTOR,    /* @timestamp: when the event was collected, if nothing else is there */
    CLOCKS,             /* how many there are */
};

struct import_time {
    enum import_clock clock; /* the field that counts */
    int64_t happened;        /* what it says, Unix nanoseconds */
    int64_t sent;            /* when a replay sends it: as happened, or as the event log says, if apart */
    bool apart;              /* Sysmon's time and the event log's are over 15 minutes apart */
};

/* Reads the time. EventTime without a zone is local time: its distance from UTC, in quarters of an hour, is
 * what @timestamp has more, if that is 2 minutes before to 13 minutes after it; if @timestamp is missing or
 * over 14 hours away it is taken as UTC. Returns false if there is no time. */
bool import_time(const json_t *event, struct import_time *out);

/* The name of the field. */
const char *import_clock_name(enum import_clock clock);

#endif
