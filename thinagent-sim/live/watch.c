/* Watches directory trees of this machine with fanotify and says in paths what happens there.
 *
 * The kernel marks whole file systems, so that directories made later need no mark of their own; what lies
 * outside the trees is left out here. It names a file by its directory's handle and its name in it; the
 * directory's path is where that handle leads now. The handle of a deleted directory leads nowhere: its last
 * known path is used. File systems without handles (ramfs) are watched by open files only, in a second
 * group. */
#include "thinagent-sim/live/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "proto/guest_record.h"
#include "thinagent-sim/memory.h"

#define TREES_MAX    64u
#define REMEMBERED   1024u /* directories' paths, and open files that were written to */
#define HANDLE_MAX   128u  /* MAX_HANDLE_SZ */
#define NAMED_FLAGS  (FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME | FAN_NONBLOCK | FAN_CLOEXEC)
#define NAMED_EVENTS (PLAIN_EVENTS | FAN_CREATE | FAN_DELETE | FAN_RENAME | FAN_ATTRIB | FAN_ONDIR)
#define PLAIN_FLAGS  (FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_CLOEXEC)
#define PLAIN_EVENTS (FAN_OPEN | FAN_MODIFY | FAN_CLOSE_WRITE)

/* The order in which these most likely happened when the kernel reports several at once. */
static const struct {
    uint64_t bit;
    uint16_t op;
    uint32_t result;
} meanings[] = {
    { FAN_CREATE, GR_FILE_OP_OPEN, GR_CREATED }, { FAN_OPEN, GR_FILE_OP_OPEN, GR_OPENED },
    { FAN_MODIFY, GR_FILE_OP_WRITE, 0 },         { FAN_ATTRIB, GR_FILE_OP_SET_ATTR, 0 },
    { FAN_CLOSE_WRITE, GR_FILE_OP_CLOSE, 0 },    { FAN_DELETE, GR_FILE_OP_DELETE, 0 },
};
#define MEANINGS (sizeof(meanings) / sizeof(meanings[0]))

struct tree {
    char path[PATH_MAX]; /* without a slash at the end; "" is the root */
    size_t len;
    int fd; /* of the directory, to open handles of its file system by */
    fsid_t fsid;
};

/* The last known path of a directory, by the hash of its handle. */
struct remembered {
    uint64_t hash;
    char *path;
};

struct watch {
    struct watch_callbacks callbacks;
    int epoll;
    int named; /* fanotify groups, -1 if not needed */
    int plain;
    struct tree *trees;
    uint32_t tree_count;
    struct remembered directories[REMEMBERED];
    uint64_t written[REMEMBERED]; /* hashes of process and path whose first write was reported */
};

/* A directory's handle, aligned as the compiler needs it. */
union handle {
    struct file_handle handle;
    uint8_t room[sizeof(struct file_handle) + HANDLE_MAX];
};

struct watch *
watch_new(const struct watch_callbacks *callbacks)
{
    struct watch *watch = must_calloc(1, sizeof(*watch));

    watch->callbacks = *callbacks;
    watch->named = -1;
    watch->plain = -1;
    watch->trees = must_calloc(TREES_MAX, sizeof(*watch->trees));
    watch->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (watch->epoll < 0) {
        perror("thinagent-sim: epoll_create1");
        watch_free(watch);
        return NULL;
    }
    return watch;
}

static void
close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
}

void
watch_free(struct watch *watch)
{
    if (!watch)
        return;
    close_if_open(watch->named);
    close_if_open(watch->plain);
    close_if_open(watch->epoll);
    for (uint32_t i = 0; i < watch->tree_count; i++)
        close_if_open(watch->trees[i].fd);
    for (size_t i = 0; i < REMEMBERED; i++)
        free(watch->directories[i].path);
    free(watch->trees);
    free(watch);
}

int
watch_fd(const struct watch *watch)
{
    return watch->epoll;
}

