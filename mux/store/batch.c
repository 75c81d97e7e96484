/* The batch: what is written at once, for many VMs; what the disk thread does with it, and what becomes of
 * it. The theory stands at the top of store.c. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mux/base/log.h"
#include "mux/base/stats.h"
#include "mux/store/inner.h"

static_assert(sizeof(struct batch) <= STORE_BATCH_SIZE, "what the memory bound counts");
static_assert(BATCH_VM + 3 * POSITIONS_ROOM(STORE_STREAMS_MAX + VM_STREAMS_MAX) + 2 * DELIMITED_FRAME_MAX <=
                  BATCH_ROOM,
              "what one VM may have fits into an empty batch");

/* ---- in the disk thread ---- */

static int
write_item(struct batch_item *item, int dir)
{
    size_t written = 0;

    item->made = item->fd < 0;
    if (item->made)
        item->fd = openat(dir, item->name, O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (item->fd < 0)
        return errno;
    while (written < item->len) {
        ssize_t n =
            pwrite(item->fd, item->bytes + written, item->len - written, (off_t)(item->offset + written));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EIO;
        written += (size_t)n;
    }
    return 0;
}

static void
sync_batch(struct batch *batch)
{
    bool made = false;
    int error = 0;

    for (unsigned i = 0; i < batch->item_count; i++)
        made = made || batch->items[i].made;
    if (made && fsync(batch->dir) != 0)
        error = errno;

    for (unsigned i = 0; i < batch->item_count; i++) {
        struct batch_item *item = &batch->items[i];

        if (item->error)
            continue;
        item->error = fdatasync(item->fd) == 0 ? error : errno;
        item->sync_failed = item->error != 0;
    }
}

/* When the disk is full a segment goes first, to make room for the positions that cover it: but not the last
 * one that has any, or what a solution gave up and was not told would be forgotten. */
static bool
may_remove(const struct batch_removal *removal)
{
    return !removal->after || removal->after->error == 0 ||
           (removal->after->error == ENOSPC && !removal->last_word);
}

static void
run_batch(struct disk_job *job)
{
    struct batch *batch = (struct batch *)(void *)job;
    uint64_t began = loop_now();

    for (unsigned i = 0; i < batch->item_count; i++)
        batch->items[i].error = write_item(&batch->items[i], batch->dir);
    if (batch->sync && batch->item_count > 0)
        sync_batch(batch);
    for (unsigned i = 0; i < batch->removal_count; i++) {
        struct batch_removal *removal = &batch->removals[i];

        if (may_remove(removal))
            removal->done = unlinkat(batch->dir, removal->name, 0) == 0 || errno == ENOENT;
    }
    batch->took = loop_now() - began;
}

/* ---- filling it ---- */

/* Segments of the VM that nobody needs; those of the batch's item may go when that is written. */
static void
put_removals(struct batch *batch, struct store_vm *of, struct batch_item *after)
{
    bool has_word = of->current && of->current->end > 0;
    struct vmlog_segment *segment;

    LIST_FOREACH (segment, &of->segments, in_vm) { /* the newest first */
        struct batch_removal *removal = &batch->removals[batch->removal_count];
        bool last_word = segment != of->current && !has_word;

        has_word = has_word || last_word;

        if (segment == of->current || segment->chunks > 0 || segment->removing)
            continue;
        if (batch->removal_count == BATCH_REMOVES) {
            store_later(of);
            return;
        }
        segment->removing = true;
        *removal = (struct batch_removal){ .segment = segment, .after = after, .last_word = last_word };
        segment_name_format(&segment->name, removal->name);
        batch->removal_count++;
    }
}

/* The turn of a VM has come. */
static void
put(struct batch *batch, struct store_vm *of)
{
    struct batch_item *item;

    store_set_state(of, STORE_IDLE);
    if (!of->vm) {
        put_removals(batch, of, NULL);
        store_release_vm(of);
        return;
    }
    item = store_wants_to_write(of) ? store_put_vm(batch, of) : NULL;
    if (!item)
        return;
    put_removals(batch, of, item);
    store_set_state(of, STORE_WRITING);
}

/* Whether what a VM may have at most fits in; if nothing is in yet, it does. */
static bool
has_room_for(const struct batch *batch, const struct store_vm *of)
{
    if (!of->vm || batch->used == 0)
        return true;
    return batch->used + BATCH_VM + 3 * store_room_for_positions(of->vm) +
               segment_frame_size(DELIMITED_FRAME_MAX) <=
           sizeof(batch->bytes);
}

void
store_flush(struct store *store)
{
    struct batch *batch = store->batch;
    struct store_vm *of;

    if (store->finishing)
        store_beat(store);
    if (batch->writing || store->frozen || TAILQ_EMPTY(&store->due))
        return;
    batch->used = batch->item_count = batch->removal_count = 0;
    batch->sync = store_syncs(store);
    batch->dir = store->dir;
    while ((of = TAILQ_FIRST(&store->due)) && batch->used < BATCH_BYTES && batch->item_count < BATCH_ITEMS &&
           batch->removal_count < BATCH_REMOVES && has_room_for(batch, of))
        put(batch, of);
    if (batch->item_count == 0 && batch->removal_count == 0)
        return;
    batch->writing = true;
    disk_add(store->disk, &batch->job);
}

/* ---- what becomes of it ---- */

static void
say_failure(struct store_vm *of, const struct batch_item *item)
{
    struct log_who about = { .vm = of->vm ? vm_uuid_text(of->vm) : NULL };

    stats.storage_errors_total++;
    if (item->error == of->error)
        return;
    log_error(&about, "storage: %s/%s: %s: %s", of->store->conf->storage.dir, item->name,
              item->sync_failed ? "cannot be synced" : "cannot be written", strerror(item->error));
}

/* Chunks that the item was to write are where they were before. */
static void
take_back(struct vmlog *log, const struct batch_item *item)
{
    for (struct vmlog_chunk *chunk = vmlog_last_chunk(log); chunk; chunk = chunk->prev) {
        if (chunk->segment != item->segment || chunk->file_end <= item->offset)
            continue;
        chunk->file_end = (uint32_t)item->offset;
        if (chunk->file_offset >= item->offset) {
            chunk->segment = NULL;
            item->segment->chunks--;
        }
    }
}

static void
item_failed(struct store_vm *of, const struct batch_item *item)
{
    say_failure(of, item);
    of->error = item->error;
    of->all_positions = true;
    of->store->failing = true;
    if (of->vm) {
        take_back(vm_log(of->vm), item);
        vmlog_set_stall(vm_log(of->vm), item->sync_failed ? VMLOG_BROKEN : VMLOG_STALLED);
    }
    store_end_writing(of, item->sync_failed ? STORE_BROKEN : STORE_LATER);
}

/* More of the VM's log is in its file. */
static void
recorded(struct store_vm *of, const struct batch_item *item)
{
    struct vmlog *log = vm_log(of->vm);
    enum store_state next = STORE_DIRTY;

    vmlog_set_stall(log, of->full ? VMLOG_STALLED : VMLOG_FLOWING);
    vmlog_recorded(log, item->number);
    of->store->ops.moved(of->store->arg, of->vm);
    if (of->full)
        next = STORE_LATER;
    else if (vmlog_recorded_number(log) < of->due_before)
        next = STORE_DUE; /* it was more than a VM's share of a batch */
    store_end_writing(of, next);
}

static void
item_done(struct batch_item *item)
{
    struct store_vm *of = item->of;

    if (item->fd >= 0)
        item->segment->fd = item->fd;
    if (item->error) {
        item_failed(of, item);
        return;
    }
    if (of->error && of->vm)
        log_info((&(struct log_who){ .vm = vm_uuid_text(of->vm) }), "storage: it can be written again");
    of->error = 0;
    of->store->failing = false;
    if (item->len > SEGMENT_MARK_SIZE || (of->vm && item->number > vmlog_recorded_number(vm_log(of->vm))))
        of->store->progress++;
    item->segment->end += item->len;
    of->bytes += item->len;
    of->store->bytes += item->len;
    stats.storage_written_bytes_total += item->len;
    if (of->vm)
        recorded(of, item);
    else
        store_end_writing(of, STORE_DIRTY); /* its files are to be removed */
}

static void
removal_done(const struct batch_removal *removal)
{
    struct store_vm *of = removal->segment->of;

    removal->segment->removing = false;
    if (removal->done) {
        store_free_segment(removal->segment);
        of->store->progress++;
    } else {
        store_later(of);
    }
    store_release_vm(of);
}

/* A write that took longer than a beat was time enough for what came meanwhile: the next one takes all. */
static void
catch_up(struct store *store)
{
    struct store_vm *of;

    store_beat(store);
    TAILQ_FOREACH (of, &store->due, in_list)
        if (of->vm)
            of->due_before = of->seen = vmlog_end_number(vm_log(of->vm));
}

static void
batch_done(struct disk_job *job)
{
    struct batch *batch = (struct batch *)(void *)job;

    batch->writing = false;
    for (unsigned i = 0; i < batch->removal_count; i++)
        removal_done(&batch->removals[i]);
    for (unsigned i = 0; i < batch->item_count; i++) {
        item_done(&batch->items[i]);
        store_release_vm(batch->items[i].of);
    }
    if (batch->took >= STORE_BEAT_MS)
        catch_up(batch->store);
    store_flush(batch->store);
}

struct batch *
store_batch_new(struct store *store)
{
    struct batch *batch = calloc(1, sizeof(*batch));

    if (!batch)
        return NULL;
    batch->job = (struct disk_job){ .run = run_batch, .done = batch_done };
    batch->store = store;
    return batch;
}
