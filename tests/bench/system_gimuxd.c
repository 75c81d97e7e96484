/* gimuxd as users run it: drivers by the shared UNIX socket, SVMs over TCP, everything acknowledged. */
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/delimited.h"
#include "proto/gimux.pb-c.h"
#include "tests/bench/run.h"
#include "tests/bench/system.h"
#include "tests/bench/system_gimuxd.h"
#include "tests/bench/wire.h"
#include "tests/chaos/pki.h"

#define VM_FORMAT  "be4c4be4-0000-4000-8000-%012x"
#define BOOT_UUID  "b0070000-0000-4000-8000-000000000001"
#define OWN_STREAM UINT32_MAX /* one of gimuxd's own */
#define CONF_MAX   16384

enum { TAG_STREAM_START = 0x1a, TAG_EVENT = 0x2a, TAG_GAP = 0x32 };

/* What an SVM knows of streams, by their numbers. */
struct streams {
    uint32_t count; /* room */
    uint32_t dirty_count;
    uint32_t *source; /* producer */
    uint32_t *dirty;  /* numbers of those that are to be acknowledged */
    uint64_t *last;
    uint64_t *acked;
    uint8_t *out; /* the Ack */
};

/* ---- the daemon ---- */

static size_t
write_solution(const struct run *run, unsigned index, uint16_t port, char *out, size_t room)
{
    const struct system *system = run->conf->system;
    const char *dir = run->process.dir;
    char tls[PROCESS_PATH_MAX * 4] = "    plain = true\n";

    if (system->tls)
        snprintf(tls, sizeof(tls),
                 "    cert = \"%s/gimuxd.pem\"\n    key = \"%s/gimuxd.key\"\n    ca = \"%s/ca.pem\"\n"
                 "    tls_name = \"localhost\"\n",
                 dir, dir, dir);
    return (size_t)snprintf(out, room,
                            "solution \"svm%u\" {\n    altitude = %u\n    address = \"%s:127.0.0.1:%u\"\n"
                            "    durability = %s\n%s%s}\n",
                            index, 100 - index, system->tls ? "tls" : "tcp", port,
                            system->durable ? "process" : "delivered", tls,
                            run->conf->calm ? "    heartbeat = 60m\n" : "");
}

