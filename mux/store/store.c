/* The store: VM logs in files.
 *
 * Every VM has its segments; the last of them is written to, the others are only read, and a segment in
 * which no chunk of the log is left is removed. Nothing is ever changed in place, so a process that is killed
 * leaves at worst a torn tail.
 *
 * One batch at a time is with the disk thread: for every VM that has something, the entries that are not
 * recorded, then the positions that have moved. When it has been written (and synced, if any solution's
 * durability is disk: so one sync serves all events that came during the former one), the log hears
 * how far it is recorded, and guests may forget. Entries that all solutions settled meanwhile are not
 * written: their positions say it all, and stand before what comes after them. Positions alone wait for
 * the next tick, since losing them costs a resend.
 *
 * Most events are settled within a millisecond or two, and to write them would be for nothing. So batches
 * begin at a beat, and an entry is written at the second beat after it was appended, if it still has to be:
 * 5 to 10 ms later. Until then its driver keeps it. If the disk is slower than the beat, all that came
 * during a write is in the next one, which follows at once.
 *
 * So a VM goes through states (enum store_state; store_set_state makes every change):
 *
 *            touched            the beat          its turn                 touched
 *     IDLE ----------> DIRTY ------------> DUE ------------> WRITING ----------------> AGAIN
 *      ^                ^ ^                 | |                 |                        |
 *      |                | |  nothing yet    | |                 +-----------+------------+
 *      |                | +-----------------+ |                             |
 *      +----------------|---------------------+                DIRTY    <---+  written
 *        nothing at all |                     |                DUE      <---+  more of it is due
 *                       |    positions alone  v                LATER    <---+  a bound, or an error
 *                       +------------------ LATER              BROKEN   <---+  a sync failed
 *                       |  tick, touched
 *                       +------------------ BROKEN
 *                          the log is empty
 *
 * A VM that is being written needs no place in a list, whatever is touched: it is looked at again in any
 * case. After AGAIN that never waits for the tick.
 *
 * What a segment holds when it is removed is covered by positions that were written before it. A segment
 * begins with all streams and positions of its VM, so that the former ones may go.
 *
 * If writing fails, nothing is recorded; the same bytes are written again to the same place at a later
 * tick. Meanwhile guests are acknowledged what SVMs have or know that they will not get, and no more.
 * After a failed sync nobody knows what is on the disk, and a second sync would say that all is well: then
 * the VM has no files until its log is empty.
 *
 * Invariants: segment->chunks is the number of chunks and stubs whose `segment` it is; a chunk's records
 * are in one segment; bytes is the sum of the segments' sizes. */
#include "mux/store/inner.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mux/base/log.h"

/* ---- the whole ---- */

static void
on_beat(void *arg)
{
    struct store *store = arg;

    store_beat(store);
    store_flush(store);
}

static void
touch_those_that_wait(struct store *store)
{
    struct store_vm *of;

    while (!store->frozen && (of = TAILQ_FIRST(&store->later)))
        store_touch_vm(of);
}

static void
on_tick(void *arg)
{
    touch_those_that_wait(arg);
}

struct store *
store_new(struct loop *loop, const struct conf *conf, struct vmlog_pool *pool, const struct store_ops *ops,
          void *arg, bool held, char *why)
{
    struct store *store = calloc(1, sizeof(*store));

    snprintf(why, STORE_WHY_MAX, "out of memory");
    if (!store)
        return NULL;
    *store = (struct store){ .loop = loop, .conf = conf, .pool = pool, .ops = *ops, .arg = arg, .dir = -1 };
    store->held = store->frozen = held;
    TAILQ_INIT(&store->dirty);
    TAILQ_INIT(&store->due);
    TAILQ_INIT(&store->later);
    LIST_INIT(&store->torn);
    store->batch = store_batch_new(store);
    store->beat = loop_timer_new(loop, on_beat, store);
    store->tick = loop_timer_new(loop, on_tick, store);
    if (store->batch && store->beat && store->tick)
        store->dir = store_dir_open(conf->storage.dir, !held, why);
    if (store->dir >= 0) {
        store->disk = disk_new(loop);
        if (!store->disk)
            snprintf(why, STORE_WHY_MAX, "storage: cannot start a thread: %s", strerror(errno));
    }
    if (!store->disk) {
        store_free(store);
        return NULL;
    }
    pool->released = store_released;
    return store;
}

