/* Writing: what VM logs have goes to their segments, a batch at a time. The theory stands at the top of
 * store.c.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mux/base/log.h"
#include "mux/base/stats.h"
#include "mux/store/inner.h"

#define BATCH_BYTES   ((size_t)2 * 1024 * 1024)
#define VM_SHARE      (BATCH_BYTES / 4)                       /* of one VM in a batch */
#define BATCH_ROOM    (BATCH_BYTES + 2 * DELIMITED_FRAME_MAX) /* one VM's share may go beyond by that much */
#define BATCH_ITEMS   1024
#define BATCH_REMOVES 1024

/* What is written to one segment. */
struct item {
    struct store_vm *of;
    struct vmlog_segment *segment;
    const uint8_t *bytes;
    size_t len;
    uint64_t offset;
    uint64_t number; /* of the log: recorded up to here when this is written */
    int fd;          /* -1: the file is made */
    char name[SEGMENT_NAME_MAX];
    int error;
    bool made; /* the file was */
    bool sync_failed;
};

struct removal {
    struct vmlog_segment *segment;
    struct item *after; /* which must be written first, or NULL */
    bool last_word;     /* no other file would say how far solutions are */
    char name[SEGMENT_NAME_MAX];
    bool done;
};

struct batch {
    struct disk_job job;
    struct store *store;
    bool writing;
    bool sync;
    uint64_t took; /* ms */
    int dir;
    size_t used;
    unsigned item_count;
    unsigned removal_count;
    struct item items[BATCH_ITEMS];
    struct removal removals[BATCH_REMOVES];
    uint8_t bytes[BATCH_ROOM];
};

/* ---- in the disk thread ---- */

static int
write_item(struct item *item, int dir)
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
        struct item *item = &batch->items[i];

        if (item->error)
            continue;
        item->error = fdatasync(item->fd) == 0 ? error : errno;
        item->sync_failed = item->error != 0;
    }
}

/* When the disk is full a segment goes first, to make room for the positions that cover it: but not the last
 * one that has any, or what a solution gave up and was not told would be forgotten. */
static bool
may_remove(const struct removal *removal)
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
        struct removal *removal = &batch->removals[i];

        if (may_remove(removal))
            removal->done = unlinkat(batch->dir, removal->name, 0) == 0 || errno == ENOENT;
    }
    batch->took = loop_now() - began;
}

/* ---- a VM's part of a batch ---- */

static void
hold(struct vmlog_segment *segment, struct vmlog_chunk *chunk, uint64_t offset)
{
    chunk->segment = segment;
    chunk->file_offset = (uint32_t)offset;
    segment->chunks++;
}

struct writer {
    struct store *store;
    struct store_vm *of;
    struct item *item;
    struct vmlog_segment *segment;
    uint8_t *at;
    uint8_t *end;   /* frames go no further */
    uint64_t limit; /* entries from this number on have time */
    bool bound;     /* but for a bound, more would have been written */
};

static uint64_t
offset_of(const struct writer *writer)
{
    return writer->item->offset + (uint64_t)(writer->at - writer->item->bytes);
}

/* The first entry from `recorded` on that has to be written: its chunk and index. Returns false if there is
 * none. */
static bool
find_unwritten(const struct vmlog *log, uint64_t recorded, struct vmlog_position *at)
{
    uint64_t from = vmlog_settled_number(log);

    if (from < recorded)
        from = recorded;
    if (from >= log->next_number)
        return false;
    at->chunk = log->last;
    while (at->chunk->first_number > from && at->chunk->prev)
        at->chunk = at->chunk->prev;
    if (at->chunk->stub || from >= at->chunk->first_number + at->chunk->count) /* between two chunks */
        at->chunk = at->chunk->next;
    if (!at->chunk)
        return false;
    at->index = from > at->chunk->first_number ? (uint32_t)(from - at->chunk->first_number) : 0;
    at->number = at->chunk->first_number + at->index;
    return true;
}

/* Up to here the stream is in files, which have the log up to `recorded`, or settled for all. */
static uint64_t
recorded_last(const struct vmlog *log, uint64_t recorded, const struct vmlog_stream *stream)
{
    struct vmlog_position at;

    if (!find_unwritten(log, recorded, &at))
        return stream->last;
    for (; at.chunk; at.chunk = at.chunk->next, at.index = 0) {
        for (; at.index < at.chunk->count; at.index++) {
            const struct vmlog_entry *entry = vmlog_chunk_entry(at.chunk, at.index);

            if (entry->stream == stream)
                return entry->sequence - entry->count;
        }
    }
    return stream->last;
}

