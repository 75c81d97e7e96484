/* The words for the numbers of gimux_client.h. */
#include <string.h>

#include "client/gimux_client.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *const driver_names[] = {
    "unknown", "vsepflt", "vnetflt", "vnetwfp", "linux", "vmx", "gimuxd",
};
static const char *const gap_names[] = { "unknown", "overflow", "driver", "restart", "record", "storage" };
static const char *const disconnect_names[] = {
    "bye", "closed", "error", "silent", "protocol", "tls", "stopped",
};

/* Activity names by activity_id, as OCSF has them; ids from 15 on are not in use. */
static const struct {
    const char *name;
    uint32_t class_uid;
    const char *activities[15];
} classes[] = {
    { "file",
      GIMUX_CLASS_FILE,
      { [1] = "create",
        "read",
        "update",
        "delete",
        "rename",
        "set-attributes",
        "set-security",
        "get-attributes",
        "get-security",
        "encrypt",
        "decrypt",
        "mount",
        "unmount",
        "open" } },
    { "process", GIMUX_CLASS_PROCESS, { [1] = "launch", "terminate", "open", "inject", "set-user-id" } },
    { "power", GIMUX_CLASS_POWER, { [1] = "power-on", "power-off", "sleep", "hibernate", "reboot", "wake" } },
    { "authentication",
      GIMUX_CLASS_AUTHENTICATION,
      { [1] = "logon",
        "logoff",
        "authentication-ticket",
        "service-ticket-request",
        "service-ticket-renew" } },
    { "network",
      GIMUX_CLASS_NETWORK,
      { [1] = "open", "close", "reset", "fail", "refuse", "traffic", "listen" } },
    { "dns", GIMUX_CLASS_DNS, { [1] = "query", "response", [6] = "traffic" } },
    { "lifecycle",
      GIMUX_CLASS_LIFECYCLE,
      { [1] = "install", "remove", "start", "stop", "restart", "enable", "disable", "update" } },
};

const char *
gimux_client_driver_name(uint32_t driver)
{
    return driver_names[driver < COUNT(driver_names) ? driver : 0];
}

const char *
gimux_client_gap_name(uint32_t reason)
{
    return gap_names[reason < COUNT(gap_names) ? reason : 0];
}

const char *
gimux_client_disconnect_name(enum gimux_disconnect reason)
{
    return (size_t)reason < COUNT(disconnect_names) ? disconnect_names[reason] : "unknown";
}

const char *
gimux_client_class_name(uint32_t class_uid)
{
    for (size_t i = 0; i < COUNT(classes); i++)
        if (classes[i].class_uid == class_uid)
            return classes[i].name;
    return "unknown";
}

uint32_t
gimux_client_class_by_name(const char *name)
{
    for (size_t i = 0; i < COUNT(classes); i++)
        if (strcmp(classes[i].name, name) == 0)
            return classes[i].class_uid;
    return 0;
}

const char *
gimux_client_activity_name(uint32_t class_uid, uint32_t activity_id)
{
    const char *name = NULL;

    if (activity_id == 99)
        return "other";
    for (size_t i = 0; i < COUNT(classes); i++)
        if (classes[i].class_uid == class_uid && activity_id < COUNT(classes[i].activities))
            name = classes[i].activities[activity_id];
    return name ? name : "unknown";
}
