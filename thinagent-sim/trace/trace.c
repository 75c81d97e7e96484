/* Reads traces of drivers: pcap files of link type VSOCK whose payload is the drivers' byte streams. */
#include "thinagent-sim/trace/trace.h"

#include <pcap/pcap.h>

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "thinagent-sim/vsockmon.h"

enum connection_state {
    CONNECTION_NEW,     /* HELLO is expected */
    CONNECTION_OPEN,    /* belongs to a stream */
    CONNECTION_IGNORED, /* foreign or broken: skipped until it is opened again */
};

struct connection_key {
    uint64_t cid;
    uint64_t port;
};

/* The guest's half of one connection, being put together. */
struct connection {
    struct connection_key key;
    enum connection_state state;
    struct buffer bytes; /* of a record that is not complete yet */
    struct trace_stream *stream;
    UT_hash_handle hh;
};

struct reader {
    struct trace *trace;
    pcap_t *pcap;
    struct connection *connections;
    long long packet_at; /* byte offset of the current packet in the file */
};

/* Notes damage at the current packet; what came first is what the user sees. */
static void __attribute__((format(printf, 2, 3))) note_damage(struct reader *reader, const char *format, ...)
{
    struct trace *trace = reader->trace;
    va_list args;
    int len;

    if (trace->damaged)
        return;
    trace->damaged = true;
    len = snprintf(trace->damage, sizeof(trace->damage), "packet %" PRIu64 " at byte %lld: ", trace->packets,
                   reader->packet_at);
    va_start(args, format);
    vsnprintf(trace->damage + len, sizeof(trace->damage) - (size_t)len, format, args);
    va_end(args);
}

static struct connection *
connection_get(struct reader *reader, const struct vsockmon_header *header)
{
    struct connection_key key = { le64toh(header->src_cid), le32toh(header->src_port) };
    struct connection *connection;

    /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): the key has no other bytes */
    HASH_FIND(hh, reader->connections, &key, sizeof(key), connection);
    if (!connection) {
        connection = must_calloc(1, sizeof(*connection));
        connection->key = key;
        HASH_ADD(hh, reader->connections, key, sizeof(key), connection);
    }
    return connection;
}

/* The connection has ended, or starts again. */
static void
connection_reset(struct connection *connection)
{
    connection->state = CONNECTION_NEW;
    connection->stream = NULL;
    buffer_take(&connection->bytes, connection->bytes.len);
}

static void
connection_ignore(struct connection *connection)
{
    connection_reset(connection);
    connection->state = CONNECTION_IGNORED;
    buffer_free(&connection->bytes);
}

static struct trace_stream *
stream_get(struct trace *trace, const struct gr_hello *hello)
{
    struct trace_stream *stream;

    for (size_t i = 0; i < trace->count; i++) {
        stream = trace->streams[i];
        if (stream->driver == hello->driver && memcmp(stream->vm_uuid, hello->vm_uuid, GR_UUID_SIZE) == 0 &&
            memcmp(stream->boot_id, hello->boot_id, GR_UUID_SIZE) == 0)
            return stream;
    }
    stream = must_calloc(1, sizeof(*stream));
    stream->driver = hello->driver;
    memcpy(stream->vm_uuid, hello->vm_uuid, GR_UUID_SIZE);
    memcpy(stream->boot_id, hello->boot_id, GR_UUID_SIZE);
    trace->streams = must_realloc(trace->streams, (trace->count + 1) * sizeof(struct trace_stream *));
    trace->streams[trace->count++] = stream;
    return stream;
}

static void
stream_add(struct trace_stream *stream, const struct gr_record *record, const uint8_t *data, int64_t time)
{
    struct trace_record *entry;

    if (stream->count == stream->cap) {
        stream->cap = stream->cap > 0 ? 2 * stream->cap : 64;
        stream->records = must_realloc(stream->records, stream->cap * sizeof(*stream->records));
    }
    entry = &stream->records[stream->count++];
    *entry = (struct trace_record){
        .at = stream->bytes.len,
        .len = record->size,
        .type = record->type,
        .sequence = record->sequence,
        .time = time,
    };
    buffer_add(&stream->bytes, data, record->size);
}

/* A whole record of a stream: kept, unless it was there before. */
static void
take_record(struct trace_stream *stream, const struct gr_record *record, const uint8_t *data, int64_t time)
{
    uint64_t last = record->type == GR_LOST ? record->body.lost.last : record->sequence;

    if (record->type == GR_HELLO) {
        if (stream->connections++ == 0)
            stream_add(stream, record, data, time);
        return;
    }
    if (gr_type_is_event(record->type) || record->type == GR_LOST) {
        if (last <= stream->last_sequence) {
            stream->resent++;
            return;
        }
        stream->last_sequence = last;
    }
    stream_add(stream, record, data, time);
}

/* Decides by its first record what a connection is. */
static void
open_connection(struct reader *reader, struct connection *connection, enum gr_result result,
                const struct gr_record *record)
{
    if (result != GR_OK || record->type != GR_HELLO || gr_driver_name(record->body.hello.driver)[0] == '?') {
        reader->trace->foreign++;
        connection_ignore(connection);
        return;
    }
    connection->state = CONNECTION_OPEN;
    connection->stream = stream_get(reader->trace, &record->body.hello);
}