void
store_free(struct store *store)
{
    if (!store)
        return;
    disk_free(store->disk);
    loop_timer_free(store->beat);
    loop_timer_free(store->tick);
    if (store->dir >= 0)
        close(store->dir);
    free(store->batch);
    free(store);
}

void
store_set_conf(struct store *store, const struct conf *conf)
{
    if (strcmp(store->conf->storage.dir, conf->storage.dir) != 0)
        log_warning(NULL, "storage: dir = %s is used after a restart", conf->storage.dir);
    store->conf = conf;
}

void
store_beat(struct store *store)
{
    struct store_vm *of;

    while ((of = TAILQ_FIRST(&store->dirty))) {
        store_set_state(of, STORE_DUE);
        of->due_before = of->seen;
        if (of->vm)
            of->seen = vmlog_end_number(vm_log(of->vm));
    }
}

/* ---- the end, and leaving ---- */

/* All that have something are tried once more, those that failed too. */
static void
begin_round(struct store *store)
{
    store->round = store->progress;
    touch_those_that_wait(store);
    store_flush(store);
}

void
store_begin_leave(struct store *store)
{
    store->finishing = true;
    begin_round(store);
}

bool
store_try_to_leave(struct store *store)
{
    store_flush(store); /* what has come since */
    if (!store->batch->writing && store->progress > store->round)
        begin_round(store);
    return !store->batch->writing;
}

void
store_stay(struct store *store)
{
    store->finishing = false;
    if (store->frozen)
        store_thaw(store);
}

void
store_finish(struct store *store)
{
    if (store->frozen)
        return;
    store_begin_leave(store);
    do
        disk_finish(store->disk);
    while (!store_try_to_leave(store));
    store->finishing = false;
}

/* ---- what follows from the configuration ---- */

bool
store_is_needed(const struct conf *conf)
{
    for (unsigned i = 0; i < conf->solution_count; i++)
        if (conf->solutions[i].durability != CONF_DELIVERED)
            return true;
    return false;
}

bool
store_syncs(const struct store *store)
{
    for (unsigned i = 0; i < store->conf->solution_count; i++)
        if (store->conf->solutions[i].durability == CONF_DISK)
            return true;
    return false;
}

size_t
store_load_share(const struct conf *conf)
{
    size_t share = conf->limits.memory / 8 / (conf->solution_count + 1);

    return share < STORE_LOAD_MAX ? share : STORE_LOAD_MAX;
}

uint64_t
store_memory_bound(const struct conf *conf)
{
    uint64_t stub = sizeof(struct vmlog_chunk) + 4 * sizeof(struct vmlog_range);
    uint64_t large = 2 * DELIMITED_FRAME_MAX; /* a chunk beyond the share */

    if (conf->storage.dir[0] == '\0')
        return 0;
    return STORE_BATCH_SIZE + STORE_LOAD_MAX + large * CONF_SOLUTIONS_MAX +
           conf->limits.vms * sizeof(struct store_vm) +
           conf->storage.total / SEGMENT_SIZE * sizeof(struct vmlog_segment) +
           conf->storage.total / VMLOG_LARGE_CHUNK * stub;
}

/* ---- what operators see ---- */

void
store_snapshot(const struct store *store, struct storage_snapshot *out)
{
    const struct store_vm *of;

    *out = (struct storage_snapshot){ .bytes = store->bytes,
                                      .segments = store->segments,
                                      .waiting = store->batch->writing ? store->batch->item_count : 0,
                                      .failing = store->failing,
                                      .full = store->full > 0 };
    TAILQ_FOREACH (of, &store->dirty, in_list)
        out->waiting++;
    TAILQ_FOREACH (of, &store->due, in_list)
        out->waiting++;
    TAILQ_FOREACH (of, &store->later, in_list)
        out->waiting++;
}
