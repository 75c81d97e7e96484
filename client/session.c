/* What the frames of a link mean: handshake, streams, events, gaps, heartbeat. */
#include "client/session.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/position.h"
#include "client/stream.h"
#include "proto/delimited.h"

#define PROTOCOL_VERSION 1u

/* Room in a frame for all positions, each at most 96 bytes, and the subscription, at most 128 KiB. */
static_assert(GIMUX_STREAMS_MAX * 96 + (128 << 10) + 1024 <= DELIMITED_FRAME_MAX, "SvmHello fits a frame");

/* ---- handshake ---- */

static void
send_hello(struct link *link)
{
    struct gimux_client *client = link->client;
    size_t count = HASH_COUNT(client->positions.table);
    Gimux__V1__StreamPosition *list = calloc(count + 1, sizeof(*list));
    Gimux__V1__StreamPosition **pointers = calloc(count + 1, sizeof(void *));
    Gimux__V1__SvmHello hello = GIMUX__V1__SVM_HELLO__INIT;

    hello.version = PROTOCOL_VERSION;
    hello.name = client->name;
    hello.subscription = &client->subscription;
    hello.positions = pointers;
    if (list && pointers) {
        for (struct position *position = client->positions.table; position; position = position->hh.next) {
            Gimux__V1__StreamPosition *out = &list[hello.n_positions];

            gimux__v1__stream_position__init(out);
            out->vm_uuid = position->key.vm_uuid;
            out->boot_id = position->key.boot_id;
            out->driver = (Gimux__V1__Driver)position->key.driver;
            out->last_sequence = position->acked;
            pointers[hello.n_positions++] = out;
        }
        gimux_link_send(link, GIMUX__V1__FRAME__BODY_SVM_HELLO, &hello);
    } else {
        gimux_link_fail(link, GIMUX_DISCONNECT_ERROR, "out of memory");
    }
    free(list);
    free(pointers);
}

static void
handle_hello(struct link *link, const Gimux__V1__MuxHello *hello)
{
    struct gimux_client *client = link->client;

    if (hello->version_min > PROTOCOL_VERSION || hello->version_max < PROTOCOL_VERSION) {
        gimux_link_refuse(link, "no common version: gimuxd speaks %u to %u, this SVM %u", hello->version_min,
                          hello->version_max, PROTOCOL_VERSION);
        return;
    }
    if (hello->heartbeat_ms < SESSION_HEARTBEAT_MIN || hello->heartbeat_ms > SESSION_HEARTBEAT_MAX) {
        gimux_link_refuse(link, "heartbeat of %u ms: expected %u to %u", hello->heartbeat_ms,
                          SESSION_HEARTBEAT_MIN, SESSION_HEARTBEAT_MAX);
        return;
    }
    snprintf(link->host, sizeof(link->host), "%s", hello->host);
    snprintf(link->build, sizeof(link->build), "%s", hello->build);
    snprintf(link->solution, sizeof(link->solution), "%s", hello->solution);
    link->info.altitude = hello->altitude;
    link->info.version = PROTOCOL_VERSION;
    link->info.heartbeat_ms = hello->heartbeat_ms;
    link->info.window_bytes = hello->window_bytes;
    send_hello(link);
    if (link->state == LINK_DEAD)
        return;
    link->state = LINK_OPEN;
    link->connected = true;
    client->stats.connections++;
    client->stats.open++;
    gimux_log(client, GIMUX_LOG_INFO, "%s: connected: host %s, solution %s, gimuxd %s", link->peer,
              link->host, link->solution, link->build);
    if (client->callbacks.on_connect)
        client->callbacks.on_connect(client->user, &link->info);
}

/* ---- frames ---- */

static void
handle_bye(struct link *link, const Gimux__V1__Bye *bye)
{
    gimux_stream_send_acks(link);
    gimux_link_flush(link);
    gimux_link_fail(link, GIMUX_DISCONNECT_BYE, "%s", bye->reason);
}

static void
handle_open(struct link *link, const Gimux__V1__Frame *frame, struct gimux_bytes bytes)
{
    Gimux__V1__Pong pong = GIMUX__V1__PONG__INIT;

    switch (frame->body_case) {
    case GIMUX__V1__FRAME__BODY_PING:
        pong.token = frame->ping->token;
        gimux_link_send(link, GIMUX__V1__FRAME__BODY_PONG, &pong);
        break;
    case GIMUX__V1__FRAME__BODY_BYE:
        handle_bye(link, frame->bye);
        break;
    case GIMUX__V1__FRAME__BODY_MUX_HELLO:
    case GIMUX__V1__FRAME__BODY_SVM_HELLO:
    case GIMUX__V1__FRAME__BODY_ACK:
        gimux_link_refuse(link, "frame body %d: not expected from gimuxd after the handshake",
                          (int)frame->body_case);
        break;
    default: /* of a stream; or Pong and what a newer version says, which changes nothing */
        gimux_stream_frame(link, frame, bytes);
        break;
    }
}

