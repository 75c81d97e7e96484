/* Guest sessions: one connection of a driver, from its HELLO to its end. */
#ifndef GIMUX_GUEST_GUEST_H
#define GIMUX_GUEST_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "mux/base/conf.h"
#include "mux/base/parcel.h"
#include "mux/net/conn.h"
#include "mux/net/loop.h"
#include "mux/route/route.h"

/* What is known of whoever connects, from the door that it came by. */
struct guest_door {
    char name[ADDRESS_TEXT_MAX]; /* the address, for logs and events */
    bool proved;                 /* vm_uuid is the VM, whatever the hello says */
    uint8_t vm_uuid[GR_UUID_SIZE];
    bool unknown; /* nobody that the configuration knows: to be rejected */
    bool vmx;     /* the host's lifecycle source, and nobody else, comes this way */
    uint32_t cid; /* vsock peer, 0 if none */
};

struct guest;

struct guest_list; /* all sessions of the process */

/* How the route reaches a session: for route_new. */
extern const struct route_guest_ops guest_route_ops;

/* `conf` must stay until guest_list_set_conf. NULL if out of memory. */
struct guest_list *guest_list_new(struct loop *loop, struct route *route, const struct conf *conf);
void guest_list_set_conf(struct guest_list *list, const struct conf *conf);

unsigned guest_list_count(
    const struct guest_list *list); /* connections, whether they have said HELLO or not */

/* Reads nothing more from anybody, whatever the route says; acknowledgements still go out. */
void guest_list_pause(struct guest_list *list);

/* Says BYE to all and closes them. Their memory goes at the end of the turn. */
void guest_list_close(struct guest_list *list, const char *reason);

/* Closes what is left of connections and frees it, after guest_list_close and when the loop has ended. NULL
 * is fine. */
void guest_list_free(struct guest_list *list);

/* A session begins on a connected, non-blocking socket, which is taken over. At the configured limit of
 * connections it is closed at once, which a log line says. */
void guest_accept(struct guest_list *list, int fd, const struct guest_door *door);

/* The same on a connection that another owner has used so far (a VMM's CONNECT, a dialled chardev). `gone` is
 * called with arg when the session has ended; false if it could not begin, and the connection was closed. */
bool guest_adopt(struct guest_list *list, struct conn *conn, const struct guest_door *door,
                 void (*gone)(void *arg), void *arg);

/* ---- handing over ---- */

/* After guest_list_pause: reads on, as before it. */
void guest_list_resume(struct guest_list *list);

/* Adds every session and its socket to the parcel; they stay ours, too. After guest_list_pause. */
void guest_list_export(const struct guest_list *list, struct parcel *parcel);

/* A session of another gimuxd, one of the parcel's message, goes on here, paused; its stream must be there
 * already (route_take_stream). `gone` as in guest_adopt. False, having logged why, if it cannot; it is then
 * not fit for anything but to exit. */
bool guest_import(struct guest_list *list, struct parcel *parcel, const Gimux__Handover__V1__Guest *from,
                  void (*gone)(void *arg), void *arg);

/* The other gimuxd has let go: the sessions that were imported are read, and told what is accepted. */
void guest_list_taken(struct guest_list *list);

/* The most memory that connections of drivers can take, in bytes. */
uint64_t guest_memory_bound(const struct conf *conf);

/* What may be queued for a driver, in bytes: WELCOME, acknowledgements, answers. */
#define GUEST_OUT_MAX ((size_t)64 * 1024)

/* What conn_dial is to be told for a connection that guest_adopt will take. */
extern const struct conn_limits guest_conn_limits;

#endif
