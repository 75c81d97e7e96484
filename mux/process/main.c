/* gimuxd: the command line, and what it asks for: a check, a keeper, or that keeper's worker. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "mux/base/conf.h"
#include "mux/base/log.h"
#include "mux/base/user.h"
#include "mux/process/keeper.h"
#include "mux/process/worker.h"
#include "mux/store/store.h"
#include "mux/svm/svm.h"

#define DEFAULT_CONF "/etc/gimux/gimuxd.conf"

struct options {
    const char *conf;
    bool foreground;
    bool check;
    bool print;
    int control;  /* of a worker, to its keeper; else -1 */
    int takeover; /* to the worker that it is to relieve; else -1 */
};

/* ---- the command line ---- */

static void
usage(FILE *out)
{
    fprintf(
        out,
        "usage: gimuxd [-c FILE] [-f] [--check] [--print-config]\n\n"
        "Takes events of the drivers in this host's VMs to the security VMs that the configuration names.\n\n"
        "  -c, --config FILE   the configuration [" DEFAULT_CONF "]\n"
        "  -f, --foreground    stay in the foreground\n"
        "      --check         check the configuration, say what is wrong with it, and end\n"
        "      --print-config  print the configuration in force, defaults included, and end\n"
        "      --help-config   print every option of the configuration, and end\n"
        "      --version       print the version, and end\n\n"
        "SIGHUP reads the configuration again; SIGUSR2 puts the program that is installed now in this one's\n"
        "place; SIGTERM delivers what is queued, for a bounded time, and ends.\n");
}

static bool
parse_options(int argc, char **argv, struct options *options)
{
    enum { CHECK = 256, PRINT, HELP_CONFIG, VERSION, HELP, WORKER };
    static const struct option longs[] = {
        { "config", required_argument, NULL, 'c' },
        { "foreground", no_argument, NULL, 'f' },
        { "check", no_argument, NULL, CHECK },
        { "print-config", no_argument, NULL, PRINT },
        { "help-config", no_argument, NULL, HELP_CONFIG },
        { "version", no_argument, NULL, VERSION },
        { "help", no_argument, NULL, HELP },
        { "worker", required_argument, NULL, WORKER }, /* the keeper's */
        { NULL, 0, NULL, 0 },
    };
    char *end;
    int option;

    *options = (struct options){ .conf = DEFAULT_CONF, .control = -1, .takeover = -1 };
    while ((option = getopt_long(argc, argv, "c:fh", longs, NULL)) != -1) {
        switch (option) {
        case 'c':
            options->conf = optarg;
            break;
        case 'f':
            options->foreground = true;
            break;
        case WORKER:
            options->control = (int)strtol(optarg, &end, 10);
            if (*end == ',')
                options->takeover = (int)strtol(end + 1, NULL, 10);
            break;
        case CHECK:
            options->check = true;
            break;
        case PRINT:
            options->print = true;
            break;
        case HELP_CONFIG:
            conf_help(stdout);
            exit(0);
        case VERSION:
            puts("gimuxd " GIMUX_VERSION);
            exit(0);
        case 'h':
        case HELP:
            usage(stdout);
            exit(0);
        default:
            usage(stderr);
            return false;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "gimuxd: unexpected argument %s\n", argv[optind]);
        return false;
    }
    return true;
}

/* ---- what to do ---- */

static bool
check_storage(const struct conf *conf)
{
    char why[STORE_WHY_MAX];
    bool good;

    if (conf->storage.dir[0] == '\0')
        return true;
    good = store_check_dir(conf->storage.dir, why);
    if (why[0] != '\0')
        log_line(good ? LOG_LEVEL_WARNING : LOG_LEVEL_ERROR, NULL, "%s%s", why, user_as());
    return good;
}

/* Files are looked at as the user who will do so when gimuxd runs. */
static bool
check(const struct conf *conf)
{
    struct user user;
    bool good;

    log_setup(false, LOG_LEVEL_WARNING);
    if (!user_find(conf->user, &user) || !user_become(&user))
        return false;
    good = svm_check_conf(conf);
    return check_storage(conf) && good;
}

/* Until there is somebody to take it: it would end a gimuxd that is not up yet. */
static void
hold_hup(void)
{
    sigset_t hup;

    sigemptyset(&hup);
    sigaddset(&hup, SIGHUP);
    sigprocmask(SIG_BLOCK, &hup, NULL);
}

int
main(int argc, char **argv)
{
    struct options options;
    struct conf *conf;
    char absolute[CONF_PATH_MAX * 16];
    int status = 0;

    if (!parse_options(argc, argv, &options))
        return 2;
    if (!options.check && !options.print)
        hold_hup();
    conf = conf_load(realpath(options.conf, absolute) ? absolute : options.conf, stderr);
    if (!conf)
        return 1;
    if (options.print)
        conf_print(conf, stdout);
    if (options.check)
        status = check(conf) ? 0 : 1;
    if (options.check || options.print) {
        conf_free(conf);
        return status;
    }
    if (options.control >= 0)
        return worker_run(conf, options.control, options.takeover, options.foreground);
    status = keeper_run(conf, argv[0], options.foreground);
    conf_free(conf);
    return status;
}
