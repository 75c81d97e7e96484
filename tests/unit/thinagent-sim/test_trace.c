/* Tests of the trace reader and writer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "thinagent-sim/trace/trace.h"
#include "thinagent-sim/vsockmon.h"

#define GUEST_CID 3u
#define SECOND    INT64_C(1000000000)

/* ---- captures made by hand ---- */

static void
put_le(struct buffer *capture, uint64_t value, size_t width)
{
    uint8_t bytes[8];

    for (size_t i = 0; i < width; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    buffer_add(capture, bytes, width);
}

/* The head of a pcap file with microseconds, as tcpdump writes it. */
static void
put_head(struct buffer *capture, uint32_t link_type)
{
    put_le(capture, 0xa1b2c3d4, 4);
    put_le(capture, 2, 2);
    put_le(capture, 4, 2);
    put_le(capture, 0, 8);
    put_le(capture, 262144, 4);
    put_le(capture, link_type, 4);
}

struct packet {
    uint64_t from;
    uint64_t to;
    uint32_t port;
    uint16_t op;
    uint16_t transport_len; /* bytes of transport header, filled with 0xee */
};

static void
put_packet(struct buffer *capture, const struct packet *packet, const uint8_t *data, size_t len)
{
    size_t size = VSOCKMON_HEADER + packet->transport_len + len;

    put_le(capture, 1700000000, 4);
    put_le(capture, 250000, 4);
    put_le(capture, size, 4);
    put_le(capture, size, 4);
    put_le(capture, packet->from, 8);
    put_le(capture, packet->to, 8);
    put_le(capture, packet->port, 4);
    put_le(capture, 9650, 4);
    put_le(capture, packet->op, 2);
    put_le(capture, packet->transport_len > 0 ? 2 : 1, 2);
    put_le(capture, packet->transport_len, 2);
    put_le(capture, 0, 2);
    for (uint16_t i = 0; i < packet->transport_len; i++)
        put_le(capture, 0xee, 1);
    buffer_add(capture, data, len);
}

static const struct packet from_guest = { GUEST_CID, 2, 1024, VSOCKMON_PAYLOAD, 0 };

/* ---- records ---- */

static size_t
make_hello(uint8_t *out, size_t cap)
{
    struct gr_record record = { .type = GR_HELLO };

    record.body.hello = (struct gr_hello){
        .magic = GR_MAGIC, .version_min = 1, .version_max = 1, .driver = GR_LINUX, .first_held = 1
    };
    memset(record.body.hello.vm_uuid, 0xaa, GR_UUID_SIZE);
    memset(record.body.hello.boot_id, 0xbb, GR_UUID_SIZE);
    return gr_encode(&record, out, cap);
}

static size_t
make_event(uint8_t *out, size_t cap, uint64_t sequence)
{
    struct gr_record record = { .type = GR_FILE, .sequence = sequence, .time = 1700000000 * SECOND };

    record.body.file.op = GR_FILE_OP_CLOSE;
    record.body.file.path = (struct gr_text){ (const uint8_t *)"/srv/a", 6 };
    return gr_encode(&record, out, cap);
}

/* HELLO and the events first..last, back to back. */
static void
make_conversation(struct buffer *bytes, uint64_t first, uint64_t last)
{
    bytes->len += make_hello(buffer_reserve(bytes, 1024), 1024);
    for (uint64_t sequence = first; sequence <= last; sequence++)
        bytes->len += make_event(buffer_reserve(bytes, 1024), 1024, sequence);
}

static struct trace *
read_capture(const struct buffer *capture)
{
    char why[TRACE_WHY_MAX] = "";
    struct trace *trace = trace_read_memory(capture->data, capture->len, why);

    if (!trace)
        fail_msg("%s", why);
    return trace;
}

/* The trace has one stream with HELLO and the events 1..last. */
static void
assert_one_stream(const struct trace *trace, uint64_t last)
{
    const struct trace_stream *stream;
    struct gr_record record;

    assert_int_equal(trace->count, 1);
    stream = trace->streams[0];
    assert_int_equal(stream->driver, GR_LINUX);
    assert_int_equal(stream->vm_uuid[0], 0xaa);
    assert_int_equal(stream->boot_id[0], 0xbb);
    assert_int_equal(stream->count, 1 + last);
    assert_int_equal(stream->records[0].type, GR_HELLO);
    for (uint64_t i = 1; i <= last; i++) {
        assert_int_equal(stream->records[i].sequence, i);
        trace_record_decode(stream, i, &record);
        assert_int_equal(record.body.file.path.len, 6);
    }
}

/* ---- tests ---- */

static void
whatever_the_packets_the_records_are_the_same(void **state)
{
    static const size_t parts[] = { 1, 7, 100, 1000000 };
    struct buffer bytes = { 0 };

    (void)state;
    make_conversation(&bytes, 1, 5);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        struct buffer capture = { 0 };
        struct trace *trace;

        put_head(&capture, 271);
        for (size_t at = 0; at < bytes.len; at += parts[i]) {
            size_t part = bytes.len - at < parts[i] ? bytes.len - at : parts[i];

            put_packet(&capture, &from_guest, bytes.data + at, part);
        }
        trace = read_capture(&capture);
        assert_false(trace->damaged);
        assert_one_stream(trace, 5);
        assert_true(trace->streams[0]->records[5].time == 1700000000 * SECOND + SECOND / 4);
        trace_free(trace);
        buffer_free(&capture);
    }
    buffer_free(&bytes);
}