static void
take_bytes(struct reader *reader, struct connection *connection, const uint8_t *data, size_t len,
           int64_t time)
{
    char why[GR_WHY_MAX];

    if (connection->state == CONNECTION_IGNORED)
        return;
    buffer_add(&connection->bytes, data, len);
    for (;;) {
        struct gr_record record;
        enum gr_result result = gr_decode(connection->bytes.data, connection->bytes.len, &record, why);

        if (result == GR_MORE)
            return;
        if (connection->state == CONNECTION_NEW) {
            open_connection(reader, connection, result, &record);
            if (connection->state == CONNECTION_IGNORED)
                return;
        }
        if (result == GR_INVALID) {
            note_damage(reader, "connection %" PRIu64 ":%" PRIu64 ": %s", connection->key.cid,
                        connection->key.port, why);
            connection_ignore(connection);
            return;
        }
        if (result == GR_OK)
            take_record(connection->stream, &record, connection->bytes.data, time);
        buffer_take(&connection->bytes, record.size);
    }
}

static void
take_packet(struct reader *reader, const struct pcap_pkthdr *packet, const uint8_t *data)
{
    struct vsockmon_header header;
    struct connection *connection;
    int64_t seconds = packet->ts.tv_sec;
    size_t skip;
    uint16_t op;

    if (packet->caplen < sizeof(header)) {
        note_damage(reader, "%u bytes, expected at least %zu", packet->caplen, sizeof(header));
        return;
    }
    memcpy(&header, data, sizeof(header));
    op = le16toh(header.op);
    if (le64toh(header.src_cid) == VSOCKMON_HOST_CID)
        return;
    connection = connection_get(reader, &header);
    if (op == VSOCKMON_CONNECT || op == VSOCKMON_DISCONNECT)
        connection_reset(connection);
    if (op != VSOCKMON_PAYLOAD)
        return;
    skip = sizeof(header) + le16toh(header.len);
    if (packet->caplen < skip || packet->caplen < packet->len) {
        if (connection->state == CONNECTION_OPEN)
            note_damage(reader, "%u bytes were captured, expected %zu", packet->caplen,
                        packet->len > skip ? (size_t)packet->len : skip);
        connection_ignore(connection);
        return;
    }
    if (seconds < 0 || seconds > UINT32_MAX)
        seconds = 0;
    take_bytes(reader, connection, data + skip, packet->caplen - skip,
               seconds * INT64_C(1000000000) + packet->ts.tv_usec);
}

static void
read_packets(struct reader *reader)
{
    FILE *file = pcap_file(reader->pcap);
    struct pcap_pkthdr *packet;
    const u_char *data;
    int result;

    for (;;) {
        reader->packet_at = ftello(file);
        result = pcap_next_ex(reader->pcap, &packet, &data);
        if (result != 1)
            break;
        reader->trace->packets++;
        take_packet(reader, packet, data);
    }
    reader->trace->bytes = (uint64_t)reader->packet_at;
    if (result == PCAP_ERROR) {
        reader->trace->packets++; /* damage is in the one that could not be read */
        note_damage(reader, "%s", pcap_geterr(reader->pcap));
        reader->trace->packets--;
    }
}

/* What is left of the connections: a record that was cut is damage. */
static void
close_connections(struct reader *reader)
{
    struct connection *connection = reader->connections;

    HASH_CLEAR(hh, reader->connections); /* the connections stay linked */
    while (connection) {
        struct connection *next = connection->hh.next;

        if (connection->state == CONNECTION_OPEN && connection->bytes.len > 0)
            note_damage(reader, "the trace ends inside a record of connection %" PRIu64 ":%" PRIu64,
                        connection->key.cid, connection->key.port);
        else if (connection->state == CONNECTION_NEW && connection->bytes.len > 0)
            reader->trace->foreign++;
        buffer_free(&connection->bytes);
        free(connection);
        connection = next;
    }
}

static struct trace *
read_file(FILE *file, char why[TRACE_WHY_MAX])
{
    char error[PCAP_ERRBUF_SIZE] = "";
    struct reader reader = { 0 };
    int link_type;

    reader.pcap = pcap_fopen_offline_with_tstamp_precision(file, PCAP_TSTAMP_PRECISION_NANO, error);
    if (!reader.pcap) {
        snprintf(why, TRACE_WHY_MAX, "%s", error);
        fclose(file);
        return NULL;
    }
    link_type = pcap_datalink(reader.pcap);
    if (link_type != DLT_VSOCK) {
        snprintf(why, TRACE_WHY_MAX, "link type %d, expected %d (VSOCK)", link_type, DLT_VSOCK);
    } else {
        reader.trace = must_calloc(1, sizeof(*reader.trace));
        read_packets(&reader);
        close_connections(&reader);
    }
    pcap_close(reader.pcap);
    return reader.trace;
}

struct trace *
trace_read(const char *path, char why[TRACE_WHY_MAX])
{
    FILE *file = fopen(path, "re");

    if (!file) {
        snprintf(why, TRACE_WHY_MAX, "%s", strerror(errno));
        return NULL;
    }
    return read_file(file, why);
}

struct trace *
trace_read_memory(const uint8_t *data, size_t len, char why[TRACE_WHY_MAX])
{
    FILE *file = len > 0 ? fmemopen((void *)(uintptr_t)data, len, "r") : NULL;

    if (!file) {
        snprintf(why, TRACE_WHY_MAX, "%s", len > 0 ? strerror(errno) : "empty");
        return NULL;
    }
    return read_file(file, why);
}

void
trace_free(struct trace *trace)
{
    if (!trace)
        return;
    for (size_t i = 0; i < trace->count; i++) {
        buffer_free(&trace->streams[i]->bytes);
        free(trace->streams[i]->records);
        free(trace->streams[i]);
    }
    free(trace->streams);
    free(trace);
}

void
trace_record_decode(const struct trace_stream *stream, size_t index, struct gr_record *out)
{
    const struct trace_record *entry = &stream->records[index];
    char why[GR_WHY_MAX];

    if (gr_decode(stream->bytes.data + entry->at, entry->len, out, why) != GR_OK)
        abort(); /* the reader keeps only records that it could decode */
}
