/* ZeroMQ: producers are PUB, receivers are SUB, and between them its own proxy (zmq_proxy.c). Producers come
 * by a UNIX socket, receivers over TCP; both speak ZMTP 3.0. */
#include <stdio.h>
#include <string.h>

#include "tests/bench/run.h"
#include "tests/bench/system.h"
#include "tests/bench/wire.h"

#define GREETING 64
#define COMMAND  0x04 /* flags of a frame */
#define LONG     0x02
/* A topic that no event has; it says that the subscription before it is in force. */
#define TOPIC_FORMAT "\xff\xff\xff%02u"
#define TOPIC_SIZE   5u

static bool
start(struct run *run)
{
    char program[PROCESS_PATH_MAX], port[16];
    const char *const argv[] = { program, run->socket, port, NULL };

    snprintf(program, sizeof(program), "%s/zmq_proxy", run->conf->programs);
    snprintf(port, sizeof(port), "%u", run->port);
    return process_start(&run->process, argv);
}

/* Reads one frame of at most 255 bytes. Returns its size, or -1. */
static int
read_frame(int fd, uint8_t *flags, uint8_t out[256])
{
    uint8_t head[2];

    if (!wire_read(fd, head, 2) || head[0] & LONG || !wire_read(fd, out, head[1]))
        return -1;
    *flags = head[0];
    return head[1];
}

static bool
greet(int fd, const char *type)
{
    uint8_t greeting[GREETING] = { 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0, 'N', 'U', 'L', 'L' };
    uint8_t theirs[256], ready[64], flags;
    size_t len = strlen(type);

    memcpy(ready, "\x04\0\x05READY\x0bSocket-Type\0\0\0\0", 24);
    ready[23] = (uint8_t)len;
    memcpy(ready + 24, type, len);
    ready[1] = (uint8_t)(22 + len);
    return wire_send(fd, greeting, sizeof(greeting)) && wire_read(fd, theirs, GREETING) &&
           wire_send(fd, ready, 24 + len) && read_frame(fd, &flags, theirs) > 0 && flags & COMMAND;
}

static bool
join_receiver(struct run *run, struct receiver *receiver)
{
    char words[32] = { 0, 1, 1, 0, 1 + TOPIC_SIZE, 1 }; /* all; and one of its own */

    snprintf(words + 6, sizeof(words) - 6, TOPIC_FORMAT, receiver->index);
    receiver->fd = wire_dial_tcp(run->port);
    return receiver->fd >= 0 && greet(receiver->fd, "SUB") && wire_send(receiver->fd, words, 6 + TOPIC_SIZE);
}

/* The proxy passes subscriptions on; when all have come, so have all receivers. */
static bool
join_producer(struct run *run, struct producer *producer)
{
    unsigned missing = run->conf->receivers;
    uint8_t frame[256], flags;

    producer->fd = wire_dial_unix(run->socket);
    if (producer->fd < 0 || !greet(producer->fd, "PUB"))
        return false;
    while (missing > 0) {
        int size = read_frame(producer->fd, &flags, frame);

        if (size < 0)
            return false;
        if (size == 1 + TOPIC_SIZE && frame[0] == 1)
            missing--;
    }
    return true;
}

static size_t
wrap(const uint8_t *record, size_t len, uint8_t *out, uint32_t *head, uint32_t *tag)
{
    (void)tag;
    memset(out, 0, 9);
    if (len < 256) {
        out[1] = (uint8_t)len;
        *head = 2;
    } else {
        out[0] = LONG;
        out[7] = (uint8_t)(len >> 8);
        out[8] = (uint8_t)len;
        *head = 9;
    }
    memcpy(out + *head, record, len);
    return *head + len;
}

static size_t
take(struct receiver *receiver, const uint8_t *data, size_t len)
{
    uint64_t count = atomic_load_explicit(&receiver->count, memory_order_relaxed);
    size_t used = 0;

    while (len - used >= 9) {
        const uint8_t *at = data + used;
        size_t head = at[0] & LONG ? 9 : 2;
        size_t size = at[0] & LONG ? (size_t)(at[6] << 16 | at[7] << 8 | at[8]) : at[1];

        if (at[0] & ~LONG || size < GR_HEADER_SIZE) {
            receiver->wrong = "a frame that is not an event";
            break;
        }
        if (head + size > len - used)
            break;
        system_record(receiver, at + head, &count);
        used += head + size;
    }
    atomic_store_explicit(&receiver->count, count, memory_order_relaxed);
    return used;
}

const struct system system_zeromq = { .name = "zeromq",
                                      .text = "ZeroMQ, a proxy of XSUB and XPUB",
                                      .program = "@zmq_proxy",
                                      .start = start,
                                      .join_receiver = join_receiver,
                                      .join_producer = join_producer,
                                      .wrap = wrap,
                                      .take = take };
