/* The doors: where guests come in, and the VMs that gimuxd dials itself.
 *
 * A door is a listening socket and what is known of whoever comes by it: a per-VM socket proves which VM it
 * is, a vsock peer is known by its CID, the shared socket proves nothing. Wanted doors are derived from the
 * configuration as a list of (address, kind, VM); a reload compares that with what is open. */
#include "mux/listen.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "mux/log.h"

#define BACKLOG          256
#define VM_MODE          0660 /* of a VM's socket that is open to a group */
#define ACCEPT_AT_ONCE   64   /* connections taken in one turn */
#define NO_ACCEPT_MS     500  /* how long a door rests when descriptors have run out */
#define CONNECT_LINE_MAX 64   /* bytes of a VMM's answer to CONNECT */
#define STEP_MS          10   /* between attempts to listen */

enum door_kind { DOOR_VSOCK, DOOR_VM, DOOR_SHARED, DOOR_VMX };

struct door {
    struct door_list *list;
    enum door_kind kind;
    struct address address;
    uint8_t vm_uuid[GR_UUID_SIZE]; /* DOOR_VM */
    int fd;
    struct loop_watch *watch;
    struct loop_timer *rest;
    bool wanted; /* while the configuration is compared */
    LIST_ENTRY(door) in_list;
};

/* A VM that gimuxd dials. */
struct dialled {
    struct door_list *list;
    struct conf_vm vm;
    uint32_t port; /* for CONNECT */
    struct loop_timer *timer;
    struct conn *conn; /* until a session has taken it */
    bool in_session;
    bool asked;  /* CONNECT was sent, its answer is awaited */
    bool failed; /* the last attempt did; the next failure is not worth a line */
    bool wanted;
    bool dropped; /* to be freed when its connection or session has ended */
    LIST_ENTRY(dialled) in_list;
};

/* ---- accepting ---- */

static void
describe(const struct door *door, const struct sockaddr_storage *peer, struct guest_door *out)
{
    const struct sockaddr_vm *vm = (const struct sockaddr_vm *)peer;
    struct address address = door->address;
    const struct conf_vm *known;

    memset(out, 0, sizeof(*out));
    out->vmx = door->kind == DOOR_VMX;
    if (door->kind == DOOR_VM) {
        out->proved = true;
        memcpy(out->vm_uuid, door->vm_uuid, GR_UUID_SIZE);
    } else if (door->kind == DOOR_VSOCK && peer->ss_family == AF_VSOCK) {
        out->cid = address.cid = vm->svm_cid;
        address.port = vm->svm_port;
        known = conf_vm_by_cid(door->list->conf, vm->svm_cid);
        out->proved = known != NULL;
        out->unknown = !known && door->list->conf->doors.unknown_cid == CONF_UNKNOWN_REJECT;
        if (known)
            memcpy(out->vm_uuid, known->uuid, GR_UUID_SIZE);
    }
    address_format(&address, out->name);
}

static void
on_connection(void *arg, unsigned events)
{
    struct door *door = arg;

    (void)events;
    for (int i = 0; i < ACCEPT_AT_ONCE; i++) {
        struct sockaddr_storage peer = { 0 };
        socklen_t len = sizeof(peer);
        int fd = accept4(door->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct guest_door from;

        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
                log_error(NULL, "cannot accept: %s; resting for %u ms", strerror(errno), NO_ACCEPT_MS);
                loop_watch_set(door->watch, 0);
                loop_timer_start(door->rest, NO_ACCEPT_MS);
            }
            return;
        }
        describe(door, &peer, &from);
        guest_accept(door->list->guests, fd, &from);
    }
}

static void
on_rested(void *arg)
{
    struct door *door = arg;

    loop_watch_set(door->watch, LOOP_READ);
}

/* ---- opening ---- */

/* A socket file that nobody listens on is a leftover of a process that was killed. */
static bool
remove_leftover(const struct address *address, const struct sockaddr_storage *name, socklen_t len)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct stat info;
    bool dead;

    if (fd < 0)
        return false;
    dead = connect(fd, (const struct sockaddr *)name, len) != 0 && errno == ECONNREFUSED;
    close(fd);
    return dead && lstat(address->path, &info) == 0 && S_ISSOCK(info.st_mode) && unlink(address->path) == 0;
}

