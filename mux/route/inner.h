/* What the files of the route share. */
#ifndef GIMUX_ROUTE_INNER_H
#define GIMUX_ROUTE_INNER_H

#include "mux/route/route.h"
#include "proto/delimited.h"

/* Bytes that a full log still takes of events about a VM's drivers that come and go; a record that made it
 * full may be as long as a frame. */
#define FLAP_ROOM (DELIMITED_FRAME_MAX + 2 * (uint64_t)VMLOG_LARGE_CHUNK)

/* Puts the frame, `len` bytes with its length in front, into the VM's log. The entry is the caller's, but for
 * `end`. False if there is no room; `beyond`: for small frames of gimuxd's own there is more. */
bool route_append(struct vm *vm, const uint8_t *frame, size_t len, struct vmlog_entry *entry, bool beyond);

/* Something was appended: sinks hear of it at the end of the turn; a full VM is paused. */
void route_appended(struct route *route, struct vm *vm);

/* What the configuration says of durability, for one VM. */
void route_set_durability(struct route *route, struct vm *vm);

/* The bounds of memory that the configuration adds up to. */
void route_set_limits(struct route *route);

/* The VM is looked after at the end of the turn; `route` is a struct route. */
void route_mark(void *route, struct vm *vm);

/* The sink is woken at the end of the turn. */
void route_wake(struct route *route, struct sink *sink);

/* Whether the VM's log has no room for more. */
bool route_is_full(const struct route *route, const struct vm *vm);

/* Stops reading from the VM's guests; again is nothing. */
void route_pause_vm(struct route *route, struct vm *vm);

/* For sinks, whose `route` it is: has the stub read from its file; false: not now. */
bool route_load_stub(void *route, struct vm *vm, struct vmlog_chunk *stub, unsigned sink);

/* Lets sinks give up, and logs leave memory, where room is short. At the end of the turn. */
void route_relieve(struct route *route);

/* Lets the guests of paused VMs read on that have room again. */
void route_resume_vms(struct route *route);

#endif
