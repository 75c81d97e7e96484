/* Damage to the files of VM logs, and which events it hits. */
#include "tests/chaos/damage.h"

#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mux/store/segment.h"
#include "tests/chaos/chance.h"

/* One record of an undamaged segment, and what has become of it. */
struct record {
    enum segment_kind kind;
    struct damage_hit event; /* of a frame */
    bool hit;                /* one of its bytes has changed */
    bool broken;             /* that, or what stands before it is no record */
};

struct bytes {
    uint8_t *at;
    size_t len;
};

/* ---- doing it ---- */

static unsigned
damage_bytes(int fd, uint64_t size)
{
    uint64_t kind = chance_below(3);
    uint64_t count = 1 + chance_skewed(64);

    for (uint64_t n = 0; n < count; n++) {
        off_t at = (off_t)chance_below(size);
        uint8_t byte = 0;

        if (pread(fd, &byte, 1, at) != 1)
            continue;
        byte = (uint8_t)(kind == 0 ? byte ^ (1u << chance_below(8)) : kind == 1 ? 0 : chance_below(256));
        if (pwrite(fd, &byte, 1, at) != 1)
            perror("chaos: damage");
    }
    return (unsigned)count;
}

static unsigned
damage_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    unsigned places = 0;
    struct stat stat;

    if (fd < 0)
        return 0;
    if (fstat(fd, &stat) == 0 && stat.st_size > 0) {
        if (!chance_one_in(5))
            places = damage_bytes(fd, (uint64_t)stat.st_size);
        else
            places = ftruncate(fd, (off_t)chance_below((uint64_t)stat.st_size)) == 0;
    }
    close(fd);
    return places;
}

/* ---- what it hits ---- */

static struct bytes
read_whole(const char *path)
{
    struct bytes bytes = { .at = malloc(SEGMENT_MAX) };
    FILE *file = fopen(path, "re");

    if (!bytes.at || !file)
        abort();
    bytes.len = fread(bytes.at, 1, SEGMENT_MAX, file);
    fclose(file);
    return bytes;
}

static struct damage_hit
event_of(const struct segment_name *name, const struct segment_frame *frame)
{
    struct damage_hit event = { .driver = frame->driver,
                                .first = frame->sequence - frame->count + 1,
                                .last = frame->sequence };

    memcpy(event.vm_uuid, name->vm_uuid, sizeof(event.vm_uuid));
    memcpy(event.boot_id, frame->boot_id, sizeof(event.boot_id));
    return event;
}

/* The records of `before`; to be freed. */
static struct record *
find_records(const struct segment_name *name, const struct bytes *before, const struct bytes *after,
             size_t *count)
{
    struct record *records = calloc(before->len / SEGMENT_MARK_SIZE + 1, sizeof(*records));
    struct segment_reader reader = { .buf = before->at, .len = before->len, .seed = name->seed };
    struct segment_record found;
    uint64_t good = 0;

    if (!records)
        abort();
    *count = 0;
    while (segment_next(&reader, &found)) {
        struct record *record = &records[(*count)++];

        record->kind = found.kind;
        if (found.kind == SEGMENT_FRAME)
            record->event = event_of(name, &found.of.frame);
        record->hit = found.offset + found.size > after->len ||
                      memcmp(before->at + found.offset, after->at + found.offset, found.size) != 0;
        record->broken = record->hit || found.offset > good;
        good = found.offset + found.size;
    }
    return records;
}

/* In the segment that was written last: from where it may be cut. */
static size_t
find_cut(const struct record *records, size_t count)
{
    size_t cut = count;
    bool marked = false;

    for (size_t i = 0; i < count; i++) {
        if (records[i].kind == SEGMENT_MARK && !records[i].hit) {
            marked = true;
            cut = count;
        } else if (marked && records[i].broken && cut == count) {
            cut = i;
        }
    }
    return cut;
}

static void
tell_hits(const char *path, bool last, const struct bytes *before, const struct bytes *after,
          void (*hit)(void *arg, const struct damage_hit *hit), void *arg)
{
    struct segment_name name;
    struct record *records;
    size_t count, cut;

    if (!segment_name_parse(strrchr(path, '/') + 1, &name))
        return;
    records = find_records(&name, before, after, &count);
    cut = last ? find_cut(records, count) : count;
    for (size_t i = 0; i < count; i++)
        if (records[i].kind == SEGMENT_FRAME && (records[i].hit || i >= cut))
            hit(arg, &records[i].event);
    free(records);
}

/* Names begin with the VM and are in the order in which they were written. */
static bool
is_last_of_vm(const glob_t *files, size_t i)
{
    const size_t uuid = GR_UUID_TEXT - 1;

    return i + 1 == files->gl_pathc ||
           strncmp(strrchr(files->gl_pathv[i], '/'), strrchr(files->gl_pathv[i + 1], '/'), 1 + uuid) != 0;
}

unsigned
damage_some(const char *dir, void (*hit)(void *arg, const struct damage_hit *hit), void *arg)
{
    char pattern[512];
    glob_t files;
    unsigned places = 0;

    snprintf(pattern, sizeof(pattern), "%s/*.vmlog", dir);
    if (glob(pattern, 0, NULL, &files) != 0)
        return 0;
    for (uint64_t n = chance_between(1, 3); n > 0; n--) {
        size_t i = chance_below(files.gl_pathc);
        struct bytes before = read_whole(files.gl_pathv[i]);
        struct bytes after;

        places += damage_file(files.gl_pathv[i]);
        after = read_whole(files.gl_pathv[i]);
        tell_hits(files.gl_pathv[i], is_last_of_vm(&files, i), &before, &after, hit, arg);
        free(before.at);
        free(after.at);
    }
    globfree(&files);
    return places;
}
