/* NATS, core and JetStream: everybody over TCP, since it has no UNIX sockets. JetStream keeps events in a
 * file, acknowledges each to its producer, and is acknowledged by its receivers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/run.h"
#include "tests/bench/system.h"
#include "tests/bench/wire.h"

#define CONNECT  "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n"
#define LINE_MAX 1024

/* Its configuration, at the most generous. */
#define CONF                                                                                                 \
    "listen: \"127.0.0.1:%u\"\nmax_pending: 1GB\nwrite_deadline: \"60s\"\nmax_control_line: 4KB\n"           \
    "ping_interval: \"600s\"\n"

static bool
start_with(struct run *run, const char *more)
{
    char conf[1024], path[PROCESS_PATH_MAX];
    const char *const argv[] = { "nats-server", "-c", process_path(&run->process, "nats.conf", path), NULL };
    int len = snprintf(conf, sizeof(conf), CONF, run->port);

    snprintf(conf + len, sizeof(conf) - (size_t)len, "%s", more);
    return process_write(&run->process, "nats.conf", conf) && process_start(&run->process, argv);
}

static bool
start_core(struct run *run)
{
    return start_with(run, "");
}

/* A connection on which `words` were said, and understood. */
static int
join(struct run *run, const char *words)
{
    char answer[LINE_MAX * 4];
    int fd = wire_dial_tcp(run->port);

    if (fd >= 0 && wire_expect(fd, "\r\n", answer, sizeof(answer)) &&
        wire_send(fd, CONNECT, strlen(CONNECT)) && wire_send(fd, words, strlen(words)) &&
        wire_send(fd, "PING\r\n", 6) && wire_expect(fd, "PONG\r\n", answer, sizeof(answer)))
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static bool
join_core_receiver(struct run *run, struct receiver *receiver)
{
    receiver->fd = join(run, "SUB e 1\r\n");
    return receiver->fd >= 0;
}

static bool
join_core_producer(struct run *run, struct producer *producer)
{
    producer->fd = join(run, "");
    return producer->fd >= 0;
}

static size_t
wrap_core(const uint8_t *record, size_t len, uint8_t *out, uint32_t *head, uint32_t *tag)
{
    (void)tag;
    *head = (uint32_t)sprintf((char *)out, "PUB e %zu\r\n", len);
    memcpy(out + *head, record, len);
    memcpy(out + *head + len, "\r\n", 2);
    return *head + len + 2;
}

/* ---- what receivers read ---- */

/* The reply subject of the last message, where acknowledgements go. */
struct reply {
    char subject[256];
};

/* MSG subject sid [reply] size: the size is the last word of the line. Returns 0 if there is no size. */
static size_t
message_size(const uint8_t *line, const uint8_t *end)
{
    size_t size = 0, unit = 1;

    for (end--; end > line && *end >= '0' && *end <= '9'; end--, unit *= 10)
        size += (size_t)(*end - '0') * unit;
    return *end == ' ' ? size : 0;
}

static void
note_reply(struct receiver *receiver, const uint8_t *line, const uint8_t *end)
{
    struct reply *reply = receiver->state;
    const uint8_t *start = line + strlen("MSG d00 1 ");
    const uint8_t *stop = memchr(start, ' ', (size_t)(end - start));

    if (stop && (size_t)(stop - start) < sizeof(reply->subject)) {
        memcpy(reply->subject, start, (size_t)(stop - start));
        reply->subject[stop - start] = '\0';
    }
}

static size_t
take(struct receiver *receiver, const uint8_t *data, size_t len)
{
    uint64_t count = atomic_load_explicit(&receiver->count, memory_order_relaxed), before = count;
    const uint8_t *line = NULL, *line_end = NULL;
    size_t used = 0;

    while (used < len) {
        const uint8_t *at = data + used;
        const uint8_t *end = memchr(at, '\r', len - used);
        size_t size;

        if (!end || end + 2 > data + len)
            break;
        if (at[0] != 'M') { /* PING, INFO, +OK */
            if (at[0] == '-')
                receiver->wrong = "NATS reports an error";
            if (at[0] == 'P' && at[1] == 'I')
                receiver_write(receiver, "PONG\r\n", 6);
            used = (size_t)(end - data) + 2;
            continue;
        }
        size = message_size(at, end);
        if (size < GR_HEADER_SIZE) {
            receiver->wrong = "a message that is not an event";
            break;
        }
        if (end + 2 + size + 2 > data + len)
            break;
        system_record(receiver, end + 2, &count);
        line = at;
        line_end = end;
        used = (size_t)(end - data) + 2 + size + 2;
    }
    if (receiver->state && line) {
        note_reply(receiver, line, line_end);
        receiver->unacked += count - before;
    }
    atomic_store_explicit(&receiver->count, count, memory_order_relaxed);
    return used;
}

const struct system system_nats = { .name = "nats",
                                    .text = "NATS core",
                                    .program = "nats-server",
                                    .start = start_core,
                                    .join_receiver = join_core_receiver,
                                    .join_producer = join_core_producer,
                                    .wrap = wrap_core,
                                    .take = take };

/* ---- JetStream ---- */

static bool
start_jetstream(struct run *run)
{
    char more[PROCESS_PATH_MAX + 128];

    snprintf(more, sizeof(more), "jetstream { store_dir: \"%s/js\", max_file: 20GB }\n", run->process.dir);
    return start_with(run, more);
}

/* Asks the server for something. True if it did that. */
static bool
ask(struct run *run, const char *subject, const char *what)
{
    char request[LINE_MAX], line[LINE_MAX], answer[LINE_MAX * 4];
    int fd = join(run, "SUB r 1\r\n");
    bool good;

    snprintf(request, sizeof(request), "PUB $JS.API.%s r %zu\r\n%s\r\n", subject, strlen(what), what);
    good = fd >= 0 && wire_send(fd, request, strlen(request)) &&
           wire_expect(fd, "\r\n", line, sizeof(line)) && wire_expect(fd, "\r\n", answer, sizeof(answer)) &&
           !strstr(answer, "\"error\"");
    if (fd >= 0)
        close(fd);
    return good;
}

/* A stream in a file, and for each receiver a consumer that is pushed everything and acknowledges whole
 * ranges at once, which is the cheapest that there is. */
static bool
join_jetstream_receiver(struct run *run, struct receiver *receiver)
{
    char subject[64], what[LINE_MAX], words[64];

    if (receiver->index == 0 && !ask(run, "STREAM.CREATE.B",
                                     "{\"name\":\"B\",\"subjects\":[\"e\"],\"storage\":\"file\","
                                     "\"retention\":\"limits\",\"discard\":\"old\","
                                     "\"num_replicas\":1,\"max_msgs\":-1,\"max_bytes\":-1,\"max_age\":0}"))
        return false;
    snprintf(words, sizeof(words), "SUB d%02u 1\r\n", receiver->index);
    receiver->fd = join(run, words);
    receiver->state = calloc(1, sizeof(struct reply));
    snprintf(subject, sizeof(subject), "CONSUMER.DURABLE.CREATE.B.c%u", receiver->index);
    snprintf(
        what, sizeof(what),
        "{\"stream_name\":\"B\",\"config\":{\"durable_name\":\"c%u\",\"deliver_subject\":\"d%02u\","
        "\"deliver_policy\":\"all\",\"ack_policy\":\"all\",\"ack_wait\":60000000000,\"max_ack_pending\":-1,"
        "\"replay_policy\":\"instant\"}}",
        receiver->index, receiver->index);
    return receiver->fd >= 0 && ask(run, subject, what);
}

static bool
join_jetstream_producer(struct run *run, struct producer *producer)
{
    char words[64];

    snprintf(words, sizeof(words), "SUB i.%s 1\r\n", producer->tag);
    producer->fd = join(run, words);
    return producer->fd >= 0;
}

static size_t
wrap_jetstream(const uint8_t *record, size_t len, uint8_t *out, uint32_t *head, uint32_t *tag)
{
    *tag = (uint32_t)strlen("PUB e i.");
    *head = (uint32_t)sprintf((char *)out, "PUB e i.0000 %zu\r\n", len);
    memcpy(out + *head, record, len);
    memcpy(out + *head + len, "\r\n", 2);
    return *head + len + 2;
}

/* One message for each event that is stored: MSG i.0000 1 30, and {"stream":"B", "seq":1}. */
static size_t
listen_for_acks(struct producer *producer, const uint8_t *data, size_t len)
{
    size_t used = 0;

    while (used < len) {
        const uint8_t *at = data + used;
        const uint8_t *end = memchr(at, '\r', len - used);
        size_t size = 0;

        if (!end || end + 2 > data + len)
            break;
        if (at[0] == 'M') {
            size = message_size(at, end) + 2;
            if (end + 2 + size > data + len)
                break;
            producer->acked += memmem(end, size, "\"seq\"", 5) != NULL;
        }
        used = (size_t)(end - data) + 2 + size;
    }
    return used;
}

static void
acknowledge(struct receiver *receiver)
{
    const struct reply *reply = receiver->state;
    char words[300];
    int len = snprintf(words, sizeof(words), "PUB %s 4\r\n+ACK\r\n", reply->subject);

    if (!receiver_write(receiver, words, (size_t)len))
        receiver->wrong = "cannot send NATS an acknowledgement";
}

const struct system system_jetstream = { .name = "jetstream",
                                         .text = "NATS JetStream, in a file, acknowledged",
                                         .program = "nats-server",
                                         .start = start_jetstream,
                                         .join_receiver = join_jetstream_receiver,
                                         .join_producer = join_jetstream_producer,
                                         .wrap = wrap_jetstream,
                                         .listen = listen_for_acks,
                                         .take = take,
                                         .ack = acknowledge };
