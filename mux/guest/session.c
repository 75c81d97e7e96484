/* Guest sessions: one connection of a driver, from its HELLO to its end.
 *
 *            HELLO accepted            nothing for conf->silence
 *   GREETING ---------------> ACTIVE <------------------------> SILENT   (reported lost, and back)
 *      |                        |                                  |
 *      +---- REJECT ------------+-------- disconnect(reason) ------+----> CLOSED
 *
 * Every end from our side goes through guest_disconnect. The session lives until its connection says that it
 * is closed. */
#include "mux/guest/guest.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mux/base/log.h"
#include "mux/base/stats.h"
#include "mux/event/text.h"
#include "mux/guest/inner.h"

/* An acknowledgement waits for more: at most so long, and until so much has come, or a quarter of the window.
 */
#define ACK_MS    10u
#define ACK_BYTES ((size_t)256 * 1024)

static const char *const state_names[] = { "greeting", "active", "silent", "closed" };

const struct conn_limits guest_conn_limits = { .in = GR_MAX_RECORD, .out = GUEST_OUT_MAX };

/* ---- saying who ---- */

static struct log_who
who(const struct guest *guest)
{
    struct log_who result = { NULL, NULL, NULL };

    if (guest->stream) {
        result.vm = vm_uuid_text(stream_vm(guest->stream));
        result.driver = gr_driver_name(stream_about(guest->stream)->driver);
    }
    return result;
}

static void
set_state(struct guest *guest, enum guest_state state)
{
    struct log_who about = who(guest);

    log_debug(&about, "%s: %s -> %s", guest->door.name, state_names[guest->state], state_names[state]);
    guest->state = state;
}

/* ---- sending ---- */

static void
send_record(struct guest *guest, struct gr_record *record)
{
    uint8_t buf[1024];
    size_t len = gr_encode(record, buf, sizeof(buf));

    guest->spoke = loop_now();
    if (len > 0)
        conn_write(guest->conn, buf, len);
}

/* ---- acknowledging ---- */

static void
forget_due(struct guest *guest)
{
    if (!guest->due)
        return;
    guest->due = false;
    LIST_REMOVE(guest, in_due);
}

static void
say_accepted(struct guest *guest)
{
    struct gr_record record = { .type = GR_ACK };

    forget_due(guest);
    guest->acked = stream_accepted(guest->stream);
    guest->said = loop_now();
    guest->unsaid = 0;
    record.body.ack.sequence = guest->acked;
    record.body.ack.level = route_level(guest->list->route, guest->stream);
    send_record(guest, &record);
}

void
guest_say_all_accepted(void *arg)
{
    struct guest_list *list = arg;
    struct guest *guest;

    while ((guest = LIST_FIRST(&list->due)))
        say_accepted(guest);
}

/* Whether the acknowledgement must not wait for more: the driver may need it to go on, or nothing more will
 * be read. */
static bool
is_pressing(const struct guest *guest)
{
    uint64_t window = guest->list->conf->limits.vm_window;

    return guest->list->paused || guest->unsaid >= (window / 4 < ACK_BYTES ? window / 4 : ACK_BYTES) ||
           loop_now() - guest->said >= ACK_MS;
}

/* An acknowledgement costs a system call here and a wake-up in the guest, and covers all before it: so it may
 * wait a little for more. */
void
guest_accepted(void *arg)
{
    struct guest *guest = arg;

    if (stream_accepted(guest->stream) <= guest->acked)
        return;
    if (is_pressing(guest)) {
        say_accepted(guest);
        return;
    }
    if (guest->due)
        return;
    if (LIST_EMPTY(&guest->list->due))
        loop_timer_start(guest->list->ack, ACK_MS);
    guest->due = true;
    LIST_INSERT_HEAD(&guest->list->due, guest, in_due);
}

/* ---- the end ---- */

/* All of them, since duplicates, PINGs and HELLOs cost time as well as events do. */
static void
count_records(struct guest *guest)
{
    route_count_records(guest->list->route, guest->stream, guest->records, guest->record_bytes);
    guest->records = guest->record_bytes = 0;
}

void
guest_disconnect(struct guest *guest, struct gr_record *last, bool ended, const char *reason)
{
    if (guest->state == GUEST_CLOSED)
        return;
    set_state(guest, GUEST_CLOSED);
    if (guest->due)
        say_accepted(guest);
    if (guest->stream) {
        count_records(guest);
        route_close(guest->list->route, guest->stream, ended, reason);
    }
    guest->stream = NULL;
    if (last) {
        send_record(guest, last);
        conn_finish(guest->conn, reason);
    } else {
        conn_close(guest->conn, reason);
    }
}