static bool
make_certificates(struct run *run)
{
    static const char *const names[RECEIVERS_MAX] = { "svm0",  "svm1",  "svm2",  "svm3", "svm4",  "svm5",
                                                      "svm6",  "svm7",  "svm8",  "svm9", "svm10", "svm11",
                                                      "svm12", "svm13", "svm14", "svm15" };
    char cert[PROCESS_PATH_MAX], key[PROCESS_PATH_MAX], ca[PROCESS_PATH_MAX];

    run->pki = pki_new(run->process.dir, names, run->conf->receivers);
    run->tls = SSL_CTX_new(TLS_server_method());
    process_path(&run->process, "svm.pem", cert);
    process_path(&run->process, "svm.key", key);
    process_path(&run->process, "ca.pem", ca);
    if (!run->tls || SSL_CTX_use_certificate_chain_file(run->tls, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(run->tls, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_load_verify_locations(run->tls, ca, NULL) != 1)
        return false;
    SSL_CTX_set_min_proto_version(run->tls, TLS1_3_VERSION);
    SSL_CTX_set_verify(run->tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_num_tickets(run->tls, 0);
    SSL_CTX_set_mode(run->tls, SSL_MODE_AUTO_RETRY);
    return true;
}

static bool
start(struct run *run)
{
    const struct system *system = run->conf->system;
    const char *dir = run->process.dir;
    char conf[CONF_MAX], path[PROCESS_PATH_MAX];
    const char *const argv[] = { run->conf->gimuxd, "-f", "-c", path, NULL };
    unsigned vms = run->conf->producers + 64;
    size_t len;

    len = (size_t)snprintf(conf, sizeof(conf),
                           "pid_file = \"%s/gimuxd.pid\"\nadmin = \"unix:%s/admin.sock\"\n"
                           "doors {\n    shared = \"unix:%s\"\n}\n%s",
                           dir, dir, run->socket, run->conf->wrap ? "sandbox = false\n" : "");
    if (run->conf->calm)
        len += (size_t)snprintf(conf + len, sizeof(conf) - len, "heartbeat = 30m\nsilence = 60m\n");
    if (vms > 1024) /* more than the default */
        len += (size_t)snprintf(conf + len, sizeof(conf) - len,
                                "limits {\n    vms = %u\n    connections = %u\n}\n", vms, vms * 2);
    if (system->durable) {
        len +=
            (size_t)snprintf(conf + len, sizeof(conf) - len, "storage {\n    dir = \"%s/storage\"\n}\n", dir);
        mkdir(process_path(&run->process, "storage", path), 0700);
    }
    if (system->tls && !make_certificates(run))
        return false;
    for (unsigned i = 0; i < run->conf->receivers; i++) {
        uint16_t port;

        run->listeners[i] = wire_listen(&port);
        if (run->listeners[i] < 0)
            return false;
        len += write_solution(run, i, port, conf + len, sizeof(conf) - len);
    }
    process_path(&run->process, "gimuxd.conf", path);
    return process_write(&run->process, "gimuxd.conf", conf) && process_start(&run->process, argv);
}

/* ---- a driver ---- */

static bool
send_record(int fd, const struct gr_record *record)
{
    uint8_t buf[1024];
    size_t size = gr_encode(record, buf, sizeof(buf));

    return size > 0 && wire_send(fd, buf, size);
}

static bool
send_volumes(int fd)
{
    static const uint8_t device[] = "\\\0D\0e\0v\0i\0c\0e\0\\\0H\0a\0r\0d\0d\0i\0s\0k\0V\0o\0l\0u\0m\0e\0"
                                    "2";
    struct gr_record record = { .type = GR_VOLUMES };
    struct gr_volume volume = { .letter = 'C', .device = { device, sizeof(device) } };
    uint8_t entries[128];
    size_t len = 0;

    gr_volume_put(entries, sizeof(entries), &len, &volume);
    record.body.volumes.count = 1;
    record.body.volumes.entries = (struct gr_text){ entries, (uint32_t)len };
    return send_record(fd, &record);
}

bool
system_gimuxd_hello(const struct producer *producer)
{
    struct gr_record hello = { .type = GR_HELLO };
    char uuid[GR_UUID_TEXT];

    hello.body.hello.magic = GR_MAGIC;
    hello.body.hello.version_min = hello.body.hello.version_max = GR_VERSION;
    hello.body.hello.driver = producer->tape->driver;
    hello.body.hello.first_held = 1;
    snprintf(uuid, sizeof(uuid), VM_FORMAT, producer->id);
    gr_uuid_parse(uuid, hello.body.hello.vm_uuid);
    gr_uuid_parse(BOOT_UUID, hello.body.hello.boot_id);
    return send_record(producer->fd, &hello);
}

bool
system_gimuxd_ping(const struct producer *producer, uint64_t token)
{
    struct gr_record ping = { .type = GR_PING };

    ping.body.ping.token = token;
    return send_record(producer->fd, &ping);
}

static bool
join_producer(struct run *run, struct producer *producer)
{
    uint8_t answer[1024];
    uint32_t size;
    uint16_t type;

    producer->fd = wire_dial_unix(run->socket);
    if (producer->fd < 0 || !system_gimuxd_hello(producer) ||
        !wire_read(producer->fd, answer, GR_HEADER_SIZE))
        return false;
    memcpy(&size, answer, sizeof(size));
    memcpy(&type, answer + 4, sizeof(type));
    if (type != GR_WELCOME || size > sizeof(answer) || size < GR_HEADER_SIZE ||
        !wire_read(producer->fd, answer + GR_HEADER_SIZE, size - GR_HEADER_SIZE))
        return false;
    return !gr_driver_is_windows(producer->tape->driver) || send_volumes(producer->fd);
}

static size_t
listen_for_acks(struct producer *producer, const uint8_t *data, size_t len)
{
    size_t used = 0;

    while (len - used >= GR_HEADER_SIZE) {
        uint32_t size;
        uint16_t type;

        memcpy(&size, data + used, sizeof(size));
        memcpy(&type, data + used + 4, sizeof(type));
        if (size > len - used || size < GR_HEADER_SIZE)
            break;
        if (type == GR_ACK)
            memcpy(&producer->acked, data + used + GR_HEADER_SIZE, sizeof(producer->acked));
        used += size;
    }
    return used;
}

/* ---- an SVM ---- */

static bool
read_exactly(struct receiver *receiver, uint8_t *out, size_t len)
{
    struct pollfd poll_fd = { .fd = receiver->fd, .events = POLLIN };

    while (len > 0) {
        ssize_t got = receiver_read(receiver, out, len);

        if (got < 0 || (got == 0 && poll(&poll_fd, 1, 10000) != 1))
            return false;
        out += got;
        len -= (size_t)got;
    }
    return true;
}

/* MuxHello, whatever it says, and our answer. */
static bool
greet(struct receiver *receiver)
{
    Gimux__V1__Frame frame = GIMUX__V1__FRAME__INIT;
    Gimux__V1__SvmHello hello = GIMUX__V1__SVM_HELLO__INIT;
    uint8_t buf[4096];
    size_t len = 0, size = 0;

    do {
        if (!read_exactly(receiver, &buf[len], 1))
            return false;
        size |= (size_t)(buf[len] & 0x7f) << (7 * len);
    } while (buf[len++] & 0x80 && len < DELIMITED_PREFIX_MAX);
    if (size > sizeof(buf) || !read_exactly(receiver, buf, size))
        return false;
    hello.version = 1;
    hello.name = (char *)"bench";
    frame.body_case = GIMUX__V1__FRAME__BODY_SVM_HELLO;
    frame.svm_hello = &hello;
    len = delimited_put_prefix(buf, gimux__v1__frame__get_packed_size(&frame));
    len += gimux__v1__frame__pack(&frame, buf + len);
    return receiver_write(receiver, buf, len);
}

static bool
join_receiver(struct run *run, struct receiver *receiver)
{
    uint32_t room = run->conf->producers * 4 + 1024;
    struct streams *streams = calloc(1, sizeof(*streams) + (size_t)room * 56 + 64);
    uint8_t *at;

    if (!streams)
        abort();
    at = (uint8_t *)(streams + 1);
    streams->count = room;
    streams->last = (uint64_t *)at;
    streams->acked = streams->last + room;
    streams->source = (uint32_t *)(streams->acked + room);
    streams->dirty = streams->source + room;
    streams->out = (uint8_t *)(streams->dirty + room); /* 24 bytes for each */
    receiver->state = streams;
    receiver->fd = wire_accept(run->listeners[receiver->index]);
    if (receiver->fd < 0)
        return false;
    if (run->tls) {
        receiver->ssl = SSL_new(run->tls);
        SSL_set_fd(receiver->ssl, receiver->fd);
        if (SSL_accept(receiver->ssl) != 1)
            return false;
    }
    return greet(receiver);
}

static inline const uint8_t *
varint(const uint8_t *at, uint64_t *out)
{
    uint64_t value = *at & 0x7f;

    for (unsigned shift = 7; *at++ & 0x80 && shift < 64; shift += 7)
        value |= (uint64_t)(*at & 0x7f) << shift;
    *out = value;
    return at;
}

static void
note(struct receiver *receiver, struct streams *streams, uint64_t stream, uint64_t sequence)
{
    if (streams->last[stream] <= streams->acked[stream])
        streams->dirty[streams->dirty_count++] = (uint32_t)stream;
    streams->last[stream] = sequence;
    receiver->unacked++;
}

static void
take_start(struct receiver *receiver, struct streams *streams, const Gimux__V1__StreamStart *start)
{
    bool own = start->driver == GIMUX__V1__DRIVER__DRIVER_GIMUXD;

    if (start->stream >= streams->count || strlen(start->vm_uuid) != 36)
        receiver->wrong = "a stream number beyond what was expected";
    else
        streams->source[start->stream] = own ? OWN_STREAM : (uint32_t)strtoul(start->vm_uuid + 28, NULL, 16);
}

/* Frames that are no events are few. */
static void
take_other(struct receiver *receiver, const uint8_t *body, size_t size)
{
    Gimux__V1__Frame *frame = gimux__v1__frame__unpack(NULL, size, body);

    if (!frame) {
        receiver->wrong = "a malformed frame";
        return;
    }
    if (frame->body_case == GIMUX__V1__FRAME__BODY_STREAM_START)
        take_start(receiver, receiver->state, frame->stream_start);
    else if (frame->body_case == GIMUX__V1__FRAME__BODY_GAP)
        receiver->wrong = "gimuxd sent a gap";
    else if (frame->body_case == GIMUX__V1__FRAME__BODY_BYE)
        receiver->wrong = "gimuxd sent Bye";
    gimux__v1__frame__free_unpacked(frame, NULL);
}

/* The first three fields of every event, in the order in which all encoders have them. */
static void
take_event(struct receiver *receiver, const uint8_t *body, const uint8_t *end, uint64_t *count)
{
    struct streams *streams = receiver->state;
    uint64_t size, stream = UINT64_MAX, sequence = 0, time;
    const uint8_t *at = varint(body + 1, &size);

    if (end - at > 24 && *at++ == 0x08)
        at = varint(at, &stream);
    if (stream < streams->count && *at++ == 0x10)
        at = varint(at, &sequence);
    if (sequence == 0 || *at++ != 0x19 || end - at < 8) {
        receiver->wrong = "an event without stream, sequence and time";
        return;
    }
    memcpy(&time, at, sizeof(time));
    if (streams->source[stream] != OWN_STREAM)
        receiver_event(receiver, streams->source[stream], sequence, time, count);
    note(receiver, streams, stream, sequence);
}

static size_t
take(struct receiver *receiver, const uint8_t *data, size_t len)
{
    uint64_t count = atomic_load_explicit(&receiver->count, memory_order_relaxed);
    size_t used = 0, size;
    const uint8_t *body;

    while (!receiver->wrong &&
           delimited_next(data + used, len - used, DELIMITED_FRAME_MAX, &body, &size) == DELIMITED_FRAME) {
        if (size > 0 && body[0] == TAG_EVENT)
            take_event(receiver, body, body + size, &count);
        else if (size > 0)
            take_other(receiver, body, size);
        used = (size_t)(body - data) + size;
    }
    atomic_store_explicit(&receiver->count, count, memory_order_relaxed);
    return used;
}

static uint8_t *
put_varint(uint8_t *at, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        *at++ = (uint8_t)(value | 0x80);
    *at++ = (uint8_t)value;
    return at;
}

/* One Ack frame for all streams that have moved. */
static void
acknowledge(struct receiver *receiver)
{
    struct streams *streams = receiver->state;
    uint8_t *start = streams->out + 16, *at = start, head[16], *head_end = head;
    uint8_t inner[16], *inner_end;
    size_t len;

    for (uint32_t i = 0; i < streams->dirty_count; i++) {
        uint32_t stream = streams->dirty[i];
        uint8_t *size = at + 1;

        *at = 0x0a;
        at += 2;
        *at++ = 0x08;
        at = put_varint(at, stream);
        *at++ = 0x10;
        at = put_varint(at, streams->last[stream]);
        *size = (uint8_t)(at - size - 1);
        streams->acked[stream] = streams->last[stream];
    }
    streams->dirty_count = 0;
    len = (size_t)(at - start);
    inner[0] = 0x42;
    inner_end = put_varint(inner + 1, len);
    head_end = put_varint(head_end, len + (size_t)(inner_end - inner));
    memcpy(head_end, inner, (size_t)(inner_end - inner));
    head_end += inner_end - inner;
    memcpy(start - (head_end - head), head, (size_t)(head_end - head));
    start -= head_end - head;
    if (!receiver_write(receiver, start, (size_t)(at - start)))
        receiver->wrong = "cannot send gimuxd an acknowledgement";
}

#define GIMUXD                                                                                               \
    .filetime = true, .start = start, .join_receiver = join_receiver, .join_producer = join_producer,        \
    .wrap = system_wrap_nothing, .listen = listen_for_acks, .take = take, .ack = acknowledge

const struct system system_gimuxd = { .name = "gimuxd",
                                      .text = "gimuxd, plain TCP, acknowledged by all",
                                      GIMUXD };
const struct system system_gimuxd_process = { .name = "gimuxd-process",
                                              .text = "gimuxd, durability = process: VM logs in files",
                                              .durable = true,
                                              GIMUXD };
const struct system system_gimuxd_tls = {
    .name = "gimuxd-tls", .text = "gimuxd, TLS 1.3 to all receivers", .tls = true, GIMUXD
};
