/* The normalizer: what becomes of every operation of every driver, of texts that are not valid, of Windows
 * paths, of times and of status codes. Processes, logons and the rest are in test_normalize_actors.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <uchar.h>

#include <cmocka.h>

#include "tests/unit/event/normalize_world.h"

/* ---- times and status codes ---- */

static int64_t
time_of(uint64_t driver_time, uint16_t driver)
{
    struct gr_record record = { .type = GR_FILE, .sequence = 1, .time = driver_time, .body.file.op = 1 };

    return normalize(&record, driver, NULL)->time;
}

static void
test_times(void **state)
{
    const uint64_t epoch = UINT64_C(116444736000000000);
    const uint64_t latest = epoch + INT64_MAX / 100;

    (void)state;
    assert_true(time_of(0, GR_VSEPFLT) == 0);
    assert_true(time_of(UINT64_MAX, GR_VSEPFLT) == 0);
    assert_true(time_of(epoch, GR_VSEPFLT) == 0);
    assert_true(time_of(epoch + 1, GR_VNETWFP) == 100);
    assert_true(time_of(epoch - 1, GR_VNETFLT) == -100);
    assert_true(time_of(UINT64_C(133500000000000000), GR_VSEPFLT) == INT64_C(1705526400000000000));
    assert_true(time_of(1, GR_VSEPFLT) == INT64_MIN);
    assert_true(time_of(latest, GR_VSEPFLT) == INT64_MAX / 100 * 100);
    assert_true(time_of(latest + 1, GR_VSEPFLT) == INT64_MAX);
    assert_true(time_of(UINT64_MAX - 1, GR_VSEPFLT) == INT64_MAX);
    assert_true(time_of(0, GR_LINUX) == 0);
    assert_true(time_of(1700000000000000001, GR_LINUX) == 1700000000000000001);
    assert_true(time_of(UINT64_MAX, GR_LINUX) == INT64_MAX);
    assert_true(time_of((uint64_t)INT64_MAX + 1, GR_VMX) == INT64_MAX);
}

static Gimux__V1__StatusId
status_of(uint32_t code, uint16_t driver)
{
    struct gr_record record = { .type = GR_FILE, .sequence = 1 };
    const Gimux__V1__Event *event;

    record.body.file.op = GR_FILE_OP_READ;
    record.body.file.status = code;
    event = normalize(&record, driver, NULL);
    assert_int_equal(event->status_code, code);
    return event->status_id;
}

static void
test_status_codes(void **state)
{
    (void)state;
    assert_int_equal(status_of(0, GR_VSEPFLT), SUCCESS);
    assert_int_equal(status_of(0x103, GR_VSEPFLT), UNKNOWN);      /* STATUS_PENDING */
    assert_int_equal(status_of(0x104, GR_VSEPFLT), SUCCESS);      /* STATUS_REPARSE */
    assert_int_equal(status_of(0x40000000, GR_VSEPFLT), SUCCESS); /* STATUS_OBJECT_NAME_EXISTS */
    assert_int_equal(status_of(0x80000005, GR_VSEPFLT), SUCCESS); /* STATUS_BUFFER_OVERFLOW */
    assert_int_equal(status_of(0xc0000000, GR_VSEPFLT), FAILURE);
    assert_int_equal(status_of(0xc0000022, GR_VSEPFLT), FAILURE); /* STATUS_ACCESS_DENIED */
    assert_int_equal(status_of(0, GR_LINUX), SUCCESS);
    assert_int_equal(status_of(13, GR_LINUX), FAILURE); /* EACCES */
    assert_int_equal(status_of(0x103, GR_LINUX), FAILURE);
}

/* ---- files ---- */

static void
expect_file(uint16_t op, uint32_t result, uint32_t status, uint32_t activity_id,
            Gimux__V1__StatusId status_id)
{
    struct gr_record record = { .type = GR_FILE, .sequence = 1 };

    record.body.file.op = op;
    record.body.file.result = result;
    record.body.file.status = status;
    expect(normalize(&record, GR_VSEPFLT, NULL), 1001, activity_id, status_id);
    assert_int_equal(normalized.cls, CLASS_FILE);
}

