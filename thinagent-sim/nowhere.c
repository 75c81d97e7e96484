/* Stands in for gimuxd when a run only makes a recording: welcomes a driver and acknowledges all that it
 * says. */
#include "thinagent-sim/nowhere.h"

#define WINDOW     (UINT64_C(1) << 20)
#define ROUNDS_MAX 16u /* so that signals are handled in between */

static void
answer(struct agent *agent, int64_t now, const struct gr_record *record)
{
    uint8_t bytes[128];

    agent_receive(agent, now, bytes, gr_encode(record, bytes, sizeof(bytes)));
}

bool
nowhere_take(struct agent *agent, int64_t now)
{
    struct gr_record welcome = { .type = GR_WELCOME };
    struct gr_record ack = { .type = GR_ACK };
    size_t len;

    if (agent_state(agent) == AGENT_HELLO) {
        welcome.body.welcome = (struct gr_welcome){
            .version = GR_VERSION, .heartbeat_ms = UINT32_MAX, .window = WINDOW, .interest = GR_KIND_ALL
        };
        answer(agent, now, &welcome);
    }
    for (unsigned round = 0; round < ROUNDS_MAX; round++) {
        if (!agent_output(agent, now, &len))
            return false;
        agent_sent(agent, now, len);
        ack.body.ack.sequence = agent_counters(agent)->sent;
        answer(agent, now, &ack);
    }
    return true;
}