/* Whether the path lies in a tree that is watched. */
static bool
watch_covers(const struct watch *watch, const char *path)
{
    for (uint32_t i = 0; i < watch->tree_count; i++) {
        const struct tree *tree = &watch->trees[i];

        if (strncmp(path, tree->path, tree->len) == 0 && (path[tree->len] == '/' || path[tree->len] == '\0'))
            return true;
    }
    return false;
}

/* ---- marks ---- */

/* Makes a group, once. Returns its descriptor, or -1 with errno. */
static int
group_get(struct watch *watch, int *group, unsigned flags)
{
    struct epoll_event event = { .events = EPOLLIN };

    if (*group < 0) {
        *group = fanotify_init(flags, O_RDONLY | O_LARGEFILE | O_CLOEXEC);
        if (*group >= 0)
            epoll_ctl(watch->epoll, EPOLL_CTL_ADD, *group, &event);
    }
    return *group;
}

static bool
mark(struct watch *watch, const char *path)
{
    int group = group_get(watch, &watch->named, NAMED_FLAGS);
    int error;

    if (group >= 0 &&
        fanotify_mark(group, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, NAMED_EVENTS, AT_FDCWD, path) == 0)
        return true;
    error = errno;
    group = error == EPERM ? -1 : group_get(watch, &watch->plain, PLAIN_FLAGS);
    if (group >= 0 &&
        fanotify_mark(group, FAN_MARK_ADD | FAN_MARK_MOUNT, PLAIN_EVENTS, AT_FDCWD, path) == 0) {
        fprintf(stderr,
                "thinagent-sim: %s: no names from this file system (%s): what happens to open files is seen, "
                "but no creation, rename or deletion\n",
                path, strerror(error));
        return true;
    }
    fprintf(stderr, "thinagent-sim: cannot watch %s: %s%s\n", path, strerror(errno),
            errno == EPERM ? " (fanotify needs root)" : "");
    return false;
}

bool
watch_add(struct watch *watch, const char *path)
{
    struct tree *tree = &watch->trees[watch->tree_count];
    struct statfs status;

    if (watch->tree_count == TREES_MAX) {
        fprintf(stderr, "thinagent-sim: cannot watch %s: expected at most %u trees\n", path, TREES_MAX);
        return false;
    }
    tree->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (tree->fd < 0 || !realpath(path, tree->path) || fstatfs(tree->fd, &status) < 0) {
        fprintf(stderr, "thinagent-sim: cannot watch %s: %s\n", path, strerror(errno));
        close_if_open(tree->fd);
        return false;
    }
    tree->len = strlen(tree->path);
    if (tree->len == 1)
        tree->path[--tree->len] = '\0';
    tree->fsid = status.f_fsid;
    watch->tree_count++;
    return mark(watch, path);
}

/* ---- paths ---- */

static uint64_t
hash_bytes(uint64_t hash, const void *data, size_t len)
{
    const uint8_t *bytes = data;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3;
    return hash;
}

/* Where a descriptor leads. Returns false if that is not known. */
static bool
path_of_fd(int fd, char out[PATH_MAX])
{
    static const char deleted[] = " (deleted)";
    char link[32];
    struct stat status;
    ssize_t len;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    len = readlink(link, out, PATH_MAX - 1);
    if (len <= 0 || out[0] != '/')
        return false;
    out[len] = '\0';
    if ((size_t)len >= sizeof(deleted) && strcmp(out + len - (sizeof(deleted) - 1), deleted) == 0 &&
        fstat(fd, &status) == 0 && status.st_nlink == 0)
        out[len - (ssize_t)(sizeof(deleted) - 1)] = '\0';
    return true;
}

