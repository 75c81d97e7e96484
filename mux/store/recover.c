/* Recovery: at start, the VM logs that files hold are taken up.
 *
 * The segments of a VM are read in the order of their numbers. Records are gathered into stubs of at most a
 * chunk's size; nothing of them stays in memory. What a stream should have between two records and has not
 * belongs to the later stub's range, so that it becomes a gap when that is loaded. Records that come twice
 * are passed over. How far a solution was is the highest that any record says. */
#include "mux/store/recover.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mux/base/log.h"
#include "mux/base/stats.h"
#include "mux/store/segment.h"

#define OWN_STREAMS_MAX 4 /* of former lives of gimuxd, each VM; older ones are let go */

/* One VM while its segments are read. */
struct recovery {
    struct store *store;
    struct vm_table *table;
    struct vm *vm;
    struct vmlog_segment *segment; /* that is read */
    uint64_t from;                 /* offset of the stub's first record */
    uint64_t to;                   /* behind its last */
    size_t memory;                 /* that the stub takes when it is loaded */
    uint32_t count;                /* of its entries */
    uint32_t range_count;
    struct vmlog_range ranges[VMLOG_RANGES_MAX];
    uint64_t sequences; /* in all */
    uint64_t missing;
    unsigned damage;
    uint64_t cut; /* bytes of torn tails */
};

/* ---- stubs ---- */

/* The stub that was gathered goes into the log. */
static bool
end_stub(struct recovery *recovery)
{
    struct vmlog_chunk *stub;

    if (recovery->count == 0)
        return true;
    stub = vmlog_stub_take(recovery->table->pool, recovery->range_count);
    if (!stub)
        return false;
    memcpy(vmlog_stub_ranges(stub), recovery->ranges, recovery->range_count * sizeof(recovery->ranges[0]));
    stub->count = recovery->count;
    stub->file_offset = (uint32_t)recovery->from;
    stub->file_end = (uint32_t)recovery->to;
    store_hold(recovery->segment, stub);
    vmlog_add_stub(&recovery->vm->log, stub);
    recovery->count = recovery->range_count = 0;
    recovery->memory = sizeof(struct vmlog_chunk);
    return true;
}

static struct vmlog_range *
range_of(struct recovery *recovery, struct vmlog_stream *stream)
{
    uint32_t n = 0;

    while (n < recovery->range_count && recovery->ranges[n].stream != stream)
        n++;
    if (n == recovery->range_count) {
        recovery->ranges[n] = (struct vmlog_range){ .stream = stream, .first = stream->last + 1 };
        recovery->range_count++;
    }
    return &recovery->ranges[n];
}

static void
raise_to(uint64_t *value, uint64_t to)
{
    if (*value < to)
        *value = to;
}

/* What the VM's files say of a solution and a stream; "" stands for the stream as such. NULL: out of memory.
 */
static struct vm_saved *
saved_for(struct vm *vm, struct stream *stream, const char *solution)
{
    struct vm_saved *saved = vm->saved;

    while (saved && (saved->stream != stream || strcmp(saved->solution, solution) != 0))
        saved = saved->next;
    if (saved)
        return saved;
    saved = calloc(1, sizeof(*saved));
    if (!saved)
        return NULL;
    snprintf(saved->solution, sizeof(saved->solution), "%s", solution);
    saved->stream = stream;
    saved->next = vm->saved;
    vm->saved = saved;
    return saved;
}

/* The stream had at least so many sequences. */
static bool
note_last(struct recovery *recovery, struct stream *stream, uint64_t last)
{
    struct vm_saved *saved = saved_for(recovery->vm, stream, "");

    if (saved)
        raise_to(&saved->at.settled, last);
    return saved != NULL;
}

/* ---- streams ---- */

static unsigned
count_own(const struct vm *vm, struct stream **oldest)
{
    struct stream *stream;
    unsigned count = 0;

    LIST_FOREACH (stream, &vm->streams, of_vm) {
        if (stream->driver == VM_DRIVER_GIMUXD) {
            count++;
            *oldest = stream; /* new ones stand in front */
        }
    }
    return count;
}

static void
remove_ranges(struct vmlog_range *ranges, uint32_t *count, const struct vmlog_stream *stream)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < *count; i++)
        if (ranges[i].stream != stream)
            ranges[kept++] = ranges[i];
    *count = kept;
}