/* As captured from a vsockmon interface on a host: virtio's own header before the data, the host's answers in
 * between, and somebody else's connection. */
static void
a_capture_of_vsockmon_is_read(void **state)
{
    static const struct packet virtio = { GUEST_CID, 2, 1024, VSOCKMON_PAYLOAD, 44 };
    static const struct packet control = { GUEST_CID, 2, 1024, VSOCKMON_CONTROL, 44 };
    static const struct packet from_host = { 2, GUEST_CID, 1024, VSOCKMON_PAYLOAD, 44 };
    static const struct packet other = { GUEST_CID, 2, 22, VSOCKMON_PAYLOAD, 44 };
    static const uint8_t text[] = "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n";
    struct buffer bytes = { 0 };
    struct buffer capture = { 0 };
    struct trace *trace;

    (void)state;
    make_conversation(&bytes, 1, 3);
    put_head(&capture, 271);
    put_packet(&capture, &virtio, bytes.data, 50);
    put_packet(&capture, &from_host, bytes.data, bytes.len);
    put_packet(&capture, &control, text, 0);
    put_packet(&capture, &other, text, sizeof(text));
    put_packet(&capture, &virtio, bytes.data + 50, bytes.len - 50);
    trace = read_capture(&capture);
    assert_false(trace->damaged);
    assert_int_equal(trace->foreign, 1);
    assert_one_stream(trace, 3);
    assert_int_equal(trace->streams[0]->connections, 1);
    trace_free(trace);
    buffer_free(&capture);
    buffer_free(&bytes);
}

/* A driver that lost its connection in the middle of a record says HELLO again and sends again what was not
 * acknowledged: one stream, every event once. */
static void
a_reconnection_is_one_stream(void **state)
{
    static const struct packet connect = { GUEST_CID, 2, 1024, VSOCKMON_CONNECT, 0 };
    struct buffer first = { 0 };
    struct buffer second = { 0 };
    struct buffer capture = { 0 };
    struct trace *trace;

    (void)state;
    make_conversation(&first, 1, 4);
    make_conversation(&second, 3, 6);
    put_head(&capture, 271);
    put_packet(&capture, &connect, NULL, 0);
    put_packet(&capture, &from_guest, first.data, first.len - 10);
    put_packet(&capture, &connect, NULL, 0);
    put_packet(&capture, &from_guest, second.data, second.len);
    trace = read_capture(&capture);
    assert_false(trace->damaged);
    assert_one_stream(trace, 6);
    assert_int_equal(trace->streams[0]->connections, 2);
    assert_int_equal(trace->streams[0]->resent, 1); /* 3; of 4 the first copy was cut */
    trace_free(trace);
    buffer_free(&capture);
    buffer_free(&first);
    buffer_free(&second);
}

static void
a_cut_trace_gives_what_was_read_and_says_where(void **state)
{
    struct buffer bytes = { 0 };
    struct buffer capture = { 0 };
    struct trace *trace;
    char expected[64];
    size_t at;

    (void)state;
    make_conversation(&bytes, 1, 2);
    put_head(&capture, 271);
    put_packet(&capture, &from_guest, bytes.data, bytes.len);
    at = capture.len;
    put_packet(&capture, &from_guest, bytes.data, bytes.len);
    capture.len -= 5;
    trace = read_capture(&capture);
    assert_true(trace->damaged);
    snprintf(expected, sizeof(expected), "packet 2 at byte %zu: ", at);
    assert_memory_equal(trace->damage, expected, strlen(expected));
    assert_int_equal(trace->packets, 1);
    assert_int_equal(trace->bytes, at);
    assert_one_stream(trace, 2);
    trace_free(trace);
    buffer_free(&capture);
    buffer_free(&bytes);
}

