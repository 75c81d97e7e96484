/* bench: what gimuxd costs for each event that it delivers, beside brokers that do the same fan-out and
 * beside the limit, in the same run. docs/performance.md says what is measured, and how. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/bench/connect.h"
#include "tests/bench/report.h"
#include "tests/bench/run.h"
#include "tests/bench/scenario.h"
#include "tests/bench/wire.h"

#define ROWS_MAX   256
#define WARM_PART  0.25 /* of a stretch */
#define NAMES_ROOM 512

struct options {
    char scenarios[NAMES_ROOM]; /* each between spaces; empty: all */
    char systems[NAMES_ROOM];
    unsigned repetitions;
    double seconds;
    unsigned ack_us;
    const char *gimuxd;
    const char *programs;
    const char *json;
    const char *wrap;
    bool quick;
    bool verbose;
    bool list;
};

struct bench {
    struct options options;
    struct row rows[ROWS_MAX];
    unsigned count;
    unsigned done;
    unsigned failed;
};

static void
usage(FILE *out)
{
    fprintf(out, "usage: bench [options]\n\n"
                 "  --scenario NAME   only this one; repeatable\n"
                 "  --system NAME     only this one; repeatable (ratios are to the limit)\n"
                 "  --repetitions N   of each, interleaved [5; 1 with --quick]\n"
                 "  --seconds S       of each measured stretch [1.5; 0.5 with --quick]\n"
                 "  --quick           within two minutes\n"
                 "  --ack-us N        SVMs hold back acknowledgements for N us, 256 events at most [0: one "
                 "for each read]\n"
                 "  --gimuxd FILE     the program [build/gimuxd]\n"
                 "  --programs DIR    where relay and zmq_proxy are [build/bench]\n"
                 "  --json FILE       the rows as JSON\n"
                 "  --wrap WORDS      put WORDS before the command of the system\n"
                 "  --verbose         print the process id of each system\n"
                 "  --list            list the scenarios and systems, and end\n\n"
                 "To see where gimuxd spends its time:\n\n"
                 "  build/bench/bench --scenario batch --system gimuxd --repetitions 1 --seconds 10 \\\n"
                 "      --wrap 'perf record -g -o build/perf.data' && perf report -i build/perf.data\n"
                 "  build/bench/bench --scenario batch --system gimuxd --repetitions 1 --seconds 5 \\\n"
                 "      --wrap 'valgrind --tool=callgrind --trace-children=yes "
                 "--callgrind-out-file=build/callgrind.%%p'\n");
}

static void
list(void)
{
    printf("scenarios:\n");
    for (const struct scenario *scenario = scenarios; scenario->name; scenario++)
        printf("  %-10s %s; %u VMs, %u SVMs\n", scenario->name, scenario->text, scenario->producers,
               scenario->receivers);
    printf("systems:\n");
    for (unsigned i = 0; systems[i]; i++)
        printf("  %-15s %s\n", systems[i]->name, systems[i]->text);
}

/* ---- options ---- */

static bool
add_name(char names[NAMES_ROOM], const char *name, bool known)
{
    size_t len = strlen(names);

    if (known && len + strlen(name) + 3 < NAMES_ROOM) {
        snprintf(names + len, NAMES_ROOM - len, "%s%s ", len ? "" : " ", name);
        return true;
    }
    fprintf(stderr, "bench: %s: expected one of --list\n", name);
    return false;
}

static bool
is_scenario(const char *name)
{
    for (const struct scenario *scenario = scenarios; scenario->name; scenario++)
        if (strcmp(scenario->name, name) == 0)
            return true;
    return false;
}

static bool
is_system(const char *name)
{
    for (unsigned i = 0; systems[i]; i++)
        if (strcmp(systems[i]->name, name) == 0)
            return true;
    return false;
}

static bool
read_number(const char *text, double least, double most, double *out)
{
    char *end;

    *out = strtod(text, &end);
    if (end != text && *end == '\0' && *out >= least && *out <= most)
        return true;
    fprintf(stderr, "bench: %s: expected a number from %g to %g\n", text, least, most);
    return false;
}

static bool
read_option(struct options *options, int option, const char *value)
{
    double number = 0;

    switch (option) {
    case 's':
        return add_name(options->scenarios, value, is_scenario(value));
    case 'y':
        return add_name(options->systems, value, is_system(value));
    case 'r':
        options->repetitions = read_number(value, 1, REPORT_REPETITIONS, &number) ? (unsigned)number : 0;
        return options->repetitions > 0;
    case 't':
        return read_number(value, 0.05, 3600, &options->seconds);
    case 'a':
        if (!read_number(value, 0, 1000000, &number))
            return false;
        options->ack_us = (unsigned)number;
        return true;
    case 'g':
        options->gimuxd = value;
        return true;
    case 'p':
        options->programs = value;
        return true;
    case 'j':
        options->json = value;
        return true;
    case 'w':
        options->wrap = value;
        return true;
    case 'q':
        return options->quick = true;
    case 'v':
        return options->verbose = true;
    case 'l':
        return options->list = true;
    case 'h':
        usage(stdout);
        exit(0);
    default:
        return false;
    }
}

