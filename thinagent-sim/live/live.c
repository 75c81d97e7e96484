/* The command live: watches this Linux machine and sends what it sees. */
#include "thinagent-sim/live/live.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "thinagent-sim/clock.h"
#include "thinagent-sim/fleet.h"
#include "thinagent-sim/identity.h"
#include "thinagent-sim/live/actor.h"
#include "thinagent-sim/live/watch.h"
#include "thinagent-sim/memory.h"
#include "thinagent-sim/queue.h"
#include "thinagent-sim/text.h"

struct live {
    struct watch *watch;
    struct actors *actors;
    struct source *queue; /* owned by the agent once there is one */
    struct text_pool pool;
    uint8_t record[GR_MAX_RECORD];
    char guest_os[256];
};

/* What the file system still says of the file. */
static void
describe(struct gr_file *file, const struct change *change)
{
    struct stat status;

    if (lstat(change->target ? change->target : change->path, &status) < 0)
        return;
    file->file_id = status.st_ino;
    file->size = (uint64_t)status.st_size;
    file->attributes = status.st_mode;
}

static void
on_changed(void *arg, const struct change *change)
{
    struct live *live = arg;
    const struct actor *actor = actor_of(live->actors, change->pid, clock_ns(CLOCK_MONOTONIC));
    struct gr_record record = { .type = GR_FILE, .sequence = 1 };
    struct gr_file *file = &record.body.file;
    size_t len;

    text_pool_reset(&live->pool, GR_LINUX);
    record.time = driver_time(GR_LINUX, clock_ns(CLOCK_REALTIME));
    file->op = change->op;
    file->result = change->result;
    file->pid = (uint32_t)change->pid;
    describe(file, change);
    file->path = text_put(&live->pool, change->path);
    file->target = text_put(&live->pool, change->target);
    file->process = text_put(&live->pool, actor->program);
    file->user_name = text_put(&live->pool, actor->user);
    file->user_id = text_put(&live->pool, actor->uid);
    len = gr_encode(&record, live->record, sizeof(live->record));
    queue_put(live->queue, GR_FILE, live->record, len);
}

static void
on_overflowed(void *arg)
{
    struct live *live = arg;

    queue_put_lost(live->queue, 1); /* at least one; the kernel does not count */
}

static void
on_readable(void *arg)
{
    watch_read(arg);
}

static bool
start_watching(struct live *live, const struct options *options)
{
    const struct watch_callbacks callbacks = { on_changed, on_overflowed, live };

    live->watch = watch_new(&callbacks);
    if (!live->watch)
        return false;
    for (uint32_t i = 0; i < options->watch.count; i++) {
        if (!watch_add(live->watch, options->watch.items[i]))
            return false;
        fprintf(stderr, "watching %s\n", options->watch.items[i]);
    }
    return true;
}

/* Says which system this is: the distribution's name, or else the kernel's. */
static void
name_system(char out[256])
{
    FILE *file = fopen("/etc/os-release", "re");
    struct utsname name;
    char line[512];

    out[0] = '\0';
    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "PRETTY_NAME=\"%255[^\"]", out) == 1)
            break;
    if (file)
        fclose(file);
    if (out[0] == '\0' && uname(&name) == 0)
        snprintf(out, 256, "%s %s", name.sysname, name.release);
}

static bool
add_agent(struct live *live, struct fleet *fleet, const struct options *options)
{
    struct agent_config config = { .driver = GR_LINUX, .source = live->queue };
    static const char build[] = "thinagent-sim " GIMUX_VERSION;
    uint8_t boot[GR_UUID_SIZE];

    name_system(live->guest_os);
    config.build = (struct gr_text){ (const uint8_t *)build, sizeof(build) - 1 };
    config.guest_os = (struct gr_text){ (const uint8_t *)live->guest_os, (uint32_t)strlen(live->guest_os) };
    if (options->has_vm)
        memcpy(config.vm_uuid, options->vm, GR_UUID_SIZE);
    else
        identity_of_machine(config.vm_uuid);
    identity_of_boot(boot);
    if (options->has_boot_id)
        fleet_boot_id(options, config.vm_uuid, boot, config.boot_id);
    else
        memcpy(config.boot_id, boot, GR_UUID_SIZE);
    return fleet_add(fleet, &config);
}

int
live_run(const struct options *options)
{
    struct live *live = must_calloc(1, sizeof(*live));
    struct fleet *fleet = fleet_new(options);
    int status = EXIT_ERROR;

    live->actors = actors_new();
    if (fleet) {
        live->queue = queue_new((size_t)options->queue, NULL);
        if (add_agent(live, fleet, options) && start_watching(live, options) &&
            loop_watch(fleet_loop(fleet), watch_fd(live->watch), on_readable, live->watch)) {
            if (options->seconds > 0)
                loop_stop_after(fleet_loop(fleet), options->seconds);
            status = fleet_run(fleet);
        }
    }
    fleet_free(fleet);
    watch_free(live->watch);
    actors_free(live->actors);
    free(live);
    return status;
}
