/* One driver's end of the conversation with gimuxd: what it says when, what it keeps, and what it may forget.
 *
 * Pure: bytes go in and out by function calls and the clock is an argument (monotonic nanoseconds), so that
 * all of it can be tested without a socket. Whoever owns the connection
 *   - calls agent_link_up when it is established and agent_link_down when it is lost,
 *   - gives what arrives to agent_receive, and sends what agent_output returns,
 *   - calls agent_timer at the time that it returned last. */
#ifndef SIM_AGENT_H
#define SIM_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/event_class.h"
#include "proto/guest_record.h"
#include "thinagent-sim/source.h"
#include "thinagent-sim/trace_writer.h"

enum agent_state {
    AGENT_DOWN,   /* no connection */
    AGENT_HELLO,  /* HELLO is out, WELCOME is waited for */
    AGENT_UP,     /* events flow */
    AGENT_BYE,    /* all is acknowledged, BYE is in the output */
    AGENT_DONE,   /* BYE is out: end */
    AGENT_FAILED, /* gimuxd rejected this driver for good: end; agent_why says why */
};

struct agent_config {
    uint8_t vm_uuid[GR_UUID_SIZE];
    uint8_t boot_id[GR_UUID_SIZE];
    uint16_t driver;
    struct gr_text build; /* for HELLO, in the driver's encoding; not copied */
    struct gr_text guest_os;
    bool device;                 /* a character device: other conversations' bytes may come first */
    bool verbose;                /* state changes go to stderr */
    struct source *source;       /* owned by the agent */
    struct trace_writer *record; /* NULL, or where what is sent is written too; not owned */
    uint32_t number;             /* distinguishes this stream from the others in that trace, from 0 */
};

struct agent_counters {
    uint64_t first; /* first sequence that this run gave out; 1 unless gimuxd knew the stream already */
    uint64_t sent;  /* highest sequence given out, 0 if none */
    uint64_t acked;
    uint64_t lost; /* sequences given out to LOST */
    uint64_t not_wanted;
    uint64_t resent;
    uint64_t reconnects;
    uint64_t by_class[CLASS_COUNT]; /* events that were given a sequence */
};

struct agent;

/* Takes over config->source, also when it is freed. */
struct agent *agent_new(const struct agent_config *config);
void agent_free(struct agent *agent);

const struct agent_config *agent_config(const struct agent *agent);
const struct agent_counters *agent_counters(const struct agent *agent);
enum agent_state agent_state(const struct agent *agent);
const char *agent_state_name(enum agent_state state); /* "down", "hello", ... */

/* Why the link had to be closed or the agent failed; "" if neither. Lives as long as the agent. */
const char *agent_why(const struct agent *agent);

/* The connection is established: HELLO is put into the output. */
void agent_link_up(struct agent *agent, int64_t now);

/* The connection is lost; in the states that end nothing changes. */
void agent_link_down(struct agent *agent);

/* Takes what arrived. Returns false if the link must be closed: see agent_why and agent_state. */
bool agent_receive(struct agent *agent, int64_t now, const uint8_t *data, size_t len);

/* The next bytes to send, drawn from the source as far as gimuxd's window allows; NULL and *len 0 if there
 * are none now. They stay the same until agent_sent takes `len` of them. */
const uint8_t *agent_output(struct agent *agent, int64_t now, size_t *len);
void agent_sent(struct agent *agent, int64_t now, size_t len);

/* Does what is due: heartbeats, HELLO again. Returns false if the link must be closed; else *next is when to
 * call again. */
bool agent_timer(struct agent *agent, int64_t now, int64_t *next);

/* Ends the source: what was taken on is still sent and waited for. */
void agent_stop(struct agent *agent);

/* Whether nothing more will come from the source and everything sent is acknowledged. */
bool agent_idle(const struct agent *agent);

#endif
