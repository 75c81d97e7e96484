/* The VMs that gimuxd dials: it connects to each, again and again, and a driver's session begins. */
#ifndef GIMUX_GUEST_DIAL_H
#define GIMUX_GUEST_DIAL_H

#include <stdbool.h>

#include "mux/base/conf.h"
#include "mux/guest/guest.h"
#include "mux/net/loop.h"

struct dial_list;

/* NULL if out of memory. */
struct dial_list *dial_list_new(struct loop *loop, struct guest_list *guests);

/* After dial_list_close. NULL is fine. */
void dial_list_free(struct dial_list *list);

/* Dials the VMs of the configuration that have an address to dial, and no longer those that are not in it; a
 * session that has begun goes on. False if out of memory for one of them. `conf` must stay until the next
 * call. */
bool dial_list_set_conf(struct dial_list *list, const struct conf *conf);

/* Dials nobody any longer, and gives up attempts that are under way; sessions go on. */
void dial_list_close(struct dial_list *list);

/* Nobody is dialled until dial_list_thaw; attempts that are under way are given up. */
void dial_list_freeze(struct dial_list *list);
void dial_list_thaw(struct dial_list *list);

/* A session of the gimuxd that this one relieves goes on here: if its VM was dialled, it is not dialled again
 * until the session ends. Returns as guest_import does. */
bool dial_list_import_guest(struct dial_list *list, struct parcel *parcel,
                            const Gimux__Handover__V1__Guest *from);

#endif
