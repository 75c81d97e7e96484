/* The command import: makes a trace of a Windows event log. */
#include "thinagent-sim/trace/import.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>
#include <zlib.h>

#include "thinagent-sim/identity.h"
#include "thinagent-sim/memory.h"
#include "thinagent-sim/trace/import_event.h"
#include "thinagent-sim/trace/import_left.h"
#include "thinagent-sim/trace/import_time.h"
#include "thinagent-sim/trace_writer.h"

#define LINE_MAX_BYTES ((size_t)4 << 20)
#define REPORTS_MAX    5u  /* unusable lines that are reported one by one */
#define HOST_MAX       256 /* bytes of a Hostname */

/* The drivers of one machine, in the order of their numbers in the trace. */
static const uint16_t drivers[] = { GR_VSEPFLT, GR_VNETWFP };
#define DRIVERS (sizeof(drivers) / sizeof(drivers[0]))

/* A Hostname of the log. */
struct machine {
    char name[HOST_MAX];
    uint32_t number;
    uint64_t sequence[DRIVERS]; /* the last one given out; 0: its connection is not opened yet */
    UT_hash_handle hh;
};

struct tally {
    uint64_t read;
    uint64_t imported;
    uint64_t skipped;
    uint64_t unusable;
};

struct import {
    const struct options *options;
    struct trace_writer *writer;
    struct machine *machines;
    uint64_t line;
    struct tally *tallies;       /* one for each rule, and one for all other events */
    struct import_left *left;    /* what was skipped, by id */
    struct import_known *known;  /* what earlier events said */
    uint64_t clocks[CLOCKS];     /* events in the trace, by the field that their time is from */
    uint64_t apart;              /* of them, those whose clocks are apart */
    uint64_t unusable;           /* lines, including those that are not events */
    struct text_pool pool;       /* of events */
    struct text_pool hello_pool; /* of the records that open a stream */
    uint8_t record[GR_MAX_RECORD];
};

static void
report(struct import *import, const char *why)
{
    if (import->unusable++ < REPORTS_MAX)
        fprintf(stderr, "thinagent-sim: %s: line %" PRIu64 ": %s\n", import->options->file, import->line,
                why);
}

/* ---- streams ---- */

static struct machine *
machine_get(struct import *import, const char *name)
{
    struct machine *machine;

    HASH_FIND_STR(import->machines, name, machine);
    if (!machine) {
        machine = must_calloc(1, sizeof(*machine));
        strcpy(machine->name, name); /* the caller has checked its length */
        machine->number = HASH_COUNT(import->machines);
        HASH_ADD_STR(import->machines, name, machine);
    }
    return machine;
}

/* Returns false, and writes nothing, if the record is too large. */
static bool
put(struct import *import, uint32_t stream, int64_t time, const struct gr_record *record)
{
    size_t len = gr_encode(record, import->record, sizeof(import->record));

    trace_writer_put(import->writer, stream, time, import->record, len);
    return len > 0;
}

/* Opens a stream: HELLO, and VOLUMES, which says what the machines of these logs have. */
static void
open_stream(struct import *import, const struct machine *machine, uint16_t driver, uint32_t stream,
            int64_t time)
{
    struct gr_record hello = { .type = GR_HELLO };
    struct gr_record volumes = { .type = GR_VOLUMES };
    struct gr_volume volume = { .letter = 'C' };
    uint8_t entries[128];
    size_t len = 0;

    trace_writer_connect(import->writer, stream, time);
    text_pool_reset(&import->hello_pool, driver);
    hello.body.hello =
        (struct gr_hello){ .magic = GR_MAGIC,
                           .version_min = GR_VERSION,
                           .version_max = GR_VERSION,
                           .driver = driver,
                           .first_held = 1,
                           .build = text_put(&import->hello_pool, "thinagent-sim " GIMUX_VERSION),
                           .guest_os = text_put(&import->hello_pool, "Windows") };
    identity_of_name("vm", machine->name, hello.body.hello.vm_uuid);
    identity_of_name("boot", machine->name, hello.body.hello.boot_id);
    put(import, stream, time, &hello);
    volume.device = text_put(&import->hello_pool, "\\Device\\HarddiskVolume2");
    gr_volume_put(entries, sizeof(entries), &len, &volume);
    volumes.body.volumes.count = 1;
    volumes.body.volumes.entries = (struct gr_text){ entries, (uint32_t)len };
    put(import, stream, time, &volumes);
}

/* ---- events ---- */

/* Puts an event's record into the trace, after what opens its stream. Returns false if it is too large. */
static bool
put_event(struct import *import, struct machine *machine, size_t driver, const struct import_time *time,
          struct gr_record *record)
{
    uint32_t stream = (uint32_t)(machine->number * DRIVERS + driver);

