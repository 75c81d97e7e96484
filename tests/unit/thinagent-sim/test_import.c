/* Tests of the import of Windows event logs: what each event becomes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "thinagent-sim/trace/import_event.h"
#include "thinagent-sim/trace/import_known.h"

static struct text_pool pool;
static struct import_place place = { .pool = &pool };

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
    result = import_event(import_rule_of(event), event, &place, record, why);
    json_decref(event);
    return result;
}

static void
assert_skipped(const char *text)
{
    struct gr_record record;
    const char *why;

    assert_int_equal(import(text, &record, &why), IMPORT_SKIPPED);
}

static void
assert_unusable(const char *text, const char *expected)
{
    struct gr_record record;
    const char *why;

    assert_int_equal(import(text, &record, &why), IMPORT_UNUSABLE);
    assert_string_equal(why, expected);
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
        { "0x10000", 0 }, /* a delete or a rename; 4660 says which */
        { "0x40", 0 },    /* of the directory; what was deleted in it has no name here */
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
    assert_int_equal(record.body.net.op, GR_NET_OP_ESTABLISHED);
    assert_int_equal(record.body.net.status, 0);
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

/* An event of the filtering platform, without its id. */
#define FILTERED "'Protocol':'%u','ProcessId':'696','Application':'/device/harddiskvolume2/a.exe',"
#define ENDPOINT "'SourceAddress':'192.0.2.1','SourcePort':'445'"