/* How far they have come, the positions that follow say: a write may be torn between the two. */
static void
put_streams(struct writer *writer)
{
    const struct vm *vm = writer->of->vm;
    const struct stream *stream;

    LIST_FOREACH (stream, &vm->streams, of_vm) {
        struct segment_stream record = { .driver = stream->driver,
                                         .ended = stream->ended,
                                         .id = stream->log.id,
                                         .start = stream->start,
                                         .last = stream->start - 1 };

        memcpy(record.boot_id, stream->boot_id, GR_UUID_SIZE);
        snprintf(record.build, sizeof(record.build), "%s", stream->build);
        snprintf(record.guest_os, sizeof(record.guest_os), "%s", stream->guest_os);
        writer->at += segment_put_stream(writer->at, writer->segment->name.seed, offset_of(writer), &record);
    }
}

/* A solution may be ahead of the files. But what the driver still has, and others need, must not seem to have
 * been here: so no position says more than the files do. */
static struct vmlog_saved
position_of(const struct vmlog *log, uint64_t recorded, const struct vmlog_stream *stream, unsigned sink)
{
    return vmlog_save(&stream->sinks[sink], recorded_last(log, recorded, stream));
}

static void
put_position(struct writer *writer, const struct stream *stream, const struct vmlog_saved *saved,
             const char *solution)
{
    struct segment_position record = { .driver = stream->driver,
                                       .settled = saved->settled,
                                       .acked = saved->acked,
                                       .delivered = saved->delivered,
                                       .filtered = saved->filtered,
                                       .gapped = saved->gapped };

    memcpy(record.boot_id, stream->boot_id, GR_UUID_SIZE);
    snprintf(record.solution, sizeof(record.solution), "%s", solution);
    writer->at += segment_put_position(writer->at, writer->segment->name.seed, offset_of(writer), &record);
}

static bool
positions_moved(const struct store_vm *of)
{
    const struct vmlog *log = &of->vm->log;
    const struct stream *stream;

    LIST_FOREACH (stream, &of->vm->streams, of_vm)
        VMLOG_EACH_JOINED (log, sink)
            if (stream->log.sinks[sink].recorded != stream->log.sinks[sink].settled &&
                stream->log.sinks[sink].recorded !=
                    position_of(log, log->recorded, &stream->log, sink).settled)
                return true;
    return false;
}

/* How far solutions are in what comes before entry `number`, and that the streams have come so far: without
 * that word, which is the last, a write that was torn would have some solutions ahead of what others can
 * still get. */
static void
put_positions(struct writer *writer, uint64_t number)
{
    const struct vm *vm = writer->of->vm;
    struct stream *stream;

    LIST_FOREACH (stream, &vm->streams, of_vm) {
        uint64_t last = recorded_last(&vm->log, number, &stream->log);
        bool any = false;

        VMLOG_EACH_JOINED (&vm->log, sink) {
            struct vmlog_progress *progress = &stream->log.sinks[sink];
            const char *solution = writer->store->ops.solution(writer->store->arg, sink);
            struct vmlog_saved saved;

            if (!solution || (!writer->of->all_positions && progress->recorded == progress->settled))
                continue;
            saved = vmlog_save(progress, last);
            if (!writer->of->all_positions && progress->recorded == saved.settled)
                continue;
            put_position(writer, stream, &saved, solution);
            progress->recorded = saved.settled;
            any = true;
        }
        if (any || writer->of->all_positions)
            put_position(writer, stream, &(struct vmlog_saved){ .settled = last }, "");
    }
    writer->of->all_positions = false;
}

/* Bytes that streams and positions of the VM can take. */
static size_t
room_for_positions(const struct vm *vm)
{
    return SEGMENT_HEADER_SIZE + SEGMENT_MARK_SIZE +
           vm->stream_count * (SEGMENT_STREAM_SIZE + (VMLOG_SINKS + 1) * SEGMENT_POSITION_SIZE);
}

static bool
is_within_bounds(const struct writer *writer, size_t more)
{
    const struct conf_storage *bounds = &writer->store->conf->storage;
    uint64_t added = (uint64_t)(writer->at - writer->item->bytes) + more;

    return writer->of->bytes + added <= bounds->vm &&
           writer->store->bytes + writer->store->batch->used + added <= bounds->total;
}