/* The path of the directory with that handle; of one that is deleted, the last known. */
static bool
path_of_directory(struct watch *watch, const fsid_t *fsid, union handle *handle, char out[PATH_MAX])
{
    uint64_t hash =
        hash_bytes(hash_bytes(1, fsid, sizeof(*fsid)), handle->handle.f_handle, handle->handle.handle_bytes);
    struct remembered *known = &watch->directories[hash % REMEMBERED];
    const struct tree *tree = &watch->trees[0];
    bool found;
    int fd;

    for (uint32_t i = 0; i < watch->tree_count; i++)
        if (memcmp(&watch->trees[i].fsid, fsid, sizeof(*fsid)) == 0)
            tree = &watch->trees[i];
    fd = open_by_handle_at(tree->fd, &handle->handle, O_PATH | O_CLOEXEC);
    found = fd >= 0 && path_of_fd(fd, out);
    close_if_open(fd);
    if (found) {
        if (known->hash != hash || !known->path || strcmp(known->path, out) != 0) {
            free(known->path);
            known->path = must_strdup(out);
            known->hash = hash;
        }
        return true;
    }
    if (known->hash != hash || !known->path)
        return false;
    strcpy(out, known->path);
    return true;
}

/* A directory was renamed: updates the remembered paths of it and of those in it. */
static void
follow_rename(struct watch *watch, const char *from, const char *to)
{
    size_t len = strlen(from);

    for (size_t i = 0; i < REMEMBERED; i++) {
        struct remembered *known = &watch->directories[i];
        char path[2 * PATH_MAX];

        if (!known->path || strncmp(known->path, from, len) != 0 ||
            (known->path[len] != '/' && known->path[len] != '\0'))
            continue;
        snprintf(path, sizeof(path), "%s%s", to, known->path + len);
        path[PATH_MAX - 1] = '\0';
        free(known->path);
        known->path = must_strdup(path);
    }
}

/* Reads one information record of an event: directory handle and name. Returns false if it is malformed, or
 * its directory is unknown. */
static bool
path_of_info(struct watch *watch, const uint8_t *info, size_t len, char out[PATH_MAX])
{
    struct fanotify_event_info_fid fid;
    struct file_handle head;
    union handle handle;
    const char *name;
    size_t at = sizeof(fid);
    size_t path_len;
    fsid_t fsid;

    if (len < sizeof(fid) + sizeof(head))
        return false;
    memcpy(&fid, info, sizeof(fid));
    memcpy(&head, info + at, sizeof(head));
    if (head.handle_bytes > HANDLE_MAX || len - at - sizeof(head) <= head.handle_bytes)
        return false;
    memcpy(&handle, info + at, sizeof(head) + head.handle_bytes);
    at += sizeof(head) + head.handle_bytes;
    name = (const char *)info + at;
    if (!memchr(name, '\0', len - at))
        return false;
    memcpy(&fsid, &fid.fsid, sizeof(fsid));
    if (!path_of_directory(watch, &fsid, &handle, out))
        return false;
    if (strcmp(name, ".") == 0) /* the directory itself */
        return true;
    path_len = strcmp(out, "/") == 0 ? 0 : strlen(out);
    return (size_t)snprintf(out + path_len, PATH_MAX - path_len, "/%s", name) < PATH_MAX - path_len;
}

/* ---- events ---- */

/* Whether this is the first write since the file was opened, as far as is remembered. */
static bool
first_write(struct watch *watch, const struct change *change)
{
    uint64_t hash =
        hash_bytes(hash_bytes(1, &change->pid, sizeof(change->pid)), change->path, strlen(change->path));
    uint64_t *known = &watch->written[hash % REMEMBERED];
    bool first = *known != hash;

    *known = change->op == GR_FILE_OP_WRITE ? hash : first ? *known : 0;
    return first;
}

static void
tell(struct watch *watch, struct change *change)
{
    if (!watch_covers(watch, change->path) && !(change->target && watch_covers(watch, change->target)))
        return;
    if (change->op == GR_FILE_OP_WRITE && !first_write(watch, change))
        return;
    if (change->op == GR_FILE_OP_CLOSE)
        first_write(watch, change); /* forget it: the next write is a first one */
    watch->callbacks.changed(watch->callbacks.arg, change);
}

