/* The command vmx: sends events of VMs' lives, as the host's own source of them does. */
#include "thinagent-sim/made/vmx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "thinagent-sim/clock.h"
#include "thinagent-sim/fleet.h"
#include "thinagent-sim/identity.h"
#include "thinagent-sim/memory.h"
#include "thinagent-sim/queue.h"
#include "thinagent-sim/text.h"

static const struct {
    const char *name;
    uint16_t op;
} actions[] = {
    { "on", GR_POWER_OP_ON },         { "off", GR_POWER_OP_OFF },         { "suspend", GR_POWER_OP_SUSPEND },
    { "resume", GR_POWER_OP_RESUME }, { "migrate", GR_POWER_OP_MIGRATE },
};

static uint16_t
action_by_name(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
        if (strlen(actions[i].name) == len && strncmp(actions[i].name, name, len) == 0)
            return actions[i].op;
    return 0;
}

/* Reads ACTION[=HOST]:UUID[:NAME]. Returns false if it is none. */
static bool
parse_event(const char *text, struct text_pool *pool, struct gr_power *power)
{
    size_t len = strcspn(text, "=:");
    char host[256] = "";
    char uuid[GR_UUID_TEXT];
    const char *at = text + len;

    power->op = action_by_name(text, len);
    if (power->op == 0 || (*at == '=') != (power->op == GR_POWER_OP_MIGRATE))
        return false;
    if (*at == '=') {
        len = strcspn(at + 1, ":");
        if (len == 0 || len >= sizeof(host))
            return false;
        memcpy(host, at + 1, len);
        at += 1 + len;
    }
    if (*at != ':' || strlen(at + 1) < GR_UUID_TEXT - 1)
        return false;
    memcpy(uuid, at + 1, GR_UUID_TEXT - 1);
    uuid[GR_UUID_TEXT - 1] = '\0';
    at += GR_UUID_TEXT;
    if (!gr_uuid_parse(uuid, power->vm_uuid) || (*at != '\0' && *at != ':'))
        return false;
    power->vm_name = text_put(pool, *at == ':' ? at + 1 : NULL);
    power->target_host = text_put(pool, host);
    return true;
}

/* Puts all events of the command line into a queue. Returns false after a message. */
static bool
queue_events(const struct options *options, struct source *queue, struct text_pool *pool)
{
    int64_t now = clock_ns(CLOCK_REALTIME);

    for (uint32_t i = 0; i < options->events_list.count; i++) {
        struct gr_record record = { .type = GR_POWER, .sequence = 1 };
        uint8_t bytes[8192];
        size_t len = 0;

        text_pool_reset(pool, GR_VMX);
        record.time = driver_time(GR_VMX, now);
        if (parse_event(options->events_list.items[i], pool, &record.body.power))
            len = gr_encode(&record, bytes, sizeof(bytes));
        if (len == 0) {
            fprintf(stderr,
                    "thinagent-sim: --event %s: expected ACTION:UUID[:NAME], ACTION being on, off, suspend, "
                    "resume or migrate=HOST\n",
                    options->events_list.items[i]);
            return false;
        }
        queue_put(queue, GR_POWER, bytes, len);
    }
    queue->stopped = true; /* that is all */
    return true;
}

int
vmx_run(const struct options *options)
{
    struct agent_config config = { .driver = GR_VMX, .source = queue_new(QUEUE_SIZE, NULL) };
    struct text_pool *pool = must_calloc(1, sizeof(*pool));
    uint8_t host_boot[GR_UUID_SIZE];
    struct fleet *fleet = NULL;
    int status = EXIT_USAGE;

    if (!queue_events(options, config.source, pool)) {
        config.source->free(config.source);
    } else {
        status = EXIT_ERROR;
        fleet = fleet_new(options);
        if (options->has_vm)
            memcpy(config.vm_uuid, options->vm, GR_UUID_SIZE);
        else
            identity_of_machine(config.vm_uuid);
        identity_of_boot(host_boot);
        fleet_boot_id(options, config.vm_uuid, host_boot, config.boot_id);
        if (!fleet)
            config.source->free(config.source);
        else if (fleet_add(fleet, &config))
            status = fleet_run(fleet);
    }
    fleet_free(fleet);
    free(pool);
    return status;
}
