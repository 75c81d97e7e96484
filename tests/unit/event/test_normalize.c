/* The normalizer: what becomes of every operation of every driver, of texts that are not valid, of Windows
 * paths, of times and of status codes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <uchar.h>

#include <cmocka.h>

#include "tests/unit/event/normalize_world.h"

#define W(literal) ((struct gr_text){ (const uint8_t *)(u"" literal), sizeof(u"" literal) - 2 })
#define B(literal) ((struct gr_text){ (const uint8_t *)(literal), sizeof(literal) - 1 })

#define FFFD "\xef\xbf\xbd"

/* The text of the event that filters look at; "": it has none. */
static void
expect_key(const char *key)
{
    assert_int_equal(normalized.key_len, strlen(key));
    assert_true(normalized.key + normalized.key_len <= normalized.len);
    assert_memory_equal(normalized.data + normalized.key, key, strlen(key));
}

static void
expect(const Gimux__V1__Event *event, uint32_t class_uid, uint32_t activity_id, Gimux__V1__StatusId status)
{
    assert_int_equal(event->class_uid, class_uid);
    assert_int_equal(event->activity_id, activity_id);
    assert_int_equal(event->status_id, status);
}

#define UNKNOWN GIMUX__V1__STATUS_ID__STATUS_UNKNOWN
#define SUCCESS GIMUX__V1__STATUS_ID__STATUS_SUCCESS
#define FAILURE GIMUX__V1__STATUS_ID__STATUS_FAILURE

static struct volume_map
some_volumes(void)
{
    return (struct volume_map){
        .count = 2,
        .volumes = { { 'C', "\\Device\\HarddiskVolume2", 23 }, { 'E', "\\Device\\HarddiskVolume20", 24 } },
    };
}

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

/* ---- processes, logons, power, lifecycle ---- */

static void
test_process_start_and_end(void **state)
{
    struct volume_map map = some_volumes();
    struct gr_record record = {
        .type = GR_PROCESS,
        .sequence = 1,
        .body.process = { .op = GR_PROCESS_OP_START, .pid = 10, .parent_pid = 11, .exit_code = 0xc0000005 }
    };
    struct gr_process *in = &record.body.process;
    const Gimux__V1__Event *event;

    (void)state;
    in->image = W("\\Device\\HarddiskVolume2\\p.exe:x");
    in->command_line = W("p -v");
    in->parent_image = W("\\??\\c:\\parent.exe");
    in->user_name = W("ann");
    event = normalize(&record, GR_VSEPFLT, &map);
    expect(event, 1007, 1, SUCCESS);
    assert_int_equal(event->actor->pid, 11);
    assert_string_equal(event->actor->process_path, "C:\\parent.exe");
    assert_string_equal(event->actor->user_name, "ann");
    assert_int_equal(event->process->pid, 10);
    assert_int_equal(event->process->parent_pid, 11);
    assert_string_equal(event->process->path, "C:\\p.exe:x");
    assert_string_equal(event->process->parent_path, "C:\\parent.exe");
    assert_string_equal(event->process->cmd_line, "p -v");
    assert_int_equal(event->process->exit_code, (int32_t)0xc0000005);

    in->op = GR_PROCESS_OP_END;
    event = normalize(&record, GR_VSEPFLT, &map);
    expect(event, 1007, 2, SUCCESS);
    assert_int_equal(event->actor->pid, 0);
    assert_string_equal(event->actor->user_name, "ann");
    assert_string_equal(event->process->parent_path, "C:\\parent.exe");
    in->op = 3;
    assert_int_equal(normalize(&record, GR_VSEPFLT, &map)->activity_id, 99);
}

static void
test_a_lossy_process_path_carries_its_bytes(void **state)
{
    struct gr_record record = { .type = GR_PROCESS, .sequence = 1, .body.process.op = GR_PROCESS_OP_START };
    const Gimux__V1__Event *event;

    (void)state;
    record.body.process.image = B("/bin/\xe4");
    event = normalize(&record, GR_LINUX, NULL);
    assert_null(event->actor);
    assert_string_equal(event->process->parent_path, "");
    assert_true(event->lossy);
    assert_int_equal(event->process->path_raw.len, 6);
    assert_memory_equal(event->process->path_raw.data, "/bin/\xe4", 6);
}