/* Reports each thing that the mask says happened to the path. */
static void
tell_all(struct watch *watch, uint64_t mask, pid_t pid, const char *path)
{
    struct change change = { .pid = pid, .path = path };
    bool remade = (mask & FAN_CREATE) && (mask & FAN_DELETE) && access(path, F_OK) == 0;

    if (mask & FAN_ONDIR)
        mask &= ~(uint64_t)PLAIN_EVENTS; /* a directory was listed */
    if (mask & FAN_CREATE)
        mask &= ~(uint64_t)FAN_OPEN; /* creating is opening */
    if (remade) {
        change.op = GR_FILE_OP_DELETE;
        tell(watch, &change);
        mask &= ~(uint64_t)FAN_DELETE;
    }
    for (size_t i = 0; i < MEANINGS; i++) {
        if (!(mask & meanings[i].bit))
            continue;
        change.op = meanings[i].op;
        change.result = meanings[i].result;
        tell(watch, &change);
    }
}

/* `info` are the event's information records, `left` bytes of them. */
static void
take_named(struct watch *watch, const struct fanotify_event_metadata *event, const uint8_t *info, size_t left)
{
    char paths[2][PATH_MAX]; /* the file, or from where to where it was renamed */
    bool found[2] = { false, false };
    struct change rename = {
        .op = GR_FILE_OP_RENAME, .pid = event->pid, .path = paths[0], .target = paths[1]
    };

    while (left >= sizeof(struct fanotify_event_info_header)) {
        struct fanotify_event_info_header header;
        size_t which;

        memcpy(&header, info, sizeof(header));
        if (header.len < sizeof(header) || header.len > left)
            break;
        which = header.info_type == FAN_EVENT_INFO_TYPE_NEW_DFID_NAME ? 1 : 0;
        if (header.info_type == FAN_EVENT_INFO_TYPE_DFID_NAME || which == 1 ||
            header.info_type == FAN_EVENT_INFO_TYPE_OLD_DFID_NAME)
            found[which] = path_of_info(watch, info, header.len, paths[which]);
        info += header.len;
        left -= header.len;
    }
    if ((event->mask & FAN_RENAME) && found[0] && found[1]) {
        if (event->mask & FAN_ONDIR)
            follow_rename(watch, paths[0], paths[1]);
        tell(watch, &rename);
    } else if (found[0]) {
        tell_all(watch, event->mask, event->pid, paths[0]);
    }
}

static void
take_plain(struct watch *watch, const struct fanotify_event_metadata *event)
{
    char path[PATH_MAX];

    if (event->fd < 0)
        return;
    if (path_of_fd(event->fd, path))
        tell_all(watch, event->mask, event->pid, path);
    close(event->fd);
}

static void
take_event(struct watch *watch, int group, const struct fanotify_event_metadata *event, const uint8_t *bytes)
{
    if (event->mask & FAN_Q_OVERFLOW)
        watch->callbacks.overflowed(watch->callbacks.arg);
    else if (event->pid == getpid())
        close_if_open(event->fd);
    else if (group == watch->named)
        take_named(watch, event, bytes + event->metadata_len, event->event_len - event->metadata_len);
    else
        take_plain(watch, event);
}

static void
read_group(struct watch *watch, int group)
{
    static const unsigned rounds = 16; /* so that events are sent in between */
    struct fanotify_event_metadata event;
    uint8_t bytes[65536];

    for (unsigned i = 0; i < rounds && group >= 0; i++) {
        ssize_t left = read(group, bytes, sizeof(bytes));
        const uint8_t *at = bytes;

        if (left <= 0)
            return;
        while ((size_t)left >= sizeof(event)) {
            memcpy(&event, at, sizeof(event)); /* the kernel aligns events less than the compiler needs */
            if (event.vers != FANOTIFY_METADATA_VERSION || event.metadata_len < sizeof(event) ||
                event.event_len < event.metadata_len || event.event_len > (size_t)left)
                return;
            take_event(watch, group, &event, at);
            at += event.event_len;
            left -= event.event_len;
        }
    }
}

void
watch_read(struct watch *watch)
{
    read_group(watch, watch->named);
    read_group(watch, watch->plain);
}
