/* Tests of a driver's end of the conversation, with the test as gimuxd and as
 * the clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "thinagent-sim/agent.h"
#include "thinagent-sim/memory.h"
#include "thinagent-sim/queue.h"

#define MS         INT64_C(1000000)
#define EVENT_SIZE 89u /* bytes of what put_event makes */

/* An agent, its source, and what it has said. */
struct talk {
    struct agent *agent;
    struct source *queue;
    int64_t now;
    struct buffer said;
};

static void
start(struct talk *talk, bool device, size_t queue)
{
    struct agent_config config = { .driver = GR_LINUX, .device = device };

    memset(talk, 0, sizeof(*talk));
    talk->now = 1000 * MS;
    config.source = talk->queue = queue_new(queue, NULL);
    talk->agent = agent_new(&config);
    agent_link_up(talk->agent, talk->now);
}

static void
end(struct talk *talk)
{
    agent_free(talk->agent);
    buffer_free(&talk->said);
}

static void
put_event(struct talk *talk, uint16_t type)
{
    struct gr_record record = { .type = type, .sequence = 1 };
    uint8_t bytes[256];
    size_t len;

    if (type == GR_FILE)
        record.body.file =
            (struct gr_file){ .op = GR_FILE_OP_CLOSE, .path = { (const uint8_t *)"/srv/abc", 7 } };
    else
        record.body.dns.op = GR_DNS_OP_QUERY;
    len = gr_encode(&record, bytes, sizeof(bytes));
    queue_put(talk->queue, type, bytes, len);
}

static void
put_files(struct talk *talk, unsigned count)
{
    while (count-- > 0)
        put_event(talk, GR_FILE);
}

/* The agent's next record; type 0 if it says nothing more. */
static struct gr_record
hear(struct talk *talk)
{
    struct gr_record record = { 0 };
    char why[GR_WHY_MAX];
    size_t len;
    const uint8_t *data = agent_output(talk->agent, talk->now, &len);
    static uint8_t last[GR_MAX_RECORD];

    if (data) {
        buffer_add(&talk->said, data, len);
        agent_sent(talk->agent, talk->now, len);
    }
    if (gr_decode(talk->said.data, talk->said.len, &record, why) != GR_OK)
        return (struct gr_record){ 0 };
    memcpy(last, talk->said.data, record.size);
    buffer_take(&talk->said, record.size);
    assert_int_equal(gr_decode(last, record.size, &record, why), GR_OK);
    return record;
}

static void
assert_hears(struct talk *talk, uint16_t type, uint64_t sequence)
{
    struct gr_record record = hear(talk);

    assert_string_equal(gr_type_name(record.type), gr_type_name(type));
    assert_int_equal(record.sequence, sequence);
}

static void
assert_hears_hello(struct talk *talk, uint64_t first_held)
{
    struct gr_record record = hear(talk);

    assert_int_equal(record.type, GR_HELLO);
    assert_int_equal(record.body.hello.first_held, first_held);
}

static void
assert_silent(struct talk *talk)
{
    assert_int_equal(hear(talk).type, 0);
}

static bool
tell(struct talk *talk, const struct gr_record *record)
{
    uint8_t bytes[512];
    size_t len = gr_encode(record, bytes, sizeof(bytes));

    assert_true(len > 0);
    return agent_receive(talk->agent, talk->now, bytes, len);
}

static bool
welcome(struct talk *talk, uint64_t next_wanted, uint64_t window, uint64_t interest)
{
    struct gr_record record = { .type = GR_WELCOME };

    record.body.welcome = (struct gr_welcome){
        .version = 1, .heartbeat_ms = 100, .next_wanted = next_wanted, .window = window, .interest = interest
    };
    return tell(talk, &record);
}

static bool
ack(struct talk *talk, uint64_t sequence)
{
    struct gr_record record = { .type = GR_ACK };

    record.body.ack = (struct gr_ack){ .sequence = sequence, .level = 1 };
    return tell(talk, &record);
}

/* An agent with so many files to report, which has said HELLO and been welcomed. */
static void
start_welcomed(struct talk *talk, unsigned files, uint64_t next_wanted, uint64_t window)
{
    start(talk, false, 100000);
    put_files(talk, files);
    assert_int_equal(hear(talk).type, GR_HELLO);
    assert_true(welcome(talk, next_wanted, window, GR_KIND_ALL));
}

/* The connection is lost and made again; the HELLO says which sequence is the first held. */
static void
reconnect(struct talk *talk, uint64_t first_held)
{
    agent_link_down(talk->agent);
    agent_link_up(talk->agent, talk->now);
    assert_hears_hello(talk, first_held);
}

/* ---- tests ---- */

