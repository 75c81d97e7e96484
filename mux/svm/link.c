/* SVM links: for every solution a connection that gimuxd dials, again and again, and the frames on it.
 *
 *   WAITING -> RESOLVING -> CONNECTING -> GREETING -> UP
 *      ^           |            |            |        |
 *      +-----------+------ disconnect(reason) --------+      REMOVED: it is no longer configured
 *
 * The link lives as long as its solution is configured; its sink in the route lives as long as the link,
 * connected or not, because events wait for it. */
#include "mux/svm/inner.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "mux/base/log.h"
#include "mux/base/stats.h"
#include "mux/event/frame.h"
#include "mux/event/text.h"
#include "mux/net/conn.h"
#include "proto/delimited.h"

#define REDIAL_MIN_MS 100
#define BATCH_BYTES   ((size_t)256 * 1024)
#define BATCH_PIECES  64
#define SILENT_BEATS  3

static const char *const state_names[] = {
    "waiting", "resolving", "connecting", "greeting", "up", "removed"
};

static const struct conn_limits conn_limits = { .in = DELIMITED_FRAME_MAX + DELIMITED_PREFIX_MAX,
                                                .out = 2 * DELIMITED_FRAME_MAX };

const char *
svm_state_name(enum svm_state state)
{
    return state_names[state];
}

static struct log_who
who(const struct svm *svm)
{
    return (struct log_who){ .solution = svm->conf.name };
}

static void
set_state(struct svm *svm, enum svm_state state)
{
    struct log_who about = who(svm);

    log_debug(&about, "%s -> %s", state_names[svm->state], state_names[state]);
    svm->state = state;
}

static void
take_text(const char *said, char *out, size_t cap)
{
    text_show((const uint8_t *)said, strlen(said), false, out, cap);
}

/* ---- the end of a connection ---- */

/* Between half and the whole of the time, so that links that broke together do not come back together. */
static uint32_t
with_jitter(uint32_t ms)
{
    uint32_t random = 0;

    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
        random = 0;
    return ms / 2 + random % (ms / 2 + 1);
}

/* Whatever the link was doing, it waits for its next attempt. The connection, if there is one, is closing. */
static void
link_down(struct svm *svm, const char *reason)
{
    struct log_who about = who(svm);
    uint32_t wait = with_jitter(svm->redial);
    char text[SVM_ERROR_MAX];

    if (svm->state == SVM_UP) {
        route_sink_down(svm->list->route, svm->sink);
        if (loop_now() - svm->up_since >= svm->conf.heartbeat) /* it has worked */
            wait = with_jitter(svm->redial = REDIAL_MIN_MS);
    }
    take_text(reason, text, sizeof(text));
    if (strcmp(text, svm->last_error) != 0 || svm->state >= SVM_GREETING)
        log_warning(&about, "%s; trying again in %u ms", text, wait);
    memcpy(svm->last_error, text, sizeof(text));
    set_state(svm, SVM_WAITING);
    svm->redial = svm->redial * 2 < svm->conf.redial_max ? svm->redial * 2 : svm->conf.redial_max;
    loop_timer_start(svm->timer, wait);
}

/* Ends the connection from this side; link_down follows when that says that it is closed. Returns false, for
 * callers that return whether to go on. */
