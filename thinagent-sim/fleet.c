/* The agents of one run: made, run in a loop, recorded, and summed up. */
#include "thinagent-sim/fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "thinagent-sim/identity.h"
#include "thinagent-sim/memory.h"
#include "thinagent-sim/summary.h"
#include "thinagent-sim/text.h"

struct fleet {
    const struct options *options;
    struct loop *loop;
    struct trace_writer *record;
    struct agent **agents;
    uint32_t count;
    struct text_pool texts[2]; /* of HELLO: [0] bytes, [1] UTF-16LE */
    struct gr_text build[2];
    struct gr_text guest_os[2];
};

static void
make_texts(struct fleet *fleet)
{
    static const uint16_t drivers[2] = { GR_LINUX, GR_VSEPFLT };
    static const char *const systems[2] = { "Linux", "Windows" };

    for (size_t wide = 0; wide < 2; wide++) {
        text_pool_reset(&fleet->texts[wide], drivers[wide]);
        fleet->build[wide] = text_put(&fleet->texts[wide], "thinagent-sim " GIMUX_VERSION);
        fleet->guest_os[wide] = text_put(&fleet->texts[wide], systems[wide]);
    }
}

/* Each agent takes a descriptor. */
static void
raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

struct fleet *
fleet_new(const struct options *options)
{
    struct fleet *fleet = must_calloc(1, sizeof(*fleet));
    char why[TRACE_WHY_MAX];

    fleet->options = options;
    make_texts(fleet);
    raise_descriptor_limit();
    if (options->record) {
        fleet->record = trace_writer_open(options->record, why);
        if (!fleet->record) {
            fprintf(stderr, "thinagent-sim: %s\n", why);
            fleet_free(fleet);
            return NULL;
        }
    }
    fleet->loop = loop_new(options);
    if (!fleet->loop) {
        fleet_free(fleet);
        return NULL;
    }
    return fleet;
}

void
fleet_free(struct fleet *fleet)
{
    char why[TRACE_WHY_MAX];

    if (!fleet)
        return;
    loop_free(fleet->loop);
    for (uint32_t i = 0; i < fleet->count; i++)
        agent_free(fleet->agents[i]);
    free(fleet->agents);
    if (fleet->record)
        trace_writer_close(fleet->record, why);
    free(fleet);
}

bool
fleet_add(struct fleet *fleet, struct agent_config *config)
{
    bool wide = gr_driver_is_windows(config->driver);
    struct agent *agent;

    if (!config->build.data) {
        config->build = fleet->build[wide];
        config->guest_os = fleet->guest_os[wide];
    }
    config->device = fleet->options->device != NULL;
    config->verbose = fleet->options->verbose;
    config->record = fleet->record;
    config->number = fleet->count;
    agent = agent_new(config);
    fleet->agents = must_realloc(fleet->agents, (fleet->count + 1) * sizeof(struct agent *));
    fleet->agents[fleet->count++] = agent;
    return loop_add(fleet->loop, agent);
}

struct loop *
fleet_loop(struct fleet *fleet)
{
    return fleet->loop;
}

/* The worst that happened to any agent. */
static int
outcome(const struct fleet *fleet)
{
    int status = EXIT_GOOD;

    for (uint32_t i = 0; i < fleet->count; i++) {
        if (agent_state(fleet->agents[i]) == AGENT_FAILED)
            return EXIT_REJECTED;
        if (!agent_idle(fleet->agents[i]))
            status = EXIT_UNACKED;
    }
    return status;
}

int
fleet_run(struct fleet *fleet)
{
    char why[TRACE_WHY_MAX];
    int status;

    if (fleet->options->device && fleet->count > 1) {
        fprintf(stderr, "thinagent-sim: %s carries one stream, but there are %u\n", fleet->options->device,
                fleet->count);
        return EXIT_USAGE;
    }
    loop_run(fleet->loop);
    status = outcome(fleet);
    loop_free(fleet->loop); /* the connections close before the summary tells that all is over */
    fleet->loop = NULL;
    if (fleet->record && !trace_writer_close(fleet->record, why)) {
        fprintf(stderr, "thinagent-sim: %s: %s\n", fleet->options->record, why);
        status = EXIT_ERROR;
    }
    fleet->record = NULL;
    if (!summary_give(fleet->options, fleet->agents, fleet->count))
        status = EXIT_ERROR;
    return status;
}

void
fleet_boot_id(const struct options *options, const uint8_t vm_uuid[GR_UUID_SIZE],
              const uint8_t kept[GR_UUID_SIZE], uint8_t out[GR_UUID_SIZE])
{
    static char run[GR_UUID_TEXT]; /* this run of the program */
    char vm[GR_UUID_TEXT];
    uint8_t random[GR_UUID_SIZE];

    if (options->has_boot_id) {
        memcpy(out, options->boot_id, GR_UUID_SIZE);
    } else if (options->keep_boot_id) {
        memmove(out, kept, GR_UUID_SIZE);
    } else {
        if (run[0] == '\0') {
            identity_random(random);
            gr_uuid_format(random, run);
        }
        identity_of_name(run, gr_uuid_format(vm_uuid, vm), out);
    }
}
