/* The doors: where guests come in. */
#ifndef GIMUX_GUEST_DOOR_H
#define GIMUX_GUEST_DOOR_H

#include <stdbool.h>

#include "mux/base/conf.h"
#include "mux/base/user.h"
#include "mux/guest/dial.h"
#include "mux/guest/guest.h"
#include "mux/net/loop.h"

struct door;
struct spare;

struct door_list {
    struct loop *loop;
    struct guest_list *guests;
    const struct conf *conf;
    const struct user *user; /* who owns UNIX sockets and directories that are made */
    unsigned patience;       /* ms that listen_open may wait; the loop must not */
    LIST_HEAD(open_doors, door) doors;
    struct dial_list dialled;               /* doors, too, but gimuxd goes there */
    LIST_HEAD(spare_sockets, spare) spares; /* taken over, and not yet needed */
    bool frozen;                            /* nobody is let in or dialled */
};

void door_list_init(struct door_list *list, struct loop *loop, struct guest_list *guests,
                    const struct user *user);

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

/* Takes the socket of that address out of those that were imported: -1 if there is none. */
int door_list_take(struct door_list *list, const struct address *address);

/* The other gimuxd has let go: what the configuration has no more is closed and removed, and the doors are
 * open. */
void door_list_taken(struct door_list *list);

/* The other gimuxd goes on: what was opened here beside its sockets is removed. For who exits then. */
void door_list_abandon(struct door_list *list);

#endif
