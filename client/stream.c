/* What a connection says of its streams: starts, events, gaps, progress, ends; and what is acknowledged.
 *
 * Two places know about a stream. Its struct position (one for the client) says how far this SVM is, and
 * decides what is new and what has come before. A struct link_stream (one for each connection that has said
 * StreamStart) says what that connection has sent of it. On one connection everything comes in ascending
 * order; what does not is a protocol error. Between connections anything may come twice.
 *
 * The connection that starts a stream last owns it (position.route); a former one, half dead, may still hold
 * frames of it, but these are dropped: the newer one was given the position and will bring them. Of two
 * connections of one host only the newer can own it: what an ended gimuxd has sent may arrive later than what
 * the next one sends. So the callback sees one ascending sequence, whatever the number of connections.
 *
 * An Ack carries min(acknowledged, sent by this connection), since acknowledging what gimuxd has not sent is
 * an error. */
#include "client/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/position.h"

#define ACK_STREAMS 256u /* streams in one Ack frame */

/* A stream as one connection tells of it. */
struct link_stream {
    uint32_t number;
    struct link *link;
    struct position *position; /* NULL: a newer connection brings it */
    uint64_t last;             /* everything up to here is accounted for: what comes next is above */
    uint64_t told;             /* the last event or gap */
    uint64_t acked;            /* sent in an Ack */
    bool ended;
    bool dirty; /* in link->dirty */
    struct link_stream *next_dirty;
    UT_hash_handle hh;
};

static void
fail_order(struct link *link, const struct link_stream *stream, const char *what, uint64_t sequence)
{
    link->client->stats.out_of_order++;
    gimux_link_refuse(link, "stream %u: %s %llu after %llu: expected ascending order", stream->number, what,
                      (unsigned long long)sequence, (unsigned long long)stream->last);
}

/* ---- acknowledgement ---- */

static void
mark_dirty(struct link_stream *stream)
{
    if (stream->dirty)
        return;
    stream->dirty = true;
    stream->next_dirty = stream->link->dirty;
    stream->link->dirty = stream;
}

void
gimux_stream_send_acks(struct link *link)
{
    Gimux__V1__StreamAck acks[ACK_STREAMS];
    Gimux__V1__StreamAck *pointers[ACK_STREAMS];
    Gimux__V1__Ack frame = GIMUX__V1__ACK__INIT;

    while (link->dirty && link->out_end - link->out_at <= LINK_OUT_RELAXED && link->state == LINK_OPEN) {
        frame.n_streams = 0;
        frame.streams = pointers;
        while (link->dirty && frame.n_streams < ACK_STREAMS) {
            struct link_stream *stream = link->dirty;
            Gimux__V1__StreamAck *ack = &acks[frame.n_streams];
            uint64_t sequence = stream->position ? stream->position->acked : 0;

            link->dirty = stream->next_dirty;
            stream->dirty = false;
            if (sequence > stream->told)
                sequence = stream->told;
            if (sequence <= stream->acked)
                continue;
            stream->acked = sequence;
            gimux__v1__stream_ack__init(ack);
            ack->stream = stream->number;
            ack->sequence = sequence;
            pointers[frame.n_streams++] = ack;
        }
        if (frame.n_streams > 0) {
            gimux_link_send(link, GIMUX__V1__FRAME__BODY_ACK, &frame);
            link->client->stats.acks++;
        }
    }
    link->unacked = 0;
}

void
gimux_stream_acknowledge(struct position *position)
{
    if (position->route) {
        mark_dirty(position->route);
        position->route->link->ready = true;
    }
}

/* ---- starts ---- */

static void
drop_link_stream(struct link_stream *stream)
{
    struct link *link = stream->link;
    struct link_stream **at = &link->dirty;

    while (*at && *at != stream)
        at = &(*at)->next_dirty;
    if (*at)
        *at = stream->next_dirty;
    if (stream->position)
        stream->position->route = NULL;
    HASH_DEL(link->streams, stream);
    free(stream);
}

static void
forget(struct gimux_client *client, struct position *position)
{
    if (position->route)
        drop_link_stream(position->route);
    client->stats.forgotten++;
    if (client->callbacks.on_stream_forget)
        client->callbacks.on_stream_forget(client->user, &position->stream);
    gimux_position_remove(&client->positions, position);
}

/* The stream of that key; a new one if it is not known, which may push out an old one. */
static struct position *
find_or_add(struct link *link, const struct position_key *key, uint64_t first)
{
    struct gimux_client *client = link->client;
    struct position *position = gimux_position_find(&client->positions, key);
    struct position *victim;

    if (position)
        return position;
    victim = gimux_position_victim(&client->positions);
    if (victim)
        forget(client, victim);
    position = gimux_position_add(&client->positions, key, first);
    if (position)
        gimux_position_supersede(&client->positions, position);
    else
        gimux_link_refuse(link, "over %zu streams at once, or out of memory", client->positions.max);
    return position;
}