/* gimuxd's own events of a former life, that no solution took for several lives, do not fill up the VM. */
static void
let_go_of(struct recovery *recovery, struct stream *stream)
{
    log_info((&(struct log_who){ .vm = recovery->vm->uuid_text }),
             "storage: gimuxd's own events of an old life, boot %s, are let go", stream->boot_text);
    for (struct vmlog_chunk *stub = recovery->vm->log.first; stub; stub = stub->next)
        remove_ranges(vmlog_stub_ranges(stub), &stub->used, &stream->log);
    remove_ranges(recovery->ranges, &recovery->range_count, &stream->log);
    for (struct vm_saved *saved = recovery->vm->saved; saved; saved = saved->next)
        if (saved->stream == stream)
            saved->stream = NULL;
    vm_stream_forget(recovery->table, stream);
}

static struct stream *
stream_for(struct recovery *recovery, uint16_t driver, const uint8_t *boot_id, uint32_t id, uint64_t start)
{
    struct stream *stream = vm_stream_find(recovery->vm, driver, boot_id);
    struct stream *oldest = NULL;

    if (stream)
        return stream;
    if (driver == VM_DRIVER_GIMUXD && count_own(recovery->vm, &oldest) >= OWN_STREAMS_MAX)
        let_go_of(recovery, oldest);
    stream = vm_stream_restore(recovery->table, recovery->vm, driver, boot_id, start, id);
    if (stream)
        stream->ended = driver == VM_DRIVER_GIMUXD;
    return stream;
}

static bool
take_stream(struct recovery *recovery, const struct segment_stream *record)
{
    struct stream *stream = stream_for(recovery, record->driver, record->boot_id, record->id, record->start);
    bool begun;

    if (!stream)
        return false;
    begun = stream->log.last >= stream->start;
    if (!begun || record->start < stream->start)
        stream->start = record->start;
    stream->ended = record->ended || record->driver == VM_DRIVER_GIMUXD;
    snprintf(stream->build, sizeof(stream->build), "%s", record->build);
    snprintf(stream->guest_os, sizeof(stream->guest_os), "%s", record->guest_os);
    if (!begun) /* what was before was settled, and its segments are gone */
        raise_to(&stream->log.last, record->last);
    return note_last(recovery, stream, record->last);
}

/* ---- positions ---- */

static bool
take_position(struct recovery *recovery, const struct segment_position *record)
{
    struct stream *stream = vm_stream_find(recovery->vm, record->driver, record->boot_id);
    struct vm_saved *saved;

    if (!stream)
        return true; /* its record was damaged, and nothing else of it is there */
    saved = saved_for(recovery->vm, stream, record->solution);
    if (!saved)
        return false;
    raise_to(&saved->at.acked, record->acked);
    if (record->settled < saved->at.settled)
        return true;
    /* What was before the first frame was settled, and its segments are gone. */
    if (record->solution[0] == '\0' && stream->log.last < stream->start)
        raise_to(&stream->log.last, record->settled);
    saved->at.settled = record->settled; /* the counts belong together: a later one may be lower */
    saved->at.delivered = record->delivered;
    saved->at.filtered = record->filtered;
    saved->at.gapped = record->gapped;
    return true;
}

/* ---- frames ---- */

/* A sequence is missing only if something of the stream was there before. */
static void
note_hole(struct recovery *recovery, struct vmlog_stream *stream, uint64_t first)
{
    if (stream->last > 0 && first > stream->last + 1) {
        recovery->missing += first - 1 - stream->last;
        recovery->memory += 128;
        recovery->count += 1 + (uint32_t)((first - stream->last) / UINT32_MAX);
    }
}

static bool
take_frame(struct recovery *recovery, const struct segment_record *record)
{
    const struct segment_frame *frame = &record->of.frame;
    uint64_t first = frame->sequence - frame->count + 1;
    struct stream *stream =
        stream_for(recovery, frame->driver, frame->boot_id, frame->id, frame->sequence - frame->count + 1);
    size_t memory = frame->len + sizeof(struct vmlog_entry);
    struct vmlog_range *range;
    bool begun;

    if (!stream || stream->log.id != frame->id)
        return false;
    if (first <= stream->log.last)
        return true; /* written twice */
    if (recovery->count > 0 &&
        (recovery->memory + memory > VMLOG_LARGE_CHUNK || recovery->range_count == VMLOG_RANGES_MAX) &&
        !end_stub(recovery))
        return false;
    if (recovery->count == 0)
        recovery->from = record->offset;
    begun = stream->log.last >= stream->start;
    if (begun)
        note_hole(recovery, &stream->log, first);
    else
        stream->log.last = first - 1; /* what was before was settled, and its segments are gone */
    range = range_of(recovery, &stream->log);
    range->last = frame->sequence;
    range->record_bytes += frame->record_bytes;
    stream->log.last = frame->sequence;
    stream->log.unaccepted_bytes += frame->record_bytes;
    recovery->to = record->offset + record->size;
    recovery->memory += memory;
    recovery->count++;
    recovery->sequences += frame->count;
    return true;
}