static struct stream *
stream_of(struct vmlog_stream *log)
{
    return (struct stream *)(void *)log; /* its first member */
}

/* A bound of storage stands in the VM's way, or does no more. */
static void
set_full(struct store_vm *of, bool full)
{
    const struct conf_storage *bounds = &of->store->conf->storage;

    if (of->full == full)
        return;
    of->full = full;
    of->store->full += full ? 1 : -1u;
    if (full)
        log_warning((&(struct log_who){ .vm = of->vm->uuid_text }),
                    "storage: the bound is reached: %llu bytes of vm = %llu, %llu of total = %llu",
                    (unsigned long long)of->bytes, (unsigned long long)bounds->vm,
                    (unsigned long long)of->store->bytes, (unsigned long long)bounds->total);
}

/* Writes the entry at the position; false if there is no room. */
static bool
put_entry(struct writer *writer, const struct vmlog_position *at)
{
    const struct vmlog_entry *entry = vmlog_chunk_entry(at->chunk, at->index);
    const struct stream *stream = stream_of(entry->stream);
    uint32_t start = at->index > 0 ? vmlog_chunk_entry(at->chunk, at->index - 1)->end : 0;
    struct segment_frame frame = { .driver = stream->driver,
                                   .cls = entry->cls,
                                   .id = stream->log.id,
                                   .sequence = entry->sequence,
                                   .count = entry->count,
                                   .record_bytes = vmlog_chunk_record_bytes(at->chunk, at->index, 1),
                                   .key = entry->key,
                                   .key_len = entry->key_len,
                                   .len = entry->end - start,
                                   .data = at->chunk->data + start };
    size_t size = segment_frame_size(frame.len);

    if (size > (size_t)(writer->end - writer->at))
        return false;
    if (!is_within_bounds(writer, size)) {
        writer->bound = true;
        return false;
    }
    memcpy(frame.boot_id, stream->boot_id, GR_UUID_SIZE);
    if (!at->chunk->segment)
        hold(writer->segment, at->chunk, offset_of(writer));
    assert(at->chunk->segment == writer->segment);
    writer->at += segment_put_frame(writer->at, writer->segment->name.seed, offset_of(writer), &frame);
    at->chunk->file_end = (uint32_t)offset_of(writer);
    return true;
}

/* Entries, as many as there is room for; a chunk goes to one segment. Sets the item's number. */
static void
put_entries(struct writer *writer, struct vmlog_position at)
{
    while (at.chunk) {
        bool elsewhere = at.chunk->segment && at.chunk->segment != writer->segment;

        if (elsewhere || (at.index == 0 && offset_of(writer) >= SEGMENT_SIZE))
            break;
        while (at.index < at.chunk->count && at.number < writer->limit &&
               (size_t)(writer->at - writer->item->bytes) < VM_SHARE && put_entry(writer, &at)) {
            at.index++;
            at.number++;
        }
        if (at.index < at.chunk->count || !at.chunk->next)
            break;
        at.chunk = at.chunk->next;
        at.index = 0;
        at.number = at.chunk->first_number;
    }
    writer->item->number = at.number;
    set_full(writer->of, writer->bound);
}

/* Whether what comes next goes to a new segment: chunks are not divided. */
static bool
wants_new_segment(const struct store_vm *of, const struct vmlog_position *at)
{
    const struct vmlog_segment *current = of->current;

    if (!current)
        return true;
    if (at->chunk)
        return !at->chunk->segment && current->end >= SEGMENT_SIZE;
    return current->end >= (current->chunks > 0 ? SEGMENT_SIZE : SEGMENT_SIZE / 4);
}

static void
put_removals(struct batch *batch, struct store_vm *of, struct item *after)
{
    bool has_word = of->current && of->current->end > 0;
    struct vmlog_segment *segment;

    LIST_FOREACH (segment, &of->segments, in_vm) { /* the newest first */
        struct removal *removal = &batch->removals[batch->removal_count];
        bool last_word = segment != of->current && !has_word;

        has_word = has_word || last_word;

        if (segment == of->current || segment->chunks > 0 || segment->removing)
            continue;
        if (batch->removal_count == BATCH_REMOVES) {
            store_later(of);
            return;
        }
        segment->removing = true;
        *removal = (struct removal){ .segment = segment, .after = after, .last_word = last_word };
        segment_name_format(&segment->name, removal->name);
        batch->removal_count++;
    }
}

