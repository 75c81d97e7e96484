/* What the route and its sinks are inside, for this room alone. */
#ifndef GIMUX_ROUTE_INNER_H
#define GIMUX_ROUTE_INNER_H

#include <sys/queue.h>
#include <uthash.h>

#include "mux/base/histogram.h"
#include "mux/event/normalize.h"
#include "mux/route/flood.h"
#include "mux/route/route.h"
#include "mux/route/sink.h"
#include "mux/store/store.h"
#include "mux/vmlog/vm.h"
#include "proto/delimited.h"

/* ---- VMs ---- */

/* What a VM's drivers have sent, of whatever kind; see flood.h. */
struct vm_traffic {
    uint64_t records;
    uint64_t bytes;
    uint64_t seen_records; /* at the last look */
    uint64_t seen_bytes;
    bool flooding;
};

/* A VM's place in the round of one sink. */
struct vm_turn {
    struct vm *vm;
    int64_t deficit; /* bytes that it may still send in its turn; negative: what it sent too much before */
    size_t held;     /* bytes of memory, as counted in sink->held */
    bool active;     /* in the sink's ring */
    bool starving;   /* what comes next is in a file, and nothing more may be loaded now */
    uint32_t mark;   /* the number of the entry behind the one whose delivery is timed, its low 32 bits */
    uint64_t marked; /* loop_turn_began of the turn that brought that entry; 0: there is none */
    TAILQ_ENTRY(vm_turn) ring;
};

/* What the route keeps of a VM. */
struct route_vm {
    struct vm *vm;
    unsigned connected; /* streams with a guest */
    uint64_t events;    /* sequences taken from its drivers */
    struct vm_traffic traffic;
    uint16_t power; /* enum gr_power_op of the last lifecycle event about it, 0: none */
    bool paused;    /* its guests are not read, because the log is full */
    bool dirty;     /* in the route's list of VMs to look after at the end of the turn */
    bool grown;     /* sinks must hear that its log has */
    size_t refused; /* bytes of memory that a record needs for which there was none; else 0 */
    struct vm_turn turns[VMLOG_SINKS];
    LIST_ENTRY(route_vm) in_paused;
    TAILQ_ENTRY(route_vm) in_dirty;
};

/* How the table of VMs is made. */
extern const struct vm_table_ops route_table_ops;

static inline struct route_vm *
route_vm(const struct vm *vm)
{
    return vm_part(vm, sizeof(struct route_vm));
}

/* ---- sinks ---- */

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
    unsigned slot;                    /* in VM logs, in streams, and in route_vm.turns */
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

/* The sink is not up. `conf` must stay until sink_set_conf or sink_move_conf. */
void sink_init(struct sink *sink, unsigned slot, const struct conf_solution *conf, const struct sink_ops *ops,
               void *arg);

/* hello.c: what the SVM says of itself is taken (the sink owns it, whatever is returned; NULL, or what is
 * wrong with it), and forgotten: then the configuration alone counts. Before the sink is freed, too. */
const char *sink_take_hello(struct sink *sink, Gimux__V1__SvmHello *hello);
void sink_clear_hello(struct sink *sink);

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

/* The VM's log has grown in the turn that began then (loop_turn_began; 0: in none): times the delivery of its
 * last entry, unless an earlier one is being timed or the cursor is past it. Turns that are timed begin at
 * least a millisecond apart; of such a turn, all VMs that have grown are. */
void sink_mark(struct sink *sink, struct vm *vm, uint64_t began);

/* What is being timed was given up. */
void sink_unmark(struct sink *sink, struct vm *vm);

/* The SVM's acknowledgement. Returns false if it is for something that was never sent. */
bool sink_ack(struct sink *sink, struct vm_table *table, uint32_t stream, uint64_t sequence);

/* For route_tell_progress. */
void sink_tell_progress(struct sink *sink, struct vm_table *table);

/* Whether the solution wants anything of this VM at all. */
bool sink_wants_vm(const struct sink *sink, const struct vm *vm);

/* What it wants of this VM. */
struct vmlog_filter sink_filter(struct sink *sink, const struct vm *vm);

/* The VM's cursor has moved, and `bytes` of frames went out with that; the last frame was `cut` or not. *now
 * is the time, 0: not known yet; NULL if bytes is 0. */
void sink_settle_mark(struct sink *sink, struct vm_turn *turn, size_t bytes, bool cut, uint64_t *now);

/* wants.c: what the configuration and the hello mute. Their texts must stay until the next call. */
void sink_set_mutes(struct sink *sink);

/* ---- the route ---- */

struct route {
    struct loop *loop;
    const struct conf *conf;
    struct route_guest_ops guest_ops;
    struct vmlog_pool pool;
    struct vm_table *table;
    struct store *store;             /* NULL: VM logs are in memory alone */
    bool may_load;                   /* something was read, or given back, since sinks could not load more */
    bool recovering;                 /* not all sinks have joined the logs that were taken up */
    struct sink *sinks[VMLOG_SINKS]; /* by slot; NULL: free */
    struct normalizer *normalizer;   /* what every event is written in */
    uint8_t own_boot[GR_UUID_SIZE];  /* this gimuxd's life, as boot id of its own streams */
    uint64_t interest;               /* GR_KIND bits */
    unsigned vms_connected;          /* with at least one driver */
    LIST_HEAD(paused_list, route_vm) paused;
    TAILQ_HEAD(dirty_list, route_vm) dirty;
    struct loop_task task; /* the end of the turn: acknowledgements, wake-ups, resumes */
};

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

/* The VM, made if it is not there: all sinks take part in its log. NULL: no room or memory. */
struct vm *route_find_or_add_vm(struct route *route, const uint8_t uuid[GR_UUID_SIZE]);

/* A new stream, of which all sinks know. NULL: no room or memory. */
struct stream *route_add_stream(struct route *route, struct vm *vm, uint16_t driver,
                                const uint8_t boot_id[GR_UUID_SIZE], uint64_t start);

/* The VM's stream of gimuxd's own events, made if it is not there. NULL: no room or memory. */
struct stream *route_own_stream(struct route *route, struct vm *vm);

/* One more driver of the VM is connected. */
void route_connected(struct route *route, const struct vm *vm);

/* Whether the VM's log has no room for more. */
bool route_is_full(const struct route *route, const struct vm *vm);

/* Stops reading from the VM's guests, unless it is paused already. */
void route_pause_vm(struct route *route, struct vm *vm);

/* For sinks, whose `route` it is: has the stub read from its file; false: not now. */
bool route_load_stub(void *route, struct vm *vm, struct vmlog_chunk *stub, unsigned sink);

/* Lets sinks give up, and logs leave memory, where room is short. At the end of the turn. */
void route_relieve(struct route *route);

/* Lets the guests of paused VMs read on that have room again. */
void route_resume_vms(struct route *route);

#endif