/* The link's own view of the stream number; new if the number is. */
static struct link_stream *
find_or_add_number(struct link *link, uint32_t number)
{
    struct link_stream *stream;
    unsigned before = HASH_COUNT(link->streams);

    HASH_FIND(hh, link->streams, &number, sizeof(number), stream);
    if (stream)
        return stream;
    /* Twice as many: streams that newer connections have taken over stay in the table, too. */
    stream = before < 2 * link->client->positions.max ? calloc(1, sizeof(*stream)) : NULL;
    if (stream) {
        stream->number = number;
        stream->link = link;
        stream->ended = true; /* until it is bound */
        HASH_ADD(hh, link->streams, number, sizeof(number), stream);
    }
    if (HASH_COUNT(link->streams) == before) {
        free(stream);
        stream = NULL;
        gimux_link_refuse(link, "stream %u: too many streams, or out of memory", number);
    }
    return stream;
}

/* Whether a newer connection of the same host brings the stream. */
static bool
is_brought_by_newer(const struct link *link, const struct position *position)
{
    const struct link *owner = position->route ? position->route->link : NULL;

    return owner && owner->serial > link->serial && strcmp(owner->host, link->host) == 0;
}

/* From here on this connection brings the stream. */
static void
bind_stream(struct link_stream *stream, struct position *position, uint64_t first)
{
    if (position->route)
        position->route->position = NULL;
    if (stream->position)
        stream->position->route = NULL;
    gimux_position_restart(position);
    position->route = stream;
    stream->position = position;
    stream->ended = false;
    stream->last = stream->told = stream->acked = first - 1;
}

static void
handle_stream_start(struct link *link, const Gimux__V1__StreamStart *start)
{
    struct gimux_client *client = link->client;
    uint64_t first = start->first_sequence ? start->first_sequence : 1;
    struct position_key key;
    struct position *position;
    struct link_stream *stream;

    if (!gimux_position_is_uuid(start->vm_uuid) || !gimux_position_is_uuid(start->boot_id)) {
        gimux_link_refuse(link, "stream %u: vm_uuid or boot_id is not in lower-case 8-4-4-4-12 form",
                          start->stream);
        return;
    }
    memset(&key, 0, sizeof(key));
    memcpy(key.vm_uuid, start->vm_uuid, sizeof(key.vm_uuid));
    memcpy(key.boot_id, start->boot_id, sizeof(key.boot_id));
    key.driver = (uint32_t)start->driver;
    position = find_or_add(link, &key, first); /* first: it may push out the stream that had this number */
    stream = position ? find_or_add_number(link, start->stream) : NULL;
    if (!stream)
        return;
    if (!stream->ended && stream->position == position)
        return; /* sent twice: nothing changes */
    if ((!stream->ended && stream->position) ||
        (position->route && position->route->link == link && !position->route->ended)) {
        gimux_link_refuse(link, "stream %u: started twice, or its number is another stream's", start->stream);
        return;
    }
    if (is_brought_by_newer(link, position)) {
        stream->position = NULL;
        stream->ended = false;
        stream->last = stream->told = stream->acked = first - 1;
        return;
    }
    snprintf(position->driver_build, sizeof(position->driver_build), "%s", start->driver_build);
    snprintf(position->guest_os, sizeof(position->guest_os), "%s", start->guest_os);
    bind_stream(stream, position, first);
    if (client->callbacks.on_stream_start)
        client->callbacks.on_stream_start(client->user, &link->info, &position->stream, first);
}

/* The stream of that number, or NULL after failing the link. */
static struct link_stream *
find_number(struct link *link, uint32_t number, const char *frame)
{
    struct link_stream *stream;

    HASH_FIND(hh, link->streams, &number, sizeof(number), stream);
    if (stream && !stream->ended)
        return stream;
    gimux_link_refuse(link, "%s of stream %u, which %s", frame, number,
                      stream ? "has ended" : "was not started");
    return NULL;
}

/* ---- what follows ---- */

/* An event or gap was handled (or dropped as known): it may be acknowledged on this connection. */
static void
told(struct link_stream *stream)
{
    struct position *position = stream->position;

    if (!position)
        return;
    if (!stream->link->client->explicit_ack)
        gimux_position_ack(position, position->delivered);
    stream->link->unacked++;
    mark_dirty(stream);
}