    if (machine->sequence[driver] == 0)
        open_stream(import, machine, drivers[driver], stream, time->sent);
    record->sequence = machine->sequence[driver] + 1;
    record->time = driver_time(drivers[driver], time->happened);
    if (!put(import, stream, time->sent, record))
        return false;
    machine->sequence[driver]++;
    import->clocks[time->clock]++;
    import->apart += time->apart;
    return true;
}

/* Puts one event into the trace. Returns what became of it; on IMPORT_UNUSABLE *why says why. */
static enum import_result
take_event(struct import *import, size_t rule, const json_t *event, const char **why)
{
    const char *host = json_string_value(json_object_get(event, "Hostname"));
    size_t driver = import_rule_driver(rule) == drivers[0] ? 0 : 1;
    struct import_place place = { .pool = &import->pool, .known = import->known };
    struct machine *machine;
    struct gr_record record;
    enum import_result result;
    struct import_time time;

    if (!host || host[0] == '\0' || strlen(host) >= HOST_MAX) {
        *why = "no Hostname, or one of over 255 bytes";
        return IMPORT_UNUSABLE;
    }
    if (!import_time(event, &time)) {
        *why = "no time of 1970 to 2106 in UtcTime, TimeCreated, EventTime or @timestamp, such as "
               "2020-10-22T08:29:53.801Z";
        return IMPORT_UNUSABLE;
    }
    machine = machine_get(import, host);
    place.machine = machine->number;
    result = import_event(rule, event, &place, &record, why);
    if (result == IMPORT_DONE && !put_event(import, machine, driver, &time, &record)) {
        *why = "its texts are too long together";
        return IMPORT_UNUSABLE;
    }
    return result;
}

/* Counts an event that is left out, by its id. */
static void
leave_out(struct import *import, size_t rule, const json_t *event)
{
    uint64_t id;
    const char *source = import_source(event, &id);

    if (rule < import_rule_count())
        import_left_count(import->left, import_rule_channel(rule), id, import_rule_left_out(rule));
    else
        import_left_count(import->left, source, id, id > 0 ? "no driver tells it" : "no EventID");
}

static void
take_line(struct import *import, const char *text, size_t len)
{
    json_error_t error;
    json_t *event = json_loadb(text, len, 0, &error);
    const char *why = NULL;
    struct tally *tally;
    size_t rule;

    if (!json_is_object(event)) {
        report(import, event ? "expected a JSON object" : error.text);
        json_decref(event);
        return;
    }
    rule = import_rule_of(event);
    tally = &import->tallies[rule];
    tally->read++;
    switch (rule < import_rule_count() ? take_event(import, rule, event, &why) : IMPORT_SKIPPED) {
    case IMPORT_DONE:
        tally->imported++;
        break;
    case IMPORT_SKIPPED:
        tally->skipped++;
        leave_out(import, rule, event);
        break;
    case IMPORT_UNUSABLE:
        tally->unusable++;
        report(import, why);
        break;
    }
    json_decref(event);
}

/* Reads one line, without its newline. Returns its length, or -1 at the end or on an error. A line of over
 * LINE_MAX_BYTES is cut there, which makes it no JSON. */
static ssize_t
read_line(gzFile file, char *line)
{
    ssize_t len = 0;
    int c;

    while ((c = gzgetc(file)) != -1 && c != '\n')
        if ((size_t)len < LINE_MAX_BYTES)
            line[len++] = (char)c;
    return c == -1 && len == 0 ? -1 : len;
}

/* Reads all lines. Returns NULL, or what went wrong after line import->line. */
static const char *
read_lines(struct import *import, gzFile file)
{
    static char why[256]; /* zlib's text goes with the file */
    char *line = must_calloc(1, LINE_MAX_BYTES);
    ssize_t len;
    int code;

    while ((len = read_line(file, line)) >= 0) {
        import->line++;
        if (len > 0)
            take_line(import, line, (size_t)len);
    }
    free(line);
    snprintf(why, sizeof(why), "%s", gzerror(file, &code));
    return code == Z_OK || code == Z_STREAM_END ? NULL : why;
}

static bool
read_log(struct import *import)
{
    gzFile file = gzopen(import->options->file, "rb");
    const char *why;

    if (!file) {
        fprintf(stderr, "thinagent-sim: cannot read %s: %m\n", import->options->file);
        return false;
    }
    why = read_lines(import, file);
    gzclose_r(file);
    if (why)
        fprintf(stderr, "thinagent-sim: %s: after line %" PRIu64 ": %s\n", import->options->file,
                import->line, why);
    return !why;
}