static bool
read_options(int argc, char **argv, struct options *options)
{
    static const struct option table[] = {
        { "scenario", required_argument, NULL, 's' },
        { "system", required_argument, NULL, 'y' },
        { "repetitions", required_argument, NULL, 'r' },
        { "seconds", required_argument, NULL, 't' },
        { "quick", no_argument, NULL, 'q' },
        { "ack-us", required_argument, NULL, 'a' },
        { "gimuxd", required_argument, NULL, 'g' },
        { "programs", required_argument, NULL, 'p' },
        { "json", required_argument, NULL, 'j' },
        { "wrap", required_argument, NULL, 'w' },
        { "verbose", no_argument, NULL, 'v' },
        { "list", no_argument, NULL, 'l' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    int option;

    *options = (struct options){ .gimuxd = "build/gimuxd", .programs = "build/bench" };
    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1)
        if (!read_option(options, option, optarg))
            return false;
    if (options->repetitions == 0)
        options->repetitions = options->quick ? 1 : 5;
    if (options->seconds == 0)
        options->seconds = options->quick ? 0.5 : 1.5;
    if (optind == argc)
        return true;
    fprintf(stderr, "bench: %s: expected no further arguments\n", argv[optind]);
    return false;
}

/* ---- what is to be done ---- */

static bool
is_wanted(const char *names, const char *name)
{
    char spaced[64];

    snprintf(spaced, sizeof(spaced), " %s ", name);
    return !names[0] || strstr(names, spaced);
}

static void
plan(struct bench *bench)
{
    const struct options *options = &bench->options;

    for (unsigned i = 0; systems[i]; i++)
        if (is_wanted(options->systems, systems[i]->name) && !system_is_there(systems[i], options->programs))
            printf("%s: left out: %s is not installed (make bench-deps)\n", systems[i]->name,
                   systems[i]->program + (systems[i]->program[0] == '@'));
    for (const struct scenario *scenario = scenarios; scenario->name; scenario++)
        for (unsigned i = 0; systems[i] && is_wanted(options->scenarios, scenario->name); i++)
            if (is_wanted(options->systems, systems[i]->name) && scenario_has(scenario, systems[i]) &&
                system_is_there(systems[i], options->programs) && bench->count < ROWS_MAX)
                bench->rows[bench->count++] =
                    (struct row){ .scenario = scenario, .system = systems[i], .lossless = true };
}

/* ---- doing it ---- */

static void
tell_progress(struct bench *bench, const struct row *row, unsigned repetition)
{
    unsigned all = bench->count * bench->options.repetitions;

    if (row && isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K%3u%%  repetition %u of %u: %s, %s", bench->done * 100 / all, repetition + 1,
                bench->options.repetitions, row->scenario->name, row->system->name);
    else if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
    bench->done++;
}

static void
do_row(struct bench *bench, struct row *row, struct run_result *limit, bool *has_limit)
{
    const struct scenario *scenario = row->scenario;
    const struct options *options = &bench->options;
    struct run_conf conf = { .system = row->system,
                             .producers = scenario->producers,
                             .receivers = scenario->receivers,
                             .burst = scenario->burst,
                             .rate = scenario->rate,
                             .drivers = scenario->drivers,
                             .size = scenario->size,
                             .warm = options->seconds * WARM_PART,
                             .seconds = options->seconds,
                             .ack_us = options->ack_us,
                             .calm = scenario->kind == SCENARIO_ASK,
                             .verbose = options->verbose,
                             .wrap = options->wrap,
                             .gimuxd = options->gimuxd,
                             .programs = options->programs };
    struct connect_result connected;
    struct ask_result asked;
    struct run_result result;
    struct run run;
    bool good;

    if (scenario->kind == SCENARIO_ASK) {
        good = ask_measure(&conf, scenario->path, &asked);
        if (good)
            report_ask(row, &asked);
    } else if (scenario->kind != SCENARIO_FLOW) {
        good = scenario->kind == SCENARIO_IDLE ? connect_idle(&conf, &connected)
                                               : connect_storm(&conf, &connected);
        if (good)
            report_connect(row, &connected);
    } else {
        good = run_open(&run, &conf) && run_join(&run, conf.producers) && run_measure(&run, &result);
        run_close(&run);
        if (good && row->system == &system_limit) {
            *limit = result;
            *has_limit = true;
        }
        if (good)
            report_flow(row, &result, *has_limit ? limit : NULL);
    }
    row->failed += !good;
    bench->failed += !good;
}

static void
do_all(struct bench *bench)
{
    for (unsigned repetition = 0; repetition < bench->options.repetitions; repetition++) {
        const struct scenario *scenario = NULL;
        struct run_result limit;
        bool has_limit = false;

        for (unsigned i = 0; i < bench->count && !run_interrupted; i++) {
            has_limit = has_limit && bench->rows[i].scenario == scenario;
            scenario = bench->rows[i].scenario;
            tell_progress(bench, &bench->rows[i], repetition);
            do_row(bench, &bench->rows[i], &limit, &has_limit);
        }
    }
    tell_progress(bench, NULL, 0);
}

static void
on_signal(int number)
{
    (void)number;
    run_interrupted = true;
}

int
main(int argc, char **argv)
{
    static struct bench bench;
    struct rlimit files;
    uint64_t began = wire_clock();

    if (!read_options(argc, argv, &bench.options)) {
        usage(stderr);
        return 2;
    }
    if (bench.options.list) {
        list();
        return 0;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* what a killed system leaves behind is ours to end */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    plan(&bench);
    do_all(&bench);
    if (run_interrupted) {
        fprintf(stderr, "bench: interrupted\n");
        return 1;
    }
    report_table(bench.rows, bench.count);
    printf("\n%u repetitions of %.1f s, medians; %.0f s in all\n", bench.options.repetitions,
           bench.options.seconds, (double)(wire_clock() - began) / 1e9);
    if (bench.options.json && !report_json(bench.rows, bench.count, bench.options.json))
        return 1;
    return bench.failed > 0 || bench.count == 0;
}
