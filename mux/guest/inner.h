/* What a guest session is inside, for the files of this room alone. */
#ifndef GIMUX_GUEST_INNER_H
#define GIMUX_GUEST_INNER_H

#include <sys/queue.h>

#include "mux/event/ntpath.h"
#include "mux/guest/guest.h"

/* All sessions of the process. */
struct guest_list {
    struct loop *loop;
    struct route *route;
    const struct conf *conf;
    LIST_HEAD(guest_sessions, guest) guests;
    uint32_t count;
    LIST_HEAD(guest_due, guest) due; /* those whose acknowledgement waits for more */
    bool paused;                     /* nobody is read: from guest_list_pause to guest_list_resume */
    struct loop_timer *heartbeat;    /* one for all */
    struct loop_timer *ack;          /* runs while there are some in `due` */
};

enum guest_state { GUEST_GREETING, GUEST_ACTIVE, GUEST_SILENT, GUEST_CLOSED };

struct guest {
    struct guest_list *list;
    struct conn *conn;
    struct guest_door door;
    enum guest_state state;
    struct stream *stream;      /* from HELLO on, until it is closed or taken by another session */
    struct volume_map *volumes; /* of a Windows driver, once it has told them */
    bool spoken;                /* a byte has come */
    bool paused;                /* by the route: nothing of it is read */
    uint64_t records;           /* and bytes of these, that the route has not counted yet */
    uint64_t record_bytes;
    uint64_t heard; /* loop_now of the last byte; while greeting, of the first, or of the connection */
    uint64_t spoke; /* and of the last record that we sent */
    uint64_t acked; /* last sequence that was acknowledged */
    uint64_t said;  /* loop_now of that */
    size_t unsaid;  /* bytes of events since then */
    bool due;       /* something is accepted and not acknowledged yet: it is in list->due */
    void (*gone)(void *arg);
    void *gone_arg;
    LIST_ENTRY(guest) in_list;
    LIST_ENTRY(guest) in_due;
};

/* What may be queued for a driver, in bytes: WELCOME, acknowledgements, answers. */
#define GUEST_OUT_MAX ((size_t)64 * 1024)

extern const struct conn_ops guest_conn_ops;

/* Ends the session: its stream is closed in the route, for that reason, and then the connection; `last` is
 * sent before, unless NULL. `ended`: the driver has said BYE. Nothing if it has ended already. */
void guest_disconnect(struct guest *guest, struct gr_record *last, bool ended, const char *reason);

/* Acknowledges what is accepted of the stream of `arg`, a struct guest, if the driver does not know it: now,
 * or soon, with more. For the route; after a HELLO; and after a handover. */
void guest_accepted(void *arg);

/* Acknowledges all that waits for more; `list` is a struct guest_list. */
void guest_say_all_accepted(void *list);

/* What is due at a heartbeat: ends a session that says no HELLO, reports a silent driver as lost, sends a
 * PING. `now` is loop_now. */
void guest_check(struct guest *guest, uint64_t now);

/* Gives the session its connection and puts it into its list. */
void guest_enlist(struct guest *guest, struct conn *conn);

#endif