static void
test_logon_and_logoff(void **state)
{
    struct gr_record record = { .type = GR_LOGON,
                                .sequence = 1,
                                .body.logon = { .op = GR_LOGON_OP_LOGON,
                                                .logon_type = 10,
                                                .status = 0xc000006d,
                                                .logon_id = 0x3e7,
                                                .pid = 4 } };
    const Gimux__V1__Event *event;

    (void)state;
    record.body.logon.user_name = W("CORP\\ann");
    record.body.logon.user_id = W("S-1-5-21-1");
    record.body.logon.source = W("10.0.0.1");
    record.body.logon.process = W("c:\\lsass.exe");
    event = normalize(&record, GR_VSEPFLT, NULL);
    expect(event, 3002, 1, FAILURE);
    assert_int_equal(event->status_code, 0xc000006d);
    assert_int_equal(event->authentication->logon_type_id, 10);
    assert_int_equal(event->authentication->session_uid, 0x3e7);
    assert_string_equal(event->authentication->user_name, "CORP\\ann");
    assert_string_equal(event->authentication->user_uid, "S-1-5-21-1");
    assert_string_equal(event->authentication->src, "10.0.0.1");
    assert_int_equal(event->actor->pid, 4);
    assert_string_equal(event->actor->process_path, "C:\\lsass.exe");
    assert_string_equal(event->actor->user_name, "");

    record.body.logon.op = GR_LOGON_OP_LOGOFF;
    record.body.logon.status = 0;
    expect(normalize(&record, GR_VSEPFLT, NULL), 3002, 2, SUCCESS);
    record.body.logon.op = 3;
    assert_int_equal(normalize(&record, GR_VSEPFLT, NULL)->activity_id, 99);
}

static void
test_power(void **state)
{
    static const uint32_t activities[] = { [1] = 1, [2] = 2, [3] = 3, [4] = 6, [5] = 99, [6] = 99 };
    struct gr_record record = { .type = GR_POWER, .sequence = 1, .body.power.vm_uuid = { 0xab } };
    const Gimux__V1__Event *event;

    (void)state;
    record.body.power.vm_name = B("web-1");
    record.body.power.target_host = B("esx-2");
    for (uint16_t op = GR_POWER_OP_ON; op <= GR_POWER_OP_MIGRATE + 1; op++) {
        record.body.power.op = op;
        expect(normalize(&record, GR_VMX, NULL), 1011, activities[op], SUCCESS);
    }
    event = normalize(&record, GR_VMX, NULL);
    expect_key("ab000000-0000-0000-0000-000000000000");
    assert_string_equal(event->power->vm_uuid, "ab000000-0000-0000-0000-000000000000");
    assert_string_equal(event->power->vm_name, "web-1");
    assert_string_equal(event->power->target_host, "esx-2");
    assert_null(event->actor);
}

static void
test_lifecycle(void **state)
{
    static const uint8_t boot_id[GR_UUID_SIZE] = { 1 };
    const Gimux__V1__Event *event;

    (void)state;
    normalize_lifecycle(normalizer, 6, 7, 8, true, GR_LINUX, boot_id, NULL, "vsock:3:9000", &normalized);
    event = unpack();
    expect(event, 6002, 3, SUCCESS);
    assert_int_equal(normalized.cls, CLASS_LIFECYCLE);
    assert_int_equal(event->stream, 6);
    assert_int_equal(event->sequence, 7);
    assert_int_equal(event->time, 8);
    assert_int_equal(event->lifecycle->driver, GIMUX__V1__DRIVER__DRIVER_LINUX);
    assert_string_equal(event->lifecycle->boot_id, "01000000-0000-0000-0000-000000000000");
    assert_string_equal(event->lifecycle->reason, "");
    assert_string_equal(event->lifecycle->door, "vsock:3:9000");

    normalize_lifecycle(normalizer, 6, 8, 9, false, GR_VMX + 1, boot_id, "silent", "unix:/x", &normalized);
    event = unpack();
    expect(event, 6002, 4, SUCCESS);
    assert_int_equal(event->lifecycle->driver, 0);
    assert_string_equal(event->lifecycle->reason, "silent");
}

/* Nothing of one event stays in the next. */
static void
test_events_do_not_leak_into_each_other(void **state)
{
    static const uint8_t boot_id[GR_UUID_SIZE] = { 1 };
    struct gr_record record = { .type = GR_FILE,
                                .flags = GR_FLAG_WAITS,
                                .sequence = 1,
                                .body.file = { .op = GR_FILE_OP_OPEN, .status = 5, .pid = 1 } };
    const Gimux__V1__Event *event;

    (void)state;
    record.body.file.path = B("/\xff");
    normalize(&record, GR_LINUX, NULL);
    normalize_lifecycle(normalizer, 1, 1, 1, true, GR_LINUX, boot_id, NULL, "unix:/x", &normalized);
    event = unpack();
    assert_null(event->actor);
    assert_false(event->lossy);
    assert_false(event->waits);
    assert_int_equal(event->status_code, 0);
    expect_key("");
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
        cmocka_unit_test(test_process_start_and_end),
        cmocka_unit_test(test_a_lossy_process_path_carries_its_bytes),
        cmocka_unit_test(test_logon_and_logoff),
        cmocka_unit_test(test_power),
        cmocka_unit_test(test_lifecycle),
        cmocka_unit_test(test_events_do_not_leak_into_each_other),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
