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
    bool unknown; /* a vsock peer that the configuration does not know: to be rejected */
    bool vmx;     /* the host's lifecycle source, and nobody else, comes this way */
    uint32_t cid; /* vsock peer, 0 if none */
};

struct guest;

struct guest_list; /* all sessions of the process */

/* How the route reaches a session, for route_new: its `guest` is a struct guest. */
extern const struct route_guest_ops guest_route_ops;

/* `conf` must stay until guest_list_set_conf. NULL if out of memory. */
struct guest_list *guest_list_new(struct loop *loop, struct route *route, const struct conf *conf);
void guest_list_set_conf(struct guest_list *list, const struct conf *conf);

/* Connections, whether they have said HELLO or not. */
unsigned guest_list_count(const struct guest_list *list);

/* Reads nothing more from anybody, whatever the route says, until guest_list_resume; no heartbeats, either.
 * Acknowledgements still go out, at once. */
void guest_list_pause(struct guest_list *list);

/* Ends all sessions, for that reason; those that have said HELLO are told BYE before (conn_finish). */
void guest_list_close(struct guest_list *list, const char *reason);

/* Closes what is left of connections and frees all, after guest_list_close and when the loop has ended. NULL
 * is fine. */
void guest_list_free(struct guest_list *list);

/* A session begins on a connected, non-blocking socket, which is taken over; `door` is copied. If there is no
 * room, which is limits.connections or what one VM may have, it is closed at once, and a log line says so. */
void guest_accept(struct guest_list *list, int fd, const struct guest_door *door);

/* The same on a connection that another owner has used so far (a VMM's CONNECT, a dialled chardev). `gone` is
 * called with arg when the session has ended. False if it could not begin: the connection is closing, and its
 * owner so far will be told. */
bool guest_adopt(struct guest_list *list, struct conn *conn, const struct guest_door *door,
                 void (*gone)(void *arg), void *arg);

/* ---- handing over ---- */

/* After guest_list_pause: reads those that the route has not paused. */
void guest_list_resume(struct guest_list *list);

/* Adds every session and its socket to the parcel; they stay ours, too. After guest_list_pause. */
void guest_list_export(const struct guest_list *list, struct parcel *parcel);

/* A session of another gimuxd, one of the parcel's message, goes on here, paused; after route_import, since
 * its stream must be there. `gone` is NULL, or as in guest_adopt. False, having logged it, if it cannot: then
 * the process must exit. */
bool guest_import(struct guest_list *list, struct parcel *parcel, const Gimux__Handover__V1__Guest *from,
                  void (*gone)(void *arg), void *arg);

/* The other gimuxd has let go: drivers are told what is accepted, and read. */
void guest_list_taken(struct guest_list *list);

/* The most memory that connections of drivers can take, in bytes. */
uint64_t guest_memory_bound(const struct conf *conf);

/* What conn_dial is to be told for a connection that guest_adopt will take. */
extern const struct conn_limits guest_conn_limits;

#endif