static void __attribute__((format(printf, 2, 3))) protocol_error(struct guest *guest, const char *format, ...)
{
    struct log_who about = who(guest);
    char reason[256];
    va_list args;

    va_start(args, format);
    vsnprintf(reason, sizeof(reason), format, args);
    va_end(args);
    stats.guest_errors_total++;
    log_warning(&about, "%s: closed: %s", guest->door.name, reason);
    guest_disconnect(guest, NULL, false, reason);
}

/* ---- HELLO ---- */

static void
reject(struct guest *guest, uint16_t code, const char *reason)
{
    struct gr_record record = { .type = GR_REJECT };
    struct log_who about = who(guest);

    record.body.reject.code = code;
    record.body.reject.reason = (struct gr_text){ (const uint8_t *)reason, (uint32_t)strlen(reason) };
    stats.guest_rejects_total++;
    log_warning(&about, "%s: hello rejected: %s", guest->door.name, reason);
    guest_disconnect(guest, &record, false, reason);
}

static void
welcome(struct guest *guest)
{
    const struct conf *conf = guest->list->conf;
    struct gr_record record = { .type = GR_WELCOME };

    record.body.welcome.version = GR_VERSION;
    record.body.welcome.heartbeat_ms = conf->heartbeat;
    record.body.welcome.next_wanted = stream_last(guest->stream) + 1;
    record.body.welcome.window = conf->limits.vm_window;
    record.body.welcome.interest = route_interest(guest->list->route);
    send_record(guest, &record);
}

/* What the hello says, against what the door and the configuration say. Returns 0 or an enum gr_reject_code.
 */
static int
check_identity(const struct guest *guest, const struct gr_hello *hello, char *why, size_t size)
{
    const struct conf *conf = guest->list->conf;
    const struct conf_vm *vm = conf_vm_by_uuid(conf, hello->vm_uuid);
    char said[GR_UUID_TEXT];
    char known[GR_UUID_TEXT];

    gr_uuid_format(hello->vm_uuid, said);
    if (guest->door.unknown) {
        snprintf(why, size, "no vm section has cid = %u, and doors.unknown_cid is reject", guest->door.cid);
        return GR_REJECT_UNKNOWN;
    }
    if (hello->version_min > GR_VERSION || hello->version_max < GR_VERSION) {
        snprintf(why, size, "protocol versions %u to %u, expected a range with %u", hello->version_min,
                 hello->version_max, GR_VERSION);
        return GR_REJECT_VERSION;
    }
    if (hello->driver < GR_VSEPFLT || hello->driver > GR_VMX ||
        (hello->driver == GR_VMX) != guest->door.vmx) {
        snprintf(why, size, "driver %u (%s), expected %s at this door", hello->driver,
                 gr_driver_name(hello->driver),
                 guest->door.vmx ? "vmx" : "vsepflt, vnetflt, vnetwfp or linux");
        return GR_REJECT_DRIVER;
    }
    if (guest->door.proved && memcmp(guest->door.vm_uuid, hello->vm_uuid, GR_UUID_SIZE) != 0) {
        snprintf(why, size, "the hello says VM %s, but this is the door of VM %s", said,
                 gr_uuid_format(guest->door.vm_uuid, known));
        return GR_REJECT_IDENTITY;
    }
    if (!guest->door.proved && !guest->door.vmx && vm) {
        snprintf(why, size, "VM %s has a door of its own", said);
        return GR_REJECT_IDENTITY;
    }
    return 0;
}

