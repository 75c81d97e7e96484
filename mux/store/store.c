/* The store: VM logs in files.
 *
 * Every VM has its segments; the last of them is written to, the others are only read, and a segment that
 * no chunk of the log is in any more is removed. Nothing is ever changed in place, so a process that is
 * killed leaves at worst a torn tail.
 *
 * One batch at a time is with the disk thread: for every VM that has something, the entries that are not
 * recorded, then the positions that have moved. When it has been written (and synced, if any solution's
 * durability is disk: so one sync serves all events of the time that the former one took), the log hears
 * how far it is recorded, and guests may forget. Entries that all solutions settled meanwhile are not
 * written: their positions say it all, and stand before what comes after them. Positions alone wait for
 * the next tick, since losing them costs a resend.
 *
 * Most events are settled within a millisecond or two, and to write them would be for nothing. So batches
 * begin at a beat, and an entry is written at the second beat after it was appended, if it still has to be:
 * 5 to 10 ms later. Until then its driver keeps it. If the disk is slower than the beat, all that came
 * during a write is in the next one, which follows at once.
 *
 * What a segment holds when it is removed is covered by positions that were written before it. A segment
 * begins with all streams and positions of its VM, so that the former ones may go.
 *
 * If writing fails, nothing is recorded; the same bytes are written again to the same place at a later
 * tick. Meanwhile guests are acknowledged what SVMs have or know that they will not get, and no more.
 * After a failed sync nobody knows what is on the disk, and a second sync would say that all is well: then
 * the VM has no files until its log was empty.
 *
 * Invariants: segment->chunks is the number of chunks and stubs whose `segment` it is; a chunk's records
 * are in one segment; bytes is the sum of the segments' sizes. */
#include "mux/store/inner.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mux/base/log.h"

#define TICK_MS      100
#define LOCK_WAIT_MS 5000 /* for a gimuxd that was just killed */

/* ---- VMs and segments ---- */

static struct store_vm *
files_of(struct store *store, struct vm *vm)
{
    struct store_vm *of = vm->files;

    if (of)
        return of;
    of = calloc(1, sizeof(*of));
    if (!of)
        return NULL;
    of->store = store;
    of->vm = vm;
    of->next_number = 1;
    LIST_INIT(&of->segments);
    vm->files = of;
    return of;
}

static struct vmlog_segment *
add_segment(struct store_vm *of, const struct segment_name *name)
{
    struct vmlog_segment *segment = calloc(1, sizeof(*segment));

    if (!segment)
        return NULL;
    segment->of = of;
    segment->name = *name;
    segment->fd = -1;
    LIST_INSERT_HEAD(&of->segments, segment, in_vm);
    of->store->segments++;
    if (of->next_number <= name->number)
        of->next_number = name->number + 1;
    return segment;
}

void
store_free_segment(struct vmlog_segment *segment)
{
    struct store_vm *of = segment->of;

    of->bytes -= segment->end;
    of->store->bytes -= segment->end;
    of->store->segments--;
    if (of->current == segment)
        of->current = NULL;
    if (segment->fd >= 0)
        close(segment->fd);
    LIST_REMOVE(segment, in_vm);
    free(segment);
}

struct vmlog_segment *
store_begin_segment(struct store_vm *of)
{
    struct segment_name name = { .number = of->next_number };

    memcpy(name.vm_uuid, of->vm->uuid, GR_UUID_SIZE);
    if (getrandom(&name.seed, sizeof(name.seed), 0) != sizeof(name.seed))
        return NULL;
    if (of->current && of->current->fd >= 0) {
        close(of->current->fd);
        of->current->fd = -1;
    }
    of->current = add_segment(of, &name);
    of->all_positions = true;
    vmlog_seal(&of->vm->log);
    return of->current;
}

void
store_unlist(struct store_vm *of)
{
    if (of->dirty)
        TAILQ_REMOVE(&of->store->dirty, of, in_list);
    if (of->due)
        TAILQ_REMOVE(&of->store->due, of, in_list);
    if (of->lazy)
        TAILQ_REMOVE(&of->store->lazy, of, in_list);
    of->dirty = of->due = of->lazy = false;
}