/* ---- the summary ---- */

static void
print_table(const struct import *import)
{
    printf("%-9s %6s %-24s %9s %9s %9s %9s\n", "SOURCE", "ID", "EVENT", "READ", "IMPORTED", "SKIPPED",
           "UNUSABLE");
    for (size_t i = 0; i <= import_rule_count(); i++) {
        const struct tally *tally = &import->tallies[i];

        if (i < import_rule_count())
            printf("%-9s %6d %-24s", import_rule_channel(i), import_rule_id(i), import_rule_about(i));
        else
            printf("%-9s %6s %-24s", "other", "", "");
        printf(" %9" PRIu64 " %9" PRIu64 " %9" PRIu64 " %9" PRIu64 "\n", tally->read, tally->imported,
               tally->skipped, tally->unusable);
    }
    import_left_print(import->left);
    printf("times:");
    for (unsigned i = 0; i < CLOCKS; i++)
        printf("%s %" PRIu64 " of %s", i > 0 ? "," : "", import->clocks[i], import_clock_name(i));
    printf("; %" PRIu64 " events whose UtcTime and log time are over 15 minutes apart\n", import->apart);
    printf("%u machines, %" PRIu64 " lines, of which %" PRIu64 " could not be used\n",
           HASH_COUNT(import->machines), import->line, import->unusable);
}

static void
print_json(const struct import *import)
{
    json_t *events = json_array();
    json_t *machines = json_array();
    json_t *clocks = json_object();
    struct machine *machine;
    json_t *all;

    for (size_t i = 0; i <= import_rule_count(); i++) {
        const struct tally *tally = &import->tallies[i];
        bool other = i == import_rule_count();

        json_array_append_new(events,
                              json_pack("{s:s, s:i, s:I, s:I, s:I, s:I}", "source",
                                        other ? "other" : import_rule_channel(i), "event_id",
                                        other ? 0 : import_rule_id(i), "read", (json_int_t)tally->read,
                                        "imported", (json_int_t)tally->imported, "skipped",
                                        (json_int_t)tally->skipped, "unusable", (json_int_t)tally->unusable));
    }
    for (machine = import->machines; machine; machine = machine->hh.next) {
        uint8_t uuid[GR_UUID_SIZE];
        char text[GR_UUID_TEXT];

        identity_of_name("vm", machine->name, uuid);
        json_array_append_new(machines, json_pack("{s:s, s:s, s:I, s:I}", "hostname", machine->name,
                                                  "vm_uuid", gr_uuid_format(uuid, text), "vsepflt",
                                                  (json_int_t)machine->sequence[0], "vnetwfp",
                                                  (json_int_t)machine->sequence[1]));
    }
    for (unsigned i = 0; i < CLOCKS; i++)
        json_object_set_new(clocks, import_clock_name(i), json_integer((json_int_t)import->clocks[i]));
    all =
        json_pack("{s:I, s:I, s:o, s:o, s:o, s:I, s:o}", "lines", (json_int_t)import->line, "unusable",
                  (json_int_t)import->unusable, "events", events, "left_out", import_left_json(import->left),
                  "time_from", clocks, "clocks_apart", (json_int_t)import->apart, "machines", machines);
    json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(all);
}

int
import_run(const struct options *options)
{
    struct import *import = must_calloc(1, sizeof(*import));
    char why[TRACE_WHY_MAX];
    struct machine *machine;
    struct machine *next;
    bool good;

    import->options = options;
    import->tallies = must_calloc(import_rule_count() + 1, sizeof(*import->tallies));
    import->left = import_left_new();
    import->known = import_known_new();
    import->writer = trace_writer_open(options->output, why);
    good = import->writer != NULL && read_log(import);
    if (import->unusable > REPORTS_MAX)
        fprintf(stderr, "thinagent-sim: %s: %" PRIu64 " more such lines\n", options->file,
                import->unusable - REPORTS_MAX);
    if (!import->writer || !trace_writer_close(import->writer, why)) {
        fprintf(stderr, "thinagent-sim: %s\n", why);
        good = false;
    }
    if (good)
        (options->json ? print_json : print_table)(import);
    if (good && import->unusable > 0 && HASH_COUNT(import->machines) == 0) {
        fprintf(stderr, "thinagent-sim: %s: no usable event\n", options->file);
        good = false;
    }
    machine = import->machines;
    HASH_CLEAR(hh, import->machines); /* the machines stay linked */
    for (; machine; machine = next) {
        next = machine->hh.next;
        free(machine);
    }
    import_left_free(import->left);
    import_known_free(import->known);
    free(import->tallies);
    free(import);
    return good ? EXIT_GOOD : EXIT_ERROR;
}
