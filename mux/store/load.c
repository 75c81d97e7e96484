/* Loading: a stub of a VM log becomes a chunk again. What is missing from the file becomes a gap. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mux/base/log.h"
#include "mux/base/stats.h"
#include "mux/event/frame.h"
#include "mux/store/inner.h"

#define READ_TRIES 3 /* of a disk that fails */

struct load {
    struct disk_job job;
    struct store_vm *of;
    unsigned sink;
    unsigned tries;
    uint64_t stub_number; /* the stub's first number: it may be gone when the job is done */
    int dir;
    char name[SEGMENT_NAME_MAX];
    uint64_t seed;
    uint64_t offset;
    size_t len;
    size_t got;
    int error;
    uint8_t bytes[];
};

/* ---- in the disk thread ---- */

static void
run_load(struct disk_job *job)
{
    struct load *load = (struct load *)(void *)job;
    int fd = openat(load->dir, load->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    load->got = 0;
    load->error = fd < 0 ? errno : 0;
    while (!load->error && load->got < load->len) {
        ssize_t n =
            pread(fd, load->bytes + load->got, load->len - load->got, (off_t)(load->offset + load->got));

        if (n < 0 && errno != EINTR)
            load->error = errno;
        if (n == 0)
            break; /* the file is shorter than it was */
        if (n > 0)
            load->got += (size_t)n;
    }
    if (fd >= 0)
        close(fd);
}

/* ---- from records to entries ---- */

/* Goes through the records as the stub's ranges demand, twice: to count, and to fill the chunk. */
struct filler {
    struct vmlog_chunk *stub;
    struct vmlog_chunk *chunk; /* NULL: only counts */
    Gimux__V1__GapReason reason;
    uint64_t next[VMLOG_RANGES_MAX];
    size_t bytes;
    uint32_t entries;
    uint64_t missing; /* sequences */
    bool damaged;     /* something is there that is no record */
};

/* Sequences `first` to `last` are not there: one gap, or several where an entry cannot count so many. */
static void
fill_gap(struct filler *filler, struct vmlog_stream *stream, uint64_t first, uint64_t last)
{
    while (first <= last) {
        uint64_t end = last - first < UINT32_MAX ? last : first + UINT32_MAX - 1;
        struct vmlog_entry entry = { .stream = stream, .sequence = end, .cls = VMLOG_GAP };
        uint8_t packed[FRAME_OWN_MAX];

        entry.count = (uint32_t)(end - first + 1);
        entry.end = (uint32_t)frame_gap(packed, vmlog_stream_id(stream), first, end, filler->reason);
        if (filler->chunk)
            vmlog_load_add(filler->chunk, &entry, packed);
        filler->bytes += entry.end;
        filler->entries++;
        filler->missing += entry.count;
        first = end + 1;
    }
}

static void
fill_frame(struct filler *filler, const struct segment_frame *frame)
{
    const struct vmlog_range *ranges = vmlog_stub_ranges(filler->stub);
    struct vmlog_entry entry = { .sequence = frame->sequence,
                                 .count = frame->count,
                                 .end = frame->len,
                                 .record_bytes = frame->record_bytes,
                                 .key = frame->key,
                                 .key_len = frame->key_len,
                                 .cls = frame->cls };
    uint64_t first = frame->sequence - frame->count + 1;
    uint32_t n = 0;

    while (n < filler->stub->used && vmlog_stream_id(ranges[n].stream) != frame->id)
        n++;
    if (n == filler->stub->used || first < filler->next[n] || frame->sequence > ranges[n].last)
        return;
    fill_gap(filler, ranges[n].stream, filler->next[n], first - 1);
    filler->next[n] = frame->sequence + 1;
    entry.stream = ranges[n].stream;
    if (filler->chunk)
        vmlog_load_add(filler->chunk, &entry, frame->data);
    filler->bytes += frame->len;
    filler->entries++;
}

static void
fill(struct filler *filler, const struct load *load)
{
    const struct vmlog_range *ranges = vmlog_stub_ranges(filler->stub);
    struct segment_reader reader = {
        .buf = load->bytes, .len = load->got, .base = load->offset, .seed = load->seed
    };
    struct segment_record record;

    filler->bytes = filler->entries = 0;
    filler->missing = 0;
    for (uint32_t i = 0; i < filler->stub->used; i++)
        filler->next[i] = ranges[i].first;
    while (segment_next(&reader, &record))
        if (record.kind == SEGMENT_FRAME)
            fill_frame(filler, &record.of.frame);
    filler->damaged = reader.damage > 0 || reader.good < load->len;
    for (uint32_t i = 0; i < filler->stub->used; i++)
        fill_gap(filler, ranges[i].stream, filler->next[i], ranges[i].last);
}

/* ---- in the loop ---- */

static struct vmlog_chunk *
find_stub(const struct load *load)
{
    struct vmlog_chunk *chunk = load->of->vm ? vmlog_first_chunk(vm_log(load->of->vm)) : NULL;

    while (chunk && (chunk->first_number != load->stub_number || !chunk->loading))
        chunk = chunk->next;
    return chunk;
}

/* Returns false if there is no memory for it now. */
static bool
bring_in(struct load *load, struct vmlog_chunk *stub)
{
    struct vm *vm = load->of->vm;
    struct filler filler = { .stub = stub, .reason = GIMUX__V1__GAP_REASON__GAP_REASON_STORAGE };

    fill(&filler, load);
    if (filler.entries > stub->count) { /* there are records that are not those which the stub is of */
        load->got = 0;
        fill(&filler, load);
    }
    /* Undamaged, what is missing was given up by those who had not got it, and its file is gone. */
    if (!filler.damaged && !load->of->damaged)
        filler.reason = GIMUX__V1__GAP_REASON__GAP_REASON_RESTART;
    filler.chunk = vmlog_load_begin(vm_log(vm), load->sink, stub, filler.bytes, filler.entries);
    if (!filler.chunk)
        return false;
    fill(&filler, load);
    if (filler.missing > 0 && filler.reason == GIMUX__V1__GAP_REASON__GAP_REASON_STORAGE) {
        log_error((&(struct log_who){ .vm = vm_uuid_text(vm) }),
                  "storage: %s: damaged: %llu events become a gap", load->name,
                  (unsigned long long)filler.missing);
        stats.storage_damaged_total += filler.missing;
    }
    vmlog_load_end(vm_log(vm), stub, filler.chunk);
    stats.storage_loads_total++;
    return true;
}

static void
load_done(struct disk_job *job)
{
    struct load *load = (struct load *)(void *)job;
    struct store_vm *of = load->of;
    struct vmlog_chunk *stub = find_stub(load);

    if (load->error && load->error != ENOENT && stub && ++load->tries < READ_TRIES) {
        if (load->tries == 1)
            log_error((&(struct log_who){ .vm = vm_uuid_text(of->vm) }), "storage: %s: cannot be read: %s",
                      load->name, strerror(load->error));
        stats.storage_errors_total++;
        disk_add(of->store->disk, &load->job);
        return;
    }
    of->store->loading -= load->len;
    of->loads--;
    if (stub) {
        stub->loading = false;
        if (!bring_in(load, stub))
            log_error((&(struct log_who){ .vm = vm_uuid_text(of->vm) }), "storage: no memory to read %s",
                      load->name);
    }
    if (of->vm) /* also if it was given up: others may load more now */
        of->store->ops.moved(of->store->arg, of->vm);
    free(load);
    store_release_vm(of);
}

bool
store_load(struct store *store, struct vm *vm, struct vmlog_chunk *stub, unsigned sink)
{
    size_t len = stub->file_end - stub->file_offset;
    size_t loaded = store->pool->loaded[sink];
    struct load *load;

    if (stub->loading)
        return true;
    if ((loaded > 0 && loaded + len > store_load_share(store->conf)) ||
        (store->loading > 0 && store->loading + len > STORE_LOAD_MAX))
        return false;
    load = malloc(sizeof(*load) + len);
    if (!load)
        return false;
    *load = (struct load){ .of = stub->segment->of,
                           .sink = sink,
                           .stub_number = stub->first_number,
                           .dir = store->dir,
                           .seed = stub->segment->name.seed,
                           .offset = stub->file_offset,
                           .len = len };
    load->job = (struct disk_job){ .run = run_load, .done = load_done };
    segment_name_format(&stub->segment->name, load->name);
    assert(load->of == vm_files(vm));
    stub->loading = true;
    load->of->loads++;
    store->loading += len;
    disk_add(store->disk, &load->job);
    return true;
}
