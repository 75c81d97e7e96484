/* The upgrade: one worker gives everything to another, which may be of another version, and guests notice
 * nothing.
 *
 *   the new one                              the old one
 *   reads its configuration
 *   TAKE  --------------------------------->  reads no more, lets nobody in; what it has been told goes to
 *                                             SVMs, whose acknowledgements it waits for
 *         <---------------------------------  DATA: all that it has, with descriptors of all sockets
 *   opens doors that it has not been given,
 *   becomes the user of its configuration,
 *   filters its system calls; its loop does
 *   not run
 *   READY --------------------------------->
 *         <---------------------------------  GO
 *                                             says Bye to SVMs, exits
 *   (the socket closes)
 *   dials SVMs, reads guests
 *
 * What a guest sends meanwhile waits in the kernel. Up to GO the old one can go on at any time as if nothing
 * had happened: the new one has touched nothing that is shared. The old one does so if the new one ends or is
 * not ready in time, or if SVMs do not acknowledge: VM logs travel in their files, and what is only in memory
 * does not (Vm.log_descriptor is for that). Between GO and the end of the old one nobody serves a guest;
 * after it, only the new one does. */
#include "mux/process/upgrade.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mux/base/log.h"
#include "mux/base/stats.h"
#include "mux/process/keeper.h"

#define SETTLE_MS 2000u /* that SVMs may take to acknowledge what they have */
#define STEP_MS   5u    /* between two looks whether they have */
#define GIVE_MS   2000u /* that the other one may take to read, and to let go */

/* That the whole of it may take: less than the keeper waits, which must not give up a new one that was told
 * GO. */
#define GIVEN_MS (KEEPER_UPGRADE_MS - 2000u)

typedef Gimux__Handover__V1__Handover Message;

/* ---- what is given ---- */

