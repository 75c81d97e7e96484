/* The doors: where guests come in.
 *
 * A door is a listening socket and what is known of whoever comes by it: a per-VM socket proves which VM it
 * is, a vsock peer is known by its CID, the shared socket proves nothing. Wanted doors are derived from the
 * configuration as a list of (address, kind, VM); a reload compares that with what is open. */
#include "mux/guest/door.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "mux/base/log.h"
#include "mux/net/listen.h"

#define VM_MODE        0660 /* of a VM's socket that is open to a group */
#define ACCEPT_AT_ONCE 64   /* connections taken in one turn */
#define NO_ACCEPT_MS   500  /* how long a door rests when descriptors have run out */

struct door_list {
    struct loop *loop;
    struct guest_list *guests;
    const struct conf *conf;
    const struct user *user; /* to whom UNIX sockets and directories that are made belong */
    unsigned patience;       /* ms that listen_open may wait; 0 while the loop runs */
    LIST_HEAD(open_doors, door) doors;
    struct dial_list *dialled;              /* doors, too, but gimuxd goes there */
    LIST_HEAD(spare_sockets, spare) spares; /* imported, and not yet needed */
    bool frozen;                            /* nobody is let in or dialled */
};

enum door_kind { DOOR_VSOCK, DOOR_VM, DOOR_SHARED, DOOR_VMX };

struct door {
    struct door_list *list;
    enum door_kind kind;
    struct address address;
    uint8_t vm_uuid[GR_UUID_SIZE]; /* DOOR_VM */
    int fd;
    struct loop_watch *watch;
    struct loop_timer *rest;
    bool wanted;   /* while the configuration is compared */
    bool borrowed; /* the socket is that of another gimuxd, which may go on with it */
    LIST_ENTRY(door) in_list;
};

/* A listening socket of another gimuxd. */
struct spare {
    struct address address;
    int fd;
    LIST_ENTRY(spare) in_list;
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

    if (!door->list->frozen)
        loop_watch_set(door->watch, LOOP_READ);
}

/* ---- opening ---- */

/* Lets the VMM, which need not be root, connect to its VM's socket. */
static bool
open_to_group(const char *path, const char *name)
{
    struct stat info;
    gid_t gid;

    if (name[0] == '\0')
        return true;
    if (!user_find_group(name, &gid)) {
        log_error(NULL, "doors: vm_group = \"%s\": no such group", name);
        return false;
    }
    if (lstat(path, &info) == 0 && (info.st_gid == gid || lchown(path, (uid_t)-1, gid) == 0) &&
        ((info.st_mode & 0777) == VM_MODE || chmod(path, VM_MODE) == 0))
        return true;
    log_error(NULL, "cannot open unix:%s to group %s: %s%s", path, name, strerror(errno), user_as());
    return false;
}

static void
close_socket(const struct address *address, int fd)
{
    close(fd);
    if (address->kind == ADDRESS_UNIX && unlink(address->path) != 0 && errno != ENOENT)
        log_info(NULL, "cannot remove unix:%s: %s%s", address->path, strerror(errno), user_as());
}

static void
close_door(struct door *door)
{
    if (door->borrowed) /* who lent it goes on with the name, too */
        close(door->fd);
    else if (door->fd >= 0)
        close_socket(&door->address, door->fd);
    loop_watch_free(door->watch);
    loop_timer_free(door->rest);
    LIST_REMOVE(door, in_list);
    free(door);
}

/* NULL, having logged why, if it cannot be opened. */
static struct door *
open_door(struct door_list *list, const struct address *address, enum door_kind kind)
{
    bool grouped = kind == DOOR_VM && list->conf->doors.vm_group[0] != '\0';
    struct door *door = calloc(1, sizeof(*door));
    char text[ADDRESS_TEXT_MAX];

    if (!door) {
        log_error(NULL, "cannot listen on %s: out of memory", address_format(address, text));
        return NULL;
    }
    door->list = list;
    door->kind = kind;
    door->address = *address;
    LIST_INSERT_HEAD(&list->doors, door, in_list);
    door->fd = door_list_take(list, address);
    door->borrowed = door->fd >= 0;
    if (!door->borrowed)
        door->fd = listen_open(address, grouped ? VM_MODE : 0600, list->user, list->patience);
    if (door->fd >= 0)
        door->watch = loop_watch_new(list->loop, door->fd, on_connection, door);
    door->rest = loop_timer_new(list->loop, on_rested, door);
    if (!door->watch || !door->rest) {
        log_error(NULL, "cannot listen on %s: %s%s", address_format(address, text), strerror(errno),
                  user_as());
        close_door(door);
        return NULL;
    }
    if (!list->frozen)
        loop_watch_set(door->watch, LOOP_READ);
    log_info(NULL, "listening on %s", address_format(address, text));
    return door;
}

static bool
want_door(struct door_list *list, const struct address *address, enum door_kind kind, const uint8_t *vm_uuid)
{
    struct door *door;

    LIST_FOREACH (door, &list->doors, in_list)
        if (door->kind == kind && address_equal(&door->address, address))
            break;
    if (!door)
        door = open_door(list, address, kind);
    if (!door)
        return false;
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
        user_give(list->user, conf->doors.vm_dir, (gid_t)-1);
        log_info(NULL, "made the directory %s", conf->doors.vm_dir);
    }
    if (conf->doors.vm_dir[0])
        good = want_path(list, vm->uuid, "%s/%s.sock", conf->doors.vm_dir, vm->uuid_text);
    if (vm->uds_path[0])
        good = want_path(list, vm->uuid, "%s_%s", vm->uds_path, port) && good;
    return good;
}

