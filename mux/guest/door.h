/* The doors: where guests come in. */
#ifndef GIMUX_GUEST_DOOR_H
#define GIMUX_GUEST_DOOR_H

#include <stdbool.h>

#include "mux/base/conf.h"
#include "mux/base/user.h"
#include "mux/guest/dial.h"
#include "mux/guest/guest.h"
#include "mux/net/loop.h"

struct door_list;

/* `user`: who owns UNIX sockets and directories that are made; it must stay. NULL if out of memory. */
struct door_list *door_list_new(struct loop *loop, struct guest_list *guests, const struct user *user);

/* After door_list_close. NULL is fine. */
void door_list_free(struct door_list *list);

/* Whether a door that is busy may be waited for (LISTEN_PATIENCE_MS), as it is at first: not while the loop
 * runs. */
void door_list_set_patient(struct door_list *list, bool patient);

/* Opens the doors of the configuration that are not open yet, closes those that it has no more, dials and
 * hangs up likewise; the others, and who came in by them, stay. Returns false, having logged each, if a door
 * cannot be opened; those that can are. The caller keeps conf until the next call. */
bool door_list_set_conf(struct door_list *list, const struct conf *conf);

/* Closes all doors and stops dialling. UNIX sockets are removed from the file system. */
void door_list_close(struct door_list *list);

/* ---- handing over ---- */

/* Nobody is let in or dialled any more; who comes, waits in the kernel. And goes on. */
void door_list_freeze(struct door_list *list);
void door_list_thaw(struct door_list *list);

/* Adds every listening socket to the parcel; they stay ours, too. While frozen. */
void door_list_export(const struct door_list *list, struct parcel *parcel);

/* The sockets of another gimuxd are taken instead of new ones opened, by address. Before door_list_set_conf,
 * after which the list is frozen. False if out of memory. */
bool door_list_import(struct door_list *list, struct parcel *parcel);

/* The sessions of another gimuxd go on here, paused. When its streams are there (route_import). False, having
 * logged why, if one cannot. */
bool door_list_import_guests(struct door_list *list, struct parcel *parcel);

/* Takes the socket of that address out of those that were imported: -1 if there is none. */
int door_list_take(struct door_list *list, const struct address *address);

/* The other gimuxd has let go: what the configuration has no more is closed and removed, and the doors are
 * open. */
void door_list_taken(struct door_list *list);

/* The other gimuxd goes on: what was opened here beside its sockets is removed. For who exits then. */
void door_list_abandon(struct door_list *list);

#endif
