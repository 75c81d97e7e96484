/* A sink: one solution as the VM logs see it. What it wants, whose turn it is (deficit round robin over VMs),
 * what it was sent and has acknowledged. It knows no socket: frames go out by gather and sent, small ones by
 * `tell`. */
#ifndef GIMUX_ROUTE_SINK_H
#define GIMUX_ROUTE_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "mux/base/conf.h"
#include "mux/base/histogram.h"
#include "mux/vmlog/vm.h"
#include "proto/gimux.pb-c.h"

/* How the sink reaches its SVM; given from above. */
struct sink_ops {
    /* Sends one frame of this SVM's own before anything that is gathered later. */
    void (*tell)(void *arg, const Gimux__V1__Frame *frame);
    /* There is something to gather. Called at the end of a turn, while the SVM is up. */
    void (*wake)(void *arg);
};

/* What the SVM has of a stream that does not exist here yet. */
struct sink_position;

#define SINK_VMS_MAX   64   /* VMs that a subscription names; configuration and hello each */
#define SINK_MUTES_MAX 1024 /* path prefixes that a hello mutes */

struct sink_mute {
    const char *prefix; /* of a path, not owned */
    size_t len;
};

struct sink {
    const struct conf_solution *conf; /* the caller's; replaced on reload */
    unsigned slot;                    /* in vmlog.cursors and vm.turns */
    struct sink_ops ops;
    void *arg;
    /* The VM's log moved on for this sink: its guests may have something to hear. Set by the route. */
    void (*moved)(void *route, struct vm *vm);
    /* What comes next for this sink is in a file: read it. False: not now. Set by the route. */
    bool (*load)(void *route, struct vm *vm, struct vmlog_chunk *stub, unsigned slot);
    void *route;
    bool starving;              /* a VM waits until more may be loaded */
    bool up;                    /* the SVM has said hello on this connection */
    bool awake;                 /* will be woken at the end of the turn */
    uint32_t connection;        /* counts them, from 1 */
    uint64_t window;            /* bytes of one VM in flight */
    uint64_t share;             /* bytes of memory that what is in flight of all VMs may hold */
    uint64_t held;              /* bytes of memory that it does hold; share and one turn at most */
    bool waiting;               /* VMs have left the ring because it holds its share */
    uint32_t class_mask;        /* effective subscription */
    Gimux__V1__SvmHello *hello; /* of this connection (protobuf-c's memory), or NULL */
    unsigned vm_count;          /* of the hello's list */
    uint8_t vms[SINK_VMS_MAX][GR_UUID_SIZE];
    struct sink_position *positions;
    unsigned mute_count; /* muted path prefixes: sorted, and none begins with another; see sink_set_mutes */
    struct sink_mute mutes[CONF_LIST_MAX + SINK_MUTES_MAX];
    uint32_t told_up_to; /* id of the stream after which the telling of progress goes on; 0: all were told */
    TAILQ_HEAD(sink_ring, vm_turn) ring; /* VMs with something to send */
    uint64_t sent_bytes;
    uint64_t skips;            /* times that events were given up */
    struct histogram delivery; /* from the arrival of a record to its frame being written; see sink_mark */
    uint64_t sampled;          /* the last turn that was timed */
    uint64_t cut; /* vm_turn.marked of a timed frame of which the connection still has a rest; 0: none */
    struct {
        struct vm *vm;
        size_t bytes;
    } portions[VMLOG_SINKS * 4]; /* of the batch that was gathered and not yet sent */
    unsigned portion_count;
};

/* The sink is not up. conf must stay until sink_fini or sink_set_conf. */
void sink_init(struct sink *sink, unsigned slot, const struct conf_solution *conf, const struct sink_ops *ops,
               void *arg);
void sink_fini(struct sink *sink);

/* A new configuration of the same solution. */
void sink_set_conf(struct sink *sink, const struct conf_solution *conf);

/* The same configuration in another place: the link stays. */
void sink_move_conf(struct sink *sink, const struct conf_solution *conf);

/* The SVM has said hello (the sink owns it from now on, whatever is returned): its positions count for the
 * streams in the table, its subscription narrows the configured one. Returns NULL, or what is wrong with the
 * hello. */
const char *sink_up(struct sink *sink, struct vm_table *table, Gimux__V1__SvmHello *hello);

/* The connection is gone. */
void sink_down(struct sink *sink, struct vm_table *table);

/* A stream has come into being: if the SVM already had of it (before a restart of gimuxd), what is missing is
 * a gap. */
void sink_stream_added(struct sink *sink, struct stream *stream);

/* The VM's log has something new, or the sink may go on with it: it takes its turn. */
void sink_activate(struct sink *sink, struct vm *vm);

/* Passes over what comes next in the VM's log and is not wanted, whether the SVM is there, takes anything, or
 * not; nothing if the VM has something in flight. While the SVM is away the configuration alone says what is
 * wanted. */
void sink_pass(struct sink *sink, struct vm *vm);

/* More may be loaded: the VMs that waited for that take their turns. */
void sink_feed(struct sink *sink, struct vm_table *table);

/* The VM is about to be forgotten, or the sink leaves its log. */
void sink_deactivate(struct sink *sink, struct vm *vm);

/* Gathers what comes next, in turns of the VMs, tells starts of streams and gaps that must come before.
 * Nothing was gathered if batch->count stays 0. The caller sends the pieces and calls sink_sent, before
 * anything else. */
void sink_gather(struct sink *sink, struct vmlog_batch *batch, size_t max_bytes);

/* `taken` bytes of the gathered ones went out; *rest as in vmlog_sent. */
void sink_sent(struct sink *sink, size_t taken, struct iovec *rest);

/* The connection has sent what it had queued: the rest of a frame, too. */
void sink_drained(struct sink *sink);

/* The VM's log has grown in the turn that began then (loop_turn_began): times the delivery of its last entry,
 * unless an earlier one is being timed. At most one turn a millisecond is timed, all its VMs. */
void sink_mark(struct sink *sink, struct vm *vm, uint64_t began);

/* What is being timed was given up. */
void sink_unmark(struct sink *sink, struct vm *vm);

/* The SVM's acknowledgement. Returns false if it is for something that was never sent. */
bool sink_ack(struct sink *sink, struct vm_table *table, uint32_t stream, uint64_t sequence);

/* Tells StreamProgress for the streams that have moved since the last time, and StreamEnd for those that have
 * ended and of which the SVM has everything. Where there are thousands, the next call goes on. */
void sink_tell_progress(struct sink *sink, struct vm_table *table);

/* Whether the solution wants anything of this VM at all. */
bool sink_wants_vm(const struct sink *sink, const struct vm *vm);

/* What it wants of this VM. */
struct vmlog_filter sink_filter(struct sink *sink, const struct vm *vm);

#endif
