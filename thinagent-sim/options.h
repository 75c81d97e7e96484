/* The options of all commands: one table from which the parser and --help derive. */
#ifndef SIM_OPTIONS_H
#define SIM_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/event_class.h"
#include "proto/guest_record.h"

#define OPTIONS_LIST_MAX 64 /* how often --watch or --event may be given */

/* Exit statuses of thinagent-sim. */
enum exit_status {
    EXIT_GOOD = 0,
    EXIT_ERROR = 1,    /* a file cannot be read or written, or a system call failed; stderr says which */
    EXIT_USAGE = 2,    /* the command line is wrong */
    EXIT_REJECTED = 3, /* gimuxd rejected a driver for good */
    EXIT_UNACKED = 4,  /* not everything was acknowledged */
};

/* The commands as bits, for the table's column of the commands that take an option. */
enum command {
    COMMAND_IMPORT = 1 << 0,
    COMMAND_REPLAY = 1 << 1,
    COMMAND_LOAD = 1 << 2,
    COMMAND_LIVE = 1 << 3,
    COMMAND_VMX = 1 << 4,
    COMMAND_INFO = 1 << 5,
};

struct options_list {
    const char *items[OPTIONS_LIST_MAX];
    uint32_t count;
};

/* What the command line said; texts point into argv. Defaults are in options.c. */
struct options {
    const char *file; /* the operand: a trace or an event log; NULL for commands without one */

    const char *connect; /* how to reach gimuxd: at most one of the three */
    const char *listen;
    const char *device;
    bool firecracker;   /* with listen: expect CONNECT first */
    const char *record; /* trace to write what is sent to */
    double drain;       /* seconds to wait for acknowledgements after a signal */

    const char *summary; /* file for the JSON summary */
    bool json;           /* JSON on stdout instead of the table */
    bool verbose;

    bool has_vm;
    uint8_t vm[GR_UUID_SIZE];
    bool has_boot_id;
    bool keep_boot_id;
    uint8_t boot_id[GR_UUID_SIZE];

    const char *output; /* import: the trace to write */

    uint32_t copies; /* replay */
    uint32_t loops;
    double speed;
    bool fast;

    uint32_t vms;    /* load */
    double rate;     /* events per second and VM, 0 as many as are taken */
    uint64_t events; /* per VM, 0 no bound */
    double seconds;  /* 0 no bound; also of live */
    double mix[CLASS_COUNT];
    bool linux_driver;
    bool no_wait;
    uint64_t seed;
    uint64_t queue; /* bytes, of sources that do not wait */

    struct options_list watch;       /* live */
    struct options_list events_list; /* vmx: ACTION:UUID[:NAME] */
};

struct command_info {
    const char *name;
    enum command bit;
    const char *operand; /* NULL if it takes none */
    const char *about;   /* one line */
    const char *more;    /* what --help says below the options */
    int (*run)(const struct options *options);
};

/* Reads argv[1..] of a command (argv[0] is its name). Returns -1, or the status to exit with: EXIT_GOOD after
 * --help, EXIT_USAGE after a mistake, which has been reported on stderr. */
int options_parse(const struct command_info *command, int argc, char **argv, struct options *options);

#endif
