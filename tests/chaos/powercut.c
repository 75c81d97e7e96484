/* powercut.so: by LD_PRELOAD inside gimuxd, keeps a journal of all that is done to the files of one
 * directory, and lets the disk be full or broken when it is told to.
 *
 *   GIMUX_POWERCUT_DIR      the directory; its files lie in it directly
 *   GIMUX_POWERCUT_JOURNAL  a directory on the same file system, with an empty journal (see journal.h)
 *   GIMUX_POWERCUT_FULL     a path: while that file exists, what would take room fails with ENOSPC
 *   GIMUX_POWERCUT_EIO      a path: while that file exists, fsync and fdatasync of files there fail with EIO
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/chaos/journal.h"

#define FDS_MAX    65536
#define BLOCK      4096       /* bytes: a file's last one is its own when the disk is full */
#define IS_DIR     UINT64_MAX /* in inodes: a descriptor of the directory itself */
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static char dir[PATH_MAX]; /* empty: nothing is watched */
static char side[PATH_MAX];
static const char *full_flag;
static const char *eio_flag;
static uint8_t *journal;
static uint64_t inodes[FDS_MAX]; /* of descriptors of files that are watched; 0: of others */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void
die(const char *what)
{
    dprintf(STDERR_FILENO, "powercut: %s: %s\n", what, strerror(errno));
    abort();
}

