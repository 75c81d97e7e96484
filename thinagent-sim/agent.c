/* One driver's end of the conversation with gimuxd: what it says when, what it keeps, and what it may forget.
 *
 * Everything with a sequence is held, oldest first, until ACK covers it. A new item is drawn from the source
 * only when all that is held was sent, and sent only when the window has room: so what is held is never more
 * than the window and one record. WELCOME says from where on what is held is to be sent (again): so resuming
 * after a break and sending for the first time are the same. */
#include "thinagent-sim/agent.h"

#include <assert.h>
#include <endian.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "thinagent-sim/clock.h"
#include "thinagent-sim/held.h"
#include "thinagent-sim/memory.h"

#define OUTPUT_MAX    ((size_t)64 * 1024)   /* the output is filled up to here */
#define DRAW_MAX      1024                  /* items drawn at a time, so that other agents have their turn */
#define ANSWER_TIME   (10000 * MILLISECOND) /* how long HELLO may go unanswered */
#define REPEAT_TIME   (1000 * MILLISECOND)  /* between HELLOs on a device */
#define SCAN_MAX      ((size_t)64 * 1024)   /* bytes kept while WELCOME is looked for on a device */
#define HEARTBEAT_MIN 10u                   /* milliseconds; less is not believed */

struct agent {
    struct agent_config config;
    struct agent_counters counters;
    enum agent_state state;
    char why[GR_WHY_MAX + 64];

    uint64_t next_sequence;
    struct held_list held;
    uint8_t *volumes; /* the last VOLUMES, NULL if none; said again on every connection */
    uint32_t volumes_len;

    uint64_t window;
    uint64_t interest;
    int64_t heartbeat;
    bool welcomed; /* once, on any connection */

    struct buffer in;
    struct buffer out; /* whole records, the first perhaps partly sent */
    size_t cut;        /* bytes of the first record that are still there; 0: all of it */
    int64_t hello_at;
    int64_t last_sent;
    int64_t last_heard;
    int64_t source_at; /* when the source may have something again */
    bool source_ended;
};

struct agent *
agent_new(const struct agent_config *config)
{
    struct agent *agent = must_calloc(1, sizeof(*agent));

    agent->config = *config;
    agent->next_sequence = 1;
    agent->interest = GR_KIND_ALL;
    agent->heartbeat = 5000 * MILLISECOND;
    return agent;
}

void
agent_free(struct agent *agent)
{
    if (!agent)
        return;
    held_clear(&agent->held);
    if (agent->config.source)
        agent->config.source->free(agent->config.source);
    buffer_free(&agent->in);
    buffer_free(&agent->out);
    free(agent->volumes);
    free(agent);
}

const struct agent_config *
agent_config(const struct agent *agent)
{
    return &agent->config;
}

const struct agent_counters *
agent_counters(const struct agent *agent)
{
    return &agent->counters;
}

enum agent_state
agent_state(const struct agent *agent)
{
    return agent->state;
}

const char *
agent_state_name(enum agent_state state)
{
    static const char *const names[] = { "down", "hello", "up", "bye", "done", "failed" };

    return names[state];
}

const char *
agent_why(const struct agent *agent)
{
    return agent->why;
}

static void
change_state(struct agent *agent, enum agent_state state)
{
    char uuid[GR_UUID_TEXT];

    if (agent->config.verbose && state != agent->state)
        fprintf(stderr, "vm=%s driver=%s: %s -> %s%s%s\n", gr_uuid_format(agent->config.vm_uuid, uuid),
                gr_driver_name(agent->config.driver), agent_state_name(agent->state), agent_state_name(state),
                agent->why[0] != '\0' ? ": " : "", agent->why);
    agent->state = state;
}

/* Sets why; returns false for the caller to return. */
static bool __attribute__((format(printf, 2, 3))) broken(struct agent *agent, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(agent->why, sizeof(agent->why), format, args);
    va_end(args);
    return false;
}

/* ---- what is said ---- */

/* A whole record goes out, and into the recording. */
static void
put_bytes(struct agent *agent, const uint8_t *data, size_t len)
{
    buffer_add(&agent->out, data, len);
    if (agent->config.record)
        trace_writer_put(agent->config.record, agent->config.number, clock_ns(CLOCK_REALTIME), data, len);
}

static void
put_record(struct agent *agent, const struct gr_record *record)
{
    uint8_t small[1024];
    size_t len = gr_encode(record, small, sizeof(small));
    uint8_t *large;

    if (len > 0) {
        put_bytes(agent, small, len);
        return;
    }
    large = must_calloc(1, GR_MAX_RECORD);
    len = gr_encode(record, large, GR_MAX_RECORD);
    assert(len > 0);
    put_bytes(agent, large, len);
    free(large);
}

