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

/* `user`: to whom UNIX sockets and directories that are made belong; it must stay as long as the list. NULL
 * if out of memory. */
struct door_list *door_list_new(struct loop *loop, struct guest_list *guests, const struct user *user);

/* After door_list_close. NULL is fine. */
void door_list_free(struct door_list *list);

/* Whether door_list_set_conf may wait for an address that is in use (LISTEN_PATIENCE_MS). At first it may;
 * while the loop runs it must not. */
void door_list_set_patient(struct door_list *list, bool patient);

/* Opens the doors of the configuration that are not open yet, closes those that are no longer in it, and
 * tells dialling the same (dial_list_set_conf). The other doors stay, as do all sessions. Returns false,
 * having logged each, if a door cannot be opened; those that can are. `conf` must stay until the next call.
 */
bool door_list_set_conf(struct door_list *list, const struct conf *conf);

/* Closes all doors and stops dialling. UNIX sockets are removed from the file system. */
void door_list_close(struct door_list *list);

/* ---- handing over ---- */

/* Nobody is let in or dialled until door_list_thaw; who comes, waits in the kernel. */
void door_list_freeze(struct door_list *list);
void door_list_thaw(struct door_list *list);

/* Adds every listening socket to the parcel; they stay ours, too. While frozen. */
void door_list_export(const struct door_list *list, struct parcel *parcel);

/* The sockets of another gimuxd will be used, by address, instead of opening new ones. The list is frozen
 * from now on, until door_list_taken. Before door_list_set_conf. False if out of memory. */
bool door_list_import(struct door_list *list, struct parcel *parcel);

/* The sessions of another gimuxd go on here, paused. After route_import, since their streams must be there.
 * False, having logged why, if one cannot. */
bool door_list_import_guests(struct door_list *list, struct parcel *parcel);

/* Takes the socket of that address out of those that were imported; it is the caller's then. Its file is
 * given to the list's user, if it is somebody else's. -1 if there is none. */
int door_list_take(struct door_list *list, const struct address *address);

/* The other gimuxd has let go: imported sockets that the configuration does not name are closed and removed,
 * and the list thaws. */
void door_list_taken(struct door_list *list);

/* The other gimuxd goes on: UNIX sockets that were opened here, not imported, are removed from the file
 * system. The process must exit then. */
void door_list_abandon(struct door_list *list);

#endif
