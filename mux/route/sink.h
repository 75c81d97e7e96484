/* A sink: one solution as the route and the VM logs see it. What it wants, whose turn it is (deficit round
 * robin over VMs), what it was sent and has acknowledged. It knows no socket: frames go out by sink_gather
 * and sink_sent, small ones by `tell`. It comes and goes by route_add_sink and route_remove_sink. */
#ifndef GIMUX_ROUTE_SINK_H
#define GIMUX_ROUTE_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/base/conf.h"
#include "mux/vmlog/vmlog.h"
#include "proto/gimux.pb-c.h"

struct sink;

/* How the sink reaches its SVM; given from above. */
struct sink_ops {
    /* Sends one frame of this SVM's own before anything that is gathered later. */
    void (*tell)(void *arg, const Gimux__V1__Frame *frame);
    /* There is something to gather. Called at the end of a turn, while the SVM is up. */
    void (*wake)(void *arg);
};

/* A new configuration of the same solution, which must stay until the next call. The SVM is not up. */
void sink_set_conf(struct sink *sink, const struct conf_solution *conf);

/* The same configuration in another place: the link stays. */
void sink_move_conf(struct sink *sink, const struct conf_solution *conf);

/* Bytes of one VM that the SVM may have unacknowledged. */
uint64_t sink_window(const struct sink *sink);

/* Gathers what comes next, in turns of the VMs, tells starts of streams and gaps that must come before.
 * Nothing was gathered if batch->count stays 0. The caller sends the pieces and calls sink_sent, before
 * anything else. */
void sink_gather(struct sink *sink, struct vmlog_batch *batch, size_t max_bytes);

/* `taken` bytes of the gathered ones went out; *rest as in vmlog_sent. */
void sink_sent(struct sink *sink, size_t taken, struct iovec *rest);

/* The connection has sent what it had queued: the rest of a frame, too. */
void sink_drained(struct sink *sink);

#endif