static bool
has_removable(const struct store_vm *of)
{
    const struct vmlog_segment *segment;

    LIST_FOREACH (segment, &of->segments, in_vm)
        if (segment != of->current && segment->chunks == 0 && !segment->removing)
            return true;
    return false;
}

/* Entries before this number are written, if they are not settled for all. */
static uint64_t
ripe_number(const struct store_vm *of)
{
    return of->store->finishing ? UINT64_MAX : of->ripe;
}

/* Puts what the VM has into the batch. */
static void
put_vm(struct store *store, struct store_vm *of)
{
    struct batch *batch = store->batch;
    struct item *item = &batch->items[batch->item_count];
    struct vmlog_position at = { .chunk = NULL };
    struct writer writer = { .store = store, .of = of, .item = item, .limit = ripe_number(of) };
    bool fresh;

    find_unwritten(&of->vm->log, of->vm->log.recorded, &at);
    fresh = wants_new_segment(of, &at);
    if (fresh && !store_begin_segment(of)) {
        store_later(of);
        return;
    }
    *item = (struct item){ .of = of,
                           .segment = of->current,
                           .bytes = batch->bytes + batch->used,
                           .offset = of->current->end,
                           .number = of->vm->log.recorded,
                           .fd = of->current->fd };
    segment_name_format(&of->current->name, item->name);
    writer.segment = of->current;
    writer.at = batch->bytes + batch->used;
    writer.end = batch->bytes + sizeof(batch->bytes) - room_for_positions(of->vm);
    if (of->current->end == 0) {
        writer.at += segment_put_header(writer.at, &of->current->name);
        put_streams(&writer);
        put_positions(&writer, item->number);
    }
    if (batch->sync)
        writer.at += segment_put_mark(writer.at, of->current->name.seed, offset_of(&writer));
    if (at.chunk && of->vm->log.backed && at.number > item->number)
        put_positions(&writer, at.number); /* what is between is settled, and not written */
    if (at.chunk && of->vm->log.backed)
        put_entries(&writer, at);
    else
        set_full(of, false);
    if (!at.chunk && of->vm->log.backed)
        item->number = of->vm->log.next_number;
    put_positions(&writer, item->number);
    item->len = (size_t)(writer.at - item->bytes);
    batch->used += item->len;
    batch->item_count++;
    put_removals(batch, of, item);
    of->writing = true;
}

/* ---- batches ---- */

/* The log is empty, and with it goes what was wrong. */
static void
mend(struct store_vm *of)
{
    struct vmlog_segment *segment;

    LIST_FOREACH (segment, &of->segments, in_vm)
        if (segment->chunks > 0)
            return;
    log_info((&(struct log_who){ .vm = of->vm->uuid_text }), "storage: its files are used again");
    of->broken = false;
    of->error = 0;
    of->current = NULL;
}

/* Whether this VM's turn to write has come; if not it is in the right list. */
static bool
is_due(struct store *store, struct store_vm *of)
{
    const struct vmlog *log = &of->vm->log;

    if (of->broken && !log->first)
        mend(of);
    if (of->broken)
        return false;
    if (log->backed && (log->recorded < ripe_number(of) || log->recorded < vmlog_settled_number(log)) &&
        log->recorded < log->next_number)
        return true;
    if (has_removable(of))
        return true;
    if (log->backed && log->recorded < log->next_number) {
        store_touch_vm(of);
        return false;
    }
    if (LIST_EMPTY(&of->segments) && !log->backed)
        return false; /* it never had files, and needs none */
    if (!of->all_positions && !positions_moved(of))
        return false;
    if (of->waited || store->finishing)
        return true;
    store_later(of);
    return false;
}

static void
fill_batch(struct store *store)
{
    struct batch *batch = store->batch;
    struct store_vm *of;

    while ((of = TAILQ_FIRST(&store->due)) && batch->used < BATCH_BYTES && batch->item_count < BATCH_ITEMS &&
           batch->removal_count < BATCH_REMOVES) {
        if (of->vm && batch->used > 0 &&
            batch->used + VM_SHARE + 3 * room_for_positions(of->vm) +
                    segment_frame_size(DELIMITED_FRAME_MAX) >
                sizeof(batch->bytes))
            break;
        store_unlist(of);
        if (!of->vm) {
            put_removals(batch, of, NULL);
            store_release_vm(of);
        } else if (is_due(store, of)) {
            put_vm(store, of);
        }
    }
}