/* A malformed record ends its own connection, and no other. */
static void
a_broken_connection_costs_only_itself(void **state)
{
    static const struct packet second = { GUEST_CID + 1, 2, 1024, VSOCKMON_PAYLOAD, 0 };
    static const uint8_t nonsense[GR_HEADER_SIZE] = { 3 }; /* a record of 3 bytes */
    struct buffer bytes = { 0 };
    struct buffer capture = { 0 };
    struct trace *trace;

    (void)state;
    make_conversation(&bytes, 1, 3);
    put_head(&capture, 271);
    put_packet(&capture, &second, bytes.data, bytes.len);
    put_packet(&capture, &second, nonsense, sizeof(nonsense));
    put_packet(&capture, &second, bytes.data, bytes.len);
    put_packet(&capture, &from_guest, bytes.data, bytes.len);
    trace = read_capture(&capture);
    assert_true(trace->damaged);
    assert_non_null(strstr(trace->damage, "packet 2 at byte "));
    assert_non_null(strstr(trace->damage, "record of 3 bytes"));
    assert_one_stream(trace, 3);
    assert_int_equal(trace->streams[0]->connections, 2); /* the broken one, and the other */
    trace_free(trace);
    buffer_free(&capture);
    buffer_free(&bytes);
}

static void
a_trace_that_ends_inside_a_record_is_damaged(void **state)
{
    struct buffer bytes = { 0 };
    struct buffer capture = { 0 };
    struct trace *trace;

    (void)state;
    make_conversation(&bytes, 1, 3);
    put_head(&capture, 271);
    put_packet(&capture, &from_guest, bytes.data, bytes.len - 1);
    trace = read_capture(&capture);
    assert_true(trace->damaged);
    assert_one_stream(trace, 2);
    trace_free(trace);
    buffer_free(&capture);
    buffer_free(&bytes);
}

static void
what_is_no_trace_is_refused(void **state)
{
    struct buffer capture = { 0 };
    char why[TRACE_WHY_MAX];

    (void)state;
    put_head(&capture, 1);
    assert_null(trace_read_memory(capture.data, capture.len, why));
    assert_string_equal(why, "link type 1, expected 271 (VSOCK)");
    assert_null(trace_read_memory((const uint8_t *)"no pcap at all, but text", 24, why));
    assert_null(trace_read_memory(capture.data, 0, why));
    assert_null(trace_read("/nonexistent/trace.pcap", why));
    assert_string_equal(why, "No such file or directory");
    buffer_free(&capture);
}

/* What the writer wrote is what the reader reads, also for records longer than a packet may be. */
static void
the_writer_and_the_reader_agree(void **state)
{
    char path[] = "/tmp/test_trace.XXXXXX";
    char why[TRACE_WHY_MAX];
    struct trace_writer *writer;
    struct trace *trace;
    struct buffer bytes = { 0 };
    struct gr_record data = { .type = GR_FILE_DATA };
    static uint8_t content[200000];

    (void)state;
    close(mkstemp(path));
    writer = trace_writer_open(path, why);
    assert_non_null(writer);
    make_conversation(&bytes, 1, 2);
    data.body.file_data.data = (struct gr_text){ content, sizeof(content) };
    bytes.len += gr_encode(&data, buffer_reserve(&bytes, GR_MAX_RECORD), GR_MAX_RECORD);
    trace_writer_connect(writer, 0, 5 * SECOND);
    trace_writer_put(writer, 0, 5 * SECOND + 7, bytes.data, bytes.len);
    trace_writer_disconnect(writer, 0, 6 * SECOND);
    assert_true(trace_writer_close(writer, why));
    trace = trace_read(path, why);
    assert_non_null(trace);
    assert_false(trace->damaged);
    assert_int_equal(trace->count, 1);
    assert_int_equal(trace->streams[0]->count, 4);
    assert_int_equal(trace->streams[0]->records[3].type, GR_FILE_DATA);
    assert_true(trace->streams[0]->records[1].time == 5 * SECOND + 7); /* nanoseconds are kept */
    trace_free(trace);
    buffer_free(&bytes);
    unlink(path);
}

static void
a_trace_that_cannot_be_written_is_told(void **state)
{
    char why[TRACE_WHY_MAX] = "";
    struct trace_writer *writer = trace_writer_open("/nonexistent/trace.pcap", why);

    (void)state;
    assert_null(writer);
    assert_non_null(strstr(why, "/nonexistent/trace.pcap"));
    writer = trace_writer_open("/dev/full", why);
    assert_non_null(writer);
    trace_writer_connect(writer, 0, SECOND);
    assert_false(trace_writer_close(writer, why));
    assert_non_null(strstr(why, "No space left"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_the_packets_the_records_are_the_same),
        cmocka_unit_test(a_capture_of_vsockmon_is_read),
        cmocka_unit_test(a_reconnection_is_one_stream),
        cmocka_unit_test(a_cut_trace_gives_what_was_read_and_says_where),
        cmocka_unit_test(a_broken_connection_costs_only_itself),
        cmocka_unit_test(a_trace_that_ends_inside_a_record_is_damaged),
        cmocka_unit_test(what_is_no_trace_is_refused),
        cmocka_unit_test(the_writer_and_the_reader_agree),
        cmocka_unit_test(a_trace_that_cannot_be_written_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
