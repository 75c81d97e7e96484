/* Recovery: at start, the VM logs that files hold are taken up.
 *
 * The segments of a VM are read in the order of their numbers. Records are gathered into stubs of at most a
 * chunk's size; nothing of them stays in memory. What is missing of a stream between two records
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
#include "mux/store/inner.h"

#define HOLE_MAX        (UINT64_C(1) << 44) /* sequences that may be missing at once */
#define GAP_ENTRY       ((size_t)128)       /* bytes that a gap takes in a chunk, its frame included */
#define OWN_STREAMS_MAX 4                   /* of former lives of gimuxd, each VM; older ones are let go */

/* One VM while its segments are read. */
struct recovery {
    struct store *store;
    struct vm_table *table;
    struct vm *vm;
    struct store_vm *of;           /* the VM's files */
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
    stub = vmlog_stub_take(vm_table_pool(recovery->table), recovery->range_count);
    if (!stub)
        return false;
    memcpy(vmlog_stub_ranges(stub), recovery->ranges, recovery->range_count * sizeof(recovery->ranges[0]));
    stub->count = recovery->count;
    stub->file_offset = (uint32_t)recovery->from;
    stub->file_end = (uint32_t)recovery->to;
    store_hold(recovery->segment, stub);
    vmlog_add_stub(vm_log(recovery->vm), stub);
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
        recovery->ranges[n] =
            (struct vmlog_range){ .stream = stream, .first = vmlog_stream_last(stream) + 1 };
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

/* The stream had at least so many sequences. */
static bool
note_last(struct recovery *recovery, struct stream *stream, uint64_t last)
{
    struct saved *saved = store_saved_for(recovery->of, stream, "");

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

    VM_EACH_STREAM (vm, stream) {
        if (stream_about(stream)->driver == VM_DRIVER_GIMUXD) {
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
    log_info((&(struct log_who){ .vm = vm_uuid_text(recovery->vm) }),
             "storage: gimuxd's own events of an old life, boot %s, are let go",
             stream_about(stream)->boot_text);
    for (struct vmlog_chunk *stub = vmlog_first_chunk(vm_log(recovery->vm)); stub; stub = stub->next)
        remove_ranges(vmlog_stub_ranges(stub), &stub->used, stream_log(stream));
    remove_ranges(recovery->ranges, &recovery->range_count, stream_log(stream));
    for (struct saved *saved = recovery->of->saved; saved; saved = saved->next)
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
    if (vm_stream_count(recovery->vm) >= STORE_STREAMS_MAX)
        return NULL; /* more than any gimuxd has written */
    stream = vm_stream_restore(recovery->table, recovery->vm, driver, boot_id, start, id);
    if (stream)
        stream_set_ended(stream, driver == VM_DRIVER_GIMUXD);
    return stream;
}

/* Whether anything of it was found. */
static bool
has_begun(const struct stream *stream)
{
    return stream_last(stream) >= stream_about(stream)->start;
}

static void
raise_last(struct stream *stream, uint64_t to)
{
    if (stream_last(stream) < to)
        vmlog_stream_set_last(stream_log(stream), to);
}

static bool
take_stream(struct recovery *recovery, const struct segment_stream *record)
{
    struct stream *stream = stream_for(recovery, record->driver, record->boot_id, record->id, record->start);
    bool begun;

    if (!stream)
        return false;
    begun = has_begun(stream);
    if (!begun || record->start < stream_about(stream)->start)
        stream_set_start(stream, record->start);
    stream_set_ended(stream, record->ended || record->driver == VM_DRIVER_GIMUXD);
    stream_describe(stream, record->build, record->guest_os, stream_about(stream)->cid);
    if (!begun) /* what was before was settled, and its segments are gone */
        raise_last(stream, record->last);
    return note_last(recovery, stream, record->last);
}

/* ---- positions ---- */

static bool
take_position(struct recovery *recovery, const struct segment_position *record)
{
    struct stream *stream = vm_stream_find(recovery->vm, record->driver, record->boot_id);
    struct saved *saved;

    if (!stream)
        return true; /* its record was damaged, and nothing else of it is there */
    saved = store_saved_for(recovery->of, stream, record->solution);
    if (!saved)
        return false;
    raise_to(&saved->at.acked, record->acked);
    if (record->settled < saved->at.settled)
        return true;
    /* What was before the first frame was settled, and its segments are gone. */
    if (record->solution[0] == '\0' && !has_begun(stream))
        raise_last(stream, record->settled);
    saved->at.settled = record->settled; /* the counts belong together: a later one may be lower */
    saved->at.delivered = record->delivered;
    saved->at.filtered = record->filtered;
    saved->at.gapped = record->gapped;
    return true;
}

/* ---- frames ---- */

/* Whether a stream that has come to `last` can go on so far ahead. What is missing becomes gaps of 2^32 - 1
 * sequences at most, each an entry: so a file may not name any number. */
static bool
is_far(struct recovery *recovery, const struct stream *stream, uint64_t next)
{
    if (next <= stream_last(stream) || next - stream_last(stream) <= HOLE_MAX)
        return false;
    log_error((&(struct log_who){ .vm = vm_uuid_text(recovery->vm) }),
              "storage: a stream goes from sequence %llu to %llu: what follows is left out",
              (unsigned long long)stream_last(stream), (unsigned long long)next);
    recovery->damage++;
    return true;
}

/* Sequences before `first` may be missing, of a stream that has begun. */
static void
note_hole(struct recovery *recovery, const struct stream *stream, uint64_t first)
{
    uint64_t missing = first - 1 - stream_last(stream);
    uint32_t entries = (uint32_t)((missing + UINT32_MAX - 1) / UINT32_MAX);

    recovery->missing += missing;
    recovery->memory += entries * GAP_ENTRY;
    recovery->count += entries;
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

    if (!stream || stream_id(stream) != frame->id)
        return false;
    if (first <= stream_last(stream))
        return true; /* written twice */
    if (has_begun(stream) && is_far(recovery, stream, first))
        return true;
    if (recovery->count > 0 &&
        (recovery->memory + memory > VMLOG_LARGE_CHUNK || recovery->range_count == VMLOG_RANGES_MAX) &&
        !end_stub(recovery))
        return false;
    if (recovery->count == 0)
        recovery->from = record->offset;
    if (has_begun(stream))
        note_hole(recovery, stream, first);
    else /* what was before was settled, and its segments are gone */
        vmlog_stream_set_last(stream_log(stream), first - 1);
    range = range_of(recovery, stream_log(stream));
    range->last = frame->sequence;
    range->record_bytes += frame->record_bytes;
    vmlog_stream_set_last(stream_log(stream), frame->sequence);
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
        return memcmp(record->of.header.vm_uuid, vm_uuid(recovery->vm), GR_UUID_SIZE) == 0;
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
    /* not blocking: in its place may be a FIFO, which nobody writes to */
    int fd = openat(store->dir, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat info;
    uint8_t *bytes = NULL;
    size_t got = 0;

    if (fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size <= (off_t)SEGMENT_MAX)
        bytes = malloc((size_t)info.st_size + 1);
    while (bytes && got < (size_t)info.st_size) {
        ssize_t n = pread(fd, bytes + got, (size_t)info.st_size - got, (off_t)got);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) { /* what cannot be read is there: it is no torn tail to be cut off */
            log_error(NULL, "storage: %s: cannot be read: %s", file, strerror(errno));
            free(bytes);
            bytes = NULL;
        }
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
        if (recovery->segment->chunks == 0)
            store_free_segment(recovery->segment);
        return false;
    }
    recovery->damage += reader.damage;
    if (reader.good < len && last) { /* what the gimuxd before this one was writing when it ended */
        recovery->cut += len - reader.good;
        store_cut_segment(recovery->segment, reader.good);
    } else if (reader.good < len) {
        recovery->damage++;
    }
    return true;
}

/* The files' own word counts. A solution that is further has its position from a write that was torn: what is
 * behind that, the driver has still. */
static void
extend_streams(struct recovery *recovery)
{
    struct saved *saved;

    for (saved = recovery->of->saved; saved; saved = saved->next) {
        struct stream *stream = saved->solution[0] == '\0' ? saved->stream : NULL;
        uint64_t last = stream ? stream_last(stream) : 0;

        if (stream && saved->at.settled > last && !is_far(recovery, stream, saved->at.settled) &&
            vmlog_add_missing(vm_log(recovery->vm), stream_log(stream), saved->at.settled))
            recovery->missing += saved->at.settled - last;
    }
    for (saved = recovery->of->saved; saved; saved = saved->next)
        if (saved->stream)
            vmlog_saved_limit(&saved->at, stream_last(saved->stream));
}

/* What of a stream is in no stub was settled for everybody: drivers that have not heard of it hear now. */
static void
accept_streams(const struct recovery *recovery)
{
    struct stream *stream;

    VM_EACH_STREAM (recovery->vm, stream)
        vmlog_stream_set_accepted(stream_log(stream), stream_last(stream));
    for (struct vmlog_chunk *stub = vmlog_last_chunk(vm_log(recovery->vm)); stub; stub = stub->prev) {
        const struct vmlog_range *ranges = vmlog_stub_ranges(stub);

        for (uint32_t i = 0; i < stub->used; i++)
            vmlog_stream_set_accepted(ranges[i].stream, ranges[i].first - 1);
    }
}

static void
say_result(const struct recovery *recovery)
{
    struct log_who about = { .vm = vm_uuid_text(recovery->vm) };

    log_info(&about, "storage: taken up with %llu events of %u streams",
             (unsigned long long)recovery->sequences, vm_stream_count(recovery->vm));
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

/* The segments of one VM: `count` of them. False if out of memory. */
static bool
recover_vm(struct store *store, struct vm_table *table, const struct found *found, size_t count)
{
    struct recovery recovery = { .store = store, .table = table, .memory = sizeof(struct vmlog_chunk) };

    recovery.vm = vm_add(table, found->name.vm_uuid);
    recovery.of = recovery.vm ? store_files_of(store, recovery.vm) : NULL;
    if (!recovery.of)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!read_segment(&recovery, &found[i].name, found[i].file, i + 1 == count))
            log_error((&(struct log_who){ .vm = vm_uuid_text(recovery.vm) }),
                      "storage: %s: cannot be taken up, and is left alone", found[i].file);
    }
    extend_streams(&recovery);
    accept_streams(&recovery);
    recovery.of->damaged = recovery.damage > 0;
    say_result(&recovery);
    return true;
}

bool
recover_logs(struct store *store, struct vm_table *table)
{
    struct found *found;
    size_t count;
    bool good = list_segments(store->dir, &found, &count);

    if (store_syncs(store))
        fsync(store->dir);
    for (size_t i = 0, n; good && i < count; i += n) {
        for (n = 1;
             i + n < count && memcmp(found[i + n].name.vm_uuid, found[i].name.vm_uuid, GR_UUID_SIZE) == 0;)
            n++;
        good = recover_vm(store, table, &found[i], n);
    }
    free(found);
    vm_table_sort_streams(table);
    if (!store->frozen) /* else the files are another process's, which may be writing what looks torn */
        store_cut_torn(store);
    return good;
}