static void
test_file_operations(void **state)
{
    const uint32_t denied = 0xc0000022;

    (void)state;
    expect_file(GR_FILE_OP_OPEN, GR_SUPERSEDED, 0, 3, SUCCESS);
    expect_file(GR_FILE_OP_OPEN, GR_OPENED, 0, 14, SUCCESS);
    expect_file(GR_FILE_OP_OPEN, GR_CREATED, 0, 1, SUCCESS);
    expect_file(GR_FILE_OP_OPEN, GR_OVERWRITTEN, 0, 3, SUCCESS);
    expect_file(GR_FILE_OP_OPEN, GR_EXISTS, 0, 14, SUCCESS);
    expect_file(GR_FILE_OP_OPEN, GR_DOES_NOT_EXIST, 0, 14, SUCCESS);
    expect_file(GR_FILE_OP_OPEN, 6, 0, 99, SUCCESS);
    expect_file(GR_FILE_OP_OPEN, GR_CREATED, denied, 14, FAILURE);
    expect_file(GR_FILE_OP_OPEN, GR_SUPERSEDED, denied, 14, FAILURE);
    expect_file(GR_FILE_OP_READ, 0, 0, 2, SUCCESS);
    expect_file(GR_FILE_OP_WRITE, 0, 0, 3, SUCCESS);
    expect_file(GR_FILE_OP_CLOSE, 0, 0, 3, SUCCESS);
    expect_file(GR_FILE_OP_RENAME, 0, denied, 5, FAILURE);
    expect_file(GR_FILE_OP_DELETE, 0, 0, 4, SUCCESS);
    expect_file(GR_FILE_OP_SET_ATTR, 0, 0, 6, SUCCESS);
    expect_file(8, 0, 0, 99, SUCCESS);
}

static void
test_every_field_of_a_file_event(void **state)
{
    struct volume_map map = some_volumes();
    struct gr_record record = { .type = GR_FILE,
                                .flags = GR_FLAG_WAITS,
                                .sequence = 77,
                                .body.file = { .op = GR_FILE_OP_RENAME,
                                               .status = 0x104,
                                               .pid = 1,
                                               .tid = 2,
                                               .file_id = 3,
                                               .size = 4,
                                               .result = 1,
                                               .create_mask = 0x01001000,
                                               .access_mask = 6,
                                               .attributes = 7 } };
    struct gr_file *file = &record.body.file;
    const Gimux__V1__Event *event;

    (void)state;
    file->path = W("\\Device\\HarddiskVolume2\\a:s:$DATA");
    file->target = W("\\??\\d:\\b:t");
    file->process = W("\\Device\\HarddiskVolume20\\p.exe:hidden");
    file->user_name = W("CORP\\ann");
    file->user_id = W("S-1-5-18");
    event = normalize(&record, GR_VSEPFLT, &map);
    expect_key("C:\\a");
    assert_int_equal(event->stream, 5);
    assert_int_equal(event->sequence, 77);
    assert_int_equal(event->status_code, 0x104);
    assert_true(event->waits);
    assert_false(event->lossy);
    assert_int_equal(event->actor->pid, 1);
    assert_int_equal(event->actor->tid, 2);
    assert_string_equal(event->actor->process_path, "E:\\p.exe:hidden");
    assert_string_equal(event->actor->user_name, "CORP\\ann");
    assert_string_equal(event->actor->user_uid, "S-1-5-18");
    assert_int_equal(event->detail_case, GIMUX__V1__EVENT__DETAIL_FILE);
    assert_string_equal(event->file->path, "C:\\a");
    assert_string_equal(event->file->stream_name, "s");
    assert_string_equal(event->file->target_path, "D:\\b");
    assert_string_equal(event->file->target_stream_name, "t");
    assert_int_equal(event->file->path_raw.len, 0);
    assert_int_equal(event->file->target_path_raw.len, 0);
    assert_int_equal(event->file->file_id, 3);
    assert_int_equal(event->file->size, 4);
    assert_int_equal(event->file->attributes, 7);
    assert_int_equal(event->file->access_mask, 6);
    assert_int_equal(event->file->create_mask, 0x01001000);
    assert_true(event->file->delete_on_close);
}

