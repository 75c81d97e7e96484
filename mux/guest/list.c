/* Guest sessions together: they begin, are looked after, and end. */
#include "mux/guest/guest.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mux/base/log.h"
#include "mux/base/stats.h"
#include "mux/guest/inner.h"

#define SESSIONS_OF_VM 16u /* connections of one VM at a time: one that hoards them costs no other VM */

/* ---- heartbeats ---- */

static void
on_heartbeat(void *arg)
{
    struct guest_list *list = arg;
    uint64_t now = loop_now();
    struct guest *guest;
    struct guest *next;

    for (guest = LIST_FIRST(&list->guests); guest; guest = next) {
        next = LIST_NEXT(guest, in_list);
        guest_check(guest, now);
    }
    route_trim(list->route);
    loop_timer_start(list->heartbeat, list->conf->heartbeat / 2);
}

/* ---- the list ---- */

struct guest_list *
guest_list_new(struct loop *loop, struct route *route, const struct conf *conf)
{
    struct guest_list *list = malloc(sizeof(*list));

    if (!list)
        return NULL;
    *list = (struct guest_list){ .loop = loop, .route = route, .conf = conf };
    LIST_INIT(&list->guests);
    LIST_INIT(&list->due);
    list->heartbeat = loop_timer_new(loop, on_heartbeat, list);
    list->ack = loop_timer_new(loop, guest_say_all_accepted, list);
    if (!list->heartbeat || !list->ack) {
        guest_list_free(list);
        return NULL;
    }
    loop_timer_start(list->heartbeat, conf->heartbeat / 2);
    return list;
}

void
guest_list_set_conf(struct guest_list *list, const struct conf *conf)
{
    list->conf = conf;
}

unsigned
guest_list_count(const struct guest_list *list)
{
    return list->count;
}

void
guest_list_pause(struct guest_list *list)
{
    struct guest *guest;

    list->paused = true;
    guest_say_all_accepted(list);
    LIST_FOREACH (guest, &list->guests, in_list)
        conn_pause(guest->conn);
    loop_timer_stop(list->heartbeat);
}

void
guest_list_resume(struct guest_list *list)
{
    struct guest *guest;

    list->paused = false;
    LIST_FOREACH (guest, &list->guests, in_list) {
        guest->heard = loop_now(); /* who is paused cannot be heard */
        if (!guest->paused)
            conn_resume(guest->conn);
    }
    loop_timer_start(list->heartbeat, list->conf->heartbeat / 2);
}

void
guest_list_close(struct guest_list *list, const char *reason)
{
    struct guest *guest;
    struct guest *next;

    for (guest = LIST_FIRST(&list->guests); guest; guest = next) {
        struct gr_record bye = { .type = GR_BYE };

        next = LIST_NEXT(guest, in_list);
        bye.body.bye.reason = (struct gr_text){ (const uint8_t *)reason, (uint32_t)strlen(reason) };
        guest_disconnect(guest, guest->stream ? &bye : NULL, false, reason);
    }
}

void
guest_list_free(struct guest_list *list)
{
    struct guest *guest;

    if (!list)
        return;
    LIST_FOREACH (guest, &list->guests, in_list) /* who does not read the BYE is still there */
        conn_close(guest->conn, "gimuxd ends");
    loop_flush(list->loop);
    loop_timer_free(list->heartbeat);
    loop_timer_free(list->ack);
    free(list);
}

uint64_t
guest_memory_bound(const struct conf *conf)
{
    /* a record that is not whole, a read, what waits to go out, in a buffer half as large again, and what is
     * known of it */
    uint64_t guest = GR_MAX_RECORD + CONN_READ_SIZE + GUEST_OUT_MAX / 2 * 3 + 4096;

    return conf->limits.connections * guest;
}

/* ---- beginning ---- */

/* Whether the VM that is proved by the door, or the CID, has as many sessions as one may have. */
static bool
is_crowded(const struct guest_list *list, const struct guest_door *door)
{
    const struct guest *guest;
    unsigned count = 0;

    if (!door->proved && door->cid == 0)
        return false;
    LIST_FOREACH (guest, &list->guests, in_list)
        count += door->proved
                     ? guest->door.proved && memcmp(guest->door.vm_uuid, door->vm_uuid, GR_UUID_SIZE) == 0
                     : guest->door.cid == door->cid;
    return count >= SESSIONS_OF_VM;
}

static struct guest *
begin(struct guest_list *list, const struct guest_door *door)
{
    struct guest *guest;

    stats.guest_connections_total++;
    if (is_crowded(list, door)) {
        log_warning(NULL, "%s: closed: this VM has %u connections already", door->name, SESSIONS_OF_VM);
        return NULL;
    }
    if (list->count >= list->conf->limits.connections) {
        log_warning(NULL, "%s: closed: limits.connections = %u is reached", door->name,
                    list->conf->limits.connections);
        return NULL;
    }
    guest = calloc(1, sizeof(*guest));
    if (!guest)
        return NULL;
    guest->list = list;
    guest->door = *door;
    guest->heard = guest->spoke = loop_now();
    return guest;
}

void
guest_enlist(struct guest *guest, struct conn *conn)
{
    guest->conn = conn;
    LIST_INSERT_HEAD(&guest->list->guests, guest, in_list);
    guest->list->count++;
}

void
guest_accept(struct guest_list *list, int fd, const struct guest_door *door)
{
    struct guest *guest = begin(list, door);
    struct conn *conn;

    if (!guest) {
        close(fd);
        return;
    }
    conn = conn_new(list->loop, fd, &guest_conn_limits, &guest_conn_ops, guest);
    if (conn)
        guest_enlist(guest, conn);
    else
        free(guest);
}

bool
guest_adopt(struct guest_list *list, struct conn *conn, const struct guest_door *door,
            void (*gone)(void *arg), void *arg)
{
    struct guest *guest = begin(list, door);

    if (!guest) {
        conn_close(conn, "no room for another session");
        return false;
    }
    guest->gone = gone;
    guest->gone_arg = arg;
    guest_enlist(guest, conn);
    conn_set_owner(conn, &guest_conn_ops, guest);
    return true;
}