/* Binds and listens. Returns whether that worked, with errno set. */
static bool
try_listen(int fd, const struct address *address, const struct sockaddr_storage *name, socklen_t len)
{
    int result = bind(fd, (const struct sockaddr *)name, len);

    if (result != 0 && errno == EADDRINUSE && address->kind == ADDRESS_UNIX) {
        if (remove_leftover(address, name, len))
            result = bind(fd, (const struct sockaddr *)name, len);
        else
            errno = EADDRINUSE;
    }
    return result == 0 && listen(fd, BACKLOG) == 0;
}

int
listen_open(const struct address *address, mode_t mode, const struct sandbox_user *user, unsigned patience_ms)
{
    const struct timespec step = { .tv_nsec = STEP_MS * 1000000L };
    struct sockaddr_storage name;
    socklen_t len = address_to_sockaddr(address, &name);
    int fd = socket(name.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    mode_t mask = umask(0777 & ~mode);
    bool good = fd >= 0 && try_listen(fd, address, &name, len);
    int why;

    for (unsigned waited = 0; !good && fd >= 0 && errno == EADDRINUSE && waited < patience_ms;
         waited += STEP_MS) {
        nanosleep(&step, NULL);
        good = try_listen(fd, address, &name, len);
    }
    umask(mask);
    if (good && (address->kind != ADDRESS_UNIX || sandbox_give(user, address->path, (gid_t)-1)))
        return fd;
    why = errno;
    if (fd >= 0)
        close(fd);
    errno = why;
    return -1;
}

/* The number of a group, from its name or its number. Read from /etc/group itself: a static program has no
 * NSS. */
static bool
find_group(const char *name, gid_t *gid)
{
    FILE *file = fopen("/etc/group", "re");
    const struct group *group;
    char *end;

    *gid = (gid_t)strtoul(name, &end, 10);
    /* cppcheck-suppress fgetgrentCalled ; there is one thread */
    while (file && *end != '\0' && (group = fgetgrent(file))) {
        if (strcmp(group->gr_name, name) == 0) {
            *gid = group->gr_gid;
            end = (char *)"";
        }
    }
    if (file)
        fclose(file);
    return *end == '\0';
}

/* Lets the VMM, which need not be root, connect to its VM's socket. */
static bool
open_to_group(const char *path, const char *name)
{
    struct stat info;
    gid_t gid;

    if (name[0] == '\0')
        return true;
    if (!find_group(name, &gid)) {
        log_error(NULL, "doors: vm_group = \"%s\": no such group", name);
        return false;
    }
    if (lstat(path, &info) == 0 && (info.st_gid == gid || lchown(path, (uid_t)-1, gid) == 0) &&
        ((info.st_mode & 0777) == VM_MODE || chmod(path, VM_MODE) == 0))
        return true;
    log_error(NULL, "cannot open unix:%s to group %s: %s%s", path, name, strerror(errno), sandbox_as());
    return false;
}

static void
close_door(struct door *door)
{
    if (door->fd >= 0) {
        close(door->fd);
        if (door->address.kind == ADDRESS_UNIX && unlink(door->address.path) != 0 && errno != ENOENT)
            log_info(NULL, "cannot remove unix:%s: %s%s", door->address.path, strerror(errno), sandbox_as());
    }
    loop_watch_free(door->watch);
    loop_timer_free(door->rest);
    LIST_REMOVE(door, in_list);
    free(door);
}

static struct door *
find_door(const struct door_list *list, const struct address *address, enum door_kind kind)
{
    struct door *door;

    LIST_FOREACH (door, &list->doors, in_list)
        if (door->kind == kind && address_equal(&door->address, address))
            return door;
    return NULL;
}

static bool
want_door(struct door_list *list, const struct address *address, enum door_kind kind, const uint8_t *vm_uuid)
{
    struct door *door = find_door(list, address, kind);
    char text[ADDRESS_TEXT_MAX];

    if (!door) {
        door = calloc(1, sizeof(*door));
        if (!door)
            return false;
        door->list = list;
        door->kind = kind;
        door->address = *address;
        LIST_INSERT_HEAD(&list->doors, door, in_list);
        door->fd = listen_open(address, kind == DOOR_VM && list->conf->doors.vm_group[0] ? VM_MODE : 0600,
                               list->user, list->patience);
        if (door->fd >= 0)
            door->watch = loop_watch_new(list->loop, door->fd, on_connection, door);
        door->rest = loop_timer_new(list->loop, on_rested, door);
        if (!door->watch || !door->rest) {
            log_error(NULL, "cannot listen on %s: %s%s", address_format(address, text), strerror(errno),
                      sandbox_as());
            close_door(door);
            return false;
        }
        loop_watch_set(door->watch, LOOP_READ);
        log_info(NULL, "listening on %s", address_format(address, text));
    }
    door->wanted = true;
    if (vm_uuid)
        memcpy(door->vm_uuid, vm_uuid, GR_UUID_SIZE);
    return kind != DOOR_VM || open_to_group(address->path, list->conf->doors.vm_group);
}

static bool
want_path(struct door_list *list, const uint8_t *vm_uuid, const char *format, const char *base,
          const char *rest)
{
    struct address address = { .kind = ADDRESS_UNIX };
    int len = snprintf(address.path, sizeof(address.path), format, base, rest);

    if (len >= (int)sizeof(address.path)) {
        log_error(NULL, "cannot listen on unix:%s: longer than %zu bytes", base, sizeof(address.path) - 1);
        return false;
    }
    return want_door(list, &address, DOOR_VM, vm_uuid);
}

static bool
want_vm_doors(struct door_list *list, const struct conf *conf, const struct conf_vm *vm)
{
    char port[16];
    bool good = true;

    snprintf(port, sizeof(port), "%u", conf->doors.port);
    if (conf->doors.vm_dir[0] && mkdir(conf->doors.vm_dir, 0755) == 0) {
        sandbox_give(list->user, conf->doors.vm_dir, (gid_t)-1);
        log_info(NULL, "made the directory %s", conf->doors.vm_dir);
    }
    if (conf->doors.vm_dir[0])
        good = want_path(list, vm->uuid, "%s/%s.sock", conf->doors.vm_dir, vm->uuid_text);
    if (vm->uds_path[0])
        good = want_path(list, vm->uuid, "%s_%s", vm->uds_path, port) && good;
    return good;
}

/* ---- dialling ---- */

static void
free_dialled(struct dialled *dialled)
{
    loop_timer_free(dialled->timer);
    free(dialled);
}

static void
dial_later(struct dialled *dialled)
{
    dialled->conn = NULL;
    dialled->in_session = false;
    dialled->asked = false;
    if (dialled->dropped)
        free_dialled(dialled);
    else
        loop_timer_start(dialled->timer, dialled->list->conf->doors.redial);
}

static void
dial_failed(struct dialled *dialled, const char *why)
{
    char text[ADDRESS_TEXT_MAX];

    if (!dialled->failed)
        log_warning((&(struct log_who){ .vm = dialled->vm.uuid_text }), "cannot dial %s: %s; trying on",
                    address_format(&dialled->vm.dial, text), why);
    dialled->failed = true;
    dial_later(dialled);
}

static void
on_session_gone(void *arg)
{
    dial_later(arg);
}

/* The byte stream to the driver stands: a guest session takes it. */
static void
hand_over(struct dialled *dialled)
{
    struct guest_door door = { .proved = true };

    address_format(&dialled->vm.dial, door.name);
    memcpy(door.vm_uuid, dialled->vm.uuid, GR_UUID_SIZE);
    if (dialled->vm.dial.kind == ADDRESS_VSOCK)
        door.cid = dialled->vm.dial.cid;
    dialled->failed = false;
    if (guest_adopt(dialled->list->guests, dialled->conn, &door, on_session_gone, dialled)) {
        dialled->in_session = true;
        dialled->conn = NULL;
    }
}

static void
on_dial_open(void *arg)
{
    struct dialled *dialled = arg;
    char line[CONNECT_LINE_MAX];
    int len;

    if (!dialled->vm.dial_connect) {
        hand_over(dialled);
        return;
    }
    len = snprintf(line, sizeof(line), "CONNECT %u\n", dialled->port);
    dialled->asked = true;
    conn_write(dialled->conn, line, (size_t)len);
}

/* A VMM's answer: "OK <port>\n", then the driver's bytes. */
static size_t
on_dial_data(void *arg, const uint8_t *buf, size_t len)
{
    struct dialled *dialled = arg;
    const uint8_t *end = memchr(buf, '\n', len < CONNECT_LINE_MAX ? len : CONNECT_LINE_MAX);

    if (!end && len < CONNECT_LINE_MAX)
        return 0;
    if (!dialled->asked || !end || len < 2 || memcmp(buf, "OK", 2) != 0) {
        conn_close(dialled->conn, "expected OK in answer to CONNECT");
        return len;
    }
    hand_over(dialled);
    return (size_t)(end - buf) + 1;
}

static void
on_dial_writable(void *arg)
{
    (void)arg; /* a line is all that is ever written */
}

static void
on_dial_closed(void *arg, const char *why)
{
    dial_failed(arg, why);
}

static const struct conn_ops dial_ops = {
    .open = on_dial_open, .data = on_dial_data, .writable = on_dial_writable, .closed = on_dial_closed
};

static void
dial(void *arg)
{
    struct dialled *dialled = arg;
    struct sockaddr_storage name;
    socklen_t len = address_to_sockaddr(&dialled->vm.dial, &name);
    const char *why;

    dialled->conn =
        conn_dial(dialled->list->loop, &name, len, NULL, NULL, &guest_conn_limits, &dial_ops, dialled, &why);
    if (!dialled->conn)
        dial_failed(dialled, why);
}

static bool
want_dialled(struct door_list *list, const struct conf *conf, const struct conf_vm *vm)
{
    struct dialled *dialled;

    LIST_FOREACH (dialled, &list->dialled, in_list) {
        if (conf_vm_equal(&dialled->vm, vm) && dialled->port == conf->doors.port) {
            dialled->wanted = true;
            return true;
        }
    }
    dialled = calloc(1, sizeof(*dialled));
    if (!dialled)
        return false;
    dialled->list = list;
    dialled->vm = *vm;
    dialled->port = conf->doors.port;
    dialled->wanted = true;
    dialled->timer = loop_timer_new(list->loop, dial, dialled);
    if (!dialled->timer) {
        free(dialled);
        return false;
    }
    LIST_INSERT_HEAD(&list->dialled, dialled, in_list);
    loop_timer_start(dialled->timer, 0);
    return true;
}

/* A session that stands goes on; there will be no other. */
static void
drop_dialled(struct dialled *dialled)
{
    LIST_REMOVE(dialled, in_list);
    dialled->dropped = true;
    if (dialled->conn)
        conn_close(dialled->conn, "the configuration has it no more");
    else if (!dialled->in_session)
        free_dialled(dialled);
}

/* ---- all of them ---- */

void
door_list_init(struct door_list *list, struct loop *loop, struct guest_list *guests,
               const struct sandbox_user *user)
{
    *list =
        (struct door_list){ .loop = loop, .guests = guests, .user = user, .patience = LISTEN_PATIENCE_MS };
    LIST_INIT(&list->doors);
    LIST_INIT(&list->dialled);
}

static void
close_unwanted(struct door_list *list)
{
    struct door *door = LIST_FIRST(&list->doors);
    struct dialled *dialled = LIST_FIRST(&list->dialled);

    while (door) {
        struct door *next = LIST_NEXT(door, in_list);

        if (!door->wanted)
            close_door(door);
        door = next;
    }
    while (dialled) {
        struct dialled *next = LIST_NEXT(dialled, in_list);

        if (!dialled->wanted)
            drop_dialled(dialled);
        dialled = next;
    }
}

static void
want_none(struct door_list *list)
{
    struct door *door;
    struct dialled *dialled;

    LIST_FOREACH (door, &list->doors, in_list)
        door->wanted = false;
    LIST_FOREACH (dialled, &list->dialled, in_list)
        dialled->wanted = false;
}

bool
door_list_set_conf(struct door_list *list, const struct conf *conf)
{
    const struct conf_doors *doors = &conf->doors;
    bool good = true;

    list->conf = conf;
    want_none(list);
    if (doors->vsock.kind != ADDRESS_NONE)
        good = want_door(list, &doors->vsock, DOOR_VSOCK, NULL) && good;
    if (doors->shared.kind != ADDRESS_NONE)
        good = want_door(list, &doors->shared, DOOR_SHARED, NULL) && good;
    if (doors->vmx.kind != ADDRESS_NONE)
        good = want_door(list, &doors->vmx, DOOR_VMX, NULL) && good;
    for (unsigned i = 0; i < conf->vm_count; i++) {
        good = want_vm_doors(list, conf, &conf->vms[i]) && good;
        if (conf->vms[i].dial.kind != ADDRESS_NONE)
            good = want_dialled(list, conf, &conf->vms[i]) && good;
    }
    close_unwanted(list);
    return good;
}

void
door_list_close(struct door_list *list)
{
    want_none(list);
    close_unwanted(list);
}
