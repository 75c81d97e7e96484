/* Tests of the import of Windows event logs: what each event becomes, and what is done about bad lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>
#include <zlib.h>

#include "thinagent-sim/trace/import.h"
#include "thinagent-sim/trace/import_event.h"
#include "thinagent-sim/trace/trace.h"

static struct text_pool pool;

/* Imports one event, written with ' for " and / for \\. */
static enum import_result
import(const char *text, struct gr_record *record, const char **why)
{
    char json[2048];
    json_t *event;
    enum import_result result;
    size_t len = 0;

    for (; *text != '\0' && len + 3 < sizeof(json); text++) {
        if (*text == '/')
            json[len++] = '\\';
        json[len++] = *text == '/' ? '\\' : *text == '\'' ? '"' : *text;
    }
    event = json_loadb(json, len, 0, NULL);
    assert_non_null(event);
    *why = NULL;
    assert_true(import_rule_of(event) < import_rule_count());
    result = import_event(import_rule_of(event), event, &pool, record, why);
    json_decref(event);
    return result;
}

static struct gr_record
imported(const char *text)
{
    struct gr_record record;
    const char *why;

    if (import(text, &record, &why) != IMPORT_DONE)
        fail_msg("not imported: %s", why ? why : "skipped");
    return record;
}

/* Compares a UTF-16LE text with ASCII, in which / stands for \. */
static void
assert_text(struct gr_text text, const char *ascii)
{
    assert_int_equal(text.len, 2 * strlen(ascii));
    for (size_t i = 0; i < text.len / 2; i++) {
        assert_int_equal(text.data[2 * i], ascii[i] == '/' ? '\\' : ascii[i]);
        assert_int_equal(text.data[2 * i + 1], 0);
    }
}

static void
a_created_file_is_an_open(void **state)
{
    struct gr_record record =
        imported("{'EventID':11,'SourceName':'Microsoft-Windows-Sysmon','ProcessId':'1444',"
                 "'Image':'C:/w/svchost.exe','TargetFilename':'C:/a.dat','UserID':'S-1-5-18',"
                 "'User':'EXAMPLE/anna'}");

    (void)state;
    assert_int_equal(record.type, GR_FILE);
    assert_int_equal(record.body.file.op, GR_FILE_OP_OPEN);
    assert_int_equal(record.body.file.result, GR_CREATED);
    assert_int_equal(record.body.file.pid, 1444);
    assert_text(record.body.file.path, "C:/a.dat");
    assert_text(record.body.file.process, "C:/w/svchost.exe");
    assert_text(record.body.file.user_name, "EXAMPLE/anna");
    assert_int_equal(record.body.file.user_id.len, 0); /* UserID is whoever wrote the log */
}

static void
a_stream_keeps_its_name(void **state)
{
    struct gr_record record = imported("{'EventID':15,'Channel':'Microsoft-Windows-Sysmon/Operational',"
                                       "'ProcessId':'1','TargetFilename':'C:/x.exe:Zone.Identifier'}");

    (void)state;
    assert_text(record.body.file.path, "C:/x.exe:Zone.Identifier");
}

