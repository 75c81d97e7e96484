/* The normalizer: processes, logons, power and lifecycle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <uchar.h>

#include <cmocka.h>

#include "tests/unit/event/normalize_world.h"

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
        cmocka_unit_test(test_process_start_and_end),
        cmocka_unit_test(test_a_lossy_process_path_carries_its_bytes),
        cmocka_unit_test(test_logon_and_logoff),
        cmocka_unit_test(test_power),
        cmocka_unit_test(test_lifecycle),
        cmocka_unit_test(test_events_do_not_leak_into_each_other),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