static void
on_hello(struct guest *guest, const struct gr_record *record)
{
    const struct gr_hello *hello = &record->body.hello;
    struct route_hello said = {
        .hello = hello, .door = guest->door.name, .proved = guest->door.proved, .cid = guest->door.cid
    };
    struct log_who about;
    char build[VM_TEXT_MAX];
    char guest_os[VM_TEXT_MAX];
    char why[256];
    int code = check_identity(guest, hello, why, sizeof(why));

    text_show(hello->build.data, hello->build.len, gr_driver_is_windows(hello->driver), build, sizeof(build));
    text_show(hello->guest_os.data, hello->guest_os.len, gr_driver_is_windows(hello->driver), guest_os,
              sizeof(guest_os));
    said.build = build;
    said.guest_os = guest_os;
    if (code == 0)
        code = route_open(guest->list->route, &said, guest, &guest->stream, why, sizeof(why));
    if (code != 0) {
        reject(guest, (uint16_t)code, why);
        return;
    }
    assert(guest->stream);
    set_state(guest, GUEST_ACTIVE);
    guest->heard = loop_now();
    guest->acked = 0; /* a second HELLO is another stream, whose volumes have not been told */
    free(guest->volumes);
    guest->volumes = NULL;
    about = who(guest);
    log_info(&about, "connected by %s: build %s, %s, boot %s, from sequence %llu", guest->door.name, build,
             guest_os, stream_about(guest->stream)->boot_text,
             (unsigned long long)stream_last(guest->stream) + 1);
    welcome(guest);
    guest_accepted(guest);
}

/* ---- records ---- */

/* An event or LOST of sequence `first` to `last`. Returns whether it was consumed. */
static bool
on_event(struct guest *guest, const struct gr_record *record)
{
    struct stream *stream = guest->stream;
    uint64_t last = record->type == GR_LOST ? record->body.lost.last : record->sequence;
    uint64_t had;

    assert(stream);
    had = stream_last(stream);
    if (last <= had) {
        stats.guest_duplicates_total++; /* sent before the break, and again after it */
        return true;
    }
    if (record->sequence > had + 1 || (last != record->sequence && record->sequence <= had)) {
        protocol_error(guest, "%s record: sequence %llu, expected %llu", gr_type_name(record->type),
                       (unsigned long long)record->sequence, (unsigned long long)had + 1);
        return true;
    }
    if (last - had > ROUTE_LOST_MAX) {
        protocol_error(guest, "LOST record: %llu events, expected at most %u",
                       (unsigned long long)(last - had), ROUTE_LOST_MAX);
        return true;
    }
    if (record->type == GR_LOST) {
        struct log_who about = who(guest);

        log_info(&about, "the driver dropped %llu events itself", (unsigned long long)(last - had));
        return route_lost(guest->list->route, stream, last);
    }
    if ((record->type == GR_POWER) != (stream_about(stream)->driver == GR_VMX)) {
        protocol_error(guest, "%s record from driver %s", gr_type_name(record->type),
                       gr_driver_name(stream_about(stream)->driver));
        return true;
    }
    if (!route_publish(guest->list->route, stream, record, guest->volumes))
        return false;
    guest->unsaid += record->size;
    return true;
}

static void
on_volumes(struct guest *guest, const struct gr_record *record)
{
    struct log_who about = who(guest);
    uint32_t left_out;

    if (!guest->volumes)
        guest->volumes = calloc(1, sizeof(*guest->volumes));
    if (!guest->volumes)
        return;
    left_out = volume_map_set(guest->volumes, &record->body.volumes);
    if (left_out > 0)
        log_warning(&about, "VOLUMES record: %u entries left out", left_out);
}

/* One record of an accepted session. Returns whether it was consumed. */
static bool
on_record(struct guest *guest, const struct gr_record *record)
{
    struct gr_record answer = { .type = GR_PONG };

    if (gr_type_is_event(record->type) || record->type == GR_LOST)
        return on_event(guest, record);
    switch (record->type) {
    case GR_PING:
        answer.body.ping = record->body.ping;
        send_record(guest, &answer);
        break;
    case GR_PONG:
        break;
    case GR_VOLUMES:
        on_volumes(guest, record);
        break;
    case GR_FILE_DATA: /* answers a question that this version does not ask */
        break;
    case GR_HELLO: /* a serial port does not tell us that another process has opened it in the guest */
        forget_due(guest);
        route_close(guest->list->route, guest->stream, false, "the driver has started again");
        guest->stream = NULL;
        on_hello(guest, record);
        break;
    case GR_BYE:
        guest_disconnect(guest, NULL, true, "the driver said BYE");
        break;
    default:
        protocol_error(guest, "%s record, expected one that drivers send", gr_type_name(record->type));
        break;
    }
    return true;
}

static void
heard(struct guest *guest)
{
    if (guest->state == GUEST_GREETING)
        return; /* a HELLO that comes byte by byte does not hold the connection open */
    guest->heard = loop_now();
    if (guest->state == GUEST_SILENT) {
        struct log_who about = who(guest);

        set_state(guest, GUEST_ACTIVE);
        log_info(&about, "the driver is back");
        route_lifecycle(guest->list->route, guest->stream, true, "it is heard again");
    }
}