static void
test_linux_paths_are_left_alone(void **state)
{
    struct volume_map map = some_volumes();
    struct gr_record record = { .type = GR_FILE, .sequence = 1, .body.file.op = GR_FILE_OP_READ };
    const Gimux__V1__Event *event;

    (void)state;
    record.body.file.path = B("\\Device\\HarddiskVolume2\\a:b");
    record.body.file.process = B("c:\\x");
    event = normalize(&record, GR_LINUX, &map);
    assert_string_equal(event->file->path, "\\Device\\HarddiskVolume2\\a:b");
    assert_string_equal(event->file->stream_name, "");
    assert_string_equal(event->actor->process_path, "c:\\x");
    assert_false(event->file->delete_on_close);
    assert_false(event->waits);
}

static void
test_lossy_paths_carry_their_bytes(void **state)
{
    static const char16_t bad[] = { '\\', '?', '?', '\\', 'c', ':', '\\', 0xd800 };
    struct gr_record record = { .type = GR_FILE, .sequence = 1, .body.file.op = GR_FILE_OP_RENAME };
    struct gr_text path = { (const uint8_t *)bad, sizeof(bad) };
    const Gimux__V1__Event *event;

    (void)state;
    record.body.file.path = path;
    record.body.file.target = W("C:\\ok");
    event = normalize(&record, GR_VSEPFLT, NULL);
    assert_true(event->lossy);
    assert_string_equal(event->file->path, "C:\\" FFFD);
    assert_int_equal(event->file->path_raw.len, sizeof(bad));
    assert_memory_equal(event->file->path_raw.data, bad, sizeof(bad));
    assert_int_equal(event->file->target_path_raw.len, 0);

    record.body.file.path = B("/ok");
    record.body.file.target = B("/\xff");
    event = normalize(&record, GR_LINUX, NULL);
    assert_true(event->lossy);
    assert_int_equal(event->file->path_raw.len, 0);
    assert_string_equal(event->file->target_path, "/" FFFD);
    assert_memory_equal(event->file->target_path_raw.data, "/\xff", 2);

    record.body.file.target = B("/ok");
    record.body.file.user_name = B("\xff");
    event = normalize(&record, GR_LINUX, NULL);
    assert_true(event->lossy);
    assert_int_equal(event->file->target_path_raw.len, 0);

    record.body.file.user_name = B("ok");
    assert_false(normalize(&record, GR_LINUX, NULL)->lossy);
}

static void
test_an_event_without_a_path(void **state)
{
    struct gr_record record = { .type = GR_FILE, .sequence = 1, .body.file.op = GR_FILE_OP_READ };

    (void)state;
    assert_null(normalize(&record, GR_VSEPFLT, NULL)->actor);
    expect_key("");
    record.type = GR_DNS;
    record.body.dns = (struct gr_dns){ .op = GR_DNS_OP_QUERY, .name = B("a") };
    normalize(&record, GR_LINUX, NULL);
    expect_key("");
    assert_int_equal(normalized.cls, CLASS_DNS);
}

/* Contract of the header: no record makes an event that a frame cannot hold. */
static void
test_the_largest_record_fits_a_frame(void **state)
{
    static uint8_t bad[GR_MAX_TEXT];
    static uint8_t buf[GR_MAX_RECORD];
    const struct gr_text whole = { bad, GR_MAX_TEXT };
    struct gr_record record = { .type = GR_FILE, .sequence = GR_SEQUENCE_MAX, .time = 1 };
    char why[GR_WHY_MAX];
    size_t size;

    (void)state;
    memset(bad, 0xff, sizeof(bad));
    record.body.file =
        (struct gr_file){ .op = GR_FILE_OP_RENAME, .path = whole, .target = whole, .process = whole };
    record.body.file.user_name =
        (struct gr_text){ bad, GR_MAX_RECORD - GR_HEADER_SIZE - 58 - 3 * GR_MAX_TEXT };
    size = gr_encode(&record, buf, sizeof(buf));
    assert_int_equal(size, GR_MAX_RECORD);
    assert_int_equal(gr_decode(buf, size, &record, why), GR_OK);
    normalize(&record, GR_LINUX, NULL);
    assert_in_range(normalized.len, 900000, 1 << 20);
}