/* ---- segments ---- */

static bool
take_record(struct recovery *recovery, const struct segment_record *record)
{
    switch (record->kind) {
    case SEGMENT_HEADER: /* else it was renamed */
        return memcmp(record->of.header.vm_uuid, recovery->vm->uuid, GR_UUID_SIZE) == 0;
    case SEGMENT_STREAM:
        return take_stream(recovery, &record->of.stream);
    case SEGMENT_POSITION:
        return take_position(recovery, &record->of.position);
    case SEGMENT_FRAME:
        return take_frame(recovery, record);
    default:
        return true;
    }
}

/* Reads a file whole; where `disk` is promised, what a killed gimuxd has left in memory is synced. */
static uint8_t *
read_file(const struct store *store, const char *file, size_t *len)
{
    int fd = openat(store_dir(store), file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat info;
    uint8_t *bytes = NULL;
    size_t got = 0;

    if (fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size <= (off_t)SEGMENT_MAX)
        bytes = malloc((size_t)info.st_size + 1);
    while (bytes && got < (size_t)info.st_size) {
        ssize_t n = read(fd, bytes + got, (size_t)info.st_size - got);

        if (n <= 0)
            break;
        got += (size_t)n;
    }
    if (fd >= 0 && store_syncs(store) && fdatasync(fd) != 0)
        log_error(NULL, "storage: %s: cannot be synced: %s", file, strerror(errno));
    if (fd >= 0)
        close(fd);
    *len = got;
    return bytes;
}

/* What is behind the last good record of the last segment is what the former gimuxd was writing. */
static void
cut_tail(struct recovery *recovery, const char *file, size_t good, size_t len)
{
    int fd = openat(store_dir(recovery->store), file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd >= 0 && ftruncate(fd, (off_t)good) == 0) {
        recovery->cut += len - good;
        store_cut_segment(recovery->segment, good);
    }
    if (fd >= 0)
        close(fd);
}

/* Takes up one segment. Returns false if it cannot be used. */
static bool
read_segment(struct recovery *recovery, const struct segment_name *name, const char *file, bool last)
{
    size_t len;
    uint8_t *bytes = read_file(recovery->store, file, &len);
    struct segment_reader reader = { .buf = bytes, .len = len, .seed = name->seed };
    struct segment_record record;
    bool good = bytes != NULL;

    if (good && last)
        reader.len = segment_believable(bytes, len, name->seed);
    recovery->segment = good ? store_take_segment(recovery->store, recovery->vm, name, len) : NULL;
    good = recovery->segment != NULL;
    while (good && segment_next(&reader, &record))
        good = take_record(recovery, &record);
    free(bytes);
    if (!recovery->segment)
        return false;
    if (!end_stub(recovery))
        good = false;
    if (!good) { /* what was read of it counts; what was not is missing */
        recovery->damage++;
        store_untake_segment(recovery->segment);
        return false;
    }
    recovery->damage += reader.damage;
    if (reader.good < len && last)
        cut_tail(recovery, file, reader.good, len);
    else if (reader.good < len)
        recovery->damage++;
    return true;
}

/* The stream had more than was found: what is missing at its end belongs to the last stub that has of it. If
 * there is none, every solution finds it missing when it joins. */
static void
extend(struct recovery *recovery, struct stream *stream, uint64_t last)
{
    struct vmlog *log = &recovery->vm->log;
    uint32_t more = 1 + (uint32_t)((last - stream->log.last) / UINT32_MAX);

    for (struct vmlog_chunk *stub = log->last; stub; stub = stub->prev) {
        struct vmlog_range *ranges = vmlog_stub_ranges(stub);

        for (uint32_t i = 0; i < stub->used; i++) {
            if (ranges[i].stream != &stream->log)
                continue;
            ranges[i].last = last;
            stub->count += more;
            log->next_number += more;
            for (stub = stub->next; stub; stub = stub->next)
                stub->first_number += more;
            recovery->missing += last - stream->log.last;
            stream->log.last = last;
            return;
        }
    }
    stream->log.last = last;
}

/* The files' own word counts. A solution that is further has its position from a write that was torn: what is
 * behind that, the driver has still. */
static void
extend_streams(struct recovery *recovery)
{
    struct vm_saved *saved;

    for (saved = recovery->vm->saved; saved; saved = saved->next)
        if (saved->stream && saved->solution[0] == '\0' && saved->at.settled > saved->stream->log.last)
            extend(recovery, saved->stream, saved->at.settled);
    for (saved = recovery->vm->saved; saved; saved = saved->next)
        if (saved->stream)
            vmlog_saved_limit(&saved->at, saved->stream->log.last);
}

/* What of a stream is in no stub was settled for everybody: drivers that have not heard of it hear now. */
static void
accept_streams(const struct recovery *recovery)
{
    struct stream *stream;

    LIST_FOREACH (stream, &recovery->vm->streams, of_vm)
        stream->log.accepted = stream->log.last;
    for (struct vmlog_chunk *stub = recovery->vm->log.last; stub; stub = stub->prev)
        for (uint32_t i = 0; i < stub->used; i++)
            vmlog_stub_ranges(stub)[i].stream->accepted = vmlog_stub_ranges(stub)[i].first - 1;
}

static void
say_result(const struct recovery *recovery)
{
    struct log_who about = { .vm = recovery->vm->uuid_text };

    log_info(&about, "storage: taken up with %llu events of %u streams",
             (unsigned long long)recovery->sequences, recovery->vm->stream_count);
    if (recovery->cut > 0)
        log_info(&about, "storage: a torn tail of %llu bytes is cut off", (unsigned long long)recovery->cut);
    if (recovery->damage > 0)
        log_error(&about, "storage: damage in %u places; %llu events are missing between others",
                  recovery->damage, (unsigned long long)recovery->missing);
}

/* ---- the directory ---- */

struct found {
    struct segment_name name;
    char file[SEGMENT_NAME_MAX];
};

static int
by_vm_and_number(const void *left, const void *right)
{
    const struct found *a = left;
    const struct found *b = right;
    int order = memcmp(a->name.vm_uuid, b->name.vm_uuid, GR_UUID_SIZE);

    if (order != 0)
        return order;
    return a->name.number < b->name.number ? -1 : a->name.number > b->name.number;
}

static bool
list_segments(int dir, struct found **out, size_t *count)
{
    int fd = dup(dir);
    DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
    size_t room = 0;
    struct dirent *entry;

    *out = NULL;
    *count = 0;
    if (!stream)
        return false;
    rewinddir(stream);
    /* cppcheck-suppress readdirCalled ; a stream of our own */
    while ((entry = readdir(stream))) {
        struct segment_name name;

        if (entry->d_name[0] == '.')
            continue;
        if (!segment_name_parse(entry->d_name, &name)) {
            log_warning(NULL, "storage: %s belongs to nothing and is left alone", entry->d_name);
            continue;
        }
        if (*count == room) {
            struct found *grown = realloc(*out, (room = room * 2 + 64) * sizeof(**out));

            if (!grown)
                break;
            *out = grown;
        }
        (*out)[*count].name = name;
        segment_name_format(&name, (*out)[(*count)++].file);
    }
    closedir(stream);
    if (*count > 0)
        qsort(*out, *count, sizeof(**out), by_vm_and_number);
    return entry == NULL;
}

/* The segments of one VM: `count` of them. */
static void
recover_vm(struct store *store, struct vm_table *table, const struct found *found, size_t count)
{
    struct recovery recovery = { .store = store, .table = table, .memory = sizeof(struct vmlog_chunk) };

    recovery.vm = vm_find(table, found->name.vm_uuid) ? NULL : vm_add(table, found->name.vm_uuid);
    if (!recovery.vm) {
        log_warning(NULL, "storage: %s and %zu more files: limits.vms is reached; they are left alone",
                    found->file, count - 1);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (!read_segment(&recovery, &found[i].name, found[i].file, i + 1 == count))
            log_error((&(struct log_who){ .vm = recovery.vm->uuid_text }),
                      "storage: %s: cannot be taken up, and is left alone", found[i].file);
    }
    extend_streams(&recovery);
    accept_streams(&recovery);
    recovery.vm->log.recorded = recovery.vm->log.next_number;
    recovery.vm->damaged = recovery.damage > 0;
    say_result(&recovery);
}

bool
recover_logs(struct store *store, struct vm_table *table)
{
    struct found *found;
    size_t count;
    bool good = list_segments(store_dir(store), &found, &count);

    if (store_syncs(store))
        fsync(store_dir(store));
    for (size_t i = 0, n; good && i < count; i += n) {
        for (n = 1;
             i + n < count && memcmp(found[i + n].name.vm_uuid, found[i].name.vm_uuid, GR_UUID_SIZE) == 0;)
            n++;
        recover_vm(store, table, &found[i], n);
    }
    free(found);
    return good;
}
