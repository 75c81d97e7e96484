/* The command load: made-up VMs whose drivers make up plausible events. */
#include "thinagent-sim/made/load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "thinagent-sim/clock.h"
#include "thinagent-sim/fleet.h"
#include "thinagent-sim/identity.h"
#include "thinagent-sim/made/invent.h"
#include "thinagent-sim/memory.h"
#include "thinagent-sim/queue.h"

/* Which classes of events each driver sees. */
static const uint32_t classes_of[] = {
    [GR_VSEPFLT] = 1u << CLASS_FILE | 1u << CLASS_PROCESS | 1u << CLASS_AUTHENTICATION,
    [GR_VNETWFP] = 1u << CLASS_NETWORK | 1u << CLASS_DNS,
    [GR_LINUX] = CLASS_MASK_ALL,
};

/* Where records are made, one at a time: one for all sources. */
struct scratch {
    struct text_pool pool;
    uint8_t bytes[GR_MAX_RECORD];
};

struct load_source {
    struct source base;
    const struct options *options;
    struct guest guest;
    double mix[CLASS_COUNT]; /* weights, of this driver's classes only */
    double mix_sum;
    uint64_t events; /* to make, 0 no bound */
    double rate;     /* per second, 0 no bound */
    uint64_t made;
    int64_t start; /* monotonic; 0 until the first event is asked for */
    bool volumes_given;
    struct scratch *scratch;
};

static enum event_class
pick_class(struct load_source *load)
{
    double at = load->mix_sum * invent_number(&load->guest, 1u << 30) / (1u << 30);
    enum event_class last = CLASS_FILE;

    for (unsigned cls = 0; cls < CLASS_COUNT; cls++) {
        if (load->mix[cls] == 0)
            continue;
        last = cls;
        if (at < load->mix[cls])
            break;
        at -= load->mix[cls];
    }
    return last;
}

static void
give_volumes(struct load_source *load, struct source_item *item)
{
    struct gr_record record = { .type = GR_VOLUMES };
    uint8_t entries[128];
    size_t len = 0;
    struct gr_volume volume = { .letter = 'C' };

    text_pool_reset(&load->scratch->pool, load->guest.driver);
    volume.device = text_put(&load->scratch->pool, "\\Device\\HarddiskVolume2");
    gr_volume_put(entries, sizeof(entries), &len, &volume);
    record.body.volumes.count = 1;
    record.body.volumes.entries = (struct gr_text){ entries, (uint32_t)len };
    item->type = GR_VOLUMES;
    item->data = load->scratch->bytes;
    item->len = gr_encode(&record, load->scratch->bytes, sizeof(load->scratch->bytes));
}

static enum source_result
load_next(struct source *source, int64_t now, struct source_item *item)
{
    struct load_source *load = (struct load_source *)source;
    struct gr_record record;

    if (load->start == 0)
        load->start = now;
    if (gr_driver_is_windows(load->guest.driver) && !load->volumes_given) {
        load->volumes_given = true;
        give_volumes(load, item);
        return SOURCE_RECORD;
    }
    if (source->stopped || (load->events > 0 && load->made == load->events))
        return SOURCE_END;
    if (load->options->seconds > 0 && now - load->start >= (int64_t)(load->options->seconds * SECOND))
        return SOURCE_END;
    if (load->rate > 0) {
        item->later = load->start + (int64_t)((double)load->made / load->rate * SECOND);
        if (item->later > now)
            return SOURCE_LATER;
    }
    load->made++;
    invent_event(&load->guest, pick_class(load), clock_ns(CLOCK_REALTIME), &load->scratch->pool, &record);
    item->type = record.type;
    item->data = load->scratch->bytes;
    item->len = gr_encode(&record, load->scratch->bytes, sizeof(load->scratch->bytes));
    return SOURCE_RECORD;
}

static void
load_free(struct source *source)
{
    free(source);
}

/* The part of a VM's events that this driver sees, from 0 to 1. */
static double
share_of(const struct options *options, uint16_t driver)
{
    double all = 0;
    double mine = 0;

    for (unsigned cls = 0; cls < CLASS_COUNT; cls++) {
        all += options->mix[cls];
        if (classes_of[driver] & 1u << cls)
            mine += options->mix[cls];
    }
    return mine / all;
}

static bool
add_driver(struct fleet *fleet, const struct options *options, struct scratch *scratch, uint32_t vm,
           uint16_t driver, uint64_t events)
{
    struct load_source *load = must_calloc(1, sizeof(*load));
    struct agent_config config = { .driver = driver, .source = &load->base };
    uint8_t kept[GR_UUID_SIZE];
    char name[64];

    load->base.next = load_next;
    load->base.free = load_free;
    load->options = options;
    load->scratch = scratch;
    load->events = events;
    load->rate = options->rate * share_of(options, driver);
    for (unsigned cls = 0; cls < CLASS_COUNT; cls++)
        if (classes_of[driver] & 1u << cls)
            load->mix_sum += load->mix[cls] = options->mix[cls];
    invent_start(&load->guest, driver, options->seed * 1000003 + vm * UINT64_C(16) + driver);
    snprintf(name, sizeof(name), "load-%llu-%u", (unsigned long long)options->seed, vm);
    if (options->has_vm)
        memcpy(config.vm_uuid, options->vm, GR_UUID_SIZE);
    else
        identity_of_name("vm", name, config.vm_uuid);
    identity_of_name("boot", name, kept);
    fleet_boot_id(options, config.vm_uuid, kept, config.boot_id);
    if (options->no_wait)
        config.source = queue_new((size_t)options->queue, &load->base);
    return fleet_add(fleet, &config);
}

/* Gives each driver of a VM its part of the events; those that see none are left out. */
static bool
add_vm(struct fleet *fleet, const struct options *options, struct scratch *scratch, uint32_t vm)
{
    uint16_t first = options->linux_driver ? GR_LINUX : GR_VSEPFLT;
    double share = share_of(options, first);
    uint64_t events = (uint64_t)((double)options->events * share + 0.5);

    if (share > 0 && (events > 0 || options->events == 0) &&
        !add_driver(fleet, options, scratch, vm, first, events))
        return false;
    if (share < 1 && (events < options->events || options->events == 0))
        return add_driver(fleet, options, scratch, vm, GR_VNETWFP, options->events - events);
    return true;
}

int
load_run(const struct options *options)
{
    struct scratch *scratch = must_calloc(1, sizeof(*scratch));
    struct fleet *fleet = fleet_new(options);
    bool good = fleet != NULL;
    int status = EXIT_ERROR;

    for (uint32_t vm = 0; vm < options->vms && good; vm++)
        good = add_vm(fleet, options, scratch, vm);
    if (good)
        status = fleet_run(fleet);
    fleet_free(fleet);
    free(scratch);
    return status;
}
