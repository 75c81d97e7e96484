/* What a VM puts into a batch: the entries of its log that are not in files yet, and how far its streams and
 * solutions are. The theory stands at the top of store.c. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "mux/base/log.h"
#include "mux/store/inner.h"

struct writer {
    struct batch *batch;
    struct store_vm *of;
    struct batch_item *item;
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

/* ---- how far the log, its streams and solutions are ---- */

/* The first entry from `recorded` on that has to be written: its chunk and index. Returns false if there is
 * none. */
static bool
find_unwritten(const struct vmlog *log, uint64_t recorded, struct vmlog_position *at)
{
    uint64_t from = vmlog_settled_number(log);

    if (from < recorded)
        from = recorded;
    if (from >= vmlog_end_number(log))
        return false;
    at->chunk = vmlog_last_chunk(log);
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

/* Up to here the stream is in files, which have the log up to `recorded`, or settled for all. A solution may
 * be further. But what the driver still has, and others need, must not seem to have been here: so no position
 * that is written says more. */
static uint64_t
recorded_last(const struct vmlog *log, uint64_t recorded, const struct stream *stream)
{
    struct vmlog_position at;

    if (!find_unwritten(log, recorded, &at))
        return stream_last(stream);
    for (; at.chunk; at.chunk = at.chunk->next, at.index = 0) {
        for (; at.index < at.chunk->count; at.index++) {
            const struct vmlog_entry *entry = vmlog_chunk_entry(at.chunk, at.index);

            if (entry->stream == stream_log_of(stream))
                return entry->sequence - entry->count;
        }
    }
    return stream_last(stream);
}

static bool
positions_moved(const struct store_vm *of)
{
    const struct vmlog *log = vm_log(of->vm);
    uint64_t recorded = vmlog_recorded_number(log);
    const struct stream *stream;

    VM_EACH_STREAM (of->vm, stream)
        VMLOG_EACH_JOINED (log, sink) {
            const struct vmlog_progress *progress = stream_progress(stream, sink);

            if (progress->recorded != progress->settled &&
                progress->recorded !=
                    vmlog_save(stream_log_of(stream), sink, recorded_last(log, recorded, stream)).settled)
                return true;
        }
    return false;
}

size_t
store_room_for_positions(const struct vm *vm)
{
    return POSITIONS_ROOM(vm_stream_count(vm));
}

/* How far they have come, the positions that follow say: a write may be torn between the two. */
static void
put_streams(struct writer *writer)
{
    const struct stream *stream;

    VM_EACH_STREAM (writer->of->vm, stream) {
        const struct stream_about *about = stream_about(stream);
        struct segment_stream record = { .driver = about->driver,
                                         .ended = about->ended,
                                         .id = stream_id(stream),
                                         .start = about->start,
                                         .last = about->start - 1 };

        memcpy(record.boot_id, about->boot_id, GR_UUID_SIZE);
        snprintf(record.build, sizeof(record.build), "%s", about->build);
        snprintf(record.guest_os, sizeof(record.guest_os), "%s", about->guest_os);
        writer->at += segment_put_stream(writer->at, writer->segment->name.seed, offset_of(writer), &record);
    }
}

static void
put_position(struct writer *writer, const struct stream *stream, const struct vmlog_saved *saved,
             const char *solution)
{
    const struct stream_about *about = stream_about(stream);
    struct segment_position record = { .driver = about->driver,
                                       .settled = saved->settled,
                                       .acked = saved->acked,
                                       .delivered = saved->delivered,
                                       .filtered = saved->filtered,
                                       .gapped = saved->gapped };

    memcpy(record.boot_id, about->boot_id, GR_UUID_SIZE);
    snprintf(record.solution, sizeof(record.solution), "%s", solution);
    writer->at += segment_put_position(writer->at, writer->segment->name.seed, offset_of(writer), &record);
}

/* How far solutions are in what comes before entry `number`, and that the streams have come so far: without
 * that word, which is the last, a write that was torn would have some solutions ahead of what others can
 * still get. */
static void
put_positions(struct writer *writer, uint64_t number)
{
    const struct store *store = writer->of->store;
    struct vmlog *log = vm_log(writer->of->vm);
    bool all = writer->of->all_positions;
    struct stream *stream;

    VM_EACH_STREAM (writer->of->vm, stream) {
        uint64_t last = recorded_last(log, number, stream);
        bool any = false;

        VMLOG_EACH_JOINED (log, sink) {
            const struct vmlog_progress *progress = stream_progress(stream, sink);
            const char *solution = store->ops.solution(store->arg, sink);
            struct vmlog_saved saved;

            if (!solution || (!all && progress->recorded == progress->settled))
                continue;
            saved = vmlog_save(stream_log(stream), sink, last);
            if (!all && progress->recorded == saved.settled)
                continue;
            put_position(writer, stream, &saved, solution);
            vmlog_stream_recorded(stream_log(stream), sink, saved.settled);
            any = true;
        }
        if (any || all)
            put_position(writer, stream, &(struct vmlog_saved){ .settled = last }, "");
    }
    writer->of->all_positions = false;
}

/* ---- entries ---- */

static bool
is_within_bounds(const struct writer *writer, size_t more)
{
    const struct store *store = writer->of->store;
    const struct conf_storage *bounds = &store->conf->storage;
    uint64_t added = (uint64_t)(writer->at - writer->item->bytes) + more;

    return writer->of->bytes + added <= bounds->vm &&
           store->bytes + writer->batch->used + added <= bounds->total;
}

/* Whether a bound of storage stands in the VM's way. */
static void
set_full(struct store_vm *of, bool full)
{
    const struct conf_storage *bounds = &of->store->conf->storage;

    if (of->full == full)
        return;
    of->full = full;
    of->store->full += full ? 1 : -1u;
    if (full)
        log_warning((&(struct log_who){ .vm = vm_uuid_text(of->vm) }),
                    "storage: the bound is reached: %llu bytes of vm = %llu, %llu of total = %llu",
                    (unsigned long long)of->bytes, (unsigned long long)bounds->vm,
                    (unsigned long long)of->store->bytes, (unsigned long long)bounds->total);
}

/* Writes the entry at the position; false if there is no room. */
static bool
put_entry(struct writer *writer, const struct vmlog_position *at)
{
    const struct vmlog_entry *entry = vmlog_chunk_entry(at->chunk, at->index);
    const struct stream *stream = stream_of_log(entry->stream);
    const struct stream_about *about = stream_about(stream);
    uint32_t start = at->index > 0 ? vmlog_chunk_entry(at->chunk, at->index - 1)->end : 0;
    struct segment_frame frame = { .driver = about->driver,
                                   .cls = entry->cls,
                                   .id = stream_id(stream),
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
    memcpy(frame.boot_id, about->boot_id, GR_UUID_SIZE);
    if (!at->chunk->segment) {
        at->chunk->file_offset = (uint32_t)offset_of(writer);
        store_hold(writer->segment, at->chunk);
    }
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
               (size_t)(writer->at - writer->item->bytes) < BATCH_VM && put_entry(writer, &at)) {
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

/* ---- a VM's part of a batch ---- */

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

/* Entries before this number are written, if they are not settled for all. */
static uint64_t
due_number(const struct store_vm *of)
{
    return of->store->finishing ? UINT64_MAX : of->due_before;
}

struct batch_item *
store_put_vm(struct batch *batch, struct store_vm *of)
{
    struct batch_item *item = &batch->items[batch->item_count];
    const struct vmlog *log = vm_log(of->vm);
    struct vmlog_position at = { .chunk = NULL };
    struct writer writer = { .batch = batch, .of = of, .item = item, .limit = due_number(of) };

    find_unwritten(log, vmlog_recorded_number(log), &at);
    if (wants_new_segment(of, &at) && !store_begin_segment(of)) {
        store_later(of);
        return NULL;
    }
    *item = (struct batch_item){ .of = of,
                                 .segment = of->current,
                                 .bytes = batch->bytes + batch->used,
                                 .offset = of->current->end,
                                 .number = vmlog_recorded_number(log),
                                 .fd = of->current->fd };
    segment_name_format(&of->current->name, item->name);
    writer.segment = of->current;
    writer.at = batch->bytes + batch->used;
    writer.end = batch->bytes + sizeof(batch->bytes) - store_room_for_positions(of->vm);
    if (of->current->end == 0) {
        writer.at += segment_put_header(writer.at, &of->current->name);
        put_streams(&writer);
        put_positions(&writer, item->number);
    }
    if (batch->sync)
        writer.at += segment_put_mark(writer.at, of->current->name.seed, offset_of(&writer));
    if (at.chunk && vmlog_is_backed(log)) {
        if (at.number > item->number)
            put_positions(&writer, at.number); /* what is between is settled, and not written */
        put_entries(&writer, at);
    } else {
        set_full(of, false);
        if (vmlog_is_backed(log))
            item->number = vmlog_end_number(log);
    }
    put_positions(&writer, item->number);
    item->len = (size_t)(writer.at - item->bytes);
    batch->used += item->len;
    batch->item_count++;
    return item;
}

/* ---- whether its turn has come ---- */

static bool
has_removable(const struct store_vm *of)
{
    const struct vmlog_segment *segment;

    LIST_FOREACH (segment, &of->segments, in_vm)
        if (segment != of->current && segment->chunks == 0 && !segment->removing)
            return true;
    return false;
}

bool
store_wants_to_write(struct store_vm *of)
{
    const struct vmlog *log = vm_log(of->vm);
    uint64_t recorded = vmlog_recorded_number(log);
    bool unwritten = vmlog_is_backed(log) && recorded < vmlog_end_number(log);

    if (unwritten && (recorded < due_number(of) || recorded < vmlog_settled_number(log)))
        return true;
    if (has_removable(of))
        return true;
    if (unwritten) {
        store_touch_vm(of);
        return false;
    }
    if (LIST_EMPTY(&of->segments) && !vmlog_is_backed(log))
        return false; /* it never had files, and needs none */
    if (!of->all_positions && !positions_moved(of))
        return false;
    if (of->waited || of->store->finishing)
        return true;
    store_later(of);
    return false;
}