/* ---- all of them ---- */

struct door_list *
door_list_new(struct loop *loop, struct guest_list *guests, const struct user *user)
{
    struct door_list *list = malloc(sizeof(*list));

    if (!list)
        return NULL;
    *list = (struct door_list){
        .loop = loop, .guests = guests, .user = user, .dialled = dial_list_new(loop, guests)
    };
    LIST_INIT(&list->doors);
    LIST_INIT(&list->spares);
    door_list_set_patient(list, true);
    if (!list->dialled) {
        free(list);
        return NULL;
    }
    return list;
}

void
door_list_free(struct door_list *list)
{
    if (!list)
        return;
    dial_list_free(list->dialled);
    free(list);
}

void
door_list_set_patient(struct door_list *list, bool patient)
{
    list->patience = patient ? LISTEN_PATIENCE_MS : 0;
}

bool
door_list_set_conf(struct door_list *list, const struct conf *conf)
{
    const struct conf_doors *doors = &conf->doors;
    struct door *door;
    struct door *next;
    bool good = true;

    list->conf = conf;
    LIST_FOREACH (door, &list->doors, in_list)
        door->wanted = false;
    if (doors->vsock.kind != ADDRESS_NONE)
        good = want_door(list, &doors->vsock, DOOR_VSOCK, NULL) && good;
    if (doors->shared.kind != ADDRESS_NONE)
        good = want_door(list, &doors->shared, DOOR_SHARED, NULL) && good;
    if (doors->vmx.kind != ADDRESS_NONE)
        good = want_door(list, &doors->vmx, DOOR_VMX, NULL) && good;
    for (unsigned i = 0; i < conf->vm_count; i++)
        good = want_vm_doors(list, conf, &conf->vms[i]) && good;
    for (door = LIST_FIRST(&list->doors); door; door = next) {
        next = LIST_NEXT(door, in_list);
        if (!door->wanted)
            close_door(door);
    }
    return dial_list_set_conf(list->dialled, conf) && good;
}

void
door_list_close(struct door_list *list)
{
    struct door *door;
    struct door *next;

    for (door = LIST_FIRST(&list->doors); door; door = next) {
        next = LIST_NEXT(door, in_list);
        close_door(door);
    }
    dial_list_close(list->dialled);
}

/* ---- handing over ---- */

void
door_list_freeze(struct door_list *list)
{
    struct door *door;

    list->frozen = true;
    LIST_FOREACH (door, &list->doors, in_list)
        loop_watch_set(door->watch, 0);
    dial_list_freeze(list->dialled);
}

void
door_list_thaw(struct door_list *list)
{
    struct door *door;

    list->frozen = false;
    LIST_FOREACH (door, &list->doors, in_list)
        loop_watch_set(door->watch, LOOP_READ);
    dial_list_thaw(list->dialled);
}

void
door_list_export(const struct door_list *list, struct parcel *parcel)
{
    const struct door *door;

    LIST_FOREACH (door, &list->doors, in_list)
        parcel_add_socket(parcel, &door->address, door->fd);
}

bool
door_list_import(struct door_list *list, struct parcel *parcel)
{
    list->frozen = true;
    dial_list_freeze(list->dialled);
    for (size_t i = 0; i < parcel->message->n_sockets; i++) {
        const Gimux__Handover__V1__Socket *from = parcel->message->sockets[i];
        struct address address;
        struct spare *spare;
        int fd;

        if (address_parse(from->address, &address))
            continue; /* a kind that this version does not know */
        fd = descriptors_take(&parcel->files, from->descriptor);
        if (fd < 0)
            continue; /* it did not come along: a new one is opened */
        spare = calloc(1, sizeof(*spare));
        if (!spare) {
            close(fd);
            return false;
        }
        spare->address = address;
        spare->fd = fd;
        LIST_INSERT_HEAD(&list->spares, spare, in_list);
    }
    return true;
}

bool
door_list_import_guests(struct door_list *list, struct parcel *parcel)
{
    const Gimux__Handover__V1__Handover *message = parcel->message;

    for (size_t i = 0; i < message->n_guests; i++)
        if (!dial_list_import_guest(list->dialled, parcel, message->guests[i]))
            return false;
    return true;
}

int
door_list_take(struct door_list *list, const struct address *address)
{
    struct spare *spare;
    struct stat info;
    int fd = -1;

    LIST_FOREACH (spare, &list->spares, in_list)
        if (address_equal(&spare->address, address))
            break;
    if (spare) {
        fd = spare->fd;
        LIST_REMOVE(spare, in_list);
        free(spare);
    }
    if (fd >= 0 && address->kind == ADDRESS_UNIX && list->user->given && lstat(address->path, &info) == 0 &&
        info.st_uid != list->user->uid) /* it belongs to whoever this gimuxd becomes */
        user_give(list->user, address->path, info.st_mode & S_IRWXG ? info.st_gid : (gid_t)-1);
    return fd;
}

void
door_list_taken(struct door_list *list)
{
    struct door *door;
    struct spare *spare;

    while ((spare = LIST_FIRST(&list->spares))) {
        LIST_REMOVE(spare, in_list);
        close_socket(&spare->address, spare->fd);
        free(spare);
    }
    LIST_FOREACH (door, &list->doors, in_list)
        door->borrowed = false;
    door_list_thaw(list);
}

void
door_list_abandon(struct door_list *list)
{
    const struct door *door;

    LIST_FOREACH (door, &list->doors, in_list)
        if (!door->borrowed && door->address.kind == ADDRESS_UNIX)
            unlink(door->address.path);
}
