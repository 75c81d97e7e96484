/* The VMs that gimuxd dials: it connects to each, again and again, and a driver's session begins. */
#include "mux/guest/dial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "mux/base/log.h"

#define CONNECT_LINE_MAX 64 /* bytes of a VMM's answer to CONNECT */

struct dial_list {
    struct loop *loop;
    struct guest_list *guests;
    const struct conf *conf;
    LIST_HEAD(dialled_vms, dialled) dialled;
    bool frozen; /* nobody is dialled */
};

/* A VM that gimuxd dials. */
struct dialled {
    struct dial_list *list;
    struct conf_vm vm;
    uint32_t port; /* for CONNECT */
    struct loop_timer *timer;
    struct conn *conn; /* until a session has taken it */
    bool in_session;
    bool failed;  /* the last attempt did; the next failure is not worth a line */
    bool wanted;  /* while the configuration is compared */
    bool dropped; /* to be freed when its connection or session has ended */
    LIST_ENTRY(dialled) in_list;
};

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
    if (dialled->dropped)
        free_dialled(dialled);
    else if (!dialled->list->frozen)
        loop_timer_start(dialled->timer, dialled->list->conf->doors.redial);
}

static void
dial_failed(struct dialled *dialled, const char *why)
{
    char text[ADDRESS_TEXT_MAX];

    if (!dialled->failed)
        log_warning((&(struct log_who){ .vm = dialled->vm.uuid_text }),
                    "cannot dial %s: %s; trying again until it works",
                    address_format(&dialled->vm.dial, text), why);
    dialled->failed = true;
    dial_later(dialled);
}

static void
on_session_gone(void *arg)
{
    dial_later(arg);
}

/* The byte stream to the driver is open: a guest session begins on it, if there is room for one. */
static void
begin_session(struct dialled *dialled)
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
        begin_session(dialled);
        return;
    }
    len = snprintf(line, sizeof(line), "CONNECT %u\n", dialled->port);
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
    if (!end || len < 2 || memcmp(buf, "OK", 2) != 0) {
        conn_close(dialled->conn, "expected OK in answer to CONNECT");
        return len;
    }
    begin_session(dialled);
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
want_dialled(struct dial_list *list, const struct conf *conf, const struct conf_vm *vm)
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
    if (!list->frozen)
        loop_timer_start(dialled->timer, 0);
    return true;
}

/* A session goes on, and is the last. */
static void
drop_dialled(struct dialled *dialled)
{
    LIST_REMOVE(dialled, in_list);
    dialled->dropped = true;
    dialled->failed = true; /* so that the end of the attempt is not logged */
    if (dialled->conn)
        conn_close(dialled->conn, "nobody wants it any longer");
    else if (!dialled->in_session)
        free_dialled(dialled);
}

/* ---- all of them ---- */

struct dial_list *
dial_list_new(struct loop *loop, struct guest_list *guests)
{
    struct dial_list *list = malloc(sizeof(*list));

    if (!list)
        return NULL;
    *list = (struct dial_list){ .loop = loop, .guests = guests };
    LIST_INIT(&list->dialled);
    return list;
}

void
dial_list_free(struct dial_list *list)
{
    free(list);
}

bool
dial_list_set_conf(struct dial_list *list, const struct conf *conf)
{
    struct dialled *dialled;
    struct dialled *next;
    bool good = true;

    list->conf = conf;
    LIST_FOREACH (dialled, &list->dialled, in_list)
        dialled->wanted = false;
    for (unsigned i = 0; i < conf->vm_count; i++)
        if (conf->vms[i].dial.kind != ADDRESS_NONE)
            good = want_dialled(list, conf, &conf->vms[i]) && good;
    for (dialled = LIST_FIRST(&list->dialled); dialled; dialled = next) {
        next = LIST_NEXT(dialled, in_list);
        if (!dialled->wanted)
            drop_dialled(dialled);
    }
    return good;
}

void
dial_list_close(struct dial_list *list)
{
    struct dialled *dialled;
    struct dialled *next;

    for (dialled = LIST_FIRST(&list->dialled); dialled; dialled = next) {
        next = LIST_NEXT(dialled, in_list);
        drop_dialled(dialled);
    }
}

/* ---- handing over ---- */

void
dial_list_freeze(struct dial_list *list)
{
    struct dialled *dialled;

    list->frozen = true;
    LIST_FOREACH (dialled, &list->dialled, in_list) {
        loop_timer_stop(dialled->timer);
        dialled->failed = true; /* so that the end of the attempt is not logged */
        if (dialled->conn)
            conn_close(dialled->conn, "gimuxd is upgraded");
    }
}

void
dial_list_thaw(struct dial_list *list)
{
    struct dialled *dialled;

    list->frozen = false;
    LIST_FOREACH (dialled, &list->dialled, in_list)
        if (!dialled->conn && !dialled->in_session)
            loop_timer_start(dialled->timer, 0);
}

bool
dial_list_import_guest(struct dial_list *list, struct parcel *parcel, const Gimux__Handover__V1__Guest *from)
{
    struct address address;
    struct dialled *dialled = NULL;

    if (from->dialled[0] != '\0' && from->door && from->door->vm_uuid.len == GR_UUID_SIZE &&
        !address_parse(from->dialled, &address))
        LIST_FOREACH (dialled, &list->dialled, in_list)
            if (address_equal(&dialled->vm.dial, &address) && !dialled->in_session &&
                memcmp(dialled->vm.uuid, from->door->vm_uuid.data, GR_UUID_SIZE) == 0)
                break;
    if (!dialled)
        return guest_import(list->guests, parcel, from, NULL, NULL);
    dialled->in_session = true;
    return guest_import(list->guests, parcel, from, on_session_gone, dialled);
}