static void
accesses_become_what_their_rights_are_for(void **state)
{
    static const struct {
        const char *mask;
        int op; /* 0: skipped */
    } cases[] = {
        { "0x1", GR_FILE_OP_READ },
        { "0x2", GR_FILE_OP_WRITE },
        { "0x4", GR_FILE_OP_WRITE },
        { "0x10000", GR_FILE_OP_DELETE },
        { "0x100", GR_FILE_OP_SET_ATTR },
        { "0x3", GR_FILE_OP_WRITE },
        { "0x80", 0 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[256];
        const char *why;
        struct gr_record record;
        enum import_result result;

        snprintf(
            text, sizeof(text),
            "{'EventID':4663,'ObjectType':'File','ObjectName':'C:/a','AccessMask':'%s','ProcessId':'0x10'}",
            cases[i].mask);
        result = import(text, &record, &why);
        assert_int_equal(result, cases[i].op != 0 ? IMPORT_DONE : IMPORT_SKIPPED);
        if (cases[i].op != 0)
            assert_int_equal(record.body.file.op, cases[i].op);
    }
}

static void
only_files_are_file_events(void **state)
{
    struct gr_record record;
    const char *why;

    (void)state;
    assert_int_equal(import("{'EventID':4656,'ObjectType':'Key','ObjectName':'/REGISTRY/MACHINE/X',"
                            "'AccessMask':'0x20019','ProcessId':'0x1d60'}",
                            &record, &why),
                     IMPORT_SKIPPED);
    record = imported("{'EventID':4656,'ObjectType':'File','ObjectName':'C:/x','AccessMask':'0x120089',"
                      "'ProcessId':'0x11c0','SubjectUserName':'stevie','SubjectDomainName':'LAB',"
                      "'SubjectUserSid':'S-1-5-21-1','EventType':'AUDIT_FAILURE'}");
    assert_int_equal(record.body.file.access_mask, 0x120089);
    assert_int_equal(record.body.file.result, GR_OPENED);
    assert_int_equal(record.body.file.pid, 0x11c0);
    assert_int_equal(record.body.file.status, 0xc0000022);
    assert_text(record.body.file.user_name, "LAB/stevie");
    assert_text(record.body.file.user_id, "S-1-5-21-1");
}

/* In the logs source and target are initiator and target; a driver says local and remote. */
static void
an_inbound_connection_is_turned_round(void **state)
{
    static const uint8_t here[4] = { 172, 18, 38, 5 };
    static const uint8_t there[4] = { 172, 18, 39, 5 };
    struct gr_record record = imported(
        "{'EventID':5156,'SourceAddress':'172.18.39.5','SourcePort':'51883','DestAddress':'172.18.38.5',"
        "'DestPort':'389','Direction':'%%14592','Protocol':'17','ProcessID':'696',"
        "'Application':'/device/harddiskvolume2/lsass.exe'}");

    (void)state;
    assert_int_equal(record.body.net.op, GR_NET_OP_PRECONNECT);
    assert_int_equal(record.body.net.direction, GR_INBOUND);
    assert_int_equal(record.body.net.family, 4);
    assert_int_equal(record.body.net.protocol, 17);
    assert_int_equal(record.body.net.local_port, 389);
    assert_int_equal(record.body.net.remote_port, 51883);
    assert_memory_equal(record.body.net.local, here, 4);
    assert_memory_equal(record.body.net.remote, there, 4);
    assert_int_equal(record.body.net.pid, 696);
    assert_text(record.body.net.process, "/device/harddiskvolume2/lsass.exe");
}

static void
an_outbound_connection_is_not(void **state)
{
    struct gr_record record =
        imported("{'EventID':3,'SourceName':'Microsoft-Windows-Sysmon','Protocol':'tcp',"
                 "'Initiated':'true','SourceIp':'fe80::1','SourcePort':'50000',"
                 "'DestinationIp':'fe80::2','DestinationPort':'443','ProcessId':'4',"
                 "'Image':'<unknown process>'}");

    (void)state;
    assert_int_equal(record.body.net.op, GR_NET_OP_ESTABLISHED);
    assert_int_equal(record.body.net.direction, GR_OUTBOUND);
    assert_int_equal(record.body.net.family, 6);
    assert_int_equal(record.body.net.local_port, 50000);
    assert_int_equal(record.body.net.remote[15], 2);
    assert_int_equal(record.body.net.process.len, 0);
}

static void
a_failed_query_has_its_rcode(void **state)
{
    struct gr_record record =
        imported("{'EventID':22,'SourceName':'Microsoft-Windows-Sysmon',"
                 "'QueryName':'nowhere.example','QueryStatus':'9003','QueryResults':'-'}");

    (void)state;
    assert_int_equal(record.body.dns.op, GR_DNS_OP_ANSWER);
    assert_int_equal(record.body.dns.status, 9003);
    assert_int_equal(record.body.dns.rcode, 3);
    assert_int_equal(record.body.dns.answers.len, 0);
    record = imported(
        "{'EventID':22,'QueryName':'a.example','QueryStatus':'0','QueryResults':'fe80::1;192.0.2.1;'}");
    assert_text(record.body.dns.answers, "fe80::1;192.0.2.1;");
}

static void
a_new_process_has_the_writer_as_parent(void **state)
{
    struct gr_record record =
        imported("{'EventID':4688,'NewProcessId':'0x1d60','ProcessId':'0x1690',"
                 "'NewProcessName':'C:/p.exe','ParentProcessName':'C:/cmd.exe',"
                 "'CommandLine':'p.exe  -x','SubjectUserName':'anna','TargetUserName':'-'}");

    (void)state;
    assert_int_equal(record.body.process.pid, 0x1d60);
    assert_int_equal(record.body.process.parent_pid, 0x1690);
    assert_text(record.body.process.command_line, "p.exe  -x");
    assert_text(record.body.process.user_name, "anna");
}

static void
a_logon_says_who_and_from_where(void **state)
{
    struct gr_record record =
        imported("{'EventID':4624,'TargetUserName':'anna','TargetDomainName':'LAB',"
                 "'TargetUserSid':'S-1-5-21-2','LogonType':'3','TargetLogonId':'0x211ec28',"
                 "'IpAddress':'-','WorkstationName':'PC7','ProcessId':'0x0'}");

    (void)state;
    assert_int_equal(record.body.logon.op, GR_LOGON_OP_LOGON);
    assert_int_equal(record.body.logon.logon_type, 3);
    assert_int_equal(record.body.logon.logon_id, 0x211ec28);
    assert_text(record.body.logon.user_name, "LAB/anna");
    assert_text(record.body.logon.source, "PC7");
}

static void
characters_beyond_the_first_plane_become_pairs(void **state)
{
    static const uint8_t expected[] = { 0xe9, 0x00, 0x3d, 0xd8, 0x00, 0xde };
    struct gr_record record =
        imported("{'EventID':26,'SourceName':'Sysmon','TargetFilename':'\xc3\xa9\xf0\x9f\x98\x80'}");

    (void)state;
    assert_int_equal(record.body.file.path.len, sizeof(expected));
    assert_memory_equal(record.body.file.path.data, expected, sizeof(expected));
}

static void
what_is_missing_is_named(void **state)
{
    struct gr_record record;
    const char *why;

    (void)state;
    assert_int_equal(import("{'EventID':11,'SourceName':'Sysmon'}", &record, &why), IMPORT_UNUSABLE);
    assert_string_equal(why, "no TargetFilename");
    assert_int_equal(
        import("{'EventID':5158,'SourceAddress':'300.1.1.1','SourcePort':'1','Protocol':'6'}", &record, &why),
        IMPORT_UNUSABLE);
    assert_string_equal(why, "an address is missing or malformed");
    assert_int_equal(
        import("{'EventID':5158,'SourceAddress':'::','SourcePort':'65536','Protocol':'6'}", &record, &why),
        IMPORT_UNUSABLE);
}

/* ---- whole files ---- */

static const char log_text[] =
    "{\"EventID\":11,\"Hostname\":\"a\",\"@timestamp\":\"2020-10-22T08:29:53.801Z\",\"TargetFilename\":\"C:"
    "\\\\x\"}\n"
    "this is no JSON\n"
    "\n"
    "{\"EventID\":11,\"Hostname\":\"a\",\"@timestamp\":\"2020-10-22T08:29:54Z\",\"TargetFilename\":\"C:"
    "\\\\y\"}\n"
    "{\"EventID\":5158,\"Hostname\":\"a\",\"@timestamp\":\"2020-10-22T08:29:54Z\",\"SourceAddress\":\"::\","
    "\"SourcePort\":\"53\",\"Protocol\":\"17\",\"ProcessId\":\"7\"}\n"
    "{\"EventID\":11,\"Hostname\":\"b\",\"@timestamp\":\"2020-10-22T08:29:55Z\",\"TargetFilename\":\"C:"
    "\\\\z\"}\n"
    "{\"EventID\":4711,\"Hostname\":\"c\"}";

static char log_path[] = "/tmp/test_import.log.XXXXXX";
static char trace_path[] = "/tmp/test_import.pcap.XXXXXX";

/* Writes the log, runs the command on it and returns its status. */
static int
run_import(const char *mode, size_t cut)
{
    struct options options = { .file = log_path, .output = trace_path, .json = true };
    gzFile file = gzopen(log_path, mode);

    assert_non_null(file);
    assert_int_equal(gzwrite(file, log_text, sizeof(log_text) - 1), sizeof(log_text) - 1);
    assert_int_equal(gzclose(file), Z_OK);
    if (cut > 0)
        assert_int_equal(truncate(log_path, (off_t)cut), 0);
    return import_run(&options);
}

static void
assert_trace_is_whole(void)
{
    char why[TRACE_WHY_MAX];
    struct trace *trace = trace_read(trace_path, why);
    struct gr_record record;

    assert_non_null(trace);
    assert_false(trace->damaged);
    assert_int_equal(trace->count, 3); /* a's files, a's network, b's files */
    assert_int_equal(trace->streams[0]->driver, GR_VSEPFLT);
    assert_int_equal(trace->streams[1]->driver, GR_VNETWFP);
    assert_memory_equal(trace->streams[0]->vm_uuid, trace->streams[1]->vm_uuid, GR_UUID_SIZE);
    assert_memory_not_equal(trace->streams[0]->vm_uuid, trace->streams[2]->vm_uuid, GR_UUID_SIZE);
    assert_int_equal(trace->streams[0]->count, 4);
    assert_int_equal(trace->streams[0]->records[1].type, GR_VOLUMES);
    assert_int_equal(trace->streams[0]->last_sequence, 2);
    trace_record_decode(trace->streams[0], 2, &record);
    assert_text(record.body.file.path, "C:/x");
    assert_true(record.time == UINT64_C(132478289938010000)); /* FILETIME of 2020-10-22T08:29:53.801Z */
    trace_free(trace);
}

static void
plain_and_gzip_logs_give_the_same(void **state)
{
    (void)state;
    assert_int_equal(run_import("wbT", 0), EXIT_GOOD);
    assert_trace_is_whole();
    assert_int_equal(run_import("wb", 0), EXIT_GOOD);
    assert_trace_is_whole();
}

static void
a_log_that_is_cut_off_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(run_import("wb", 100), EXIT_ERROR);
}

