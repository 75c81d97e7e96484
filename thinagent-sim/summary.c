/* What a run did: a table for people, JSON for programs. */
#include "thinagent-sim/summary.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#define TABLE_MAX 24u /* streams that are listed one by one */

/* The numbers of a stream, as JSON names them and as the table heads them (NULL: not there). */
static const struct column {
    const char *name;
    const char *heading;
    size_t offset;
} columns[] = {
    { "first", NULL, offsetof(struct agent_counters, first) },
    { "sent", "SENT", offsetof(struct agent_counters, sent) },
    { "acked", "ACKED", offsetof(struct agent_counters, acked) },
    { "lost", "LOST", offsetof(struct agent_counters, lost) },
    { "not_wanted", "UNWANTED", offsetof(struct agent_counters, not_wanted) },
    { "resent", "RESENT", offsetof(struct agent_counters, resent) },
    { "reconnects", "RECONN", offsetof(struct agent_counters, reconnects) },
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

static uint64_t *
number(struct agent_counters *counters, size_t column)
{
    return (uint64_t *)(void *)((char *)counters + columns[column].offset);
}

static uint64_t
number_of(const struct agent_counters *counters, size_t column)
{
    struct agent_counters copy = *counters;

    return *number(&copy, column);
}

static void
add_up(struct agent_counters *totals, const struct agent_counters *counters)
{
    for (size_t i = 0; i < COLUMNS; i++)
        *number(totals, i) += number_of(counters, i);
    for (size_t i = 0; i < CLASS_COUNT; i++)
        totals->by_class[i] += counters->by_class[i];
}

static json_t *
counters_json(const struct agent_counters *counters)
{
    json_t *object = json_object();
    json_t *by_kind = json_object();

    for (size_t i = 0; i < COLUMNS; i++)
        json_object_set_new(object, columns[i].name, json_integer((json_int_t)number_of(counters, i)));
    for (unsigned i = 0; i < CLASS_COUNT; i++)
        if (counters->by_class[i] > 0)
            json_object_set_new(by_kind, event_class_name(i),
                                json_integer((json_int_t)counters->by_class[i]));
    json_object_set_new(object, "by_kind", by_kind);
    return object;
}

static json_t *
stream_json(const struct agent *agent)
{
    const struct agent_config *config = agent_config(agent);
    json_t *object = counters_json(agent_counters(agent));
    char uuid[GR_UUID_TEXT];

    json_object_set_new(object, "vm_uuid", json_string(gr_uuid_format(config->vm_uuid, uuid)));
    json_object_set_new(object, "driver", json_string(gr_driver_name(config->driver)));
    json_object_set_new(object, "boot_id", json_string(gr_uuid_format(config->boot_id, uuid)));
    json_object_set_new(object, "state", json_string(agent_state_name(agent_state(agent))));
    json_object_set_new(object, "why", json_stringn_nocheck(agent_why(agent), strlen(agent_why(agent))));
    return object;
}

static json_t *
summary_json(struct agent *const *agents, uint32_t count, const struct agent_counters *totals)
{
    json_t *streams = json_array();
    json_t *summary = json_object();

    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(streams, stream_json(agents[i]));
    json_object_set_new(summary, "streams", streams);
    json_object_set_new(summary, "totals", counters_json(totals));
    return summary;
}

static void
print_row(const char *uuid, const char *driver, const struct agent_counters *counters)
{
    printf("%-36s %-8s", uuid, driver);
    for (size_t i = 0; i < COLUMNS; i++)
        if (columns[i].heading)
            printf(" %10" PRIu64, number_of(counters, i));
    putchar('\n');
}

static void
print_table(struct agent *const *agents, uint32_t count, const struct agent_counters *totals)
{
    char uuid[GR_UUID_TEXT];

    printf("%-36s %-8s", "VM", "DRIVER");
    for (size_t i = 0; i < COLUMNS; i++)
        if (columns[i].heading)
            printf(" %10s", columns[i].heading);
    putchar('\n');
    for (uint32_t i = 0; i < count && count <= TABLE_MAX; i++) {
        const struct agent_config *config = agent_config(agents[i]);

        print_row(gr_uuid_format(config->vm_uuid, uuid), gr_driver_name(config->driver),
                  agent_counters(agents[i]));
    }
    snprintf(uuid, sizeof(uuid), "all %u streams", count);
    print_row(uuid, "", totals);
    for (unsigned i = 0; i < CLASS_COUNT; i++)
        if (totals->by_class[i] > 0)
            printf("  %-16s %10" PRIu64 "\n", event_class_name(i), totals->by_class[i]);
}

bool
summary_give(const struct options *options, struct agent *const *agents, uint32_t count)
{
    struct agent_counters totals = { 0 };
    bool good = true;
    json_t *json;

    for (uint32_t i = 0; i < count; i++)
        add_up(&totals, agent_counters(agents[i]));
    json = summary_json(agents, count, &totals);
    if (options->summary && json_dump_file(json, options->summary, JSON_INDENT(2)) < 0) {
        fprintf(stderr, "thinagent-sim: cannot write %s\n", options->summary);
        good = false;
    }
    if (options->json) {
        json_dumpf(json, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_table(agents, count, &totals);
    }
    json_decref(json);
    return good && fflush(stdout) == 0;
}