/* ---- network ---- */

static const Gimux__V1__Event *
net_event(uint16_t op, uint8_t direction, uint16_t family, uint32_t status)
{
    struct gr_record record = { .type = GR_NET,
                                .sequence = 1,
                                .body.net = { .protocol = 6,
                                              .local = { 10, 0, 0, 1, 9 },
                                              .remote = { 10, 0, 0, 2, 8 },
                                              .local_port = 1111,
                                              .remote_port = 2222,
                                              .pid = 3,
                                              .flow_id = 4,
                                              .bytes_in = 5,
                                              .bytes_out = 6 } };

    record.body.net.op = op;
    record.body.net.direction = direction;
    record.body.net.family = family;
    record.body.net.status = status;
    return normalize(&record, GR_VNETWFP, NULL);
}

static void
expect_net(uint16_t op, uint32_t status, uint32_t activity_id, Gimux__V1__StatusId status_id)
{
    const Gimux__V1__Event *event = net_event(op, GR_OUTBOUND, 4, status);

    expect(event, 4001, activity_id, status_id);
    assert_int_equal(event->network->step, op <= GR_NET_OP_LISTEN ? op : 0);
    assert_int_equal(event->status_code, status);
}

static void
test_network_operations(void **state)
{
    (void)state;
    expect_net(GR_NET_OP_PRECONNECT, 0, 1, UNKNOWN);
    expect_net(GR_NET_OP_ESTABLISHED, 0, 1, SUCCESS);
    expect_net(GR_NET_OP_CLOSED, 0, 2, SUCCESS);
    expect_net(GR_NET_OP_CLOSED, 0xc000020d, 2, FAILURE);
    expect_net(GR_NET_OP_REFUSED, 0, 5, FAILURE);
    expect_net(GR_NET_OP_LISTEN, 0, 7, SUCCESS);
    expect_net(GR_NET_OP_LISTEN, 0xc000020a, 7, FAILURE);
    expect_net(6, 0, 99, SUCCESS);
}

static void
expect_ends(const Gimux__V1__Network *network, size_t len, const uint8_t *src, uint32_t src_port,
            const uint8_t *dst, uint32_t dst_port)
{
    assert_int_equal(network->src_ip.len, len);
    assert_int_equal(network->dst_ip.len, len);
    assert_memory_equal(network->src_ip.data, src, len);
    assert_memory_equal(network->dst_ip.data, dst, len);
    assert_int_equal(network->src_port, src_port);
    assert_int_equal(network->dst_port, dst_port);
}

static void
test_ends_of_a_connection(void **state)
{
    static const uint8_t local[16] = { 10, 0, 0, 1, 9 };
    static const uint8_t remote[16] = { 10, 0, 0, 2, 8 };
    const Gimux__V1__Network *network;

    (void)state;
    network = net_event(GR_NET_OP_CLOSED, GR_OUTBOUND, 4, 0)->network;
    expect_ends(network, 4, local, 1111, remote, 2222);
    assert_int_equal(network->direction, GIMUX__V1__DIRECTION__DIRECTION_OUTBOUND);
    assert_int_equal(network->protocol_num, 6);
    assert_int_equal(network->flow_id, 4);
    assert_int_equal(network->bytes_in, 5);
    assert_int_equal(network->bytes_out, 6);
    network = net_event(GR_NET_OP_CLOSED, GR_INBOUND, 6, 0)->network;
    expect_ends(network, 16, remote, 2222, local, 1111);
    assert_int_equal(network->direction, GIMUX__V1__DIRECTION__DIRECTION_INBOUND);
    network = net_event(GR_NET_OP_CLOSED, 0, 6, 0)->network;
    expect_ends(network, 16, local, 1111, remote, 2222);
    assert_int_equal(network->direction, GIMUX__V1__DIRECTION__DIRECTION_UNKNOWN);
    assert_int_equal(net_event(GR_NET_OP_CLOSED, 3, 6, 0)->network->direction, 0);
    assert_int_equal(unpacked->event->actor->pid, 3);
}

