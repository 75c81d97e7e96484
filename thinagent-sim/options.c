/* The options of all commands: one table from which the parser and --help derive. */
#include "thinagent-sim/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "thinagent-sim/queue.h"

#define SENDERS (COMMAND_REPLAY | COMMAND_LOAD | COMMAND_LIVE | COMMAND_VMX)
#define ANY     (SENDERS | COMMAND_IMPORT | COMMAND_INFO)

enum kind { FLAG, TEXT, COUNT, COUNT64, NUMBER, UUID, BOOT_ID, LIST, MIX };

struct row {
    const char *name;
    const char *argument; /* NULL for flags */
    unsigned commands;
    enum kind kind;
    size_t offset; /* in struct options */
    double min;    /* COUNT, COUNT64 and NUMBER */
    double max;
    const char *help;
};

#define AT(member) offsetof(struct options, member)

static const struct row table[] = {
    { "output", "TRACE", COMMAND_IMPORT, TEXT, AT(output), 0, 0, "the trace to write" },
    { "connect", "ADDRESS", SENDERS, TEXT, AT(connect), 0, 0,
      "gimuxd's door: vsock:CID:PORT or unix:PATH, %u in PATH stands for the VM's UUID" },
    { "listen", "unix:PATH", SENDERS, TEXT, AT(listen), 0, 0, "wait for gimuxd to dial instead" },
    { "firecracker", NULL, SENDERS, FLAG, AT(firecracker), 0, 0,
      "with --listen: expect the line CONNECT PORT first, and answer OK" },
    { "device", "PATH", SENDERS, TEXT, AT(device), 0, 0, "use a character device (virtio-serial)" },
    { "record", "TRACE", SENDERS, TEXT, AT(record), 0, 0,
      "write what is sent to a trace; without a door, only to the trace" },
    { "copies", "N", COMMAND_REPLAY, COUNT, AT(copies), 1, 100000, "replay N sets of VMs (1)" },
    { "loop", "N", COMMAND_REPLAY, COUNT, AT(loops), 1, 1e9, "replay each stream N times over (1)" },
    { "speed", "X", COMMAND_REPLAY, NUMBER, AT(speed), 1e-6, 1e6, "X times the recorded pace (1)" },
    { "fast", NULL, COMMAND_REPLAY, FLAG, AT(fast), 0, 0, "as fast as gimuxd accepts it" },
    { "vms", "N", COMMAND_LOAD, COUNT, AT(vms), 1, 100000, "number of VMs (1)" },
    { "rate", "N", COMMAND_LOAD, NUMBER, AT(rate), 0, 1e7,
      "events per second of each VM (as fast as gimuxd accepts them)" },
    { "events", "N", COMMAND_LOAD, COUNT64, AT(events), 1, 1e15, "events of each VM, then end (no end)" },
    { "seconds", "S", COMMAND_LOAD | COMMAND_LIVE, NUMBER, AT(seconds), 0, 1e9,
      "end after S seconds (no end)" },
    { "mix", "LIST", COMMAND_LOAD, MIX, AT(mix), 0, 0,
      "weights of the classes (file=70,network=15,dns=5,process=8,authentication=2)" },
    { "linux", NULL, COMMAND_LOAD, FLAG, AT(linux_driver), 0, 0,
      "one linux driver for each VM, not the two of Windows" },
    { "seed", "N", COMMAND_LOAD, COUNT64, AT(seed), 0, 1e15, "other VMs and other events for another N (1)" },
    { "no-wait", NULL, COMMAND_LOAD, FLAG, AT(no_wait), 0, 0,
      "drop what gimuxd does not accept in time, and report LOST; needs --rate" },
    { "watch", "PATH", COMMAND_LIVE, LIST, AT(watch), 0, 0,
      "directory to watch, with all below; repeatable" },
    { "queue", "BYTES", COMMAND_LOAD | COMMAND_LIVE, COUNT64, AT(queue), 1024, 1e12,
      "size of the queue of events that do not wait (4194304)" },
    { "event", "EVENT", COMMAND_VMX, LIST, AT(events_list), 0, 0,
      "ACTION:UUID[:NAME] of a VM; ACTION is on, off, suspend, resume or migrate=HOST; repeatable" },
    { "vm", "UUID", SENDERS, UUID, AT(vm), 0, 0, "the VM's (of vmx: the host's) UUID" },
    { "boot-id", "UUID", SENDERS, BOOT_ID, AT(boot_id), 0, 0,
      "the boot's id; \"keep\" takes that of the trace, or the same at every run" },
    { "drain", "S", SENDERS, NUMBER, AT(drain), 0, 1e9,
      "seconds to wait for acknowledgements after SIGINT or SIGTERM (5)" },
    { "summary", "FILE", SENDERS, TEXT, AT(summary), 0, 0, "write the summary to FILE, as JSON" },
    { "json", NULL, ANY, FLAG, AT(json), 0, 0, "print JSON instead of a table" },
    { "verbose", NULL, SENDERS, FLAG, AT(verbose), 0, 0, "report connections on stderr" },
    { "help", NULL, ANY, FLAG, 0, 0, 0, "print this" },
};
#define ROWS (sizeof(table) / sizeof(table[0]))