static void
say_hello(struct agent *agent, int64_t now)
{
    struct gr_record hello = { .type = GR_HELLO };
    struct gr_hello *body = &hello.body.hello;

    /* What waits to be sent is dropped, except the rest of a record that is partly sent. */
    if (agent->cut < agent->out.len)
        agent->out.len = agent->cut;
    body->magic = GR_MAGIC;
    body->version_min = GR_VERSION;
    body->version_max = GR_VERSION;
    body->driver = agent->config.driver;
    memcpy(body->vm_uuid, agent->config.vm_uuid, GR_UUID_SIZE);
    memcpy(body->boot_id, agent->config.boot_id, GR_UUID_SIZE);
    body->first_held = agent->held.head ? agent->held.head->first : agent->next_sequence;
    body->build = agent->config.build;
    body->guest_os = agent->config.guest_os;
    put_record(agent, &hello);
    agent->hello_at = now;
    change_state(agent, AGENT_HELLO);
}

void
agent_link_up(struct agent *agent, int64_t now)
{
    buffer_take(&agent->in, agent->in.len);
    agent->cut = 0;
    agent->why[0] = '\0';
    agent->last_sent = now;
    agent->last_heard = now;
    if (agent->config.record)
        trace_writer_connect(agent->config.record, agent->config.number, clock_ns(CLOCK_REALTIME));
    say_hello(agent, now);
}

void
agent_link_down(struct agent *agent)
{
    bool was_up = agent->state == AGENT_HELLO || agent->state == AGENT_UP || agent->state == AGENT_BYE;

    if (agent->config.record && (was_up || agent->state == AGENT_DONE))
        trace_writer_disconnect(agent->config.record, agent->config.number, clock_ns(CLOCK_REALTIME));
    if (was_up)
        change_state(agent, AGENT_DOWN);
}

/* ---- what is kept ---- */

/* Gives the record its sequences, and keeps it. */
static void
hold(struct agent *agent, uint64_t count, const uint8_t *data, size_t len)
{
    held_add(&agent->held, agent->next_sequence, count, data, len);
    if (agent->counters.first == 0)
        agent->counters.first = agent->next_sequence;
    agent->next_sequence += count;
    agent->counters.sent = agent->next_sequence - 1;
}

static void
hold_lost(struct agent *agent, uint64_t count)
{
    struct gr_record lost = { .type = GR_LOST, .sequence = agent->next_sequence };
    uint8_t bytes[64];
    size_t len;

    lost.body.lost.last = agent->next_sequence + count - 1;
    lost.body.lost.reason = 1;
    len = gr_encode(&lost, bytes, sizeof(bytes));
    assert(len > 0);
    agent->counters.lost += count;
    hold(agent, count, bytes, len);
}

/* gimuxd has made everything up to the sequence safe. */
static void
release(struct agent *agent, uint64_t sequence)
{
    held_release(&agent->held, sequence);
    if (sequence > agent->counters.sent) /* from an earlier run of the same boot */
        sequence = agent->counters.sent;
    if (sequence > agent->counters.acked)
        agent->counters.acked = sequence;
}

/* ---- what is heard ---- */

/* How much of a reason is worth printing. */
static int
printable(const struct gr_text *reason)
{
    return reason->len < 160 ? (int)reason->len : 160;
}

static bool
take_welcome(struct agent *agent, const struct gr_welcome *welcome)
{
    uint32_t heartbeat = welcome->heartbeat_ms > HEARTBEAT_MIN ? welcome->heartbeat_ms : HEARTBEAT_MIN;

    if (welcome->version != GR_VERSION)
        return broken(agent, "WELCOME chose version %u, expected %u", welcome->version, GR_VERSION);
    if (welcome->next_wanted > INT64_MAX)
        return broken(agent, "WELCOME asks for sequence %" PRIu64, welcome->next_wanted);
    agent->heartbeat = heartbeat * MILLISECOND;
    agent->window = welcome->window;
    agent->interest = welcome->interest;
    if (agent->state != AGENT_HELLO) /* the answer to an earlier copy of a repeated HELLO */
        return true;
    if (welcome->next_wanted > agent->next_sequence)
        agent->next_sequence = welcome->next_wanted; /* gimuxd knows this boot from an earlier run */
    held_rewind(&agent->held, welcome->next_wanted);
    if (agent->welcomed)
        agent->counters.reconnects++;
    agent->welcomed = true;
    change_state(agent, AGENT_UP);
    if (agent->volumes)
        put_bytes(agent, agent->volumes, agent->volumes_len);
    return true;
}

