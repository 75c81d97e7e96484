/* The doors: where guests come in, and the VMs that gimuxd dials itself. */
#ifndef GIMUX_LISTEN_H
#define GIMUX_LISTEN_H

#include <stdbool.h>

#include "mux/conf.h"
#include "mux/guest.h"
#include "mux/loop.h"

struct door;
struct dialled;

struct door_list {
    struct loop *loop;
    struct guest_list *guests;
    const struct conf *conf;
    LIST_HEAD(open_doors, door) doors;
    LIST_HEAD(dialled_vms, dialled) dialled;
};

void door_list_init(struct door_list *list, struct loop *loop, struct guest_list *guests);

/* Opens the doors of the configuration that are not open yet, closes those that it has no more, dials and
 * hangs up likewise; the others, and who came in by them, stay. Returns false, having logged each, if a door
 * cannot be opened; those that can are. The caller keeps conf until the next call. */
bool door_list_set_conf(struct door_list *list, const struct conf *conf);

/* Closes all doors and stops dialling. UNIX sockets are removed from the file system. */
void door_list_close(struct door_list *list);

/* A non-blocking socket that listens on a UNIX or vsock address, UNIX ones for their owner alone; the socket
 * file of a process that was killed is replaced. Returns -1 with errno set if that cannot be. */
int listen_open(const struct address *address);

#endif