static void
export_counters(struct parcel *parcel)
{
    Message *message = parcel->message;
    Gimux__Handover__V1__Counter *to;

#define COUNTER(total, kind, help)                                                                           \
    to = PARCEL_ADD(parcel, message->counters, message->n_counters, counter);                                \
    to->name = parcel_text(parcel, #total);                                                                  \
    to->value = stats.total;
    STATS_DAEMON(COUNTER)
#undef COUNTER
}

static bool
give(const struct upgrade *upgrade)
{
    struct parcel parcel;
    Message *message;
    bool good;

    if (!parcel_begin(&parcel)) {
        errno = ENOMEM;
        return false;
    }
    message = parcel.message;
    message->build = parcel_text(&parcel, "gimuxd " GIMUX_VERSION);
    export_counters(&parcel);
    route_export(upgrade->route, &parcel);
    door_list_export(upgrade->doors, &parcel);
    http_export(*upgrade->http, &parcel);
    guest_list_export(upgrade->guests, &parcel);
    good = handover_give(upgrade->socket, &parcel, GIVE_MS);
    log_info(NULL, "upgrade: %zu VMs, %zu sockets and %zu connections of drivers %s", message->n_vms,
             message->n_sockets, message->n_guests, good ? "are handed over" : "cannot be handed over");
    parcel_fini(&parcel, false);
    return good;
}

/* ---- giving, step by step ---- */

static void
set_frozen(struct upgrade *upgrade, bool frozen)
{
    if (frozen) {
        guest_list_pause(upgrade->guests);
        door_list_freeze(upgrade->doors);
        http_freeze(*upgrade->http);
    } else {
        guest_list_resume(upgrade->guests);
        door_list_thaw(upgrade->doors);
        http_thaw(*upgrade->http);
    }
}

static void
let_go(struct upgrade *upgrade)
{
    loop_watch_free(upgrade->watch);
    upgrade->watch = NULL;
    loop_timer_stop(upgrade->timer);
    if (upgrade->socket >= 0)
        close(upgrade->socket);
    upgrade->socket = -1;
}

void
upgrade_abort(struct upgrade *upgrade, const char *why)
{
    enum upgrade_state state = upgrade->state;

    if (state == UPGRADE_NONE)
        return;
    upgrade->state = UPGRADE_NONE;
    stats.upgrade_failures_total++;
    log_error(NULL, "upgrade: this gimuxd goes on: %s", why);
    let_go(upgrade);
    if (state != UPGRADE_OFFERED) {
        set_frozen(upgrade, false);
        route_stay(upgrade->route);
    }
}

static void
try_to_give(struct upgrade *upgrade)
{
    char why[100];

    if (!route_try_to_leave(upgrade->route)) {
        if (loop_now() < upgrade->settled_by) {
            loop_timer_start(upgrade->timer, STEP_MS);
            return;
        }
        snprintf(why, sizeof(why), "%llu events, or gaps, wait for SVMs",
                 (unsigned long long)route_pending(upgrade->route, NULL));
        handover_say(upgrade->socket, HANDOVER_NOT, why);
        upgrade_abort(upgrade, why);
        return;
    }
    route_leave(upgrade->route, !upgrade->reads);
    if (!give(upgrade)) {
        upgrade_abort(upgrade, strerror(errno));
    } else {
        upgrade->state = UPGRADE_GIVEN;
        loop_timer_start(upgrade->timer,
                         upgrade->given_by > loop_now() ? (uint32_t)(upgrade->given_by - loop_now()) : 0);
    }
}

static void
on_timer(void *arg)
{
    struct upgrade *upgrade = arg;

    if (upgrade->state == UPGRADE_SETTLING)
        try_to_give(upgrade);
    else
        upgrade_abort(upgrade, "the new one is not ready in time");
}

static void
on_word(void *arg, unsigned events)
{
    struct upgrade *upgrade = arg;
    char text[sizeof(HANDOVER_READS)] = "";
    int word = handover_hear(upgrade->socket, 0, text, sizeof(text));

    (void)events;
    if (word == 0)
        return;
    if (upgrade->state == UPGRADE_OFFERED && word == HANDOVER_TAKE) {
        upgrade->state = UPGRADE_SETTLING;
        upgrade->reads = strcmp(text, HANDOVER_READS) == 0;
        upgrade->settled_by = loop_now() + SETTLE_MS;
        set_frozen(upgrade, true);
        route_begin_leave(upgrade->route);
        loop_timer_start(upgrade->timer, 0);
    } else if (upgrade->state == UPGRADE_GIVEN && word == HANDOVER_READY) {
        if (handover_say(upgrade->socket, HANDOVER_GO, NULL)) { /* from here on nothing here is ours */
            log_info(NULL, "upgrade: ended, the new gimuxd goes on");
            svm_list_bye(upgrade->svms, "gimuxd is upgraded");
            _exit(0);
        }
        upgrade_abort(upgrade, "the new one has ended");
    } else {
        upgrade_abort(upgrade, word < 0 ? "the new one has ended" : "the new one says what it should not");
    }
}

void
upgrade_refuse(int socket, const char *why)
{
    stats.upgrade_failures_total++;
    log_warning(NULL, "upgrade: not now: %s", why);
    handover_say(socket, HANDOVER_NOT, why);
    close(socket);
}

void
upgrade_begin(struct upgrade *upgrade, int socket)
{
    if (upgrade->state != UPGRADE_NONE) {
        upgrade_refuse(socket, "another upgrade is under way");
        return;
    }
    upgrade->watch = loop_watch_new(upgrade->loop, socket, on_word, upgrade);
    if (!upgrade->watch) {
        upgrade_refuse(socket, "out of memory");
        return;
    }
    upgrade->state = UPGRADE_OFFERED;
    upgrade->socket = socket;
    upgrade->given_by = loop_now() + GIVEN_MS;
    loop_watch_set(upgrade->watch, LOOP_READ);
    loop_timer_start(upgrade->timer, GIVEN_MS);
}

/* ---- taking ---- */

static void
import_counters(const Message *message)
{
    for (size_t i = 0; i < message->n_counters; i++) {
        const Gimux__Handover__V1__Counter *from = message->counters[i];

#define COUNTER(counter, kind, help)                                                                         \
    if (strcmp(from->name, #counter) == 0)                                                                   \
        stats.counter += from->value;
        STATS_DAEMON(COUNTER)
#undef COUNTER
    }
}

bool
upgrade_take(struct upgrade *upgrade, int socket)
{
    char why[200] = "the old gimuxd has ended";

    upgrade->socket = socket;
    if (!handover_say(socket, HANDOVER_TAKE, HANDOVER_READS) ||
        !handover_take(socket, &upgrade->taken, KEEPER_UPGRADE_MS, why, sizeof(why))) {
        log_error(NULL, "upgrade: nothing was handed over: %s", why);
        return false;
    }
    if (!route_import_boot(upgrade->route, upgrade->taken.message)) {
        log_error(NULL, "upgrade: what was handed over does not say which gimuxd it is from");
        return false;
    }
    log_info(NULL, "upgrade: taking over from %s", upgrade->taken.message->build);
    import_counters(upgrade->taken.message);
    return door_list_import(upgrade->doors, &upgrade->taken);
}

bool
upgrade_import(struct upgrade *upgrade)
{
    if (!route_import(upgrade->route, upgrade->taken.message))
        return false;
    guest_list_pause(upgrade->guests);
    return door_list_import_guests(upgrade->doors, &upgrade->taken);
}

bool
upgrade_finish(struct upgrade *upgrade)
{
    bool good = handover_say(upgrade->socket, HANDOVER_READY, NULL) &&
                handover_hear(upgrade->socket, KEEPER_UPGRADE_MS, NULL, 0) == HANDOVER_GO;

    if (!good) {
        log_error(NULL, "upgrade: the old gimuxd goes on");
        return false;
    }
    if (handover_hear(upgrade->socket, GIVE_MS, NULL, 0) != -1)
        log_warning(NULL, "upgrade: the old gimuxd does not end; going on");
    route_stay(upgrade->route);
    stats.upgrades_total++;
    door_list_taken(upgrade->doors);
    guest_list_taken(upgrade->guests);
    parcel_fini(&upgrade->taken, true);
    close(upgrade->socket);
    upgrade->socket = -1;
    return true;
}

bool
upgrade_init(struct upgrade *upgrade)
{
    upgrade->socket = -1;
    upgrade->timer = loop_timer_new(upgrade->loop, on_timer, upgrade);
    return upgrade->timer;
}

void
upgrade_fini(struct upgrade *upgrade)
{
    if (!upgrade->timer)
        return; /* upgrade_init has not been called, or has failed */
    let_go(upgrade);
    loop_timer_free(upgrade->timer);
}