static bool __attribute__((format(printf, 2, 3))) protocol_error(struct svm *svm, const char *format, ...)
{
    char reason[SVM_ERROR_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(reason, sizeof(reason), format, args);
    va_end(args);
    stats.svm_errors_total++;
    conn_close(svm->conn, reason);
    return false;
}

/* ---- sending ---- */

static void
tell(void *arg, const Gimux__V1__Frame *frame)
{
    struct svm *svm = arg;
    uint8_t buf[FRAME_OWN_MAX];
    size_t len = frame_pack(frame, buf, sizeof(buf));

    if (len > 0)
        conn_write(svm->conn, buf, len);
}

/* Sends what the logs have, until the socket takes no more. */
static void
pump(void *arg)
{
    struct svm *svm = arg;
    struct iovec iov[BATCH_PIECES];

    while (svm->state == SVM_UP) {
        struct vmlog_batch batch = { .iov = iov, .max = BATCH_PIECES };
        struct iovec rest;
        size_t taken;

        sink_gather(svm->sink, &batch, BATCH_BYTES);
        if (batch.count == 0)
            break;
        taken = conn_writev(svm->conn, iov, batch.count);
        sink_sent(svm->sink, taken, &rest);
        if (rest.iov_len > 0)
            conn_write(svm->conn, rest.iov_base, rest.iov_len);
        if (taken < batch.bytes)
            break;
    }
}

static void
on_writable(void *arg)
{
    struct svm *svm = arg;

    sink_drained(svm->sink);
    pump(svm);
}

static const struct sink_ops sink_ops = { .tell = tell, .wake = pump };

/* ---- receiving: each returns whether to go on ---- */

static bool
on_hello(struct svm *svm, Gimux__V1__Frame *frame)
{
    struct log_who about = who(svm);
    Gimux__V1__SvmHello *hello = frame->svm_hello;
    size_t known = hello->n_positions;
    const char *why;

    if (hello->version != 1)
        return protocol_error(svm, "SvmHello: version %u, expected 1", hello->version);
    take_text(hello->name, svm->name, sizeof(svm->name));
    frame->body_case = GIMUX__V1__FRAME__BODY__NOT_SET; /* the sink owns the hello now */
    frame->svm_hello = NULL;
    why = route_sink_up(svm->list->route, svm->sink, hello);
    if (why)
        return protocol_error(svm, "%s", why);
    set_state(svm, SVM_UP);
    svm->up_since = loop_now();
    svm->last_error[0] = '\0';
    loop_timer_start(svm->timer, svm->conf.heartbeat / 2);
    log_info(&about, "up: %s knows %zu streams", svm->name, known);
    return true;
}

static bool
acknowledge(struct svm *svm, uint32_t stream, uint64_t sequence)
{
    return route_ack(svm->list->route, svm->sink, stream, sequence) ||
           protocol_error(svm, "Ack: stream %u up to %llu, which was not sent", stream,
                          (unsigned long long)sequence);
}

static bool
on_bye(struct svm *svm, const Gimux__V1__Bye *bye)
{
    char reason[SVM_ERROR_MAX];

    snprintf(reason, sizeof(reason), "the SVM said Bye: %.400s", bye->reason);
    conn_close(svm->conn, reason);
    return false;
}

static bool
on_greeting(struct svm *svm, Gimux__V1__Frame *frame)
{
    if (frame->body_case == GIMUX__V1__FRAME__BODY_SVM_HELLO)
        return on_hello(svm, frame);
    if (frame->body_case == GIMUX__V1__FRAME__BODY_BYE)
        return on_bye(svm, frame->bye);
    return protocol_error(svm, "frame %d, expected SvmHello first", (int)frame->body_case);
}

static bool
on_frame(struct svm *svm, Gimux__V1__Frame *frame)
{
    Gimux__V1__Frame answer = GIMUX__V1__FRAME__INIT;
    Gimux__V1__Pong pong = GIMUX__V1__PONG__INIT;

    switch (frame->body_case) {
    case GIMUX__V1__FRAME__BODY_ACK: /* in an unusual encoding; take_frame has taken the usual one */
        for (size_t i = 0; i < frame->ack->n_streams; i++)
            if (!acknowledge(svm, frame->ack->streams[i]->stream, frame->ack->streams[i]->sequence))
                return false;
        return true;
    case GIMUX__V1__FRAME__BODY_PING:
        pong.token = frame->ping->token;
        answer.body_case = GIMUX__V1__FRAME__BODY_PONG;
        answer.pong = &pong;
        tell(svm, &answer);
        return true;
    case GIMUX__V1__FRAME__BODY_PONG:
    case GIMUX__V1__FRAME__BODY__NOT_SET: /* of a newer version */
        return true;
    case GIMUX__V1__FRAME__BODY_BYE:
        return on_bye(svm, frame->bye);
    default:
        return protocol_error(svm, "frame %d, expected one that SVMs send", (int)frame->body_case);
    }
}

static bool
take_frame(struct svm *svm, const uint8_t *body, size_t len)
{
    struct frame_acks acks;
    Gimux__V1__Frame *frame;
    uint32_t stream;
    uint64_t sequence;
    bool go_on;

    if (svm->state == SVM_UP &&
        frame_acks_begin(&acks, body, len)) { /* without memory: nearly all are Acks */
        while (frame_acks_next(&acks, &stream, &sequence))
            if (!acknowledge(svm, stream, sequence))
                return false;
        return true;
    }
    frame = frame_unpack(body, len);
    if (!frame)
        return protocol_error(svm, "a frame of %zu bytes that is no gimux.v1.Frame, or too large in memory",
                              len);
    go_on = svm->state == SVM_GREETING ? on_greeting(svm, frame) : on_frame(svm, frame);
    gimux__v1__frame__free_unpacked(frame, NULL);
    return go_on;
}

static size_t
on_data(void *arg, const uint8_t *buf, size_t len)
{
    struct svm *svm = arg;
    size_t used = 0;
    bool go_on = true;

    svm->heard = loop_now();
    while (go_on && (svm->state == SVM_GREETING || svm->state == SVM_UP)) {
        const uint8_t *body;
        size_t body_len;

        switch (delimited_next(buf + used, len - used, DELIMITED_FRAME_MAX, &body, &body_len)) {
        case DELIMITED_MORE:
            return used;
        case DELIMITED_BAD:
            protocol_error(svm, "a frame longer than %zu bytes", DELIMITED_FRAME_MAX);
            return used;
        case DELIMITED_FRAME:
            break;
        }
        used = (size_t)(body - buf) + body_len;
        go_on = take_frame(svm, body, body_len);
    }
    return used;
}

/* ---- connecting ---- */

/* Whether the SVM's certificate, if it has shown one, is good; if not, the connection ends. The lists in
 * force may be newer than those that the handshake went by. */
static bool
check_revocation(struct svm *svm)
{
    const struct tls *tls = svm->conn ? conn_tls(svm->conn) : NULL;

    if (!tls || !svm->credential.tls || !tls_peer_revoked(tls, svm->credential.tls))
        return true;
    stats.svm_tls_failures_total++;
    conn_close(svm->conn, TLS_REVOKED);
    return false;
}

static void
on_open(void *arg)
{
    struct svm *svm = arg;
    struct log_who about = who(svm);
    Gimux__V1__MuxHello hello = GIMUX__V1__MUX_HELLO__INIT;
    Gimux__V1__Frame frame = GIMUX__V1__FRAME__INIT;

    if (!check_revocation(svm))
        return;
    if (conn_tls(svm->conn)) {
        credential_meet(&svm->credential, conn_tls(svm->conn));
        svm_list_watch_expiry(svm->list);
    }
    stats.svm_connections_total++;
    set_state(svm, SVM_GREETING);
    log_debug(&about, "connected");
    svm->heard = loop_now();
    hello.version_min = hello.version_max = 1;
    hello.build = (char *)"gimuxd " GIMUX_VERSION;
    hello.solution = svm->conf.name;
    hello.altitude = svm->conf.altitude;
    hello.host = (char *)svm->list->conf->host;
    hello.heartbeat_ms = svm->conf.heartbeat;
    hello.window_bytes = sink_window(svm->sink);
    frame.body_case = GIMUX__V1__FRAME__BODY_MUX_HELLO;
    frame.mux_hello = &hello;
    tell(svm, &frame);
    loop_timer_start(svm->timer, svm->conf.heartbeat / 2);
}

static void free_svm(struct svm *svm);

static void
on_closed(void *arg, const char *why)
{
    struct svm *svm = arg;

    svm->conn = NULL;
    if (svm->state == SVM_REMOVED) {
        free_svm(svm);
        return;
    }
    link_down(svm, why);
}

static const struct conn_ops conn_ops = {
    .open = on_open, .data = on_data, .writable = on_writable, .closed = on_closed
};

static void
dial(struct svm *svm, const struct sockaddr_storage *address, socklen_t len)
{
    struct tls_peer peer = { .name = svm->conf.tls_name[0] ? svm->conf.tls_name : svm->conf.address.host,
                             .solution = svm->conf.name };
    const char *why;

    set_state(svm, SVM_CONNECTING);
    svm->conn = conn_dial(svm->list->loop, address, len, svm->credential.tls, &peer, &conn_limits, &conn_ops,
                          svm, &why);
    if (!svm->conn) {
        link_down(svm, why);
        return;
    }
    loop_timer_start(svm->timer, SILENT_BEATS * svm->conf.heartbeat);
}

static void
on_resolved(void *arg, const struct sockaddr_storage *address, socklen_t len, const char *why)
{
    struct svm *svm = arg;
    char reason[SVM_ERROR_MAX];

    svm->lookup = NULL;
    if (len > 0) {
        dial(svm, address, len);
        return;
    }
    snprintf(reason, sizeof(reason), "%s: %s", svm->conf.address.host, why);
    link_down(svm, reason);
}

static void
attempt(struct svm *svm)
{
    struct sockaddr_storage address;
    socklen_t len = address_to_sockaddr(&svm->conf.address, &address);

    if (len > 0) {
        dial(svm, &address, len);
        return;
    }
    set_state(svm, SVM_RESOLVING);
    svm->lookup = loop_resolve(svm->list->loop, svm->conf.address.host, (uint16_t)svm->conf.address.port,
                               on_resolved, svm);
    if (!svm->lookup)
        link_down(svm, "out of memory");
}

/* ---- time ---- */

static void
heartbeat(struct svm *svm)
{
    Gimux__V1__Frame frame = GIMUX__V1__FRAME__INIT;
    Gimux__V1__Ping ping = GIMUX__V1__PING__INIT;
    uint64_t silent = loop_now() - svm->heard;

    if (silent >= (uint64_t)SILENT_BEATS * svm->conf.heartbeat) {
        char reason[SVM_ERROR_MAX];

        snprintf(reason, sizeof(reason), "the SVM is silent for %llu ms", (unsigned long long)silent);
        conn_close(svm->conn, reason);
        return;
    }
    if (svm->state == SVM_UP) {
        route_tell_progress(svm->list->route, svm->sink);
        frame.body_case = GIMUX__V1__FRAME__BODY_PING;
        frame.ping = &ping;
        tell(svm, &frame);
    }
    loop_timer_start(svm->timer, svm->conf.heartbeat / 2);
}

static void
on_timer(void *arg)
{
    struct svm *svm = arg;

    switch (svm->state) {
    case SVM_WAITING:
        attempt(svm);
        break;
    case SVM_CONNECTING:
        conn_close(svm->conn, "no answer in time");
        break;
    case SVM_GREETING:
    case SVM_UP:
        heartbeat(svm);
        break;
    case SVM_RESOLVING:
    case SVM_REMOVED:
        break;
    }
}

/* ---- coming and going ---- */

static void
free_svm(struct svm *svm)
{
    loop_timer_free(svm->timer);
    credential_set(&svm->credential, NULL);
    free(svm);
}

void
svm_remove(struct svm *svm, const char *reason)
{
    struct log_who about = who(svm);

    log_info(&about, "removed: %s", reason);
    if (svm->state == SVM_UP)
        route_sink_down(svm->list->route, svm->sink);
    route_remove_sink(svm->list->route, svm->sink);
    LIST_REMOVE(svm, in_list);
    loop_lookup_cancel(svm->lookup);
    svm->lookup = NULL;
    loop_timer_stop(svm->timer);
    set_state(svm, SVM_REMOVED);
    if (svm->conn)
        conn_close(svm->conn, reason);
    else
        free_svm(svm);
}

bool
svm_add(struct svm_list *list, const struct conf_solution *conf, struct tls_context *tls)
{
    struct svm *svm = calloc(1, sizeof(*svm));
    struct svm *last = LIST_FIRST(&list->svms);

    if (svm)
        svm->timer = loop_timer_new(list->loop, on_timer, svm);
    if (!svm || !svm->timer) {
        free(svm);
        return false;
    }
    svm->list = list;
    svm->conf = *conf;
    svm->redial = REDIAL_MIN_MS;
    svm->sink = route_add_sink(list->route, &svm->conf, &sink_ops, svm);
    if (!svm->sink) {
        loop_timer_free(svm->timer);
        free(svm);
        return false;
    }
    credential_set(&svm->credential, tls);
    while (last && LIST_NEXT(last, in_list))
        last = LIST_NEXT(last, in_list);
    if (last)
        LIST_INSERT_AFTER(last, svm, in_list);
    else
        LIST_INSERT_HEAD(&list->svms, svm, in_list);
    loop_timer_start(svm->timer, 0);
    return true;
}

void
svm_change(struct svm *svm, const struct conf_solution *conf, struct tls_context *tls)
{
    bool same = conf_solution_equal(&svm->conf, conf);

    credential_set(&svm->credential, tls);
    svm->conf = *conf;
    if (same) {
        sink_move_conf(svm->sink, &svm->conf); /* the old configuration, with the lists in it, goes away */
        check_revocation(svm);
        return;
    }
    if (svm->conn)
        conn_close(svm->conn, "its configuration has changed");
    if (svm->state == SVM_UP)
        route_sink_down(svm->list->route, svm->sink);
    sink_set_conf(svm->sink, &svm->conf);
    if (svm->state == SVM_UP)
        set_state(svm, SVM_GREETING); /* until the connection says that it is closed */
    svm->redial = REDIAL_MIN_MS;
    if (svm->state == SVM_WAITING) {
        loop_timer_start(svm->timer, 0);
    } else if (svm->state == SVM_RESOLVING) { /* a name that may be another one now */
        loop_lookup_cancel(svm->lookup);
        svm->lookup = NULL;
        attempt(svm);
    }
}

void
svm_say_bye(struct svm *svm, const char *reason)
{
    Gimux__V1__Frame frame = GIMUX__V1__FRAME__INIT;
    Gimux__V1__Bye bye = GIMUX__V1__BYE__INIT;

    if (svm->state != SVM_UP)
        return;
    bye.reason = (char *)(uintptr_t)reason;
    frame.body_case = GIMUX__V1__FRAME__BODY_BYE;
    frame.bye = &bye;
    route_tell_progress(svm->list->route, svm->sink);
    tell(svm, &frame);
}
