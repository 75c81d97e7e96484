/* Scenarios in which gimuxd dies, or its disk fails it: kill -9, power cuts, damaged segments, a full disk,
 * upgrades. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/chaos/chance.h"
#include "tests/chaos/cut.h"
#include "tests/chaos/damage.h"
#include "tests/chaos/fault.h"
#include "tests/chaos/scenario.h"

#define PROBE_SECONDS   10
#define UPGRADE_SECONDS 20

/* ---- kill -9 ---- */

static unsigned
kill_once(struct world *world)
{
    if (chance_one_in(2)) /* so that not everything is with all SVMs when it comes */
        fault_svm(world, world_any_svm(world));
    world_run(world, (int64_t)chance_skewed(200)); /* 0 as often as not: while it starts */
    fault_kill(world);
    return 1;
}

static bool
has_files(struct world *world)
{
    char pattern[DAEMON_PATH_MAX];
    glob_t found;
    bool any = glob(daemon_path(&world->daemon, "storage/*.vmlog", pattern), 0, NULL, &found) == 0;

    globfree(&found);
    return any;
}

const char *
scenario_probe_storage(struct world *world)
{
    static const char *missing; /* each gimuxd is probed once */

    if (!missing && !world_wait(world, has_files, PROBE_SECONDS))
        missing = "no files of VM logs appear in storage.dir";
    return missing;
}

#define KILL_WORLD(durability, files)                                                                        \
    {                                                                                                        \
        .vms = 6, .svm_count = 3,                                                                            \
        .svms = { { "pausing", "pause", durability, false, false },                                          \
                  { "muting", "pause", durability, true, false },                                            \
                  { "other", (files) ? "spill" : "pause", durability, false, false } },                      \
        .rate = 20000, .storage = (files), .limits = SCENARIO_LIMITS                                         \
    }

const struct scenario scenario_kill_delivered = { .name = "kill-delivered",
                                                  .text = "kill -9 of gimuxd under load, delivered",
                                                  .rounds = 200,
                                                  .target = 10000,
                                                  .settle = 20,
                                                  .round = kill_once,
                                                  .world = KILL_WORLD("delivered", false) };
const struct scenario scenario_kill_process = { .name = "kill-process",
                                                .text = "kill -9 of gimuxd under load, process",
                                                .rounds = 200,
                                                .target = 10000,
                                                .settle = 20,
                                                .probe = scenario_probe_storage,
                                                .round = kill_once,
                                                .world = KILL_WORLD("process", true) };
const struct scenario scenario_kill_disk = { .name = "kill-disk",
                                             .text = "kill -9 of gimuxd under load, disk",
                                             .rounds = 200,
                                             .target = 10000,
                                             .settle = 20,
                                             .probe = scenario_probe_storage,
                                             .round = kill_once,
                                             .world = KILL_WORLD("disk", true) };

/* ---- power cuts ---- */

static struct cut_counts cuts;

/* powercut.so lies beside the programs; what it watches is said when there is a directory
 * (restart_with_powercut). */
static void
prepare_powercut(struct world_conf *conf)
{
    static char library[PATH_MAX];
    const char *build = getenv("GIMUX_BUILD");
    char path[DAEMON_PATH_MAX];

    snprintf(path, sizeof(path), "%.200s/chaos/powercut.so", build ? build : "build");
    unsetenv("GIMUX_POWERCUT_DIR"); /* of the previous world */
    conf->preload = realpath(path, library);
    if (!conf->preload)
        fprintf(stderr, "chaos: %s: %s\n", path, strerror(errno));
}

static void
restart_with_powercut(struct world *world)
{
    char path[DAEMON_PATH_MAX];

    world_kill(world, DAEMON_ALL);
    setenv("GIMUX_POWERCUT_DIR", daemon_path(&world->daemon, "storage", path), 1);
    setenv("GIMUX_POWERCUT_FULL", daemon_path(&world->daemon, "full", path), 1);
    setenv("GIMUX_POWERCUT_EIO", daemon_path(&world->daemon, "eio", path), 1);
    setenv("GIMUX_POWERCUT_JOURNAL", daemon_path(&world->daemon, "powercut", path), 1);
    if (!cut_begin(path))
        abort();
    world_restart(world);
}

