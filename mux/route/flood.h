/* Floods: names the VMs that send far more than the others, from what was counted since the last look. Pure:
 * the clock is the caller's. */
#ifndef GIMUX_ROUTE_FLOOD_H
#define GIMUX_ROUTE_FLOOD_H

#include <stdint.h>

#include "mux/base/conf.h"
#include "mux/vmlog/vm.h"

/* Looks at what every VM's drivers have sent in the `ms` (> 0) since the last look, and sets
 * the VM's `flooding`; one log line when that begins and one when it ends. A VM floods when its rate of
 * records (or of bytes, a record of limits->flood_records counting as 1 KiB) is at least
 *
 *     limits->flood_records a second, and
 *     limits->flood_factor times the median of the other VMs that have sent anything;
 *
 * and until it is below half of that. While a VM is paused nothing changes for it: it cannot be heard. Where
 * there is no other VM nobody floods. */
void flood_look(const struct vm_table *table, const struct conf_limits *limits, uint64_t ms);

#endif
