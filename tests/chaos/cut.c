/* A power cut: puts the files that powercut.so has watched into a state that a loss of power may leave.
 *
 * First everything that is not on the disk is undone, the last first, and what each write had written is
 * kept; then each is done again, or not, or in parts, in the order in which it was. */
#include "tests/chaos/cut.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/chaos/chance.h"
#include "tests/chaos/journal.h"

#define SECTOR    512u
#define CUT_PATH  512
#define OPEN_FAIL (-1)

enum mood { MOOD_DROP, MOOD_KEEP, MOOD_MIX, MOODS }; /* of one cut */

struct cut {
    const char *dir;
    const char *side;
    const uint8_t *journal;
    uint64_t used;
    enum mood mood;
    struct cut_counts *counts;
};

struct step { /* something that is not on the disk */
    const struct journal_entry *entry;
    uint8_t *after; /* what a write had written */
    uint64_t after_len;
};

static void
die(const char *what)
{
    fprintf(stderr, "chaos: power cut: %s: %s\n", what, strerror(errno));
    abort();
}

static const char *
side_path(const struct cut *cut, uint64_t inode, char out[CUT_PATH])
{
    snprintf(out, CUT_PATH, "%s/%llu", cut->side, (unsigned long long)inode);
    return out;
}

static const char *
name_path(const struct cut *cut, const char *name, char out[CUT_PATH])
{
    snprintf(out, CUT_PATH, "%s/%s", cut->dir, name);
    return out;
}

bool
cut_begin(const char *side)
{
    struct journal_head head = { JOURNAL_MAGIC, sizeof(head) };
    char path[CUT_PATH];
    glob_t former;
    int fd;

    if (mkdir(side, 0700) != 0 && errno != EEXIST)
        return false;
    snprintf(path, sizeof(path), "%s/*", side);
    if (glob(path, 0, NULL, &former) == 0)
        for (size_t i = 0; i < former.gl_pathc; i++)
            unlink(former.gl_pathv[i]);
    globfree(&former);
    snprintf(path, sizeof(path), "%s/" JOURNAL_NAME, side);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)JOURNAL_SIZE) != 0 ||
        pwrite(fd, &head, sizeof(head), 0) != sizeof(head)) {
        fprintf(stderr, "chaos: %s: %s\n", path, strerror(errno));
        return false;
    }
    close(fd);
    return true;
}

/* ---- what is not on the disk ---- */

static const struct journal_entry *
entry_at(const struct cut *cut, uint64_t at)
{
    return (const struct journal_entry *)(cut->journal + at);
}

static bool
is_name(const struct journal_entry *entry)
{
    return entry->kind == JOURNAL_CREATE || entry->kind == JOURNAL_UNLINK || entry->kind == JOURNAL_RENAME;
}

/* Whether a later entry says that this one is on the disk. */
static bool
is_synced(const struct cut *cut, uint64_t at)
{
    const struct journal_entry *entry = entry_at(cut, at);

    for (at += entry->size; at < cut->used; at += entry_at(cut, at)->size) {
        const struct journal_entry *later = entry_at(cut, at);

        if (is_name(entry) ? later->kind == JOURNAL_DIRSYNC
                           : later->kind == JOURNAL_SYNC && later->inode == entry->inode)
            return true;
    }
    return false;
}

static struct step *
collect(const struct cut *cut, size_t *count)
{
    struct step *steps = NULL;
    size_t room = 0;

    *count = 0;
    for (uint64_t at = sizeof(struct journal_head); at < cut->used; at += entry_at(cut, at)->size) {
        const struct journal_entry *entry = entry_at(cut, at);

        if (entry->kind == JOURNAL_SYNC || entry->kind == JOURNAL_DIRSYNC || is_synced(cut, at))
            continue;
        if (*count == room) {
            room = room ? room * 2 : 256;
            steps = realloc(steps, room * sizeof(*steps));
            if (!steps)
                die("memory");
        }
        steps[(*count)++] = (struct step){ .entry = entry };
    }
    return steps;
}

/* ---- undoing ---- */

static void
undo_write(const struct cut *cut, struct step *step)
{
    const struct journal_entry *entry = step->entry;
    char path[CUT_PATH];
    int fd = open(side_path(cut, entry->inode, path), O_RDWR | O_CLOEXEC);
    ssize_t got;

    if (fd == OPEN_FAIL)
        die(path);
    if (entry->kind == JOURNAL_WRITE) {
        step->after = malloc(entry->length + 1);
        got = step->after ? pread(fd, step->after, entry->length, (off_t)entry->offset) : -1;
        step->after_len = got > 0 ? (uint64_t)got : 0;
    }
    if (ftruncate(fd, (off_t)entry->old_size) != 0 ||
        pwrite(fd, entry + 1, entry->before, (off_t)entry->offset) != (ssize_t)entry->before)
        die(path);
    close(fd);
}

