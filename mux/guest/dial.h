/* The VMs that gimuxd dials: it connects to each, again and again, until a driver's session stands. */
#ifndef GIMUX_GUEST_DIAL_H
#define GIMUX_GUEST_DIAL_H

#include <stdbool.h>

#include "mux/base/conf.h"
#include "mux/guest/guest.h"
#include "mux/net/loop.h"

struct dial_list;

/* NULL if out of memory. */
struct dial_list *dial_list_new(struct loop *loop, struct guest_list *guests);

/* After dial_list_close, when all connections have ended. NULL is fine. */
void dial_list_free(struct dial_list *list);

/* Dials the VMs of the configuration that have an address to dial, and hangs up on those that it has no more;
 * a session that stands goes on. False if out of memory. The caller keeps conf until the next call. */
bool dial_list_set_conf(struct dial_list *list, const struct conf *conf);

/* Dials nobody any more. */
void dial_list_close(struct dial_list *list);

/* Nobody is dialled for a while; attempts that are under way are given up. And again. */
void dial_list_freeze(struct dial_list *list);
void dial_list_thaw(struct dial_list *list);

/* A session of the gimuxd that this one relieves goes on: if that has dialled its VM, it is not dialled again
 * while the session stands. See guest_import. */
bool dial_list_import_guest(struct dial_list *list, struct parcel *parcel,
                            const Gimux__Handover__V1__Guest *from);

#endif