static size_t
on_data(void *arg, const uint8_t *buf, size_t len)
{
    struct guest *guest = arg;
    size_t used = 0;

    if (!guest->spoken)
        guest->heard = loop_now();
    guest->spoken = true;
    heard(guest);
    while (used < len && guest->state != GUEST_CLOSED) {
        struct gr_record record;
        char why[GR_WHY_MAX];
        enum gr_result result = gr_decode(buf + used, len - used, &record, why);

        if (result == GR_MORE)
            break;
        if (result == GR_INVALID) {
            protocol_error(guest, "%s", why);
            break;
        }
        if (result == GR_SKIP) {
            stats.guest_skipped_total++;
        } else if (guest->state == GUEST_GREETING) {
            if (record.type == GR_HELLO)
                on_hello(guest, &record);
            else
                protocol_error(guest, "%s record, expected HELLO first", gr_type_name(record.type));
        } else if (!on_record(guest, &record)) {
            break; /* paused: it comes again */
        }
        used += record.size;
        guest->records++;
        guest->record_bytes += record.size;
        if (guest->paused)
            break;
    }
    if (guest->stream)
        count_records(guest);
    return used;
}

/* ---- what the connection says ---- */

static void
on_open(void *arg)
{
    (void)arg; /* the driver speaks first */
}

static void
on_closed(void *arg, const char *why)
{
    struct guest *guest = arg;
    struct log_who about = who(guest);

    if (guest->state != GUEST_CLOSED) {
        log_info(&about, "%s: disconnected: %s", guest->door.name, why);
        if (guest->stream) {
            stats.guest_lost_total += guest->state != GUEST_SILENT;
            route_close(guest->list->route, guest->stream, false, why);
        }
    }
    forget_due(guest);
    LIST_REMOVE(guest, in_list);
    guest->list->count--;
    if (guest->gone)
        guest->gone(guest->gone_arg);
    free(guest->volumes);
    free(guest);
}

const struct conn_ops guest_conn_ops = {
    .open = on_open, .data = on_data, .writable = on_open, .closed = on_closed
};

/* ---- what the route says ---- */

static void
on_pause(void *arg)
{
    struct guest *guest = arg;

    guest->paused = true;
    conn_pause(guest->conn);
}

static void
on_resume(void *arg)
{
    struct guest *guest = arg;

    guest->paused = false;
    if (!guest->list->paused)
        conn_resume(guest->conn);
}

static void
on_interest(void *arg, uint64_t kinds)
{
    struct gr_record record = { .type = GR_INTEREST };

    record.body.interest.kinds = kinds;
    send_record(arg, &record);
}

static void
on_replaced(void *arg, const char *why)
{
    struct guest *guest = arg;
    struct log_who about = who(guest);

    log_info(&about, "%s: closed: %s", guest->door.name, why);
    forget_due(guest);
    guest->stream = NULL;
    guest->paused = false;
    guest_disconnect(guest, NULL, false, why);
}

const struct route_guest_ops guest_route_ops = { .pause = on_pause,
                                                 .resume = on_resume,
                                                 .accepted = guest_accepted,
                                                 .interest = on_interest,
                                                 .replaced = on_replaced };

/* ---- heartbeats ---- */

void
guest_check(struct guest *guest, uint64_t now)
{
    const struct conf *conf = guest->list->conf;
    struct gr_record ping = { .type = GR_PING };
    struct log_who about = who(guest);

    /* A paused guest cannot be heard. */
    if (guest->paused)
        guest->heard = now;
    if (guest->state == GUEST_GREETING && guest->door.proved && !guest->spoken) {
        return; /* a VM's own channel may be open long before the driver in it starts */
    } else if (guest->state == GUEST_GREETING && now - guest->heard >= conf->silence) {
        protocol_error(guest, "no HELLO within %u ms", conf->silence);
    } else if (guest->state == GUEST_ACTIVE && now - guest->heard >= conf->silence) {
        set_state(guest, GUEST_SILENT);
        stats.guest_lost_total++;
        log_warning(&about, "lost: the driver is silent for %llu ms",
                    (unsigned long long)(now - guest->heard));
        route_lifecycle(guest->list->route, guest->stream, false, "it is silent");
    }
    if (guest->state == GUEST_ACTIVE || guest->state == GUEST_SILENT) {
        if (now - guest->spoke >= conf->heartbeat / 2)
            send_record(guest, &ping);
    }
}