static void
print_help(const struct command_info *command)
{
    printf("usage: thinagent-sim %s%s%s [OPTION...]\n%s.\n\n", command->name, command->operand ? " " : "",
           command->operand ? command->operand : "", command->about);
    for (size_t i = 0; i < ROWS; i++) {
        char left[32];

        if (!(table[i].commands & command->bit))
            continue;
        snprintf(left, sizeof(left), "--%s%s%s", table[i].name, table[i].argument ? " " : "",
                 table[i].argument ? table[i].argument : "");
        printf("  %-20s %s\n", left, table[i].help);
    }
    if (command->more)
        printf("\n%s\n", command->more);
    printf("\nExit status: 0 everything sent is acknowledged; 1 error; 2 usage; 3 rejected by\n"
           "gimuxd; 4 not everything acknowledged.\n");
}

/* The setters return NULL, or what was expected. */

static const char *
set_number(const struct row *row, const char *text, void *at)
{
    static char expected[64];
    char *end;
    double value;

    errno = 0;
    value = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0' || !(value >= row->min && value <= row->max) ||
        (row->kind != NUMBER && value != (double)(uint64_t)value)) {
        snprintf(expected, sizeof(expected), "a%s number from %g to %g", row->kind == NUMBER ? "" : " whole",
                 row->min, row->max);
        return expected;
    }
    if (row->kind == NUMBER)
        *(double *)at = value;
    else if (row->kind == COUNT)
        *(uint32_t *)at = (uint32_t)value;
    else
        *(uint64_t *)at = (uint64_t)value;
    return NULL;
}

static const char *
set_mix(const char *text, double mix[CLASS_COUNT])
{
    static const char expected[] = "CLASS=WEIGHT,..., the classes being file, network, dns, process and "
                                   "authentication, and some weight above 0";
    double sum = 0;

    memset(mix, 0, CLASS_COUNT * sizeof(mix[0]));
    while (*text != '\0') {
        size_t len = strcspn(text, "=");
        char name[32] = "";
        enum event_class cls;
        char *end;

        if (len >= sizeof(name) || text[len] != '=')
            return expected;
        memcpy(name, text, len);
        cls = event_class_by_name(name);
        if (cls == CLASS_COUNT || cls == CLASS_POWER || cls == CLASS_LIFECYCLE)
            return expected;
        mix[cls] = strtod(text + len + 1, &end);
        if (end == text + len + 1 || (*end != ',' && *end != '\0') || !(mix[cls] >= 0 && mix[cls] < 1e9))
            return expected;
        sum += mix[cls];
        text = end + (*end == ',');
    }
    return sum > 0 ? NULL : expected;
}

static const char *
set_uuid(const struct row *row, const char *text, struct options *options)
{
    if (row->kind == BOOT_ID && strcmp(text, "keep") == 0) {
        options->keep_boot_id = true;
        return NULL;
    }
    if (!gr_uuid_parse(text, row->kind == BOOT_ID ? options->boot_id : options->vm))
        return row->kind == BOOT_ID ? "a UUID (8-4-4-4-12 hexadecimal digits) or \"keep\""
                                    : "a UUID (8-4-4-4-12 hexadecimal digits)";
    *(row->kind == BOOT_ID ? &options->has_boot_id : &options->has_vm) = true;
    return NULL;
}

