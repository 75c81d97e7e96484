/* The OCSF classes that gimux events have, as small numbers, with their names and the drivers' event kinds.
 */
#include "proto/event_class.h"

#include <assert.h>
#include <string.h>

#include "proto/guest_record.h"

static const struct {
    const char *name;
    uint32_t uid;
    uint16_t record_type; /* 0: none, gimuxd makes these itself */
} classes[] = {
    [CLASS_FILE] = { "file", 1001, GR_FILE },
    [CLASS_PROCESS] = { "process", 1007, GR_PROCESS },
    [CLASS_POWER] = { "power", 1011, GR_POWER },
    [CLASS_AUTHENTICATION] = { "authentication", 3002, GR_LOGON },
    [CLASS_NETWORK] = { "network", 4001, GR_NET },
    [CLASS_DNS] = { "dns", 4003, GR_DNS },
    [CLASS_LIFECYCLE] = { "lifecycle", 6002, 0 },
};
static_assert(sizeof(classes) / sizeof(classes[0]) == CLASS_COUNT, "the table mirrors enum event_class");

uint32_t
event_class_uid(enum event_class cls)
{
    return classes[cls].uid;
}

const char *
event_class_name(enum event_class cls)
{
    return classes[cls].name;
}

enum event_class
event_class_by_uid(uint32_t uid)
{
    enum event_class cls = 0;

    while (cls < CLASS_COUNT && classes[cls].uid != uid)
        cls++;
    return cls;
}

enum event_class
event_class_by_name(const char *name)
{
    enum event_class cls = 0;

    while (cls < CLASS_COUNT && strcmp(classes[cls].name, name) != 0)
        cls++;
    return cls;
}

enum event_class
event_class_of_record(uint16_t type)
{
    enum event_class cls = 0;

    while (cls < CLASS_COUNT && classes[cls].record_type != type)
        cls++;
    return cls;
}

uint64_t
event_class_kinds(uint32_t class_mask)
{
    uint64_t kinds = 0;

    for (enum event_class cls = 0; cls < CLASS_COUNT; cls++)
        if ((class_mask & (1u << cls)) && classes[cls].record_type)
            kinds |= GR_KIND(classes[cls].record_type);
    return kinds;
}
