/* The route: who gets what, and who may read on. It joins streams of guests to sinks of SVMs through the VM
 * logs; it knows a guest as something that can be paused, resumed and answered, and an SVM as a sink. */
#ifndef GIMUX_ROUTE_ROUTE_H
#define GIMUX_ROUTE_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "mux/base/conf.h"
#include "mux/base/parcel.h"
#include "mux/event/normalize.h"
#include "mux/net/loop.h"
#include "mux/route/sink.h"
#include "mux/vmlog/vm.h"
#include "proto/guest_record.h"

/* What the route asks of a guest session. `pause` may be called from within the session's own route_open,
 * route_publish, route_lost or route_lifecycle, `replaced` from within another session's route_open; the rest
 * at the end of a turn or on a reload. */
struct route_guest_ops {
    void (*pause)(void *guest);                    /* stop reading: the VM's log is full */
    void (*resume)(void *guest);                   /* read on */
    void (*accepted)(void *guest);                 /* stream_accepted has grown */
    void (*interest)(void *guest, uint64_t kinds); /* GR_KIND bits that anybody wants have changed */
    void (*replaced)(void *guest,
                     const char *why); /* the same driver has come again: close; the stream is taken */
};

struct route;

/* `conf` must stay until route_set_conf. NULL if out of memory. */
struct route *route_new(struct loop *loop, const struct conf *conf, const struct route_guest_ops *ops);

/* After route_finish, when all sinks are removed. NULL is fine. */
void route_free(struct route *route);

/* Takes up the VM logs that are in files, if the configuration has a directory for them. Before the first
 * sink is added. Waits for the disk. `held`: they are another process's until route_stay, and only read.
 * False, having logged why, if that cannot be. */
bool route_recover(struct route *route, bool held);

/* All solutions of the configuration have been added: what others had in files is let go. */
void route_recovered(struct route *route);

/* Writes what is not in files yet, waits for that, and leaves the files alone from then on: at the end,
 * before sinks are removed. */
void route_finish(struct route *route);

/* The most memory that VMs, their logs and files can take, in bytes: what the limits add up to. */
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

/* A driver says hello. Returns 0 and its stream, on which the guest goes on from stream_last + 1; or an
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

/* Takes the stream's next event record (sequence == stream_last + 1). Returns false if there is no room
 * now: the guest was paused and will offer it again. */
bool route_publish(struct route *route, struct stream *stream, const struct gr_record *record,
                   const struct volume_map *volumes);

/* As many sequences as a driver may say to have dropped at once. More would be a lie, and fit no log entry.
 */
#define ROUTE_LOST_MAX UINT32_MAX

/* The driver has dropped stream_last + 1 .. last (ROUTE_LOST_MAX at most) itself. Returns false if there
 * is no room now. */
bool route_lost(struct route *route, struct stream *stream, uint64_t last);

/* A driver's records, of whatever kind, were read: floods are found by these. */
void route_count_records(struct route *route, struct stream *stream, uint64_t records, uint64_t bytes);

/* GR_KIND bits of events that anybody wants. */
uint64_t route_interest(const struct route *route);

/* ---- SVMs ---- */

/* A solution begins to take part, and its sink lives until it is removed. `conf` must stay until
 * sink_set_conf or sink_move_conf. NULL if there is no slot or no memory. */
struct sink *route_add_sink(struct route *route, const struct conf_solution *conf, const struct sink_ops *ops,
                            void *arg);
void route_remove_sink(struct route *route, struct sink *sink);

/* The sink's SVM has said hello (the sink owns it from now on, whatever is returned). NULL, or what is wrong
 * with it. */
const char *route_sink_up(struct route *route, struct sink *sink, Gimux__V1__SvmHello *hello);
void route_sink_down(struct route *route, struct sink *sink);

/* The SVM acknowledges; false if it was never sent that. */
bool route_ack(struct route *route, struct sink *sink, uint32_t stream, uint64_t sequence);

/* Tells StreamProgress for the streams that have moved since the last time, and StreamEnd for those that have
 * ended and of which the SVM has everything. Where there are thousands, the next call goes on. */
void route_tell_progress(struct route *route, struct sink *sink);

/* Events that are in VM logs and not settled for the sink (NULL: for any). Walks over all VMs. */
uint64_t route_pending(const struct route *route, const struct sink *sink);

/* ---- floods ---- */

/* Looks which VMs have sent far more than others in the `ms` (> 0) since the last look; see flood.h. */
void route_look_for_floods(struct route *route, uint64_t ms);

/* ---- giving everything to another process ---- */

/* What is not in files yet is being written from now on, as far as files are relied on. Guests are paused.
 * Waits for nothing. */
void route_begin_leave(struct route *route);

/* Goes on with that, and tries again what failed. True once all that there is can be found by another
 * process: in files, or with SVMs. To be called every few milliseconds until then, or until route_stay. */
bool route_try_to_leave(struct route *route);

/* Files are left alone from now on, until route_stay: they are another process's. `unlock`: it is of a
 * version that locks the directory before it is told GO. */
void route_leave(struct route *route, bool unlock);

/* The files are ours again, and all goes on: after route_begin_leave, if no other process took over; or when
 * one has let go of them. */
void route_stay(struct route *route);

/* Adds what another process must know of VMs, streams and solutions. */
void route_export(const struct route *route, struct parcel *parcel);

/* ---- taking everything from one ---- */

/* Who this gimuxd is from now on: what the one that it relieves was. Before route_recover. False if the
 * message does not say. */
bool route_import_boot(struct route *route, const Gimux__Handover__V1__Handover *message);

/* Streams and counters, when the sinks are there. False, having logged why, if something cannot be taken. */
bool route_import(struct route *route, const Gimux__Handover__V1__Handover *message);

/* The driver of a stream that was imported is connected here, as it was there: nobody is told. `silent`: it
 * was told as lost. NULL if there is no such stream, or it has a driver. */
struct stream *route_take_guest(struct route *route, const uint8_t vm_uuid[GR_UUID_SIZE], uint16_t driver,
                                const uint8_t boot_id[GR_UUID_SIZE], bool silent, void *guest);

#endif