void
store_touch_vm(struct store_vm *of)
{
    if (of->dirty || of->due || of->store->frozen)
        return;
    of->waited = of->lazy;
    store_unlist(of);
    of->dirty = true;
    if (TAILQ_EMPTY(&of->store->dirty))
        loop_timer_start(of->store->beat, STORE_BEAT_MS);
    TAILQ_INSERT_TAIL(&of->store->dirty, of, in_list);
}

void
store_later(struct store_vm *of)
{
    if (of->dirty || of->due || of->lazy || of->store->frozen)
        return;
    of->lazy = true;
    if (TAILQ_EMPTY(&of->store->lazy))
        loop_timer_start(of->store->tick, TICK_MS);
    TAILQ_INSERT_TAIL(&of->store->lazy, of, in_list);
}

void
store_release_vm(struct store_vm *of)
{
    if (!of->vm && of->full) {
        of->full = false;
        of->store->full--;
    }
    if (of->vm || of->writing || of->loads > 0 || !LIST_EMPTY(&of->segments))
        return;
    store_unlist(of);
    free(of);
}

/* The pool says that a chunk or stub of the segment is no more. */
static void
on_released(struct vmlog_segment *segment)
{
    assert(segment->chunks > 0);
    if (--segment->chunks == 0)
        store_touch_vm(segment->of);
}

/* ---- what has changed ---- */

void
store_make_due(struct store_vm *of)
{
    if (of->due)
        return;
    store_unlist(of);
    of->due = true;
    TAILQ_INSERT_TAIL(&of->store->due, of, in_list);
}

void
store_beat(struct store *store)
{
    struct store_vm *of;

    while ((of = TAILQ_FIRST(&store->dirty))) {
        store_make_due(of);
        of->ripe = of->seen;
        if (of->vm)
            of->seen = of->vm->log.next_number;
    }
}

static void
on_beat(void *arg)
{
    struct store *store = arg;

    store_beat(store);
    store_flush(store);
}

static void
on_tick(void *arg)
{
    struct store *store = arg;
    struct store_vm *of;

    while (!store->frozen && (of = TAILQ_FIRST(&store->lazy)))
        store_touch_vm(of);
}

void
store_touch(struct store *store, struct vm *vm)
{
    struct store_vm *of = vm->files;

    if (!of && vm->log.backed)
        of = files_of(store, vm);
    if (of && (of->error || of->full))
        store_later(of);
    else if (of && !of->writing) /* else when it is written */
        store_touch_vm(of);
}

void
store_freeze(struct store *store)
{
    store->frozen = true;
    flock(store->dir, LOCK_UN);
}

void
store_thaw(struct store *store)
{
    store->frozen = false;
    if (!TAILQ_EMPTY(&store->lazy)) /* the tick may have come meanwhile */
        loop_timer_start(store->tick, TICK_MS);
    if (flock(store->dir, LOCK_EX | LOCK_NB) != 0)
        log_error(NULL, "storage: %s: another gimuxd uses it", store->conf->storage.dir);
}

void
store_forget(struct vm *vm)
{
    struct store_vm *of = vm->files;

    if (!of)
        return;
    of->vm = NULL;
    of->current = NULL;
    vm->files = NULL;
    store_touch_vm(of);
    store_release_vm(of);
}

void
store_leave(struct vm *vm)
{
    struct store_vm *of = vm->files;

    if (!of)
        return;
    for (struct vmlog_segment *segment = LIST_FIRST(&of->segments), *next; segment; segment = next) {
        next = LIST_NEXT(segment, in_vm);
        store_free_segment(segment);
    }
    of->vm = NULL;
    vm->files = NULL;
    store_release_vm(of);
}

/* ---- the whole ---- */

/* A gimuxd that was just killed may hold it for a moment. */
static bool
lock_dir(int dir)
{
    const struct timespec step = { .tv_nsec = 20 * 1000000L };

    for (unsigned waited = 0; flock(dir, LOCK_EX | LOCK_NB) != 0; waited += 20) {
        if (waited >= LOCK_WAIT_MS)
            return false;
        nanosleep(&step, NULL);
    }
    return true;
}