void
store_flush(struct store *store)
{
    struct batch *batch = store->batch;

    if (store->finishing)
        store_beat(store);
    if (batch->writing || store->frozen || TAILQ_EMPTY(&store->due))
        return;
    batch->used = batch->item_count = batch->removal_count = 0;
    batch->sync = store_syncs(store);
    batch->dir = store->dir;
    fill_batch(store);
    if (batch->item_count == 0 && batch->removal_count == 0)
        return;
    batch->writing = true;
    disk_add(store->disk, &batch->job);
}

static void
say_failure(struct store_vm *of, const struct item *item)
{
    struct log_who about = { .vm = of->vm ? of->vm->uuid_text : NULL };

    stats.storage_errors_total++;
    if (item->error == of->error)
        return;
    log_error(&about, "storage: %s/%s: %s: %s", of->store->conf->storage.dir, item->name,
              item->sync_failed ? "cannot be synced" : "cannot be written", strerror(item->error));
}

/* Chunks that the item was to write are where they were before. */
static void
take_back(struct vmlog *log, const struct item *item)
{
    for (struct vmlog_chunk *chunk = log->last; chunk; chunk = chunk->prev) {
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
item_failed(struct store_vm *of, struct item *item)
{
    say_failure(of, item);
    of->error = item->error;
    if (of->vm) {
        take_back(&of->vm->log, item);
        vmlog_set_stall(&of->vm->log, item->sync_failed ? VMLOG_BROKEN : VMLOG_STALLED);
    }
    of->all_positions = true;
    of->store->failing = true;
    if (item->sync_failed)
        of->broken = true;
    else if (of->vm)
        store_later(of);
}

static void
item_done(struct item *item)
{
    struct store_vm *of = item->of;

    if (item->fd >= 0)
        item->segment->fd = item->fd;
    if (item->error) {
        item_failed(of, item);
        return;
    }
    if (of->error && of->vm)
        log_info((&(struct log_who){ .vm = of->vm->uuid_text }), "storage: it can be written again");
    of->error = 0;
    of->store->failing = false;
    item->segment->end += item->len;
    of->bytes += item->len;
    of->store->bytes += item->len;
    stats.storage_written_bytes_total += item->len;
    if (!of->vm)
        return;
    vmlog_set_stall(&of->vm->log, of->full ? VMLOG_STALLED : VMLOG_WRITTEN);
    vmlog_recorded(&of->vm->log, item->number);
    of->store->ops.moved(of->store->arg, of->vm);
    if (of->full)
        store_later(of);
    else if (of->vm->log.recorded < of->ripe)
        store_make_due(of); /* it was more than a VM's share of a batch */
    else
        store_touch_vm(of);
    of->waited = false;
}

/* A write that took longer than a beat was time enough for what came meanwhile: the next one takes all. */
static void
catch_up(struct store *store)
{
    struct store_vm *of;

    store_beat(store);
    TAILQ_FOREACH (of, &store->due, in_list)
        if (of->vm)
            of->ripe = of->seen = of->vm->log.next_number;
}

static void
batch_done(struct disk_job *job)
{
    struct batch *batch = (struct batch *)(void *)job;
    struct store_vm *of;

    batch->writing = false;
    for (unsigned i = 0; i < batch->item_count; i++)
        item_done(&batch->items[i]);
    for (unsigned i = 0; i < batch->removal_count; i++) {
        struct removal *removal = &batch->removals[i];

        of = removal->segment->of;
        removal->segment->removing = false;
        if (removal->done)
            store_free_segment(removal->segment);
        else
            store_later(of);
        store_release_vm(of);
    }
    for (unsigned i = 0; i < batch->item_count; i++) {
        batch->items[i].of->writing = false;
        store_release_vm(batch->items[i].of);
    }
    if (batch->took >= STORE_BEAT_MS)
        catch_up(batch->store);
    store_flush(batch->store);
}

void
store_finish(struct store *store)
{
    uint64_t written;
    struct store_vm *of;

    if (store->frozen)
        return;
    store->finishing = true;
    disk_finish(store->disk);
    do { /* until nothing more can be written */
        written = stats.storage_written_bytes_total;
        while ((of = TAILQ_FIRST(&store->lazy)))
            store_touch_vm(of);
        store_flush(store);
        disk_finish(store->disk);
    } while (stats.storage_written_bytes_total > written);
    store->finishing = false;
}

static_assert(sizeof(struct batch) <= STORE_BATCH_SIZE, "what the memory bound counts");

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

unsigned
store_is_writing(const struct store *store)
{
    return store->batch->writing ? store->batch->item_count : 0;
}