/* ---- DNS ---- */

static void
expect_dns(uint16_t op, uint16_t rcode, uint32_t status, uint32_t activity_id, Gimux__V1__StatusId status_id)
{
    struct gr_record record = { .type = GR_DNS, .sequence = 1 };

    record.body.dns = (struct gr_dns){ .op = op, .rcode = rcode, .status = status };
    expect(normalize(&record, GR_LINUX, NULL), 4003, activity_id, status_id);
}

static void
test_dns_operations(void **state)
{
    (void)state;
    expect_dns(GR_DNS_OP_QUERY, 0, 0, 1, UNKNOWN);
    expect_dns(GR_DNS_OP_QUERY, 0, 110, 1, FAILURE);
    expect_dns(GR_DNS_OP_ANSWER, 0, 0, 2, SUCCESS);
    expect_dns(GR_DNS_OP_ANSWER, 3, 0, 2, FAILURE);
    expect_dns(GR_DNS_OP_ANSWER, 0, 9003, 2, FAILURE);
    expect_dns(3, 0, 0, 99, UNKNOWN);
}

static void
test_dns_answers_are_split(void **state)
{
    struct gr_record record = {
        .type = GR_DNS,
        .sequence = 1,
        .body.dns = { .op = GR_DNS_OP_ANSWER, .type = 28, .transaction_id = 7, .rcode = 0, .pid = 9 }
    };
    const Gimux__V1__Event *event;

    (void)state;
    record.body.dns.name = W("b\u00fccher.example");
    record.body.dns.answers = W(";192.0.2.1;;type: 5 a.example;2001:db8::1");
    event = normalize(&record, GR_VSEPFLT, NULL);
    assert_string_equal(event->dns->hostname, "b\xc3\xbc"
                                              "cher.example");
    assert_int_equal(event->dns->type, 28);
    assert_int_equal(event->dns->transaction_id, 7);
    assert_int_equal(event->actor->pid, 9);
    assert_int_equal(event->dns->n_answers, 3);
    assert_string_equal(event->dns->answers[0], "192.0.2.1");
    assert_string_equal(event->dns->answers[1], "type: 5 a.example");
    assert_string_equal(event->dns->answers[2], "2001:db8::1");

    record.body.dns.answers = W("");
    assert_int_equal(normalize(&record, GR_VSEPFLT, NULL)->dns->n_answers, 0);
}

static void
test_the_last_of_many_answers_holds_the_rest(void **state)
{
    struct gr_record record = { .type = GR_DNS, .sequence = 1, .body.dns.op = GR_DNS_OP_ANSWER };
    const Gimux__V1__Dns *dns;
    char answers[2 * 66];

    (void)state;
    for (size_t i = 0; i < sizeof(answers); i += 2)
        memcpy(answers + i, "1;", 2);
    record.body.dns.answers = (struct gr_text){ (const uint8_t *)answers, sizeof(answers) };
    dns = normalize(&record, GR_LINUX, NULL)->dns;
    assert_int_equal(dns->n_answers, 64);
    assert_string_equal(dns->answers[62], "1");
    assert_string_equal(dns->answers[63], "1;1;1;");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_status_codes),
        cmocka_unit_test(test_file_operations),
        cmocka_unit_test(test_every_field_of_a_file_event),
        cmocka_unit_test(test_linux_paths_are_left_alone),
        cmocka_unit_test(test_lossy_paths_carry_their_bytes),
        cmocka_unit_test(test_an_event_without_a_path),
        cmocka_unit_test(test_the_largest_record_fits_a_frame),
        cmocka_unit_test(test_network_operations),
        cmocka_unit_test(test_ends_of_a_connection),
        cmocka_unit_test(test_dns_operations),
        cmocka_unit_test(test_dns_answers_are_split),
        cmocka_unit_test(test_the_last_of_many_answers_holds_the_rest),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
