/* The upgrade: one worker gives everything to another, which may be of another version, and guests notice
 * nothing.
 *
 *   the new one                              the old one
 *   reads its configuration
 *   TAKE  --------------------------------->  reads nothing more, lets nobody in; what it has been told goes
 * to SVMs, whose acknowledgements it waits for
 *         <---------------------------------  DATA: all that it has, with descriptors of all sockets
 *   opens doors that it has not been given,
 *   becomes who it is to be, goes behind its
 *   filter; its loop does not run
 *   READY --------------------------------->
 *         <---------------------------------  GO
 *                                             says Bye to SVMs, exits
 *   (the socket closes)
 *   dials SVMs, reads guests
 *
 * What a guest sends meanwhile waits in the kernel. Up to GO the old one can go on at any time as if nothing
 * had been: the new one has touched nothing that is shared. It does so if the new one ends, is not ready in
 * time, or if SVMs do not acknowledge: VM logs travel in their files, and what is only in memory does not
 * (Vm.log_descriptor is for that). Between GO and the end of the old one nobody serves a guest; after it,
 * only the new one does. */
#include "mux/process/upgrade.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mux/base/log.h"
#include "mux/base/stats.h"
#include "mux/process/keeper.h"

#define SETTLE_MS 2000u
#define STEP_MS   5u
#define GIVE_MS   2000u /* that the other may take to read */
#define GIVEN_MS                                                                                             \
    (KEEPER_UPGRADE_MS - 2000) /* the keeper must not lose patience with one that was told GO                \
                                */

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

static void
export_solutions(const struct route *route, struct parcel *parcel)
{
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++) {
        const struct sink *sink = route->sinks[slot];
        const struct vm_counts *counts = &route->table.forgotten[slot];
        Gimux__Handover__V1__Solution *to;

        if (!sink)
            continue;
        to = PARCEL_ADD(parcel, parcel->message->solutions, parcel->message->n_solutions, solution);
        to->name = parcel_text(parcel, sink->conf->name);
        to->delivered = counts->delivered;
        to->filtered = counts->filtered;
        to->gapped = counts->gapped;
        to->sent_bytes = sink->sent_bytes;
        to->skips = sink->skips;
    }
}

static void
export_progress(const struct route *route, const struct stream *stream, struct parcel *parcel,
                Gimux__Handover__V1__Stream *to)
{
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++) {
        const struct vmlog_progress *from;
        Gimux__Handover__V1__Progress *progress;

        if (!route->sinks[slot])
            continue;
        from = &stream->log.sinks[slot];
        progress = PARCEL_ADD(parcel, to->progress, to->n_progress, progress);
        progress->solution = parcel_text(parcel, route->sinks[slot]->conf->name);
        progress->delivered = from->delivered;
        progress->filtered = from->filtered;
        progress->gapped = from->gapped;
    }
}

static void
export_stream(const struct route *route, const struct stream *stream, struct parcel *parcel,
              Gimux__Handover__V1__Vm *vm)
{
    Gimux__Handover__V1__Stream *to = PARCEL_ADD(parcel, vm->streams, vm->n_streams, stream);

    to->driver = stream->driver;
    to->boot_id = parcel_bytes(parcel, stream->boot_id, GR_UUID_SIZE);
    to->build = parcel_text(parcel, stream->build);
    to->guest_os = parcel_text(parcel, stream->guest_os);
    to->start = stream->start;
    to->last = stream->log.last;
    to->cid = stream->cid;
    to->ended = stream->ended;
    export_progress(route, stream, parcel, to);
}

/* The VM's list has the newest stream first. */
static void
reverse(Gimux__Handover__V1__Stream **streams, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        Gimux__Handover__V1__Stream *other = streams[i];

        streams[i] = streams[count - 1 - i];
        streams[count - 1 - i] = other;
    }
}