static void
a_conversation_from_hello_to_bye(void **state)
{
    struct talk talk;

    (void)state;
    start(&talk, false, 100000);
    put_files(&talk, 2);
    assert_hears_hello(&talk, 1);
    assert_silent(&talk); /* before WELCOME */
    assert_true(welcome(&talk, 1, 100000, GR_KIND_ALL));
    assert_hears(&talk, GR_FILE, 1);
    assert_hears(&talk, GR_FILE, 2);
    agent_stop(talk.agent);
    assert_silent(&talk); /* what is not acknowledged keeps it from leaving */
    assert_false(agent_idle(talk.agent));
    assert_true(ack(&talk, 2));
    assert_true(agent_idle(talk.agent));
    assert_hears(&talk, GR_BYE, 0);
    assert_int_equal(agent_state(talk.agent), AGENT_DONE);
    end(&talk);
}

static void
what_nobody_wants_takes_no_sequence(void **state)
{
    struct gr_record interest = { .type = GR_INTEREST, .body.interest.kinds = GR_KIND(GR_DNS) };
    struct talk talk;

    (void)state;
    start(&talk, false, 100000);
    put_event(&talk, GR_DNS);
    put_event(&talk, GR_FILE);
    hear(&talk);
    welcome(&talk, 1, 100000, GR_KIND(GR_FILE));
    assert_hears(&talk, GR_FILE, 1);
    assert_true(tell(&talk, &interest));
    put_event(&talk, GR_FILE);
    put_event(&talk, GR_DNS);
    assert_hears(&talk, GR_DNS, 2);
    assert_int_equal(agent_counters(talk.agent)->not_wanted, 2);
    end(&talk);
}

static void
the_window_is_kept(void **state)
{
    struct talk talk;

    (void)state;
    start_welcomed(&talk, 5, 1, 2 * EVENT_SIZE);
    assert_hears(&talk, GR_FILE, 1);
    assert_hears(&talk, GR_FILE, 2);
    assert_silent(&talk);
    ack(&talk, 1);
    assert_hears(&talk, GR_FILE, 3);
    assert_silent(&talk);
    end(&talk);
}

static void
a_record_larger_than_the_window_goes_alone(void **state)
{
    struct talk talk;

    (void)state;
    start_welcomed(&talk, 2, 1, 10);
    assert_hears(&talk, GR_FILE, 1);
    assert_silent(&talk);
    ack(&talk, 1);
    assert_hears(&talk, GR_FILE, 2);
    end(&talk);
}

/* gimuxd has 2 but it is not safe yet: the agent goes on from 3 and keeps 2
 * until ACK covers it, since gimuxd may lose it and want it again. */
static void
what_is_received_but_not_safe_is_kept(void **state)
{
    struct talk talk;

    (void)state;
    start_welcomed(&talk, 3, 1, 100000);
    for (uint64_t i = 1; i <= 3; i++)
        assert_hears(&talk, GR_FILE, i);
    ack(&talk, 1);
    reconnect(&talk, 2);
    welcome(&talk, 3, 100000, GR_KIND_ALL);
    assert_hears(&talk, GR_FILE, 3);
    assert_silent(&talk);
    reconnect(&talk, 2);
    welcome(&talk, 2, 100000, GR_KIND_ALL);
    assert_hears(&talk, GR_FILE, 2);
    assert_hears(&talk, GR_FILE, 3);
    assert_int_equal(agent_counters(talk.agent)->resent, 3);
    assert_int_equal(agent_counters(talk.agent)->reconnects, 2);
    end(&talk);
}

static void
numbering_goes_on_where_an_earlier_run_ended(void **state)
{
    struct talk talk;

    (void)state;
    start_welcomed(&talk, 1, 101, 100000);
    assert_hears(&talk, GR_FILE, 101);
    assert_true(ack(&talk, 101));
    assert_int_equal(agent_counters(talk.agent)->first, 101);
    end(&talk);
}

static void
an_ack_of_what_was_never_sent_is_refused(void **state)
{
    struct talk talk;

    (void)state;
    start_welcomed(&talk, 1, 1, 100000);
    assert_hears(&talk, GR_FILE, 1);
    assert_false(ack(&talk, 2));
    assert_string_equal(agent_why(talk.agent), "ACK of 2, but only 1 were sent");
    end(&talk);
}

/* The queue has room for two events; three more are dropped, and take their
 * numbers. */
static void
what_does_not_fit_is_told_by_lost(void **state)
{
    struct gr_record record;
    struct talk talk;

    (void)state;
    start(&talk, false, 2 * EVENT_SIZE);
    put_files(&talk, 5);
    hear(&talk);
    welcome(&talk, 1, 100000, GR_KIND_ALL);
    assert_hears(&talk, GR_FILE, 1);
    assert_hears(&talk, GR_FILE, 2);
    record = hear(&talk);
    assert_int_equal(record.type, GR_LOST);
    assert_int_equal(record.sequence, 3);
    assert_int_equal(record.body.lost.last, 5);
    put_files(&talk, 1);
    assert_hears(&talk, GR_FILE, 6);
    assert_int_equal(agent_counters(talk.agent)->lost, 3);
    end(&talk);
}