static const char *
set_list(const char *text, struct options_list *list)
{
    if (list->count == OPTIONS_LIST_MAX)
        return "at most 64 of these";
    list->items[list->count++] = text;
    return NULL;
}

static const char *
set(const struct row *row, const char *text, struct options *options)
{
    void *at = (char *)options + row->offset;

    switch (row->kind) {
    case FLAG:
        *(bool *)at = true;
        return NULL;
    case TEXT:
        *(const char **)at = text;
        return NULL;
    case COUNT:
    case COUNT64:
    case NUMBER:
        return set_number(row, text, at);
    case UUID:
    case BOOT_ID:
        return set_uuid(row, text, options);
    case LIST:
        return set_list(text, at);
    case MIX:
        return set_mix(text, at);
    }
    return NULL;
}

static int
usage(const struct command_info *command, const char *problem)
{
    fprintf(stderr, "thinagent-sim %s: %s (see thinagent-sim %s --help)\n", command->name, problem,
            command->name);
    return EXIT_USAGE;
}

/* Checks what concerns more than one option. */
static int
check(const struct command_info *command, const struct options *options)
{
    int doors = !!options->connect + !!options->listen + !!options->device;

    if (command->operand && !options->file)
        return usage(command, "expected a file");
    if (command->bit == COMMAND_IMPORT && !options->output)
        return usage(command, "expected --output TRACE");
    if (!(command->bit & SENDERS))
        return -1;
    if (doors > 1)
        return usage(command, "expected only one of --connect, --listen and --device");
    if (doors == 0 && !options->record)
        return usage(command, "expected --connect, --listen, --device or --record");
    if (options->firecracker && !options->listen)
        return usage(command, "--firecracker goes with --listen");
    if (options->no_wait && options->rate == 0)
        return usage(command, "--no-wait needs --rate");
    if (command->bit == COMMAND_LIVE && options->watch.count == 0)
        return usage(command, "expected --watch PATH");
    if (command->bit == COMMAND_VMX && options->events_list.count == 0)
        return usage(command, "expected --event ACTION:UUID[:NAME]");
    if (command->bit == COMMAND_LOAD && options->has_vm && options->vms > 1)
        return usage(command, "--vm names one VM, but --vms asks for more");
    return -1;
}

static void
set_defaults(struct options *options)
{
    memset(options, 0, sizeof(*options));
    options->copies = 1;
    options->loops = 1;
    options->speed = 1;
    options->vms = 1;
    options->seed = 1;
    options->drain = 5;
    options->queue = QUEUE_SIZE;
    set_mix("file=70,network=15,dns=5,process=8,authentication=2", options->mix);
}

int
options_parse(const struct command_info *command, int argc, char **argv, struct options *options)
{
    struct option long_options[ROWS + 1] = { { NULL, 0, NULL, 0 } };
    int count = 0;
    int value;

    set_defaults(options);
    for (size_t i = 0; i < ROWS; i++)
        if (table[i].commands & command->bit)
            long_options[count++] =
                (struct option){ table[i].name, table[i].argument ? required_argument : no_argument, NULL,
                                 (int)i + 256 };
    optind = 1;
    opterr = 0;
    while ((value = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
        char problem[512];
        const char *expected;

        if (value < 256) {
            snprintf(problem, sizeof(problem), "%s %s", argv[optind - 1],
                     value == ':' ? "needs an argument" : "is not an option of this command");
            return usage(command, problem);
        }
        if (strcmp(table[value - 256].name, "help") == 0) {
            print_help(command);
            return EXIT_GOOD;
        }
        expected = set(&table[value - 256], optarg, options);
        if (expected) {
            snprintf(problem, sizeof(problem), "--%s %s: expected %s", table[value - 256].name, optarg,
                     expected);
            return usage(command, problem);
        }
    }
    if (command->operand && optind < argc)
        options->file = argv[optind++];
    if (optind < argc)
        return usage(command, "too many arguments");
    return check(command, options);
}