static void
export_vms(const struct route *route, struct parcel *parcel)
{
    for (const struct vm *vm = route->table.vms; vm; vm = vm->hh.next) {
        Gimux__Handover__V1__Vm *to = PARCEL_ADD(parcel, parcel->message->vms, parcel->message->n_vms, vm);
        const struct stream *stream;

        to->uuid = parcel_bytes(parcel, vm->uuid, GR_UUID_SIZE);
        to->events = vm->events;
        to->power = vm->power;
        LIST_FOREACH (stream, &vm->streams, of_vm)
            export_stream(route, stream, parcel, to);
        if (to->n_streams > 0)
            reverse(to->streams, to->n_streams);
    }
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
    message->own_boot = parcel_bytes(&parcel, upgrade->route->own_boot, GR_UUID_SIZE);
    if (upgrade->route->store && store_is_needed(upgrade->route->conf))
        message->storage_dir = parcel_text(&parcel, upgrade->route->conf->storage.dir);
    export_counters(&parcel);
    export_solutions(upgrade->route, &parcel);
    export_vms(upgrade->route, &parcel);
    door_list_export(upgrade->doors, &parcel);
    parcel_add_socket(&parcel, &upgrade->doors->conf->admin, admin_fd(*upgrade->admin));
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
    } else {
        guest_list_resume(upgrade->guests);
        door_list_thaw(upgrade->doors);
    }
    admin_freeze(*upgrade->admin, frozen);
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

/* From here on nothing here is ours. */
static void __attribute__((noreturn)) end(struct upgrade *upgrade)
{
    log_info(NULL, "upgrade: ended, the new gimuxd goes on");
    svm_list_bye(upgrade->svms, "gimuxd is upgraded");
    _exit(0);
}

