/* chaos: holds gimuxd to its contract while things go wrong, counts every event, and prints one table.
 *
 * It runs the real gimuxd, with drivers and SVMs of its own that number, keep and compare all that they send
 * and are sent; see scenario.h for what is done, ledger.h for what is counted. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/chaos/chance.h"
#include "tests/chaos/scenario.h"

#define SCENARIOS_MAX   32
#define DEFAULT_SECONDS 20
#define STUCK_MS        60000
#define UNSETTLED_MAX   3 /* failed settlements, each after some time, after which a scenario ends */

struct options {
    const char *gimuxd;
    const char *scenario; /* a name, or how names begin; NULL: all */
    const char *json;
    uint64_t seed;
    unsigned rounds; /* 0: as the scenario says */
    int seconds;     /* of each scenario at most; 0: any */
    bool target;
    bool keep;
};

struct row {
    const struct scenario *scenario;
    struct tally tally;
    uint64_t rounds;
    uint64_t events;
    double seconds;
    const char *missing; /* what is not in this build, or NULL */
    bool broken;         /* the world could not be set up */
};

static void
usage(FILE *out)
{
    fprintf(out, "usage: chaos [options]\n\n"
                 "  --gimuxd FILE     the program [build/gimuxd]\n"
                 "  --seed N          of the random numbers [random; it is printed]\n"
                 "  --rounds N        of each scenario; \"target\": as many as the contract is held to\n"
                 "  --seconds N       for each scenario at most [20, unless --rounds is given]\n"
                 "  --scenario NAME   only those whose name begins with NAME\n"
                 "  --json FILE       the rows as JSON\n"
                 "  --keep            leave the files of a scenario that failed\n"
                 "  --list            list the scenarios, and end\n");
}

static bool
read_number(const char *text, uint64_t *out)
{
    char *end;

    errno = 0;
    *out = strtoull(text, &end, 0);
    if (errno == 0 && end != text && *end == '\0' && text[0] != '-')
        return true;
    fprintf(stderr, "chaos: %s: expected a number\n", text);
    return false;
}

static void
list(void)
{
    for (unsigned i = 0; scenarios[i]; i++)
        printf("%-16s %s; %u rounds, target %u\n", scenarios[i]->name, scenarios[i]->text,
               scenarios[i]->rounds, scenarios[i]->target);
}

enum { GIMUXD = 256, SEED, ROUNDS, SECONDS, SCENARIO, JSON, KEEP, LIST, HELP };

/* False if the option cannot be. */
static bool
take_option(struct options *options, int option, const char *value)
{
    uint64_t number = 0;

    if ((option == SEED || option == SECONDS || (option == ROUNDS && strcmp(value, "target") != 0)) &&
        !read_number(value, &number))
        return false;
    switch (option) {
    case GIMUXD:
        options->gimuxd = value;
        break;
    case SEED:
        options->seed = number;
        break;
    case ROUNDS:
        options->target = number == 0;
        options->rounds = (unsigned)number;
        break;
    case SECONDS:
        options->seconds = (int)number;
        break;
    case SCENARIO:
        options->scenario = value;
        break;
    case JSON:
        options->json = value;
        break;
    case KEEP:
        options->keep = true;
        break;
    default:
        usage(stderr);
        return false;
    }
    return true;
}

static bool
parse_options(int argc, char **argv, struct options *options)
{
    static const struct option longs[] = {
        { "gimuxd", required_argument, NULL, GIMUXD },
        { "seed", required_argument, NULL, SEED },
        { "rounds", required_argument, NULL, ROUNDS },
        { "seconds", required_argument, NULL, SECONDS },
        { "scenario", required_argument, NULL, SCENARIO },
        { "json", required_argument, NULL, JSON },
        { "keep", no_argument, NULL, KEEP },
        { "list", no_argument, NULL, LIST },
        { "help", no_argument, NULL, HELP },
        { NULL, 0, NULL, 0 },
    };
    int option;

    *options = (struct options){ .gimuxd = "build/gimuxd", .seconds = -1 };
    if (getrandom(&options->seed, sizeof(options->seed), 0) < 0)
        return false;
    options->seed >>= 16; /* short enough to be typed */
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (option == LIST || option == HELP) {
            option == LIST ? list() : usage(stdout);
            exit(0);
        }
        if (!take_option(options, option, optarg))
            return false;
    }
    if (options->seconds < 0)
        options->seconds = options->target || options->rounds > 0 ? 0 : DEFAULT_SECONDS;
    return true;
}

/* ---- one scenario ---- */

static void
show_progress(const struct row *row, const struct world *world, unsigned rounds, int64_t since)
{
    static int64_t shown;

    if (!isatty(STDERR_FILENO) || now_ms() - shown < 200)
        return;
    shown = now_ms();
    fprintf(stderr, "\r\033[K%-16s %llu of %u rounds, %llu events, %lld s", row->scenario->name,
            (unsigned long long)row->rounds, rounds, (unsigned long long)world->made,
            (long long)((now_ms() - since) / 1000));
}

