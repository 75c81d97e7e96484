/* What can go wrong, once: done by one scenario alone, or by all at once. */
#include "tests/chaos/fault.h"

#include <signal.h>
#include <stdlib.h>

#include "tests/chaos/chance.h"

#define RELOAD_SECONDS 20

void
fault_guest(struct world *world)
{
    struct driver *driver = world_any_driver(world);

    if (chance_one_in(3))
        driver->cut_in = (int64_t)chance_skewed(4096);
    else
        driver->cut_out = (int64_t)chance_skewed(200000);
}

/* ---- SVMs ---- */

static void
start_anew(struct svm *svm)
{
    svm_kill(svm, chance_one_in(2));
    svm_start(svm, chance_one_in(2));
}

static void
hold_back(struct svm *svm)
{
    if (svm->explicit_ack)
        svm->holds = true;
    else
        svm->relay.deaf = true;
}

void
fault_svm_end(struct world *world, struct svm *svm)
{
    (void)world;
    svm->stopped = svm->relay.stopped = svm->relay.deaf = false;
    svm->relay.rate = 0;
    svm_release(svm);
}

void
fault_svm(struct world *world, struct svm *svm)
{
    fault_svm_end(world, svm);
    switch (chance_below(7)) {
    case 0:
        start_anew(svm);
        break;
    case 1:
        svm->stopped = true; /* its sockets stay open, nobody reads */
        break;
    case 2:
        svm->relay.rate = 2000 + chance_skewed(200000);
        break;
    case 3:
        hold_back(svm);
        break;
    case 4:
        relay_cut(&svm->relay, true);
        break;
    case 5:
        svm->relay.cut_down = (int64_t)chance_skewed(100000);
        break;
    default:
        svm->relay.cut_up = (int64_t)chance_skewed(2000);
        break;
    }
}

/* ---- gimuxd ---- */

void
fault_kill(struct world *world)
{
    if (chance_one_in(8))
        start_anew(world_any_svm(world));
    world_kill(world, chance_one_in(2) ? DAEMON_ALL : chance_one_in(2) ? DAEMON_FIRST : DAEMON_OTHERS);
    if (chance_one_in(8))
        start_anew(world_any_svm(world));
    world_run(world, (int64_t)chance_skewed(30));
    world_restart(world);
}

/* ---- certificates ---- */

static uint64_t
reloads(struct world *world)
{
    char *metrics = daemon_metrics(&world->daemon);
    uint64_t count = metrics ? daemon_metric(metrics, "reloads_total", NULL) : 0;
    uint64_t failures = metrics ? daemon_metric(metrics, "reload_failures_total", NULL) : 0;

    free(metrics);
    if (failures > 0)
        tally_add(&world->tally, WRONG_UNACCOUNTED, failures, "gimuxd refused a reload");
    return count;
}

static void
read_certificates(struct world *world)
{
    uint64_t before = reloads(world);
    int64_t until = now_ms() + RELOAD_SECONDS * INT64_C(1000);
    char error[GIMUX_ERROR_MAX];

    for (unsigned i = 0; i < world->conf.svm_count; i++) {
        struct svm *svm = &world->svms[i];

        if (svm->client && !gimux_client_reload_certificates(svm->client, error))
            tally_add(&world->tally, WRONG_UNACCOUNTED, 1, "SVM %s: %s", svm->conf.name, error);
    }
    daemon_signal(&world->daemon, SIGHUP);
    while (reloads(world) <= before && !world_interrupted) {
        if (now_ms() >= until) {
            tally_add(&world->tally, WRONG_UNACCOUNTED, 1, "gimuxd did not reload within %d s",
                      RELOAD_SECONDS);
            return;
        }
        world_run(world, 2);
    }
}

void
fault_certificates(struct world *world)
{
    if (chance_one_in(4)) {
        pki_new_authority(world->pki); /* both are trusted until both ends have new certificates */
        read_certificates(world);
        pki_renew(world->pki, "gimuxd");
        pki_renew(world->pki, "svm");
        read_certificates(world);
        pki_drop_old_authority(world->pki);
    } else if (chance_one_in(2)) {
        pki_renew(world->pki, "gimuxd");
    } else {
        pki_renew(world->pki, "svm");
    }
    read_certificates(world);
    if (chance_one_in(2)) /* what was read is needed now */
        relay_cut(&world_any_svm(world)->relay, chance_one_in(2));
}