static void
try_to_give(struct upgrade *upgrade)
{
    uint64_t pending = route_pending(upgrade->route, NULL);
    char why[100];

    bool can_leave = route_can_leave(upgrade->route);

    if (!can_leave && loop_now() < upgrade->settled_by) {
        loop_timer_start(upgrade->timer, STEP_MS);
        return;
    }
    if (!can_leave) {
        snprintf(why, sizeof(why), "%llu events, or gaps, wait for SVMs", (unsigned long long)pending);
        handover_say(upgrade->socket, HANDOVER_NOT, why);
        upgrade_abort(upgrade, why);
    } else if (!give(upgrade)) {
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
    int word = handover_hear(upgrade->socket, 0, NULL, 0);

    (void)events;
    if (word == 0)
        return;
    if (upgrade->state == UPGRADE_OFFERED && word == HANDOVER_TAKE) {
        upgrade->state = UPGRADE_SETTLING;
        upgrade->settled_by = loop_now() + SETTLE_MS;
        set_frozen(upgrade, true);
        loop_timer_start(upgrade->timer, 0);
    } else if (upgrade->state == UPGRADE_GIVEN && word == HANDOVER_READY) {
        if (handover_say(upgrade->socket, HANDOVER_GO, NULL))
            end(upgrade);
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
        upgrade_refuse(socket, "another one is at it");
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
    char why[200] = "the old gimuxd is gone";

    upgrade->socket = socket;
    if (!handover_say(socket, HANDOVER_TAKE, NULL) ||
        !handover_take(socket, &upgrade->taken, KEEPER_UPGRADE_MS, why, sizeof(why)) ||
        upgrade->taken.message->own_boot.len != GR_UUID_SIZE) {
        log_error(NULL, "upgrade: nothing was handed over: %s", why);
        return false;
    }
    log_info(NULL, "upgrade: taking over from %s", upgrade->taken.message->build);
    memcpy(upgrade->route->own_boot, upgrade->taken.message->own_boot.data, GR_UUID_SIZE);
    import_counters(upgrade->taken.message);
    return door_list_import(upgrade->doors, &upgrade->taken);
}

static int
slot_of(const struct route *route, const char *solution)
{
    for (unsigned slot = 0; slot < VMLOG_SINKS; slot++)
        if (route->sinks[slot] && strcmp(route->sinks[slot]->conf->name, solution) == 0)
            return (int)slot;
    return -1;
}

static void
import_solutions(struct route *route, const Message *message)
{
    for (size_t i = 0; i < message->n_solutions; i++) {
        const Gimux__Handover__V1__Solution *from = message->solutions[i];
        int slot = slot_of(route, from->name);

        if (slot < 0)
            continue;
        route->table.forgotten[slot].delivered += from->delivered;
        route->table.forgotten[slot].filtered += from->filtered;
        route->table.forgotten[slot].gapped += from->gapped;
        route->sinks[slot]->sent_bytes += from->sent_bytes;
        route->sinks[slot]->skips += from->skips;
    }
}

/* Whether the files of VM logs are those of the one that hands over. */
static bool
has_its_files(const struct route *route, const Message *message)
{
    if (message->storage_dir[0] == '\0' || strcmp(message->storage_dir, route->conf->storage.dir) == 0)
        return true;
    log_error(NULL, "upgrade: storage.dir = %s: expected %s, where VM logs are", route->conf->storage.dir,
              message->storage_dir);
    return false;
}

static bool
import_stream(struct route *route, const Gimux__Handover__V1__Vm *vm, const Gimux__Handover__V1__Stream *from)
{
    const struct vm *known = vm_find(&route->table, vm->uuid.data);
    struct stream *stream = NULL;
    bool recovered;

    if (from->boot_id.len != GR_UUID_SIZE)
        return false;
    recovered = known && vm_stream_find(known, (uint16_t)from->driver, from->boot_id.data);
    if (from->boot_id.len == GR_UUID_SIZE && from->start > 0 && from->start <= from->last + 1)
        stream = route_take_stream(route, vm->uuid.data, (uint16_t)from->driver, from->boot_id.data,
                                   from->start, from->last);
    if (!stream)
        return false;
    if (stream->driver != VM_DRIVER_GIMUXD) /* whose build has changed */
        snprintf(stream->build, sizeof(stream->build), "%s", from->build);
    snprintf(stream->guest_os, sizeof(stream->guest_os), "%s", from->guest_os);
    stream->cid = from->cid;
    stream->ended = from->ended;
    if (stream->log.last != from->last) {
        log_error((&(struct log_who){ .vm = stream->vm->uuid_text }),
                  "upgrade: storage has %llu events of a stream, expected %llu",
                  (unsigned long long)stream->log.last, (unsigned long long)from->last);
        return false;
    }
    if (recovered)
        return true; /* its files have the counters */
    for (size_t i = 0; i < from->n_progress; i++) {
        int slot = slot_of(route, from->progress[i]->solution);

        if (slot < 0)
            continue;
        stream->log.sinks[slot].delivered = from->progress[i]->delivered;
        stream->log.sinks[slot].filtered = from->progress[i]->filtered;
        stream->log.sinks[slot].gapped = from->progress[i]->gapped;
    }
    return true;
}

static bool
import_vm(struct route *route, const Gimux__Handover__V1__Vm *from)
{
    struct vm *vm;

    if (from->uuid.len != GR_UUID_SIZE)
        return false;
    for (size_t i = 0; i < from->n_streams; i++)
        if (!import_stream(route, from, from->streams[i]))
            return false;
    vm = vm_find(&route->table, from->uuid.data);
    if (vm) {
        vm->events = from->events;
        vm->power = (uint16_t)from->power;
    }
    return true;
}

bool
upgrade_import(struct upgrade *upgrade)
{
    const Message *message = upgrade->taken.message;

    if (!has_its_files(upgrade->route, message))
        return false;
    import_solutions(upgrade->route, message);
    for (size_t i = 0; i < message->n_vms; i++) {
        if (!import_vm(upgrade->route, message->vms[i])) {
            log_error(NULL, "upgrade: a VM cannot be taken over: limits, or memory");
            return false;
        }
    }
    guest_list_pause(upgrade->guests);
    for (size_t i = 0; i < message->n_guests; i++)
        if (!dial_list_import_guest(&upgrade->doors->dialled, &upgrade->taken, message->guests[i]))
            return false;
    return true;
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
    let_go(upgrade);
    loop_timer_free(upgrade->timer);
}