static bool
take_reject(struct agent *agent, const struct gr_reject *reject)
{
    broken(agent, "rejected (code %u): %.*s", reject->code, printable(&reject->reason),
           (const char *)reject->reason.data);
    switch (reject->code) {
    case GR_REJECT_VERSION:
    case GR_REJECT_IDENTITY:
    case GR_REJECT_DRIVER:
    case GR_REJECT_UNKNOWN:
        change_state(agent, AGENT_FAILED);
        break;
    default: /* the others pass; so may codes of a newer gimuxd */
        break;
    }
    return false;
}

static bool
take_record(struct agent *agent, const struct gr_record *record)
{
    struct gr_record pong = { .type = GR_PONG };

    if (agent->state == AGENT_HELLO && record->type != GR_WELCOME && record->type != GR_REJECT)
        return record->type == GR_BYE || record->type == GR_PING ||
               broken(agent, "%s came before WELCOME", gr_type_name(record->type));
    switch (record->type) {
    case GR_WELCOME:
        return take_welcome(agent, &record->body.welcome);
    case GR_REJECT:
        return take_reject(agent, &record->body.reject);
    case GR_ACK:
        if (record->body.ack.sequence >= agent->next_sequence)
            return broken(agent, "ACK of %" PRIu64 ", but only %" PRIu64 " were sent",
                          record->body.ack.sequence, agent->next_sequence - 1);
        release(agent, record->body.ack.sequence);
        return true;
    case GR_VERDICT: /* to operations that wait and questions about files: nothing here does or answers */
    case GR_FILE_READ:
        return true;
    case GR_INTEREST:
        agent->interest = record->body.interest.kinds;
        return true;
    case GR_PING:
        pong.body.ping.token = record->body.ping.token;
        put_record(agent, &pong);
        return true;
    case GR_BYE:
        return broken(agent, "gimuxd said BYE: %.*s", printable(&record->body.bye.reason),
                      (const char *)record->body.bye.reason.data);
    default:
        return true;
    }
}

/* On a device the answer to HELLO may come behind bytes, even half records, of an older conversation. Takes
 * off all before the first WELCOME or REJECT; keeps all, within bounds, if there is none. */
static void
skip_to_answer(struct agent *agent)
{
    struct buffer *in = &agent->in;
    struct gr_record record;
    char why[GR_WHY_MAX];

    for (size_t i = 0; i + GR_HEADER_SIZE <= in->len; i++) {
        if (gr_decode(in->data + i, in->len - i, &record, why) == GR_OK && record.sequence == 0 &&
            (record.type == GR_WELCOME || record.type == GR_REJECT)) {
            buffer_take(in, i);
            return;
        }
    }
    if (in->len > SCAN_MAX)
        buffer_take(in, in->len - SCAN_MAX);
}

bool
agent_receive(struct agent *agent, int64_t now, const uint8_t *data, size_t len)
{
    char why[GR_WHY_MAX];

    if (agent->state == AGENT_DONE || agent->state == AGENT_FAILED)
        return true;
    agent->last_heard = now;
    buffer_add(&agent->in, data, len);
    for (;;) {
        struct gr_record record;
        enum gr_result result;
        bool scan = agent->config.device && agent->state == AGENT_HELLO;

        if (scan)
            skip_to_answer(agent);
        result = gr_decode(agent->in.data, agent->in.len, &record, why);
        if (scan && (result != GR_OK || (record.type != GR_WELCOME && record.type != GR_REJECT)))
            return true;
        if (result == GR_MORE)
            return true;
        if (result == GR_INVALID)
            return broken(agent, "%s", why);
        if (result == GR_OK && !take_record(agent, &record))
            return false;
        buffer_take(&agent->in, record.size);
    }
}

/* ---- what is sent ---- */

static void
keep_volumes(struct agent *agent, const struct source_item *item)
{
    agent->volumes = must_realloc(agent->volumes, item->len);
    memcpy(agent->volumes, item->data, item->len);
    agent->volumes_len = (uint32_t)item->len;
    put_bytes(agent, agent->volumes, agent->volumes_len);
}

