/* What route.c and route_relief.c share. */
#ifndef GIMUX_ROUTE_INNER_H
#define GIMUX_ROUTE_INNER_H

#include "mux/route.h"

/* The VM is looked after at the end of the turn; `route` is a struct route. */
void route_mark(void *route, struct vm *vm);

/* The sink is woken at the end of the turn. */
void route_wake(struct route *route, struct sink *sink);

/* Whether the VM's log has no room for more. */
bool route_is_full(const struct route *route, const struct vm *vm);

/* Stops reading from the VM's guests; again is nothing. */
void route_pause_vm(struct route *route, struct vm *vm);

/* Lets sinks give up, and logs leave memory, where room is short. At the end of the turn. */
void route_relieve(struct route *route);

/* Lets the guests of paused VMs read on that have room again. */
void route_resume_vms(struct route *route);

#endif
