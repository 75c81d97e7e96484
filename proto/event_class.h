/* The OCSF classes that gimux events have, as small numbers, with their names and the drivers' event kinds.
 */
#ifndef GIMUX_EVENT_CLASS_H
#define GIMUX_EVENT_CLASS_H

#include <stdint.h>

/* In the order of the table in event_class.c; a class's bit in masks of classes is 1u << class. */
enum event_class {
    CLASS_FILE,           /* 1001 File System Activity */
    CLASS_PROCESS,        /* 1007 Process Activity */
    CLASS_POWER,          /* 1011 Device Power State Activity */
    CLASS_AUTHENTICATION, /* 3002 Authentication */
    CLASS_NETWORK,        /* 4001 Network Activity */
    CLASS_DNS,            /* 4003 DNS Activity */
    CLASS_LIFECYCLE,      /* 6002 Application Lifecycle: a driver's link to gimuxd */
    CLASS_COUNT,
};

#define CLASS_MASK_ALL ((1u << CLASS_COUNT) - 1)

/* OCSF class_uid of a class. */
uint32_t event_class_uid(enum event_class cls);

/* Short name of a class as configuration and command lines write it: "file", "process", ... Static memory. */
const char *event_class_name(enum event_class cls);

/* The class of an OCSF class_uid, or CLASS_COUNT. */
enum event_class event_class_by_uid(uint32_t uid);

/* The class of a short name, or CLASS_COUNT. */
enum event_class event_class_by_name(const char *name);

/* The class that a driver's event record becomes (type: GR_FILE ... GR_POWER). */
enum event_class event_class_of_record(uint16_t type);

/* The GR_KIND bits of the records that become events of these classes. */
uint64_t event_class_kinds(uint32_t class_mask);

#endif