static void
handle_frame(struct link *link, struct gimux_bytes bytes, struct gimux_bytes body)
{
    struct gimux_client *client = link->client;
    const Gimux__V1__Frame *frame;

    if (client->callbacks.on_frame)
        client->callbacks.on_frame(client->user, &link->info, bytes.data, bytes.len);
    frame = gimux_decode_frame(&client->decoder, body.data, body.len);
    if (!frame)
        gimux_link_refuse(link, "a frame of %zu bytes is not a gimux.v1.Frame, or is too complex", body.len);
    else if (link->state == LINK_OPEN)
        handle_open(link, frame, bytes);
    else if (frame->body_case == GIMUX__V1__FRAME__BODY_MUX_HELLO)
        handle_hello(link, frame->mux_hello);
    else if (frame->body_case == GIMUX__V1__FRAME__BODY_BYE)
        handle_bye(link, frame->bye);
    else
        gimux_link_refuse(link, "frame body %d first: expected MuxHello", (int)frame->body_case);
}

/* Handles the whole frames that are in the buffer. Returns false when the turn is over. */
static bool
handle_buffered(struct link *link, unsigned *handled, int64_t until)
{
    struct gimux_bytes bytes, body;

    while (link->state != LINK_DEAD) {
        if (link->client->stopping || *handled == SESSION_TURN_FRAMES || gimux_now() > until)
            return false;
        if (!gimux_link_next(link, &bytes, &body))
            return true;
        handle_frame(link, bytes, body);
        (*handled)++;
    }
    return false;
}

void
gimux_session_run(struct link *link)
{
    int64_t until = gimux_now() + SESSION_TURN_MS;
    enum link_io io = LINK_IO_NONE;
    unsigned handled = 0;

    link->more = false;
    if (link->state == LINK_TLS && !gimux_link_handshake(link)) {
        link->ready = false;
        return;
    }
    do
        link->more = !handle_buffered(link, &handled, until);
    while (!link->more && link->state != LINK_DEAD && (io = gimux_link_read(link)) == LINK_IO_SOME);
    if (!link->more || link->client->stopping || link->unacked >= SESSION_TURN_FRAMES)
        gimux_stream_send_acks(link);
    gimux_link_flush(link);
    link->ready = false; /* what a callback acknowledged is sent */
    if (io == LINK_IO_END)
        gimux_link_fail(link, GIMUX_DISCONNECT_CLOSED, "gimuxd closed the connection without Bye");
}

/* ---- time ---- */

/* Sends something often enough, even when handling what came in takes long. */
static void
keep_alive(struct link *link, int64_t now)
{
    Gimux__V1__Ping ping = GIMUX__V1__PING__INIT;

    if (link->state != LINK_OPEN || now - link->sent_at < link->info.heartbeat_ms / 2)
        return;
    gimux_stream_send_acks(link);
    if (now - link->sent_at >= link->info.heartbeat_ms / 2) {
        ping.token = (uint64_t)now;
        gimux_link_send(link, GIMUX__V1__FRAME__BODY_PING, &ping);
    }
    gimux_link_flush(link);
}

void
gimux_session_tick(struct link *link)
{
    int64_t limit = 3 * (int64_t)link->info.heartbeat_ms;

    if (link->state == LINK_TLS || link->state == LINK_HELLO) {
        if (gimux_now() - link->accepted_at >= SESSION_HANDSHAKE_MS)
            gimux_link_fail(link, GIMUX_DISCONNECT_SILENT, "no handshake within %d seconds",
                            SESSION_HANDSHAKE_MS / 1000);
        return;
    }
    /* A slow callback may have kept us from reading: look before calling it silence. */
    if (link->state == LINK_OPEN && !link->more && gimux_now() - link->received_at >= limit) {
        gimux_session_run(link);
        if (!link->more && gimux_now() - link->received_at >= limit)
            gimux_link_fail(link, GIMUX_DISCONNECT_SILENT, "nothing came for three heartbeats, %lld ms",
                            (long long)limit);
    }
    keep_alive(link, gimux_now());
}

int64_t
gimux_session_deadline(const struct link *link)
{
    int64_t silent = link->received_at + 3 * (int64_t)link->info.heartbeat_ms;
    int64_t ping = link->sent_at + link->info.heartbeat_ms / 2;

    if (link->state == LINK_TLS || link->state == LINK_HELLO)
        return link->accepted_at + SESSION_HANDSHAKE_MS;
    if (link->state == LINK_DEAD || link->more || link->ready)
        return 0;
    return silent < ping ? silent : ping;
}

/* ---- the end ---- */

void
gimux_session_stop(struct link *link)
{
    const char *reason = "the SVM stops";

    if (link->state == LINK_OPEN) {
        gimux_stream_send_acks(link);
        gimux_link_bye(link, reason);
        if (link->ssl && link->state == LINK_OPEN)
            SSL_shutdown(link->ssl);
    }
    gimux_link_fail(link, GIMUX_DISCONNECT_STOPPED, "%s", reason);
}

void
gimux_session_close(struct link *link)
{
    struct gimux_client *client = link->client;
    bool orderly = link->reason == GIMUX_DISCONNECT_BYE || link->reason == GIMUX_DISCONNECT_STOPPED;

    gimux_stream_release(link);
    if (link->connected)
        client->stats.open--;
    else
        client->stats.refused++;
    gimux_log(client, orderly ? GIMUX_LOG_INFO : GIMUX_LOG_WARNING, "%s: %s: %s: %s", link->peer,
              link->connected ? "disconnected" : "refused", gimux_client_disconnect_name(link->reason),
              link->why);
    if (link->connected && client->callbacks.on_disconnect)
        client->callbacks.on_disconnect(client->user, &link->info, link->reason, link->why);
}