static void
a_log_that_is_not_there_is_an_error(void **state)
{
    struct options options = { .file = "/nonexistent/log", .output = trace_path };

    (void)state;
    assert_int_equal(import_run(&options), EXIT_ERROR);
}

static int
make_files(void **state)
{
    (void)state;
    close(mkstemp(log_path));
    close(mkstemp(trace_path));
    return 0;
}

static int
remove_files(void **state)
{
    (void)state;
    unlink(log_path);
    unlink(trace_path);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_created_file_is_an_open),
        cmocka_unit_test(a_stream_keeps_its_name),
        cmocka_unit_test(accesses_become_what_their_rights_are_for),
        cmocka_unit_test(only_files_are_file_events),
        cmocka_unit_test(an_inbound_connection_is_turned_round),
        cmocka_unit_test(an_outbound_connection_is_not),
        cmocka_unit_test(a_failed_query_has_its_rcode),
        cmocka_unit_test(a_new_process_has_the_writer_as_parent),
        cmocka_unit_test(a_logon_says_who_and_from_where),
        cmocka_unit_test(characters_beyond_the_first_plane_become_pairs),
        cmocka_unit_test(what_is_missing_is_named),
        cmocka_unit_test(plain_and_gzip_logs_give_the_same),
        cmocka_unit_test(a_log_that_is_cut_off_is_an_error),
        cmocka_unit_test(a_log_that_is_not_there_is_an_error),
    };

    return cmocka_run_group_tests(tests, make_files, remove_files);
}