static const char *
probe_powercut(struct world *world)
{
    const char *why = world->daemon.preload ? scenario_probe_storage(world) : "there is no powercut.so";

    if (!why)
        restart_with_powercut(world);
    return why;
}

static unsigned
cut_power(struct world *world)
{
    char dir[DAEMON_PATH_MAX], side[DAEMON_PATH_MAX];

    world_run(world, (int64_t)chance_skewed(400));
    if (chance_one_in(8))
        fault_svm(world, world_any_svm(world));
    world_kill(world, DAEMON_ALL);
    cut_apply(daemon_path(&world->daemon, "storage", dir), daemon_path(&world->daemon, "powercut", side),
              &cuts);
    restart_with_powercut(world);
    return 1;
}

const struct scenario scenario_power_cut = { .name = "power-cut",
                                             .text =
                                                 "power cut: writes since the last fsync lost or torn, disk",
                                             .rounds = 100,
                                             .target = 1000,
                                             .settle = 10,
                                             .prepare = prepare_powercut,
                                             .probe = probe_powercut,
                                             .round = cut_power,
                                             .world = KILL_WORLD("disk", true) };

/* ---- a full disk ---- */

static void
set_flag(const struct world *world, const char *name, bool on)
{
    char path[DAEMON_PATH_MAX];
    int fd;

    daemon_path(&world->daemon, name, path);
    if (!on) {
        unlink(path);
        return;
    }
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
}

static unsigned
fill_disk(struct world *world)
{
    world_run(world, (int64_t)chance_skewed(300));
    set_flag(world, "full", true);
    if (chance_one_in(2))
        fault_svm(world, world_any_svm(world));
    world_run(world, (int64_t)chance_between(50, 1000));
    if (chance_one_in(4)) {
        fault_kill(world);
        world_forgets(world, true);
    }
    set_flag(world, "full", false);
    return 1;
}

const struct scenario scenario_disk_full = {
    .name = "disk-full",
    .text = "disk full, then free again, every policy",
    .rounds = 20,
    .target = 200,
    .settle = 5,
    .prepare = prepare_powercut,
    .probe = probe_powercut,
    .round = fill_disk,
    .world = { .vms = 6,
               .svm_count = 4,
               .svms = { { "pausing", "pause", "disk", false, false },
                         { "dropping", "drop", "process", false, false },
                         { "spilling", "spill", "process", false, false },
                         { "delivered", "pause", "delivered", true, false } },
               .rate = 10000,
               .storage = true,
               .limits = SCENARIO_LIMITS },
};

/* ---- damaged segments ---- */

static void
on_hit(void *arg, const struct damage_hit *hit)
{
    char vm_uuid[GR_UUID_TEXT], boot_id[GR_UUID_TEXT];
    uint32_t vm, boot;
    struct stream *stream = NULL;

    if (event_parse_ids(gr_uuid_format(hit->vm_uuid, vm_uuid), gr_uuid_format(hit->boot_id, boot_id), &vm,
                        &boot))
        stream = world_find_stream(arg, vm, boot, hit->driver);
    if (stream) /* else it is one of gimuxd's own */
        ledger_damaged(stream, hit->first, hit->last);
}

static unsigned
damage(struct world *world)
{
    char dir[DAEMON_PATH_MAX];
    unsigned places;

    world_run(world, (int64_t)chance_between(10, 200));
    for (unsigned i = 0; i < world->conf.svm_count; i++) { /* so that files hold what is still needed */
        world->svms[i].relay.stopped = chance_one_in(2);
        world->svms[i].relay.deaf = chance_one_in(4);
    }
    world_run(world, (int64_t)chance_between(10, 200));
    world_kill(world, DAEMON_ALL);
    places = damage_some(daemon_path(&world->daemon, "storage", dir), on_hit, world);
    world_restart(world);
    world_forgets(world, false);
    for (unsigned i = 0; i < world->conf.svm_count; i++)
        fault_svm_end(world, &world->svms[i]);
    return places;
}

const struct scenario scenario_damage_process = { .name = "damage-process",
                                                  .text = "segments damaged at random offsets, process "
                                                          "(rounds are places)",
                                                  .rounds = 500,
                                                  .target = 10000,
                                                  .settle = 1,
                                                  .probe = scenario_probe_storage,
                                                  .round = damage,
                                                  .world = KILL_WORLD("process", true) };