static void
run_rounds(struct row *row, struct world *world, const struct options *options)
{
    const struct scenario *scenario = row->scenario;
    unsigned rounds = options->target   ? scenario->target
                      : options->rounds ? options->rounds
                                        : scenario->rounds;
    int64_t since = now_ms();
    int64_t moved = since;
    uint64_t settle_at = scenario->settle;
    unsigned unsettled = 0;

    while (row->rounds < rounds && !world_interrupted &&
           (options->seconds == 0 || now_ms() - since < options->seconds * INT64_C(1000))) {
        unsigned done = scenario->round(world);

        row->rounds += done;
        if (done > 0)
            moved = now_ms();
        if (now_ms() - moved > STUCK_MS) {
            tally_add(&world->tally, WRONG_UNACCOUNTED, 1, "no round was done for %d s", STUCK_MS / 1000);
            break;
        }
        if (row->rounds >= settle_at) {
            unsettled += !world_settle(world);
            if (unsettled == UNSETTLED_MAX)
                return;
            world_boot_a_vm(world);
            settle_at = row->rounds + scenario->settle;
        }
        show_progress(row, world, rounds, since);
    }
    world_settle(world);
}

/* So that a scenario does the same alone as among others. */
static uint64_t
seed_of(const struct scenario *scenario, uint64_t seed)
{
    for (const char *at = scenario->name; *at; at++)
        seed = chance_hash(seed, (uint64_t)*at);
    return seed;
}

static void
run_scenario(struct row *row, const struct options *options)
{
    static struct world world;
    struct world_conf conf = row->scenario->world;
    int64_t since = now_ms();

    chance_seed(seed_of(row->scenario, options->seed));
    if (row->scenario->prepare)
        row->scenario->prepare(&conf);
    row->broken = !world_open(&world, &conf, options->gimuxd);
    if (!row->broken)
        row->missing = row->scenario->probe ? row->scenario->probe(&world) : NULL;
    if (!row->broken && !row->missing)
        run_rounds(row, &world, options);
    row->events = world.made;
    world_close(&world, options->keep && !tally_is_clean(&world.tally));
    row->tally = world.tally;
    row->seconds = (double)(now_ms() - since) / 1000;
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
}

/* ---- results ---- */

static void
print_row(const struct row *row)
{
    const uint64_t *wrong = row->tally.wrong;

    if (row->broken || row->missing) {
        printf("%-72s %s: %s\n", row->scenario->text, "FAILED",
               row->broken ? "it could not be set up" : row->missing);
        return;
    }
    printf("%-72s %7llu %9llu %6llu %7llu %11llu %12llu %8.1f\n", row->scenario->text,
           (unsigned long long)row->rounds, (unsigned long long)row->events,
           (unsigned long long)wrong[WRONG_LOST], (unsigned long long)wrong[WRONG_DOUBLED],
           (unsigned long long)wrong[WRONG_UNACCOUNTED], (unsigned long long)wrong[WRONG_REORDERED],
           row->seconds);
    fflush(stdout);
}

static bool
write_json(const struct row *rows, unsigned count, const struct options *options)
{
    json_t *list = json_array();
    bool written;

    for (unsigned i = 0; i < count; i++) {
        const struct row *row = &rows[i];
        const uint64_t *wrong = row->tally.wrong;
        json_t *object = json_pack(
            "{ss ss sI sI sI sI sI sI sf sI}", "scenario", row->scenario->name, "text", row->scenario->text,
            "rounds", (json_int_t)row->rounds, "events", (json_int_t)row->events, "lost",
            (json_int_t)wrong[WRONG_LOST], "doubled", (json_int_t)wrong[WRONG_DOUBLED], "unaccounted",
            (json_int_t)wrong[WRONG_UNACCOUNTED], "reordered", (json_int_t)wrong[WRONG_REORDERED], "seconds",
            row->seconds, "seed", (json_int_t)options->seed);

        if (row->missing || row->broken)
            json_object_set_new(object, "missing",
                                json_string(row->missing ? row->missing : "it could not be set up"));
        json_array_append_new(list, object);
    }
    written = json_dump_file(list, options->json, JSON_INDENT(2)) == 0;
    json_decref(list);
    if (!written)
        fprintf(stderr, "chaos: %s: cannot write\n", options->json);
    return written;
}

static bool
is_failed(const struct row *row)
{
    return row->broken || row->missing || !tally_is_clean(&row->tally);
}

static void
on_signal(int number)
{
    (void)number;
    world_interrupted = true;
}

static bool
is_wanted(const struct scenario *scenario, const struct options *options)
{
    return !options->scenario || !options->scenario[0] ||
           strncmp(scenario->name, options->scenario, strlen(options->scenario)) == 0;
}

int
main(int argc, char **argv)
{
    static struct row rows[SCENARIOS_MAX];
    struct sigaction action = { .sa_handler = on_signal };
    struct options options;
    unsigned count = 0;
    bool failed = false;

    if (!parse_options(argc, argv, &options))
        return 2;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* what a killed gimuxd leaves behind is ours */
    printf("seed %llu\n%-72s %7s %9s %6s %7s %11s %12s %8s\n", (unsigned long long)options.seed, "scenario",
           "rounds", "events", "lost", "doubled", "unaccounted", "out of order", "seconds");
    fflush(stdout);
    for (unsigned i = 0; scenarios[i] && !world_interrupted; i++) {
        struct row *row = &rows[count];

        if (!is_wanted(scenarios[i], &options))
            continue;
        row->scenario = scenarios[i];
        count++;
        run_scenario(row, &options);
        print_row(row);
        failed = failed || is_failed(row);
    }
    if (count == 0)
        fprintf(stderr, "chaos: no scenario %s; see --list\n", options.scenario);
    if (options.json && !write_json(rows, count, &options))
        failed = true;
    if (world_interrupted)
        return 130;
    return failed || count == 0;
}
