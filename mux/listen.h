/* The doors: where guests come in, and the VMs that gimuxd dials itself. */
#ifndef GIMUX_LISTEN_H
#define GIMUX_LISTEN_H

#include <stdbool.h>

#include "mux/conf.h"
#include "mux/guest.h"
#include "mux/loop.h"
#include "mux/sandbox.h"

struct door;
struct dialled;

struct door_list {
    struct loop *loop;
    struct guest_list *guests;
    const struct conf *conf;
    const struct sandbox_user *user; /* who owns UNIX sockets and directories that are made */
    unsigned patience;               /* ms that listen_open may wait; the loop must not */
    LIST_HEAD(open_doors, door) doors;
    LIST_HEAD(dialled_vms, dialled) dialled;
};

void door_list_init(struct door_list *list, struct loop *loop, struct guest_list *guests,
                    const struct sandbox_user *user);

/* Opens the doors of the configuration that are not open yet, closes those that it has no more, dials and
 * hangs up likewise; the others, and who came in by them, stay. Returns false, having logged each, if a door
 * cannot be opened; those that can are. The caller keeps conf until the next call. */
bool door_list_set_conf(struct door_list *list, const struct conf *conf);

/* Closes all doors and stops dialling. UNIX sockets are removed from the file system. */
void door_list_close(struct door_list *list);

/* A non-blocking socket that listens on a UNIX or vsock address. A UNIX one has that mode and belongs to the
 * user; the socket file of a process that was killed is replaced. If somebody listens there, waits up to
 * patience_ms for its end. Returns -1 with errno set if it cannot be had. */
int listen_open(const struct address *address, mode_t mode, const struct sandbox_user *user,
                unsigned patience_ms);

/* For the patience of those who start: a process that was killed holds its sockets for a little while. */
#define LISTEN_PATIENCE_MS 1000u

#endif
