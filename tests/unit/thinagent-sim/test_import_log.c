/* Tests of the import of whole Windows event logs: the trace that is made, and what is done about bad files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zlib.h>

#include "thinagent-sim/trace/import.h"
#include "thinagent-sim/trace/trace.h"

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
    assert_int_equal(record.body.file.path.len, 8);
    assert_memory_equal(record.body.file.path.data, "C\0:\0\\\0x\0", 8);
    assert_true(record.time == UINT64_C(132478289938010000)); /* FILETIME of 2020-10-22T08:29:53.801Z */
    trace_free(trace);
}

static void
a_record_has_its_events_time(void **state)
{
    static const char text[] =
        "{\"EventID\":11,\"Hostname\":\"a\",\"UtcTime\":\"2020-10-22 08:29:53.801\",\"@timestamp\":"
        "\"2020-10-22T08:32:08Z\",\"TargetFilename\":\"C:\\\\x\"}\n";
    struct options options = { .file = log_path, .output = trace_path, .json = true };
    FILE *file = fopen(log_path, "w");
    char why[TRACE_WHY_MAX];
    struct trace *trace;
    struct gr_record record;

    (void)state;
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(import_run(&options), EXIT_GOOD);
    trace = trace_read(trace_path, why);
    assert_non_null(trace);
    trace_record_decode(trace->streams[0], 2, &record);
    assert_true(record.time == UINT64_C(132478289938010000)); /* FILETIME of 2020-10-22T08:29:53.801Z */
    assert_true(trace->streams[0]->records[2].time == INT64_C(1603355393801000000));
    trace_free(trace);
}

/* A record has 256 KiB: four texts that are as long as texts may be do not fit. */
static void
a_record_that_is_too_large_takes_no_sequence(void **state)
{
    static const char *const fields[] = { "Image", "CommandLine", "ParentImage", "User" };
    struct options options = { .file = log_path, .output = trace_path, .json = true };
    FILE *file = fopen(log_path, "w");
    char why[TRACE_WHY_MAX];
    struct trace *trace;

    (void)state;
    assert_non_null(file);
    for (int line = 0; line < 3; line++) {
        fprintf(file, "{\"EventID\":1,\"Hostname\":\"a\",\"UtcTime\":\"2020-10-22 08:29:53\"");
        for (size_t i = 0; i < 4; i++)
            fprintf(file, ",\"%s\":\"%0*d\"", fields[i], line == 1 ? 32767 : 1, 0);
        fprintf(file, ",\"ProcessId\":\"7\"}\n");
    }
    fclose(file);
    assert_int_equal(import_run(&options), EXIT_GOOD);
    trace = trace_read(trace_path, why);
    assert_non_null(trace);
    assert_int_equal(trace->streams[0]->count, 4); /* HELLO, VOLUMES, the first and the third */
    assert_int_equal(trace->streams[0]->last_sequence, 2);
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
        cmocka_unit_test(a_record_has_its_events_time),
        cmocka_unit_test(a_record_that_is_too_large_takes_no_sequence),
        cmocka_unit_test(plain_and_gzip_logs_give_the_same),
        cmocka_unit_test(a_log_that_is_cut_off_is_an_error),
        cmocka_unit_test(a_log_that_is_not_there_is_an_error),
    };

    return cmocka_run_group_tests(tests, make_files, remove_files);
}