__attribute__((constructor)) static void
begin(void)
{
    const char *from = getenv("GIMUX_POWERCUT_DIR");
    const char *to = getenv("GIMUX_POWERCUT_JOURNAL");
    char path[PATH_MAX + 16];
    int fd;

    if (!from || !to)
        return;
    full_flag = getenv("GIMUX_POWERCUT_FULL");
    eio_flag = getenv("GIMUX_POWERCUT_EIO");
    if (!realpath(from, dir) || !realpath(to, side))
        die(from);
    snprintf(path, sizeof(path), "%s/" JOURNAL_NAME, side);
    fd = REAL(open)(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        die(path);
    journal = mmap(NULL, JOURNAL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (journal == MAP_FAILED || ((struct journal_head *)journal)->magic != JOURNAL_MAGIC)
        die(path);
    close(fd);
}

static bool
is_set(const char *flag)
{
    return flag && access(flag, F_OK) == 0;
}

/* ---- the journal ---- */

/* Appends an entry; its `before` bytes are read from fd at `from`. */
static void
note(struct journal_entry *entry, int fd, uint64_t from)
{
    struct journal_head *head = (struct journal_head *)journal;
    uint64_t size = (sizeof(*entry) + entry->before + 7) & ~UINT64_C(7);
    uint8_t *at;

    pthread_mutex_lock(&lock);
    if (head->used + size > JOURNAL_SIZE)
        die("the journal is full");
    at = journal + head->used;
    if (entry->before > 0) {
        ssize_t got = pread(fd, at + sizeof(*entry), entry->before, (off_t)from);

        entry->before = got > 0 ? (uint64_t)got : 0;
    }
    entry->size = (uint32_t)size;
    memcpy(at, entry, sizeof(*entry));
    __atomic_store_n(&head->used, head->used + size, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&lock);
}

/* A descriptor for reading what the caller's may only write. */
static int
reader_of(int fd)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return REAL(open)(path, O_RDONLY | O_CLOEXEC);
}

static uint64_t
inode_of(int fd)
{
    return journal && fd >= 0 && fd < FDS_MAX ? inodes[fd] : 0;
}

static uint64_t
size_of(int fd)
{
    struct stat stat;

    return fstat(fd, &stat) == 0 ? (uint64_t)stat.st_size : 0;
}

/* For how many of `length` bytes at `offset` there is room. */
static uint64_t
room_for(int fd, uint64_t offset, uint64_t length)
{
    uint64_t inode = inode_of(fd);
    uint64_t end;

    if (inode == 0 || inode == IS_DIR || !is_set(full_flag))
        return length;
    end = (size_of(fd) + BLOCK - 1) / BLOCK * BLOCK;
    return offset >= end ? 0 : offset + length > end ? end - offset : length;
}

/* Before `length` bytes are written at `offset`. Returns false, with errno, if there is no room. */
static bool
before_write(int fd, uint64_t offset, uint64_t length)
{
    struct journal_entry entry = { .kind = JOURNAL_WRITE, .inode = inode_of(fd) };
    int reader;

    if (entry.inode == 0 || entry.inode == IS_DIR)
        return true;
    entry.offset = offset;
    entry.length = length;
    entry.old_size = size_of(fd);
    if (length > 0 && room_for(fd, offset, length) < length) {
        errno = ENOSPC;
        return false;
    }
    if (offset < entry.old_size)
        entry.before = entry.old_size - offset < length ? entry.old_size - offset : length;
    reader = entry.before > 0 ? reader_of(fd) : -1;
    note(&entry, reader, offset);
    if (reader >= 0)
        close(reader);
    return true;
}

/* The same, but as much is written as there is room for. */
static bool
before_pwrite(int fd, uint64_t offset, size_t *len)
{
    uint64_t room = room_for(fd, offset, *len);

    if (room > 0)
        *len = (size_t)room;
    return before_write(fd, offset, *len);
}

static bool
before_truncate(int fd, uint64_t length)
{
    struct journal_entry entry = { .kind = JOURNAL_TRUNCATE, .inode = inode_of(fd), .offset = length };
    int reader;

    if (entry.inode == 0 || entry.inode == IS_DIR)
        return true;
    entry.old_size = size_of(fd);
    if (length > entry.old_size && is_set(full_flag)) {
        errno = ENOSPC;
        return false;
    }
    entry.before = length < entry.old_size ? entry.old_size - length : 0;
    reader = entry.before > 0 ? reader_of(fd) : -1;
    note(&entry, reader, length);
    if (reader >= 0)
        close(reader);
    return true;
}

static void
note_sync(int fd)
{
    struct journal_entry entry = { .kind = JOURNAL_SYNC, .inode = inode_of(fd) };

    if (entry.inode == IS_DIR)
        entry.kind = JOURNAL_DIRSYNC;
    if (entry.inode != 0)
        note(&entry, -1, 0);
}

/* ---- names ---- */

/* Whether that path lies in the directory; then its name there. */
static bool
is_watched(int at, const char *path, char name[JOURNAL_TEXT])
{
    char base[PATH_MAX];
    char link[64];
    size_t len = strlen(dir);
    ssize_t got;

    if (!journal || !path)
        return false;
    if (path[0] == '/') {
        if (strncmp(path, dir, len) != 0 || path[len] != '/')
            return false;
        path += len + 1;
    } else {
        snprintf(link, sizeof(link), "/proc/self/fd/%d", at);
        got = readlink(at == AT_FDCWD ? "/proc/self/cwd" : link, base, sizeof(base) - 1);
        if (got < 0)
            return false;
        base[got] = '\0';
        if (strcmp(base, dir) != 0)
            return false;
    }
    if (path[0] == '\0' || strcmp(path, ".") == 0 || strchr(path, '/') || strlen(path) >= JOURNAL_TEXT)
        return false;
    strcpy(name, path);
    return true;
}

static uint64_t
inode_at(const char *name)
{
    char path[PATH_MAX + JOURNAL_TEXT];
    struct stat stat;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return lstat(path, &stat) == 0 ? stat.st_ino : 0;
}

/* Keeps the file reachable by its inode number. */
static void
keep(const char *name, uint64_t inode)
{
    char from[PATH_MAX + JOURNAL_TEXT];
    char to[PATH_MAX + 32];

    snprintf(from, sizeof(from), "%s/%s", dir, name);
    snprintf(to, sizeof(to), "%s/%llu", side, (unsigned long long)inode);
    if (inode && link(from, to) != 0 && errno != EEXIST)
        die(to);
}

static void
note_open(int fd, const char *name, bool created)
{
    struct journal_entry entry = { .kind = JOURNAL_CREATE };
    struct stat stat;

    if (fd >= FDS_MAX || fstat(fd, &stat) != 0)
        die(name);
    entry.inode = stat.st_ino;
    keep(name, entry.inode);
    strcpy(entry.name, name);
    if (created)
        note(&entry, -1, 0);
    inodes[fd] = entry.inode;
}

static void
note_directory(int fd)
{
    char link[64];
    char path[PATH_MAX];
    ssize_t got;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    got = fd < FDS_MAX ? readlink(link, path, sizeof(path) - 1) : -1;
    if (got < 0)
        return;
    path[got] = '\0';
    inodes[fd] = strcmp(path, dir) == 0 ? IS_DIR : 0;
}

/* ---- what is interposed ---- */

static int
open_any(int at, const char *path, int flags, mode_t mode)
{
    char name[JOURNAL_TEXT];
    bool watched = is_watched(at, path, name);
    bool writes = (flags & O_ACCMODE) != O_RDONLY;
    bool truncates = watched && (flags & O_TRUNC);
    bool creates = watched && (flags & O_CREAT) && inode_at(name) == 0;
    int fd;

    if (creates && is_set(full_flag)) {
        errno = ENOSPC;
        return -1;
    }
    fd = REAL(openat)(at, path, truncates ? flags & ~O_TRUNC : flags, mode);
    if (fd < 0 || !journal)
        return fd;
    if (watched && (writes || creates)) {
        note_open(fd, name, creates);
        if (truncates && before_truncate(fd, 0) && REAL(ftruncate)(fd, 0) != 0)
            die(name);
    } else if (!watched && !writes) {
        note_directory(fd);
    }
    return fd;
}

#define OPEN_MODE(flags, mode)                                                                               \
    do {                                                                                                     \
        va_list args;                                                                                        \
        va_start(args, flags);                                                                               \
        if ((flags) & (O_CREAT | __O_TMPFILE))                                                               \
            (mode) = va_arg(args, mode_t);                                                                   \
        va_end(args);                                                                                        \
    } while (0)

int
open(const char *path, int flags, ...)
{
    mode_t mode = 0;

    OPEN_MODE(flags, mode);
    return open_any(AT_FDCWD, path, flags, mode);
}

int
open64(const char *path, int flags, ...)
{
    mode_t mode = 0;

    OPEN_MODE(flags, mode);
    return open_any(AT_FDCWD, path, flags, mode);
}

int
openat(int at, const char *path, int flags, ...)
{
    mode_t mode = 0;

    OPEN_MODE(flags, mode);
    return open_any(at, path, flags, mode);
}

int
openat64(int at, const char *path, int flags, ...)
{
    mode_t mode = 0;

    OPEN_MODE(flags, mode);
    return open_any(at, path, flags, mode);
}

int
close(int fd)
{
    if (inode_of(fd))
        inodes[fd] = 0;
    return REAL(close)(fd);
}

static uint64_t
total_of(const struct iovec *pieces, int count)
{
    uint64_t total = 0;

    for (int i = 0; i < count; i++)
        total += pieces[i].iov_len;
    return total;
}

static uint64_t
place_of(int fd)
{
    return inode_of(fd) ? (uint64_t)lseek(fd, 0, SEEK_CUR) : 0;
}

ssize_t
write(int fd, const void *buf, size_t len)
{
    return before_write(fd, place_of(fd), len) ? REAL(write)(fd, buf, len) : -1;
}

ssize_t
writev(int fd, const struct iovec *pieces, int count)
{
    return before_write(fd, place_of(fd), total_of(pieces, count)) ? REAL(writev)(fd, pieces, count) : -1;
}

ssize_t
pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    return before_pwrite(fd, (uint64_t)offset, &len) ? REAL(pwrite)(fd, buf, len, offset) : -1;
}