static void
pings_are_answered_and_sent(void **state)
{
    struct gr_record ping = { .type = GR_PING, .body.ping.token = 42 };
    struct gr_record pong;
    struct talk talk;
    int64_t next;

    (void)state;
    start_welcomed(&talk, 0, 1, 100000);
    assert_true(tell(&talk, &ping));
    pong = hear(&talk);
    assert_int_equal(pong.type, GR_PONG);
    assert_int_equal(pong.body.ping.token, 42);
    assert_true(agent_timer(talk.agent, talk.now, &next));
    assert_true(next == talk.now + 100 * MS);
    talk.now = next;
    assert_true(agent_timer(talk.agent, talk.now, &next));
    assert_hears(&talk, GR_PING, 0);
    end(&talk);
}

static void
silence_ends_the_connection(void **state)
{
    struct talk talk;
    int64_t next;

    (void)state;
    start_welcomed(&talk, 0, 1, 100000);
    talk.now += 299 * MS;
    assert_true(agent_timer(talk.agent, talk.now, &next));
    talk.now += 1 * MS;
    assert_false(agent_timer(talk.agent, talk.now, &next));
    end(&talk);
}

/* On a device there is nothing to close: the driver says HELLO again, every
 * second, and finds the answer among the rest of the former conversation. */
static void
on_a_device_hello_is_said_again(void **state)
{
    static const uint8_t rest[] = { 0xff, 0x7f, 0, 0, 4, 0, 9, 9, 9, 9, 9, 9, 9 };
    struct talk talk;
    int64_t next;

    (void)state;
    start(&talk, true, 100000);
    put_files(&talk, 1);
    hear(&talk);
    welcome(&talk, 1, 100000, GR_KIND_ALL);
    assert_hears(&talk, GR_FILE, 1);
    talk.now += 300 * MS;
    assert_true(agent_timer(talk.agent, talk.now, &next));
    assert_hears_hello(&talk, 1);
    talk.now += 1000 * MS;
    assert_true(agent_timer(talk.agent, talk.now, &next));
    assert_hears_hello(&talk, 1);
    assert_true(agent_receive(talk.agent, talk.now, rest, sizeof(rest)));
    assert_true(ack(&talk, 1)); /* an old one: not taken */
    assert_true(welcome(&talk, 2, 100000, GR_KIND_ALL));
    assert_int_equal(agent_state(talk.agent), AGENT_UP);
    assert_int_equal(agent_counters(talk.agent)->acked, 0);
    assert_true(ack(&talk, 1));
    assert_int_equal(agent_counters(talk.agent)->acked, 1);
    end(&talk);
}

static void
rejections_end_it_or_not(void **state)
{
    static const struct {
        uint16_t code;
        enum agent_state state;
    } cases[] = {
        { GR_REJECT_VERSION, AGENT_FAILED },
        { GR_REJECT_IDENTITY, AGENT_FAILED },
        { GR_REJECT_CLONE, AGENT_HELLO },
        { GR_REJECT_DRIVER, AGENT_FAILED },
        { GR_REJECT_LIMIT, AGENT_HELLO },
        { GR_REJECT_UNKNOWN, AGENT_FAILED },
        { 99, AGENT_HELLO },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct gr_record reject = { .type = GR_REJECT };
        struct talk talk;

        reject.body.reject = (struct gr_reject){ cases[i].code, { (const uint8_t *)"no", 2 } };
        start(&talk, false, 1000);
        hear(&talk);
        assert_false(tell(&talk, &reject));
        assert_int_equal(agent_state(talk.agent), cases[i].state);
        assert_non_null(strstr(agent_why(talk.agent), ": no"));
        end(&talk);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_conversation_from_hello_to_bye),
        cmocka_unit_test(what_nobody_wants_takes_no_sequence),
        cmocka_unit_test(the_window_is_kept),
        cmocka_unit_test(a_record_larger_than_the_window_goes_alone),
        cmocka_unit_test(what_is_received_but_not_safe_is_kept),
        cmocka_unit_test(numbering_goes_on_where_an_earlier_run_ended),
        cmocka_unit_test(an_ack_of_what_was_never_sent_is_refused),
        cmocka_unit_test(what_does_not_fit_is_told_by_lost),
        cmocka_unit_test(pings_are_answered_and_sent),
        cmocka_unit_test(silence_ends_the_connection),
        cmocka_unit_test(on_a_device_hello_is_said_again),
        cmocka_unit_test(rejections_end_it_or_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
