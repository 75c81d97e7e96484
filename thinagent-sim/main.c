/* thinagent-sim: a thin agent that imports, replays, makes up, watches and sends what a guest does. */
#include <stdio.h>
#include <string.h>

#include "thinagent-sim/live/live.h"
#include "thinagent-sim/made/load.h"
#include "thinagent-sim/made/vmx.h"
#include "thinagent-sim/options.h"
#include "thinagent-sim/trace/import.h"
#include "thinagent-sim/trace/info.h"
#include "thinagent-sim/trace/replay.h"

static const struct command_info commands[] = {
    { "import", COMMAND_IMPORT, "FILE", "Makes a trace of a Windows event log",
      "FILE has one JSON event a line (Sysmon, Security), plain or gzip. Every Hostname becomes a VM with "
      "two\n"
      "drivers: vsepflt for files, processes and logons, vnetwfp for connections and names.",
      import_run },
    { "replay", COMMAND_REPLAY, "TRACE", "Sends a trace again",
      "Copy number 0 has the trace's own VM UUIDs, further copies have UUIDs derived from them.",
      replay_run },
    { "load", COMMAND_LOAD, NULL, "Makes up VMs and what happens in them", NULL, load_run },
    { "live", COMMAND_LIVE, NULL, "Watches this Linux machine (fanotify, as root) and sends what it sees",
      "Prints \"watching PATH\" on stderr once no change is missed.", live_run },
    { "vmx", COMMAND_VMX, NULL, "Sends events of VMs' lives, as the host does", NULL, vmx_run },
    { "info", COMMAND_INFO, "TRACE", "Says what is in a trace", NULL, info_run },
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void
print_usage(FILE *out)
{
    fputs("usage: thinagent-sim COMMAND ...\n\n", out);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].about);
    fputs("\nSee \"thinagent-sim COMMAND --help\".\n", out);
}

int
main(int argc, char **argv)
{
    struct options options;
    int status;

    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)) {
        print_usage(stdout);
        return EXIT_GOOD;
    }
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        puts("thinagent-sim " GIMUX_VERSION);
        return EXIT_GOOD;
    }
    for (size_t i = 0; argc > 1 && i < COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        status = options_parse(&commands[i], argc - 1, argv + 1, &options);
        return status >= 0 ? status : commands[i].run(&options);
    }
    print_usage(stderr);
    return EXIT_USAGE;
}