ssize_t
pwrite64(int fd, const void *buf, size_t len, off64_t offset)
{
    return before_pwrite(fd, (uint64_t)offset, &len) ? REAL(pwrite64)(fd, buf, len, offset) : -1;
}

ssize_t
pwritev(int fd, const struct iovec *pieces, int count, off_t offset)
{
    return before_write(fd, (uint64_t)offset, total_of(pieces, count))
               ? REAL(pwritev)(fd, pieces, count, offset)
               : -1;
}

ssize_t
pwritev64(int fd, const struct iovec *pieces, int count, off64_t offset)
{
    return before_write(fd, (uint64_t)offset, total_of(pieces, count))
               ? REAL(pwritev64)(fd, pieces, count, offset)
               : -1;
}

int
ftruncate(int fd, off_t length)
{
    return before_truncate(fd, (uint64_t)length) ? REAL(ftruncate)(fd, length) : -1;
}

int
ftruncate64(int fd, off64_t length)
{
    return before_truncate(fd, (uint64_t)length) ? REAL(ftruncate64)(fd, length) : -1;
}

/* The disk itself is not asked: what a cut takes away is ours to say. */
static int
sync_any(int fd, int (*real)(int fd))
{
    if (!inode_of(fd))
        return real(fd);
    if (inode_of(fd) != IS_DIR && is_set(eio_flag)) {
        errno = EIO;
        return -1;
    }
    note_sync(fd);
    return 0;
}

int
fsync(int fd)
{
    return sync_any(fd, REAL(fsync));
}

int
fdatasync(int fd)
{
    return sync_any(fd, REAL(fdatasync));
}

static void
note_unlink(const char *name)
{
    struct journal_entry entry = { .kind = JOURNAL_UNLINK, .inode = inode_at(name) };

    if (entry.inode == 0)
        return;
    keep(name, entry.inode);
    strcpy(entry.name, name);
    note(&entry, -1, 0);
}

int
unlinkat(int at, const char *path, int flags)
{
    char name[JOURNAL_TEXT];

    if (is_watched(at, path, name))
        note_unlink(name);
    return REAL(unlinkat)(at, path, flags);
}

int
unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int
renameat(int from_at, const char *from, int to_at, const char *to)
{
    struct journal_entry entry = { .kind = JOURNAL_RENAME };

    if (is_watched(from_at, from, entry.name) && is_watched(to_at, to, entry.other)) {
        entry.inode = inode_at(entry.name);
        entry.replaced = inode_at(entry.other);
        keep(entry.name, entry.inode);
        keep(entry.other, entry.replaced);
        note(&entry, -1, 0);
    }
    return REAL(renameat)(from_at, from, to_at, to);
}

int
rename(const char *from, const char *to)
{
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}