static void
handle_event(struct link *link, const Gimux__V1__Event *from, struct gimux_bytes bytes)
{
    struct gimux_client *client = link->client;
    struct link_stream *stream = find_number(link, from->stream, "event");
    struct decoded_event decoded;

    if (!stream)
        return;
    if (from->sequence <= stream->last) {
        fail_order(link, stream, "event", from->sequence);
        return;
    }
    stream->last = stream->told = from->sequence;
    if (!stream->position || !gimux_position_event(stream->position, from->sequence)) {
        client->stats.duplicates++;
    } else {
        client->stats.events++;
        gimux_decode_event(from, &decoded);
        decoded.event.stream = &stream->position->stream;
        decoded.event.connection = &link->info;
        decoded.event.frame = bytes;
        if (client->callbacks.on_event)
            client->callbacks.on_event(client->user, &decoded.event);
    }
    told(stream);
}

static void
handle_gap(struct link *link, const Gimux__V1__Gap *from)
{
    struct gimux_client *client = link->client;
    struct link_stream *stream = find_number(link, from->stream, "gap");
    struct gimux_gap gap = { .first = from->first_sequence,
                             .last = from->last_sequence,
                             .reason = (uint32_t)from->reason };

    if (!stream)
        return;
    if (gap.first == 0 || gap.first > gap.last) {
        gimux_link_refuse(link, "stream %u: gap from %llu to %llu: expected 1 <= first <= last", from->stream,
                          (unsigned long long)gap.first, (unsigned long long)gap.last);
        return;
    }
    if (gap.last <= stream->last) {
        fail_order(link, stream, "gap", gap.last);
        return;
    }
    if (gap.first <= stream->last) /* a driver's gap is the same for all SVMs: only the rest is new here */
        gap.first = stream->last + 1;
    stream->last = stream->told = gap.last;
    if (stream->position && gimux_position_gap(stream->position, &gap.first, gap.last)) {
        gap.stream = &stream->position->stream;
        client->stats.gaps++;
        client->stats.gapped += gap.last - gap.first + 1;
        if (client->callbacks.on_gap)
            client->callbacks.on_gap(client->user, &gap);
    }
    told(stream);
}

/* A progress may be behind the last event, since it may be about what is acknowledged; it is passed on. */
static void
handle_progress(struct link *link, const Gimux__V1__StreamProgress *progress)
{
    struct gimux_client *client = link->client;
    struct link_stream *stream = find_number(link, progress->stream, "progress");

    if (!stream)
        return;
    if (progress->sequence > stream->last)
        stream->last = progress->sequence;
    if (!stream->position)
        return;
    gimux_position_progress(stream->position, progress->sequence);
    if (client->callbacks.on_progress)
        client->callbacks.on_progress(client->user, &stream->position->stream, progress->sequence,
                                      progress->filtered);
}

static void
handle_stream_end(struct link *link, const Gimux__V1__StreamEnd *end)
{
    struct gimux_client *client = link->client;
    struct link_stream *stream = find_number(link, end->stream, "end");

    if (!stream)
        return;
    if (end->last_sequence < stream->last) {
        fail_order(link, stream, "end", end->last_sequence);
        return;
    }
    stream->last = end->last_sequence;
    stream->ended = true;
    if (!stream->position)
        return;
    gimux_position_progress(stream->position, end->last_sequence);
    gimux_position_end(&client->positions, stream->position);
    if (client->callbacks.on_stream_end)
        client->callbacks.on_stream_end(client->user, &stream->position->stream, end->last_sequence);
}

void
gimux_stream_frame(struct link *link, const Gimux__V1__Frame *frame, struct gimux_bytes bytes)
{
    switch (frame->body_case) {
    case GIMUX__V1__FRAME__BODY_EVENT:
        handle_event(link, frame->event, bytes);
        break;
    case GIMUX__V1__FRAME__BODY_STREAM_START:
        handle_stream_start(link, frame->stream_start);
        break;
    case GIMUX__V1__FRAME__BODY_STREAM_END:
        handle_stream_end(link, frame->stream_end);
        break;
    case GIMUX__V1__FRAME__BODY_GAP:
        handle_gap(link, frame->gap);
        break;
    case GIMUX__V1__FRAME__BODY_STREAM_PROGRESS:
        handle_progress(link, frame->stream_progress);
        break;
    default:
        break;
    }
}

void
gimux_stream_release(struct link *link)
{
    struct link_stream *stream = link->streams;

    link->dirty = NULL;
    HASH_CLEAR(hh, link->streams); /* frees the table; its entries still know each other */
    while (stream) {
        struct link_stream *next = stream->hh.next;

        if (stream->position)
            stream->position->route = NULL;
        free(stream);
        stream = next;
    }
}
