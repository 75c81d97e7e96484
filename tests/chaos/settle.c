/* The end of a round: waits until everything that was made is settled, and compares it. */
#include "tests/chaos/settle.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/chaos/world.h"

#define STILL_MS   20000 /* after this long without anything, nothing more will come */
#define COUNTER_MS 5000

/* What is not settled, in sequences; 0: all is. */
static uint64_t
open_ends(struct world *world)
{
    uint64_t open = 0;

    for (unsigned i = 0; i < world->driver_count; i++) {
        struct stream *stream = world->drivers[i].stream;

        open += stream->made - stream->acked;
        for (unsigned j = 0; j < world->conf.svm_count; j++)
            open += ledger_missing(stream, &world->svms[j].reader);
    }
    return open;
}

static bool
wait_until_settled(struct world *world)
{
    uint64_t least = UINT64_MAX;
    int64_t since = now_ms();
    int64_t looked = 0;

    while (!world_interrupted && now_ms() - since < STILL_MS) {
        uint64_t open;

        world_turn(world, 2);
        if (now_ms() - looked < 5)
            continue;
        looked = now_ms();
        open = open_ends(world);
        if (open == 0)
            return true;
        if (open < least) {
            least = open;
            since = now_ms();
        }
    }
    return false;
}

static void
compare(struct world *world)
{
    for (unsigned i = 0; i < world->driver_count; i++) {
        struct stream *stream = world->drivers[i].stream;

        for (unsigned j = 0; j < world->conf.svm_count; j++)
            ledger_compare(stream, &world->svms[j].reader);
        tally_add(&world->tally, WRONG_UNACCOUNTED, stream->made - stream->acked,
                  "vm %u %s boot %u: %llu were made, %llu acknowledged; the connection is %s", stream->vm,
                  gr_driver_name(stream->driver), stream->boot, (unsigned long long)stream->made,
                  (unsigned long long)stream->acked,
                  world->drivers[i].state == DRIVER_OPEN ? "open" : "down");
        if (stream->acked < stream->made) { /* reported once: the driver goes on without */
            stream->acked = stream->made;
            driver_cut(&world->drivers[i]);
        }
    }
}

/* One solution's counters: delivered + filtered + gapped, or UINT64_MAX while something is pending. */
static uint64_t
settled_by_counters(const struct svm *svm, const char *metrics)
{
    char label[64];

    snprintf(label, sizeof(label), "solution=\"%s\"", svm->conf.name);
    if (daemon_metric(metrics, "solution_pending", label) > 0)
        return UINT64_MAX;
    return daemon_metric(metrics, "solution_delivered_total", label) +
           daemon_metric(metrics, "solution_filtered_total", label) +
           daemon_metric(metrics, "solution_gapped_total", label);
}

/* Whether nothing is pending and every solution has the same sum, which is what the VMs had and gimuxd's own
 * events of them. (A gimuxd that was restarted also counts gaps in what was before its time.) */
static bool
sums_agree(struct world *world, const char *metrics, bool say)
{
    uint64_t events = daemon_metric(metrics, "vm_events_total", NULL);
    uint64_t first = settled_by_counters(&world->svms[0], metrics);
    bool agree = true;

    for (unsigned i = 0; i < world->conf.svm_count; i++) {
        uint64_t sum = settled_by_counters(&world->svms[i], metrics);

        if (sum != UINT64_MAX && ((sum == first && sum >= events) || !world->counts))
            continue;
        agree = false;
        if (say)
            tally_add(
                &world->tally, WRONG_UNACCOUNTED, 1,
                "counters of %s: delivered + filtered + gapped = %lld (-1: some are pending), of %s %lld; "
                "the VMs had %llu",
                world->svms[i].conf.name, (long long)sum, world->svms[0].conf.name, (long long)first,
                (unsigned long long)events);
    }
    return agree;
}

/* Whether gimuxd's own count is the same as ours. */
static bool
look_at_counters(struct world *world, bool say)
{
    char *metrics = daemon_metrics(&world->daemon);
    uint64_t records = metrics ? daemon_metric(metrics, "guest_records_total", NULL) : 0;
    bool agree = metrics != NULL;

    agree = agree && sums_agree(world, metrics, say);
    if (metrics && world->counts && records != world->made) {
        agree = false;
        if (say)
            tally_add(&world->tally, WRONG_UNACCOUNTED, 1, "gimuxd has counted %llu records, %llu were made",
                      (unsigned long long)records, (unsigned long long)world->made);
    }
    if (!metrics && say)
        tally_add(&world->tally, WRONG_UNACCOUNTED, 1, "gimuxd's admin door does not answer");
    free(metrics);
    return agree;
}

static void
compare_counters(struct world *world)
{
    int64_t until = now_ms() + COUNTER_MS;

    while (!look_at_counters(world, now_ms() >= until)) {
        if (now_ms() >= until || world_interrupted)
            return;
        world_run(world, 20);
    }
}

bool
settle(struct world *world)
{
    bool settled;

    for (unsigned i = 0; i < world->conf.svm_count; i++) {
        struct svm *svm = &world->svms[i];

        svm->stopped = svm->relay.stopped = svm->relay.deaf = false;
        svm->relay.rate = 0;
        svm_release(svm);
    }
    settled = wait_until_settled(world);
    if (world_interrupted)
        return true;
    if (!settled) {
        daemon_save_status(&world->daemon);
        compare(world);
        daemon_show_log(&world->daemon, 15);
    } else {
        compare_counters(world);
    }
    for (unsigned i = 0; i < world->driver_count; i++)
        ledger_close(world->drivers[i].stream);
    return settled;
}
