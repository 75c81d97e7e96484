/* The upgrade: one worker gives everything to another, which may be of another version, and guests notice
 * nothing. The theory is at the top of upgrade.c. */
#ifndef GIMUX_PROCESS_UPGRADE_H
#define GIMUX_PROCESS_UPGRADE_H

#include <stdbool.h>

#include "mux/guest/door.h"
#include "mux/guest/guest.h"
#include "mux/operator/http.h"
#include "mux/process/handover.h"
#include "mux/route/route.h"
#include "mux/svm/svm.h"

enum upgrade_state { UPGRADE_NONE, UPGRADE_OFFERED, UPGRADE_SETTLING, UPGRADE_GIVEN };

/* In every worker: what it has to give, all of it the caller's; and how far it is with giving that away, or
 * with taking it over. */
struct upgrade {
    struct loop *loop;
    struct route *route;
    struct guest_list *guests;
    struct door_list *doors;
    struct svm_list *svms;
    struct http **http; /* there when the loop runs */
    enum upgrade_state state;
    int socket;               /* to the other worker; -1: none */
    bool reads;               /* the other one only reads files until it is told GO */
    struct loop_watch *watch; /* of the socket, while giving */
    struct loop_timer *timer;
    uint64_t settled_by; /* loop_now: until then SVMs may acknowledge what they have */
    uint64_t given_by;   /* and until then the other one must be ready */
    struct parcel taken; /* from upgrade_take to upgrade_finish */
};

/* The caller has set the members from `loop` to `http`, and the others are zero. False if out of memory. */
bool upgrade_init(struct upgrade *upgrade);

/* Lets go of the other worker, if there is one. Nothing if upgrade_init was not called, or has failed. */
void upgrade_fini(struct upgrade *upgrade);

/* ---- giving: the loop runs ---- */

/* A worker at the other end of the socket, which is taken over, wants to take this one's place. If that comes
 * about, the process exits; else it goes on, and says why in the log. */
void upgrade_begin(struct upgrade *upgrade, int socket);

/* Tells it that this is not possible now, for that reason, and closes the socket. */
void upgrade_refuse(int socket, const char *why);

/* Gives up an upgrade that is under way, for that reason, and goes on as before it. Nothing if there is none.
 */
void upgrade_abort(struct upgrade *upgrade, const char *why);

/* ---- taking: before the loop runs, in this order; after a failure the process must exit ---- */

/* Asks the worker at the other end of the socket, which is taken over, for everything, and waits for it.
 * Takes what must be there before the first VM is: counters, listening sockets, who this gimuxd is. False,
 * having logged why, if that fails. */
bool upgrade_take(struct upgrade *upgrade, int socket);

/* After the sinks are there and the doors open: streams, then drivers' sessions. False, having logged why, if
 * one cannot be taken. */
bool upgrade_import(struct upgrade *upgrade);

/* Says that it is ready, and waits until the other has let go; then everything goes on here. False, having
 * logged it, if the other one goes on. */
bool upgrade_finish(struct upgrade *upgrade);

#endif
