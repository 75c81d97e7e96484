/* What sink.c and sink_delivery.c share. */
#ifndef GIMUX_ROUTE_SINK_INNER_H
#define GIMUX_ROUTE_SINK_INNER_H

#include "mux/route/sink.h"

/* The VM's cursor has moved, and `bytes` of frames went out with that; the last frame was `cut` or not. *now
 * is the time, 0: not known yet; NULL if bytes is 0. */
void sink_settle_mark(struct sink *sink, struct vm_turn *turn, size_t bytes, bool cut, uint64_t *now);

/* sink_wants.c: what the configuration and the hello mute. Their texts must stay until the next call. */
void sink_set_mutes(struct sink *sink);

#endif