static void
undo(const struct cut *cut, struct step *step)
{
    const struct journal_entry *entry = step->entry;
    char name[CUT_PATH], other[CUT_PATH], kept[CUT_PATH];

    name_path(cut, entry->name, name);
    name_path(cut, entry->other, other);
    switch (entry->kind) {
    case JOURNAL_CREATE:
        unlink(name);
        break;
    case JOURNAL_UNLINK:
        if (link(side_path(cut, entry->inode, kept), name) != 0 && errno != EEXIST)
            die(name);
        break;
    case JOURNAL_RENAME:
        if (rename(other, name) == 0 && entry->replaced)
            (void)!link(side_path(cut, entry->replaced, kept), other);
        break;
    default:
        undo_write(cut, step);
        break;
    }
}

/* ---- doing again ---- */

static bool
is_kept(const struct cut *cut)
{
    return cut->mood == MOOD_KEEP || (cut->mood == MOOD_MIX && chance_one_in(2));
}

/* Some sectors of it: the first ones, or any. */
static void
tear(int fd, const struct step *step)
{
    uint64_t at = step->entry->offset;
    uint64_t end = at + step->after_len;
    bool prefix = chance_one_in(2);
    uint64_t stop = at + chance_below(step->after_len + 1);

    while (at < end) {
        uint64_t next = (at / SECTOR + 1) * SECTOR;

        if (next > end)
            next = end;
        if (prefix ? next <= stop : chance_one_in(2))
            (void)!pwrite(fd, step->after + (at - step->entry->offset), next - at, (off_t)at);
        at = next;
    }
}

static void
redo_write(const struct cut *cut, const struct step *step)
{
    const struct journal_entry *entry = step->entry;
    uint64_t end = entry->offset + step->after_len;
    char path[CUT_PATH];
    int fd = open(side_path(cut, entry->inode, path), O_RDWR | O_CLOEXEC);
    struct stat stat;

    if (fd == OPEN_FAIL || fstat(fd, &stat) != 0)
        die(path);
    if (is_kept(cut)) {
        cut->counts->kept++;
        if (pwrite(fd, step->after, step->after_len, (off_t)entry->offset) != (ssize_t)step->after_len)
            die(path);
    } else if (chance_one_in(3)) {
        cut->counts->torn++;
        tear(fd, step);
    } else {
        cut->counts->dropped++;
    }
    /* The size may have come to the disk without the bytes: zeros. */
    if ((uint64_t)stat.st_size < end && chance_one_in(2) && fstat(fd, &stat) == 0 &&
        (uint64_t)stat.st_size < end && ftruncate(fd, (off_t)end) != 0)
        die(path);
    close(fd);
}

static void
redo_name(const struct cut *cut, const struct journal_entry *entry)
{
    char name[CUT_PATH], other[CUT_PATH], kept[CUT_PATH];

    name_path(cut, entry->name, name);
    if (entry->kind == JOURNAL_CREATE)
        (void)!link(side_path(cut, entry->inode, kept), name);
    else if (entry->kind == JOURNAL_UNLINK)
        unlink(name);
    else
        (void)!rename(name, name_path(cut, entry->other, other));
}

static void
redo(const struct cut *cut, const struct step *step)
{
    char path[CUT_PATH];

    if (is_name(step->entry)) {
        if (is_kept(cut))
            redo_name(cut, step->entry);
        else
            cut->counts->names++;
    } else if (step->entry->kind == JOURNAL_WRITE) {
        redo_write(cut, step);
    } else if (is_kept(cut)) {
        if (truncate(side_path(cut, step->entry->inode, path), (off_t)step->entry->offset) != 0)
            die(path);
    }
}

void
cut_apply(const char *dir, const char *side, struct cut_counts *counts)
{
    struct cut cut = { .dir = dir, .side = side, .mood = (enum mood)chance_below(MOODS), .counts = counts };
    char path[CUT_PATH];
    struct step *steps;
    size_t count;
    int fd;

    snprintf(path, sizeof(path), "%s/" JOURNAL_NAME, side);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    cut.journal = mmap(NULL, JOURNAL_SIZE, PROT_READ, MAP_SHARED, fd, 0);
    if (fd < 0 || cut.journal == MAP_FAILED)
        die(path);
    close(fd);
    cut.used = ((const struct journal_head *)cut.journal)->used;
    steps = collect(&cut, &count);
    for (size_t i = count; i > 0; i--)
        undo(&cut, &steps[i - 1]);
    for (size_t i = 0; i < count; i++) {
        redo(&cut, &steps[i]);
        free(steps[i].after);
    }
    free(steps);
    munmap((void *)cut.journal, JOURNAL_SIZE);
}
