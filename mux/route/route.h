/* The route: who gets what, and who may read on. It joins streams of guests to sinks of SVMs through the VM
 * logs; it knows a guest as something that can be paused, resumed and answered, and an SVM as a sink. */
#ifndef GIMUX_ROUTE_ROUTE_H
#define GIMUX_ROUTE_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "mux/base/conf.h"
#include "mux/event/normalize.h"
#include "mux/net/loop.h"
#include "mux/route/sink.h"
#include "mux/store/store.h"
#include "mux/vmlog/vm.h"

/* What the route asks of a guest session. None is called from within a call of that session. */
struct route_guest_ops {
    void (*pause)(void *guest);                    /* stop reading: the VM's log is full */
    void (*resume)(void *guest);                   /* read on */
    void (*accepted)(void *guest);                 /* stream->log.accepted has grown */
    void (*interest)(void *guest, uint64_t kinds); /* GR_KIND bits that anybody wants have changed */
    void (*replaced)(void *guest,
                     const char *why); /* the same driver has come again: close; the stream is taken */
};

struct route {
    struct loop *loop;
    const struct conf *conf;
    struct route_guest_ops guest_ops;
    struct vmlog_pool pool;
    struct vm_table table;
    struct store *store;             /* NULL: VM logs are in memory alone */
    bool may_load;                   /* something was read, or given back, since sinks could not load more */
    bool recovering;                 /* not all sinks have joined the logs that were taken up */
    struct sink *sinks[VMLOG_SINKS]; /* by slot; NULL: free */
    struct normalizer *normalizer;   /* what every event is written in */
    uint8_t own_boot[GR_UUID_SIZE];  /* this gimuxd's life, as boot id of its own streams */
    uint64_t interest;               /* GR_KIND bits */
    LIST_HEAD(paused_list, vm) paused;
    TAILQ_HEAD(dirty_list, vm) dirty;
    struct loop_task task; /* the end of the turn: acknowledgements, wake-ups, resumes */
};

void route_init(struct route *route, struct loop *loop, const struct conf *conf,
                const struct route_guest_ops *ops);
void route_fini(struct route *route);

/* Takes up the VM logs that are in files, if the configuration has a directory for them. Before the first
 * sink is added. Waits for the disk. False, having logged why, if that cannot be. */
bool route_recover(struct route *route);

/* All solutions of the configuration have been added: what others had in files is let go. */
void route_recovered(struct route *route);

/* Writes what is not in files yet, waits for that, and leaves the files alone from then on: at the end,
 * before sinks are removed. */
void route_finish(struct route *route);

/* The most memory that events and connections can take, in bytes: what the limits add up to. */
uint64_t route_memory_bound(const struct conf *conf);

/* New limits, and sinks with new configurations of theirs. */
void route_set_conf(struct route *route, const struct conf *conf);

/* Called now and then: memory that was not used lately goes back to the system. */
void route_trim(struct route *route);

/* ---- guests ---- */

/* Who is at a door. */
struct route_hello {
    const struct gr_hello *hello;
    const char *build; /* UTF-8 of the hello's texts */
    const char *guest_os;
    const char *door; /* the address, for the lifecycle event */
    bool proved;      /* the door itself says that it is this VM; else only the hello does */
    uint32_t cid;     /* vsock peer, 0 if none */
};

/* A driver says hello. Returns 0 and its stream, on which the guest goes on from stream->log.last + 1; or an
 * enum gr_reject_code with a text in why. On 0 the stream's guest is set, a lifecycle event told, and a hole
 * between what gimuxd wants and what the driver still holds has become a gap. */
int route_open(struct route *route, const struct route_hello *hello, void *guest, struct stream **stream,
               char *why, size_t why_size);

/* The driver of the stream is gone, for that reason. `ended`: it said that nothing more will come. */
void route_close(struct route *route, struct stream *stream, bool ended, const char *reason);

/* How safe what was accepted of the stream is: for the acknowledgement. */
enum gr_level route_level(const struct route *route, const struct stream *stream);

/* A driver has fallen silent (up: is heard again) on a connection that stands. */
void route_lifecycle(struct route *route, struct stream *stream, bool up, const char *reason);

/* Takes the stream's next event record (sequence == stream->log.last + 1). Returns false if there is no room
 * now: the guest was paused and will offer it again. */
bool route_publish(struct route *route, struct stream *stream, const struct gr_record *record,
                   const struct volume_map *volumes);

/* As many sequences as a driver may say to have dropped at once. More would be a lie, and fit no log entry.
 */
#define ROUTE_LOST_MAX UINT32_MAX

/* The driver has dropped stream->log.last + 1 .. last (ROUTE_LOST_MAX at most) itself. Returns false if there
 * is no room now. */
bool route_lost(struct route *route, struct stream *stream, uint64_t last);

/* A stream of the gimuxd that this one relieves, which had it up to `last`, all of it settled; its driver's
 * session is imported later. The stream that is there already is returned if it is there. NULL if there is no
 * room or memory. */
struct stream *route_take_stream(struct route *route, const uint8_t vm_uuid[GR_UUID_SIZE], uint16_t driver,
                                 const uint8_t boot_id[GR_UUID_SIZE], uint64_t start, uint64_t last);

/* Whether all that there is can be found by another process: in files, which are written and left alone from
 * now on, or with SVMs. */
bool route_can_leave(struct route *route);

/* The files that route_recover has found are still another process's, until route_stay. */
void route_hold(struct route *route);

/* The files are ours again: after route_can_leave if no other process took over; or when one has let go of
 * them. */
void route_stay(struct route *route);

/* ---- SVMs ---- */

/* A solution begins to take part; false if there is no slot or no memory. */
bool route_add_sink(struct route *route, struct sink *sink, const struct conf_solution *conf,
                    const struct sink_ops *ops, void *arg);
void route_remove_sink(struct route *route, struct sink *sink);

/* The sink's SVM has said hello; NULL or what is wrong with it. */
const char *route_sink_up(struct route *route, struct sink *sink, Gimux__V1__SvmHello *hello);
void route_sink_down(struct route *route, struct sink *sink);

/* The SVM acknowledges; false if it was never sent that. */
bool route_ack(struct route *route, struct sink *sink, uint32_t stream, uint64_t sequence);

/* ---- everything ---- */

/* Events that are in VM logs and not settled for the sink (NULL: for any). */
uint64_t route_pending(const struct route *route, const struct sink *sink);

#endif