static bool
open_dir(struct store *store, const char *path, char *why, size_t size)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        snprintf(why, size, "storage: cannot make the directory %s: %s", path, strerror(errno));
    else if ((store->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        snprintf(why, size, "storage: %s: %s", path, strerror(errno));
    else if (faccessat(store->dir, ".", R_OK | W_OK | X_OK, AT_EACCESS) != 0)
        snprintf(why, size, "storage: %s: expected a directory that may be written: %s", path,
                 strerror(errno));
    else if (!lock_dir(store->dir))
        snprintf(why, size, "storage: %s: another gimuxd uses it", path);
    else
        return true;
    return false;
}

bool
store_check_dir(const char *path, char *why)
{
    char copy[CONF_PATH_MAX];
    struct stat info;

    why[0] = '\0';
    if (stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode) && faccessat(AT_FDCWD, path, R_OK | W_OK | X_OK, AT_EACCESS) == 0)
            return true;
        snprintf(why, STORE_WHY_MAX, "storage: %s: expected a directory that may be written: %s", path,
                 strerror(S_ISDIR(info.st_mode) ? errno : ENOTDIR));
        return false;
    }
    snprintf(copy, sizeof(copy), "%s", path);
    if (errno == ENOENT && faccessat(AT_FDCWD, dirname(copy), W_OK | X_OK, AT_EACCESS) == 0) {
        snprintf(why, STORE_WHY_MAX, "storage: %s does not exist: it is made at start", path);
        return true;
    }
    snprintf(why, STORE_WHY_MAX, "storage: cannot make the directory %s: %s", path, strerror(errno));
    return false;
}

struct store *
store_new(struct loop *loop, const struct conf *conf, struct vmlog_pool *pool, const struct store_ops *ops,
          void *arg, char *why)
{
    struct store *store = calloc(1, sizeof(*store));

    snprintf(why, STORE_WHY_MAX, "out of memory");
    if (!store)
        return NULL;
    *store = (struct store){ .loop = loop, .conf = conf, .pool = pool, .ops = *ops, .arg = arg, .dir = -1 };
    TAILQ_INIT(&store->dirty);
    TAILQ_INIT(&store->due);
    TAILQ_INIT(&store->lazy);
    store->batch = store_batch_new(store);
    store->beat = loop_timer_new(loop, on_beat, store);
    store->tick = loop_timer_new(loop, on_tick, store);
    if (store->batch && store->beat && store->tick &&
        open_dir(store, conf->storage.dir, why, STORE_WHY_MAX)) {
        store->disk = disk_new(loop);
        if (!store->disk)
            snprintf(why, STORE_WHY_MAX, "storage: cannot start a thread: %s", strerror(errno));
    }
    if (!store->disk) {
        store_free(store);
        return NULL;
    }
    pool->released = on_released;
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

uint64_t
store_bytes(const struct store *store)
{
    return store->bytes;
}

uint64_t
store_vm_bytes(const struct vm *vm)
{
    return vm->files ? vm->files->bytes : 0;
}

uint64_t
store_segments(const struct store *store)
{
    return store->segments;
}

uint64_t
store_waiting(const struct store *store)
{
    const struct store_vm *of;
    uint64_t count = store_is_writing(store);

    TAILQ_FOREACH (of, &store->dirty, in_list)
        count++;
    TAILQ_FOREACH (of, &store->due, in_list)
        count++;
    TAILQ_FOREACH (of, &store->lazy, in_list)
        count++;
    return count;
}

uint64_t
store_is_failing(const struct store *store)
{
    return store->failing;
}

uint64_t
store_is_full(const struct store *store)
{
    return store->full > 0;
}

/* ---- for recover.c ---- */

int
store_dir(const struct store *store)
{
    return store->dir;
}

struct vmlog_segment *
store_take_segment(struct store *store, struct vm *vm, const struct segment_name *name, uint64_t bytes)
{
    struct store_vm *of = files_of(store, vm);
    struct vmlog_segment *segment = of ? add_segment(of, name) : NULL;

    if (!segment)
        return NULL;
    segment->end = bytes;
    of->bytes += bytes;
    store->bytes += bytes;
    store_touch_vm(of);
    return segment;
}

void
store_cut_segment(struct vmlog_segment *segment, uint64_t bytes)
{
    segment->of->bytes -= segment->end - bytes;
    segment->of->store->bytes -= segment->end - bytes;
    segment->end = bytes;
}

void
store_untake_segment(struct vmlog_segment *segment)
{
    if (segment->chunks == 0)
        store_free_segment(segment);
}

void
store_hold(struct vmlog_segment *segment, struct vmlog_chunk *stub)
{
    stub->segment = segment;
    segment->chunks++;
}