static void
what_the_filter_says_becomes_what_a_driver_means(void **state)
{
    static const struct {
        int id;
        unsigned protocol;
        int op; /* 0: left out */
        uint32_t status;
    } cases[] = {
        { 5154, 6, GR_NET_OP_LISTEN, 0 },
        { 5155, 6, GR_NET_OP_LISTEN, 0xc0000022 },
        { 5156, 6, GR_NET_OP_ESTABLISHED, 0 },
        { 5156, 17, GR_NET_OP_ESTABLISHED, 0 },
        { 5156, 1, GR_NET_OP_ESTABLISHED, 0 },
        { 5157, 6, GR_NET_OP_REFUSED, 0xc0000022 },
        { 5158, 17, GR_NET_OP_LISTEN, 0 },
        { 5158, 6, 0, 0 },
        { 5158, 1, 0, 0 },
        { 5159, 17, GR_NET_OP_LISTEN, 0xc0000022 },
        { 5159, 6, 0, 0 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool connection = cases[i].id == 5156 || cases[i].id == 5157;
        char text[512];
        struct gr_record record;

        snprintf(text, sizeof(text), "{'EventID':%d," FILTERED ENDPOINT "%s}", cases[i].id, cases[i].protocol,
                 connection ? ",'Direction':'%%14593','DestAddress':'192.0.2.2','DestPort':'80'" : "");
        if (cases[i].op == 0) {
            assert_skipped(text);
            continue;
        }
        record = imported(text);
        assert_int_equal(record.type, GR_NET);
        assert_int_equal(record.body.net.op, cases[i].op);
        assert_int_equal(record.body.net.status, cases[i].status);
        assert_int_equal(record.body.net.protocol, cases[i].protocol);
        assert_int_equal(record.body.net.direction, connection ? GR_OUTBOUND : 0);
        assert_int_equal(record.body.net.local_port, 445);
        assert_int_equal(record.body.net.local[3], 1);
        assert_int_equal(record.body.net.remote_port, connection ? 80 : 0);
        assert_int_equal(record.body.net.remote[3], connection ? 2 : 0);
        assert_int_equal(record.body.net.pid, 696);
        assert_text(record.body.net.process, "/device/harddiskvolume2/a.exe");
    }
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
a_failed_logon_says_why(void **state)
{
    struct gr_record record =
        imported("{'EventID':4625,'TargetUserName':'anna','TargetDomainName':'LAB','TargetUserSid':'S-1-0-0',"
                 "'Status':'0xc000006d','SubStatus':'0xc000006a','LogonType':'10','IpAddress':'192.0.2.7',"
                 "'WorkstationName':'PC7','ProcessId':'0x2c4','ProcessName':'C:/w/svchost.exe'}");

    (void)state;
    assert_int_equal(record.type, GR_LOGON);
    assert_int_equal(record.body.logon.op, GR_LOGON_OP_LOGON);
    assert_int_equal(record.body.logon.status, 0xc000006d);
    assert_int_equal(record.body.logon.logon_type, 10);
    assert_int_equal(record.body.logon.logon_id, 0);
    assert_int_equal(record.body.logon.pid, 0x2c4);
    assert_text(record.body.logon.user_name, "LAB/anna");
    assert_text(record.body.logon.source, "192.0.2.7");
    assert_text(record.body.logon.process, "C:/w/svchost.exe");
    record = imported("{'EventID':4625,'TargetUserName':'anna','Status':'0x0','LogonType':'3'}");
    assert_int_equal(record.body.logon.status, 0xc000006d); /* it failed, whatever it says */
    record = imported("{'EventID':4625,'TargetUserName':'anna','LogonType':'3'}");
    assert_int_equal(record.body.logon.status, 0xc000006d);
    assert_unusable("{'EventID':4625,'TargetUserName':'anna'}", "no LogonType");
}

#define SESSION "'TargetUserName':'anna','TargetDomainName':'LAB','TargetUserSid':'S-1-5-21-2',"

/* 4634 comes after 4647 when the last of the session is gone. */
static void
a_session_ends_once(void **state)
{
    struct gr_record record = imported("{'EventID':4647," SESSION "'TargetLogonId':'0x77'}");

    (void)state;
    assert_int_equal(record.type, GR_LOGON);
    assert_int_equal(record.body.logon.op, GR_LOGON_OP_LOGOFF);
    assert_int_equal(record.body.logon.logon_id, 0x77);
    assert_int_equal(record.body.logon.status, 0);
    assert_int_equal(record.body.logon.logon_type, 0); /* 4647 does not say */
    assert_text(record.body.logon.user_name, "LAB/anna");
    assert_text(record.body.logon.user_id, "S-1-5-21-2");
    imported("{'EventID':4634," SESSION "'TargetLogonId':'0x78','LogonType':'3'}"); /* another one */
    place.machine = 1;
    imported("{'EventID':4634," SESSION "'TargetLogonId':'0x77','LogonType':'2'}"); /* another machine's */
    place.machine = 0;
    assert_skipped("{'EventID':4634," SESSION "'TargetLogonId':'0x77','LogonType':'2'}");
    imported("{'EventID':4634," SESSION "'TargetLogonId':'0x77','LogonType':'2'}");
}

static void
a_number_of_a_session_comes_again(void **state)
{
    (void)state;
    imported("{'EventID':4647," SESSION "'TargetLogonId':'0x77'}");
    imported("{'EventID':4624," SESSION "'TargetLogonId':'0x77','LogonType':'2'}");
    imported("{'EventID':4634," SESSION "'TargetLogonId':'0x77','LogonType':'2'}");
}

#define SUBJECT "'SubjectUserName':'anna','SubjectDomainName':'LAB','SubjectUserSid':'S-1-5-21-2',"
#define OPENED  "{'EventID':4656,'AccessMask':'0x10000','ProcessId':'0x10',"
#define DELETED "{'EventID':4660," SUBJECT "'ProcessName':'C:/cmd.exe','ProcessId':'0x10',"

static void
a_deleted_object_has_its_handles_name(void **state)
{
    struct gr_record record;

    (void)state;
    imported(OPENED "'ObjectType':'File','ObjectName':'C:/a','HandleId':'0x4'}");
    imported(OPENED "'ObjectType':'File','ObjectName':'C:/b','HandleId':'0x8'}");
    record = imported(DELETED "'HandleId':'0x4'}");
    assert_int_equal(record.type, GR_FILE);
    assert_int_equal(record.body.file.op, GR_FILE_OP_DELETE);
    assert_int_equal(record.body.file.status, 0);
    assert_int_equal(record.body.file.pid, 0x10);
    assert_text(record.body.file.path, "C:/a");
    assert_text(record.body.file.process, "C:/cmd.exe");
    assert_text(record.body.file.user_name, "LAB/anna");
    assert_text(record.body.file.user_id, "S-1-5-21-2");
    /* 4663 gives the name too, and the handle's last name counts. */
    assert_skipped("{'EventID':4663,'AccessMask':'0x10000','ProcessId':'0x10','ObjectType':'File',"
                   "'ObjectName':'C:/c','HandleId':'0x8'}");
    record = imported(DELETED "'HandleId':'0x8'}");
    assert_text(record.body.file.path, "C:/c");
}

static void
a_handle_that_nobody_named_is_unusable(void **state)
{
    static const char why[] = "no 4656 or 4663 before it names the handle";

    (void)state;
    assert_unusable(DELETED "'HandleId':'0x10'}", why);
    imported(OPENED "'ObjectType':'File','ObjectName':'C:/a','HandleId':'0x4'}");
    place.machine = 1;
    assert_unusable(DELETED "'HandleId':'0x4'}", why);
    place.machine = 0;
    imported(DELETED "'HandleId':'0x4'}");
    assert_unusable(DELETED "'HandleId':'0x4'}", why); /* an object is deleted once */
    /* A handle that could not be opened is no handle. */
    imported(OPENED "'ObjectType':'File','ObjectName':'C:/a','HandleId':'0x0','EventType':'AUDIT_FAILURE'}");
    assert_unusable(DELETED "'HandleId':'0x0'}", why);
    imported(OPENED "'ObjectType':'File','ObjectName':'C:/a','HandleId':'0x4'}");
    assert_unusable(OPENED "'ObjectType':'File','ObjectName':'-','HandleId':'0x4'}", "no ObjectName");
    assert_unusable(DELETED "'HandleId':'0x4'}", why); /* not the name of the handle before */
}

static void
a_deleted_key_is_no_file(void **state)
{
    (void)state;
    imported(OPENED "'ObjectType':'File','ObjectName':'C:/a','HandleId':'0x4'}");
    assert_skipped(OPENED "'ObjectType':'Key','ObjectName':'/REGISTRY/X','HandleId':'0x4'}");
    assert_skipped(DELETED "'HandleId':'0x4'}");
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

static int
know_nothing(void **state)
{
    (void)state;
    place.known = import_known_new();
    place.machine = 0;
    return 0;
}

static int
forget(void **state)
{
    (void)state;
    import_known_free(place.known);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, know_nothing, forget)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_created_file_is_an_open),
        TEST(a_stream_keeps_its_name),
        TEST(accesses_become_what_their_rights_are_for),
        TEST(only_files_are_file_events),
        TEST(an_inbound_connection_is_turned_round),
        TEST(an_outbound_connection_is_not),
        TEST(what_the_filter_says_becomes_what_a_driver_means),
        TEST(a_failed_query_has_its_rcode),
        TEST(a_new_process_has_the_writer_as_parent),
        TEST(a_logon_says_who_and_from_where),
        TEST(a_failed_logon_says_why),
        TEST(a_session_ends_once),
        TEST(a_number_of_a_session_comes_again),
        TEST(a_deleted_object_has_its_handles_name),
        TEST(a_handle_that_nobody_named_is_unusable),
        TEST(a_deleted_key_is_no_file),
        TEST(characters_beyond_the_first_plane_become_pairs),
        TEST(what_is_missing_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