/* Draws one item; what has a sequence is held then, and unsent. Returns false if the source has none now. */
static bool
draw(struct agent *agent, int64_t now)
{
    struct source_item item = { 0 };

    switch (agent->config.source->next(agent->config.source, now, &item)) {
    case SOURCE_RECORD:
        if (!gr_type_is_event(item.type)) {
            keep_volumes(agent, &item);
        } else if (agent->interest & GR_KIND(item.type)) {
            agent->counters.by_class[event_class_of_record(item.type)]++;
            hold(agent, 1, item.data, item.len);
        } else {
            agent->counters.not_wanted++;
        }
        return true;
    case SOURCE_LOST:
        hold_lost(agent, item.lost);
        return true;
    case SOURCE_LATER:
        agent->source_at = item.later;
        return false;
    case SOURCE_END:
        agent->source_ended = true;
        return false;
    }
    return false;
}

static void
fill_output(struct agent *agent, int64_t now)
{
    agent->source_at = SOURCE_NEVER;
    for (unsigned drawn = 0; agent->out.len < OUTPUT_MAX;) {
        const struct held *held = held_to_send(&agent->held, agent->window);

        if (held) {
            put_bytes(agent, held->bytes, held->len);
            agent->counters.resent += held_mark_sent(&agent->held);
            continue;
        }
        if (agent->held.unsent) /* the window is full: the next ACK makes room */
            return;
        if (agent->source_ended)
            break;
        if (drawn++ == DRAW_MAX) {
            agent->source_at = now; /* go on soon */
            return;
        }
        if (!draw(agent, now))
            break;
    }
    if (agent->source_ended && !agent->held.head) {
        struct gr_record bye = { .type = GR_BYE };

        put_record(agent, &bye);
        change_state(agent, AGENT_BYE);
    }
}

const uint8_t *
agent_output(struct agent *agent, int64_t now, size_t *len)
{
    if (agent->state == AGENT_UP && agent->out.len < OUTPUT_MAX / 2)
        fill_output(agent, now);
    *len = agent->out.len;
    return agent->out.len > 0 ? agent->out.data : NULL;
}

void
agent_sent(struct agent *agent, int64_t now, size_t len)
{
    agent->last_sent = now;
    while (len > 0) {
        uint32_t size;
        size_t part;

        memcpy(&size, agent->out.data, sizeof(size));
        part = agent->cut > 0 ? agent->cut : le32toh(size);
        agent->cut = part > len ? part - len : 0;
        part = part > len ? len : part;
        buffer_take(&agent->out, part);
        len -= part;
    }
    if (agent->state == AGENT_BYE && agent->out.len == 0)
        change_state(agent, AGENT_DONE);
}

/* ---- time ---- */

static int64_t
earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Before WELCOME. */
static bool
hello_timer(struct agent *agent, int64_t now, int64_t *next)
{
    if (agent->config.device) {
        if (now - agent->hello_at >= REPEAT_TIME)
            say_hello(agent, now);
        *next = earlier(*next, agent->hello_at + REPEAT_TIME);
        return true;
    }
    if (now - agent->hello_at >= ANSWER_TIME)
        return broken(agent, "no answer to HELLO in %lld s", (long long)(ANSWER_TIME / 1000 / MILLISECOND));
    *next = earlier(*next, agent->hello_at + ANSWER_TIME);
    return true;
}

bool
agent_timer(struct agent *agent, int64_t now, int64_t *next)
{
    struct source *source = agent->config.source;
    struct gr_record ping = { .type = GR_PING };

    *next = SOURCE_NEVER;
    if (source->tick && !agent->source_ended)
        *next = source->tick(source, now, agent->interest);
    if (agent->state == AGENT_HELLO)
        return hello_timer(agent, now, next);
    if (agent->state != AGENT_UP && agent->state != AGENT_BYE)
        return true;
    if (now - agent->last_heard >= 3 * agent->heartbeat) {
        if (!agent->config.device)
            return broken(agent, "nothing heard for %lld ms",
                          (long long)((now - agent->last_heard) / MILLISECOND));
        say_hello(agent, now);
        return hello_timer(agent, now, next);
    }
    if (now - agent->last_sent >= agent->heartbeat && agent->out.len == 0) {
        ping.body.ping.token = (uint64_t)now;
        put_record(agent, &ping);
        agent->last_sent = now;
    }
    *next = earlier(*next, agent->last_heard + 3 * agent->heartbeat);
    if (agent->out.len == 0)
        *next = earlier(*next, agent->last_sent + agent->heartbeat);
    *next = earlier(*next, agent->source_at);
    return true;
}

void
agent_stop(struct agent *agent)
{
    agent->config.source->stopped = true;
}

bool
agent_idle(const struct agent *agent)
{
    const struct source *source = agent->config.source;

    return !agent->held.head && (agent->source_ended || (source->stopped && source->backlog == 0));
}