const struct scenario scenario_damage_disk = { .name = "damage-disk",
                                               .text = "segments damaged at random offsets, disk "
                                                       "(rounds are places)",
                                               .rounds = 500,
                                               .target = 10000,
                                               .settle = 1,
                                               .probe = scenario_probe_storage,
                                               .round = damage,
                                               .world = KILL_WORLD("disk", true) };

/* ---- upgrades ---- */

static const char *
probe_upgrade(struct world *world)
{
    return daemon_takes(&world->daemon, SIGUSR2) ? NULL : "gimuxd does not take SIGUSR2";
}

static pid_t former;

static uint64_t
count_hellos(const struct world *world)
{
    uint64_t hellos = 0;

    for (unsigned i = 0; i < world->driver_count; i++)
        hellos += world->drivers[i].hellos;
    return hellos;
}

static bool
are_drivers_open(struct world *world)
{
    for (unsigned i = 0; i < world->driver_count; i++)
        if (world->drivers[i].state != DRIVER_OPEN)
            return false;
    return true;
}

static char *
upgrade_path(const struct world *world, char path[DAEMON_PATH_MAX])
{
    daemon_path(&world->daemon, "gimuxd.pid.upgrade", path);
    return path;
}

/* What gimuxd says of the upgrade: a line, "" if there is none yet. */
static void
read_result(const struct world *world, char line[16])
{
    char path[DAEMON_PATH_MAX];
    FILE *file = fopen(upgrade_path(world, path), "re");

    line[0] = '\0';
    if (file && (!fgets(line, 16, file) || !strchr(line, '\n')))
        line[0] = '\0';
    if (file)
        fclose(file);
}

static bool
is_told(struct world *world)
{
    char line[16];

    read_result(world, line);
    return line[0] != '\0';
}

static bool
is_done(struct world *world)
{
    char line[16];

    read_result(world, line);
    return strcmp(line, "done\n") == 0 && kill(former, 0) != 0 && daemon_worker(&world->daemon) != former;
}

/* Guests must not notice: not one connection may end, and no driver say HELLO again. */
static unsigned
upgrade(struct world *world)
{
    char path[DAEMON_PATH_MAX];
    pid_t keeper = world->daemon.pid;
    uint64_t before;

    if (!world_wait(world, are_drivers_open, UPGRADE_SECONDS))
        return 0;
    before = count_hellos(world);
    world_run(world, (int64_t)chance_skewed(200));
    world->counts = false;
    former = daemon_worker(&world->daemon);
    unlink(upgrade_path(world, path));
    daemon_signal(&world->daemon, SIGUSR2);
    if (!world_wait(world, is_told, UPGRADE_SECONDS) && !world_interrupted)
        tally_add(&world->tally, WRONG_UNACCOUNTED, 1, "no result of an upgrade within %d s of SIGUSR2",
                  UPGRADE_SECONDS);
    else if (!world_wait(world, is_done, 2) && !world_interrupted)
        tally_add(&world->tally, WRONG_UNACCOUNTED, 1, "an upgrade has failed");
    world_run(world, (int64_t)chance_skewed(200));
    world_wait(world, are_drivers_open, UPGRADE_SECONDS);
    tally_add(&world->tally, WRONG_LOST, count_hellos(world) - before,
              "guest connections were lost in an upgrade");
    tally_add(&world->tally, WRONG_UNACCOUNTED, world->daemon.pid != keeper, "the keeper was replaced");
    return 1;
}

const struct scenario scenario_upgrade = {
    .name = "upgrade",
    .text = "upgrade under load",
    .rounds = 20,
    .target = 200,
    .settle = 5,
    .probe = probe_upgrade,
    .round = upgrade,
    .world = { .vms = 8,
               .svm_count = 4,
               .svms = { { "pausing", "pause", "delivered", false, false },
                         { "muting", "pause", "process", true, true },
                         { "disk", "pause", "disk", false, false },
                         { "dropping", "drop", "delivered", false, false } },
               .rate = 10000,
               .storage = true,
               .limits = SCENARIO_LIMITS },
};
