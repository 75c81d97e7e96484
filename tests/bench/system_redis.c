/* Redis, publish and subscribe: producers by its UNIX socket, receivers over TCP, nothing kept. */
#include <stdio.h>
#include <string.h>

#include "tests/bench/run.h"
#include "tests/bench/system.h"
#include "tests/bench/wire.h"

#define QUIET   "*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n"
#define PUBLISH "*3\r\n$7\r\nPUBLISH\r\n$1\r\ne\r\n$"
#define MESSAGE "*3\r\n$7\r\nmessage\r\n$1\r\ne\r\n$"

static bool
start(struct run *run)
{
    char port[16];
    /* Without a limit, since beyond it a slow subscriber is thrown out. */
    const char *const argv[] = { "redis-server",
                                 "--bind",
                                 "127.0.0.1",
                                 "--port",
                                 port,
                                 "--save",
                                 "",
                                 "--appendonly",
                                 "no",
                                 "--dir",
                                 run->process.dir,
                                 "--unixsocket",
                                 run->socket,
                                 "--client-output-buffer-limit",
                                 "pubsub 0 0 0",
                                 NULL };

    snprintf(port, sizeof(port), "%u", run->port);
    return process_start(&run->process, argv);
}

static bool
join_receiver(struct run *run, struct receiver *receiver)
{
    static const char subscribe[] = "*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\ne\r\n";
    char answer[128];

    receiver->fd = wire_dial_tcp(run->port);
    return receiver->fd >= 0 && wire_send(receiver->fd, subscribe, strlen(subscribe)) &&
           wire_expect(receiver->fd, ":1\r\n", answer, sizeof(answer));
}

/* Redis answers every PUBLISH unless asked not to, which is cheapest for it. */
static bool
join_producer(struct run *run, struct producer *producer)
{
    char answer[128];

    producer->fd = wire_dial_unix(run->socket);
    return producer->fd >= 0 && wire_send(producer->fd, "PING\r\n", 6) &&
           wire_expect(producer->fd, "+PONG\r\n", answer, sizeof(answer)) &&
           wire_send(producer->fd, QUIET, strlen(QUIET));
}

static size_t
wrap(const uint8_t *record, size_t len, uint8_t *out, uint32_t *head, uint32_t *tag)
{
    (void)tag;
    *head = (uint32_t)sprintf((char *)out, PUBLISH "%zu\r\n", len);
    memcpy(out + *head, record, len);
    memcpy(out + *head + len, "\r\n", 2);
    return *head + len + 2;
}

static size_t
take(struct receiver *receiver, const uint8_t *data, size_t len)
{
    uint64_t count = atomic_load_explicit(&receiver->count, memory_order_relaxed);
    const size_t front = strlen(MESSAGE);
    size_t used = 0;

    while (len - used > front + 8) {
        const uint8_t *at = data + used + front;
        size_t size = 0;

        if (memcmp(data + used, MESSAGE, front) != 0) {
            receiver->wrong = "bytes that are not a message";
            break;
        }
        while (*at >= '0' && *at <= '9' && size < MIX_RECORD_MAX)
            size = size * 10 + (size_t)(*at++ - '0');
        at += 2;
        if (size < GR_HEADER_SIZE || (size_t)(at - data) + size + 2 > len)
            break;
        system_record(receiver, at, &count);
        used = (size_t)(at - data) + size + 2;
    }
    atomic_store_explicit(&receiver->count, count, memory_order_relaxed);
    return used;
}

const struct system system_redis = { .name = "redis",
                                     .text = "redis publish and subscribe",
                                     .program = "redis-server",
                                     .start = start,
                                     .join_receiver = join_receiver,
                                     .join_producer = join_producer,
                                     .wrap = wrap,
                                     .take = take };
