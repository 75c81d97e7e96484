/* Scenarios that need nothing but sockets and signals: guests cut off, SVMs at fault, certificates, all at
 * once. */
#include <stddef.h>

#include "tests/chaos/chance.h"
#include "tests/chaos/fault.h"
#include "tests/chaos/scenario.h"

/* ---- guests ---- */

static uint64_t
count_cuts(const struct world *world)
{
    uint64_t cuts = 0;

    for (unsigned i = 0; i < world->driver_count; i++)
        cuts += world->drivers[i].cuts;
    return cuts;
}

static unsigned
cut_guests(struct world *world)
{
    uint64_t before = count_cuts(world);

    for (uint64_t n = chance_between(1, 6); n > 0; n--)
        fault_guest(world);
    world_run(world, (int64_t)chance_between(1, 20));
    return (unsigned)(count_cuts(world) - before);
}

const struct scenario scenario_guests = {
    .name = "guests",
    .text = "guest connections cut at random byte positions, resumed",
    .rounds = 1000,
    .target = 10000,
    .settle = 500,
    .round = cut_guests,
    .world = { .vms = 8,
               .svm_count = 2,
               .svms = { { "all", "pause", "delivered", false, false },
                         { "muting", "pause", "delivered", true, false } },
               .rate = 20000,
               .limits = SCENARIO_LIMITS },
};

/* ---- SVMs ---- */

static unsigned
fault_svms(struct world *world)
{
    fault_svm(world, world_any_svm(world));
    if (chance_one_in(50)) /* longer than three heartbeats */
        world_run(world, 1000);
    else
        world_run(world, (int64_t)chance_skewed(100));
    return 1;
}

const struct scenario scenario_svms = {
    .name = "svms",
    .text = "SVM killed, stopped, slow, not acknowledging, reset",
    .rounds = 400,
    .target = 10000,
    .settle = 100,
    .round = fault_svms,
    .world = { .vms = 8,
               .svm_count = 4,
               .svms = { { "pausing", "pause", "delivered", false, false },
                         { "dropping", "drop", "delivered", false, false },
                         { "muting", "pause", "delivered", true, false },
                         { "encrypted", "drop", "delivered", true, true } },
               .rate = 20000,
               .limits = SCENARIO_LIMITS },
};

/* ---- certificates ---- */

static unsigned
rotate(struct world *world)
{
    fault_certificates(world);
    world_run(world, (int64_t)chance_skewed(100));
    return 1;
}

const struct scenario scenario_certificates = {
    .name = "certificates",
    .text = "certificates rotated under load",
    .rounds = 50,
    .target = 200,
    .settle = 25,
    .round = rotate,
    .world = { .vms = 8,
               .svm_count = 2,
               .svms = { { "all", "pause", "delivered", false, true },
                         { "muting", "pause", "delivered", true, true } },
               .rate = 10000,
               .limits = SCENARIO_LIMITS },
};

/* ---- all at once ---- */

static void
any_fault(struct world *world)
{
    switch (chance_below(10)) {
    case 0:
        fault_kill(world);
        break;
    case 1:
        if (daemon_wait_up(&world->daemon, 20)) /* before that, SIGHUP would end it */
            fault_certificates(world);
        break;
    case 2:
    case 3:
    case 4:
        fault_svm(world, world_any_svm(world));
        break;
    default:
        fault_guest(world);
        break;
    }
}

/* A round is a second. */
static unsigned
everything(struct world *world)
{
    int64_t until = now_ms() + 1000;

    while (now_ms() < until && !world_interrupted) {
        any_fault(world);
        world_run(world, (int64_t)chance_skewed(200));
    }
    return 1;
}

const struct scenario scenario_all = {
    .name = "all",
    .text = "all at once, 64 VMs, 4 SVMs with different policies (rounds are seconds)",
    .rounds = 20,
    .target = 600,
    .settle = 10,
    .probe = scenario_probe_storage,
    .round = everything,
    .world = { .vms = 64,
               .svm_count = 4,
               .svms = { { "pausing", "pause", "delivered", false, false },
                         { "dropping", "drop", "delivered", false, false },
                         { "muting", "pause", "process", true, true },
                         { "spilling", "spill", "disk", false, true } },
               .rate = 10000,
               .storage = true,
               .limits = SCENARIO_LIMITS },
};

const struct scenario *const scenarios[] = {
    &scenario_kill_delivered,
    &scenario_kill_process,
    &scenario_kill_disk,
    &scenario_power_cut,
    &scenario_damage_process,
    &scenario_damage_disk,
    &scenario_guests,
    &scenario_svms,
    &scenario_upgrade,
    &scenario_certificates,
    &scenario_disk_full,
    &scenario_all,
    NULL,
};
