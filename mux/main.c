/* gimuxd: start-up in order, tear-down in reverse. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "mux/admin.h"
#include "mux/conf.h"
#include "mux/flood.h"
#include "mux/guest.h"
#include "mux/listen.h"
#include "mux/log.h"
#include "mux/loop.h"
#include "mux/route.h"
#include "mux/stats.h"
#include "mux/svm.h"

#define DEFAULT_CONF    "/etc/gimux/gimuxd.conf"
#define DRAIN_STEP_MS   20
#define LOG_INTERVAL_MS 10000

struct options {
    const char *conf;
    bool foreground;
    bool check;
    bool print;
};

struct daemon {
    struct loop *loop;
    struct conf *conf;
    struct route route;
    struct guest_list guests;
    struct svm_list svms;
    struct door_list doors;
    struct admin *admin;
    struct loop_timer *drain;
    struct loop_timer *flood;
    struct loop_timer *log;
    uint64_t flood_seen;          /* loop_now of the last look for floods */
    uint64_t drain_until;         /* loop_now; 0: not draining */
    char pid_file[CONF_PATH_MAX]; /* that we have written; empty: none */
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
        "SIGHUP reads the configuration again; SIGTERM delivers what is queued, for a bounded time, and "
        "ends.\n");
}

static bool
parse_options(int argc, char **argv, struct options *options)
{
    enum { CHECK = 256, PRINT, HELP_CONFIG, VERSION, HELP };
    static const struct option longs[] = {
        { "config", required_argument, NULL, 'c' },
        { "foreground", no_argument, NULL, 'f' },
        { "check", no_argument, NULL, CHECK },
        { "print-config", no_argument, NULL, PRINT },
        { "help-config", no_argument, NULL, HELP_CONFIG },
        { "version", no_argument, NULL, VERSION },
        { "help", no_argument, NULL, HELP },
        { NULL, 0, NULL, 0 },
    };
    int option;

    *options = (struct options){ .conf = DEFAULT_CONF };
    while ((option = getopt_long(argc, argv, "c:fh", longs, NULL)) != -1) {
        switch (option) {
        case 'c':
            options->conf = optarg;
            break;
        case 'f':
            options->foreground = true;
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

/* ---- reload ---- */

/* conf_load writes to a stream; the log wants lines. */
static struct conf *
load_logged(const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *errors = open_memstream(&text, &size);
    struct conf *conf;

    if (!errors)
        return NULL;
    conf = conf_load(path, errors);
    fclose(errors);
    for (char *line = text, *end; line && (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        log_error(NULL, "%s", line);
    }
    free(text);
    return conf;
}

static void
on_reload(void *arg)
{
    struct daemon *daemon = arg;
    struct conf *conf = load_logged(daemon->conf->path);
    struct conf *old = daemon->conf;

    if (daemon->drain_until)
        log_warning(NULL, "reload: not while ending");
    if (!conf || daemon->drain_until || !svm_list_set_conf(&daemon->svms, conf)) {
        stats.reload_failures_total++;
        log_error(NULL, "reload: the old configuration stays in force");
        conf_free(conf);
        return;
    }
    daemon->conf = conf;
    log_setup(conf->syslog != 0, conf->log_level);
    daemon->guests.conf = conf;
    route_set_conf(&daemon->route, conf);
    door_list_set_conf(&daemon->doors, conf);
    conf_free(old);
    stats.reloads_total++;
    log_info(NULL, "reload: %s is in force, memory bound %llu bytes", conf->path,
             (unsigned long long)route_memory_bound(conf));
}

/* ---- at intervals ---- */

static void
on_flood(void *arg)
{
    struct daemon *daemon = arg;
    uint64_t now = loop_now();

    if (now > daemon->flood_seen)
        flood_look(&daemon->route.table, &daemon->conf->limits, now - daemon->flood_seen);
    daemon->flood_seen = now;
    loop_timer_start(daemon->flood, daemon->conf->limits.flood_interval);
}

static void
on_log(void *arg)
{
    struct daemon *daemon = arg;

    log_next_interval();
    loop_timer_start(daemon->log, LOG_INTERVAL_MS);
}

/* ---- the end ---- */

static void
say_undelivered(const struct daemon *daemon)
{
    const struct svm *svm = NULL;

    while ((svm = svm_next(&daemon->svms, svm))) {
        uint64_t pending = route_pending(&daemon->route, svm_sink(svm));

        if (pending > 0)
            log_warning((&(struct log_who){ .solution = svm_sink(svm)->conf->name }),
                        "ending with %llu events not delivered; drivers keep those that they still hold",
                        (unsigned long long)pending);
    }
}

static void
on_drain(void *arg)
{
    struct daemon *daemon = arg;

    if (route_pending(&daemon->route, NULL) > 0 && loop_now() < daemon->drain_until) {
        loop_timer_start(daemon->drain, DRAIN_STEP_MS);
        return;
    }
    say_undelivered(daemon);
    route_finish(&daemon->route);
    guest_list_close(&daemon->guests, "gimuxd ends");
    svm_list_close(&daemon->svms, "gimuxd ends");
    loop_stop(daemon->loop);
}

static void
on_terminate(void *arg)
{
    struct daemon *daemon = arg;

    if (daemon->drain_until)
        return;
    log_info(NULL, "ending: waiting at most %u ms for SVMs", daemon->conf->drain);
    daemon->drain_until = loop_now() + daemon->conf->drain;
    door_list_close(&daemon->doors);
    guest_list_pause(&daemon->guests);
    loop_timer_start(daemon->drain, 0);
}

/* ---- the beginning ---- */

/* Every connection is a descriptor. */
static void
raise_file_limit(const struct conf *conf)
{
    struct rlimit limit;
    rlim_t wanted = conf->limits.connections + conf->vm_count * 2 + 64;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = wanted;
    if (limit.rlim_max < wanted)
        limit.rlim_max = wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        log_warning(NULL, "cannot have %llu descriptors: %s", (unsigned long long)wanted, strerror(errno));
}

static bool
write_pid_file(const char *path)
{
    char temporary[CONF_PATH_MAX + 8];
    FILE *file;

    if (path[0] == '\0')
        return true;
    snprintf(temporary, sizeof(temporary), "%s.new", path);
    file = fopen(temporary, "we");
    if (!file || fprintf(file, "%d\n", (int)getpid()) < 0 || fclose(file) != 0 ||
        rename(temporary, path) != 0) {
        log_error(NULL, "pid file %s: %s", path, strerror(errno));
        return false;
    }
    return true;
}

/* Leaves the terminal. The parent ends when the child has said through the pipe that it is up (or has died).
 */
static int
become_daemon(void)
{
    int ready[2];
    char byte;

    if (pipe2(ready, O_CLOEXEC) != 0)
        return -1;
    switch (fork()) {
    case -1:
        return -1;
    case 0:
        close(ready[0]);
        setsid();
        if (chdir("/") != 0)
            return -1;
        return ready[1];
    default:
        close(ready[1]);
        _exit(read(ready[0], &byte, 1) == 1 ? 0 : 1);
    }
}

static void
leave_terminal(int ready)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        close(null);
    }
    if (write(ready, "r", 1) != 1)
        log_debug(NULL, "nobody waits for us to be up");
    close(ready);
}

static bool
start(struct daemon *daemon)
{
    struct admin_view view = { &daemon->route, &daemon->svms, &daemon->guests };

    daemon->loop = loop_new();
    if (!daemon->loop)
        return false;
    route_init(&daemon->route, daemon->loop, daemon->conf, &guest_route_ops);
    svm_list_init(&daemon->svms, daemon->loop, &daemon->route, daemon->conf);
    door_list_init(&daemon->doors, daemon->loop, &daemon->guests);
    daemon->drain = loop_timer_new(daemon->loop, on_drain, daemon);
    daemon->flood = loop_timer_new(daemon->loop, on_flood, daemon);
    daemon->log = loop_timer_new(daemon->loop, on_log, daemon);
    signal(SIGPIPE, SIG_IGN);
    if (!daemon->drain || !daemon->flood || !daemon->log ||
        !guest_list_init(&daemon->guests, daemon->loop, &daemon->route, daemon->conf) ||
        !loop_signal(daemon->loop, SIGTERM, on_terminate, daemon) ||
        !loop_signal(daemon->loop, SIGINT, on_terminate, daemon) ||
        !loop_signal(daemon->loop, SIGHUP, on_reload, daemon))
        return false;
    if (!route_recover(&daemon->route) || !svm_list_set_conf(&daemon->svms, daemon->conf))
        return false;
    route_recovered(&daemon->route);
    route_set_conf(&daemon->route, daemon->conf);
    if (!door_list_set_conf(&daemon->doors, daemon->conf))
        return false;
    daemon->admin = admin_new(daemon->loop, &daemon->conf->admin, &view);
    if (!daemon->admin || !write_pid_file(daemon->conf->pid_file))
        return false;
    memcpy(daemon->pid_file, daemon->conf->pid_file, sizeof(daemon->pid_file));
    on_flood(daemon);
    on_log(daemon);
    return true;
}

static void
stop(struct daemon *daemon)
{
    admin_free(daemon->admin);
    route_finish(&daemon->route);
    door_list_close(&daemon->doors);
    guest_list_close(&daemon->guests, "gimuxd ends");
    svm_list_close(&daemon->svms, "gimuxd ends");
    loop_flush(daemon->loop);
    guest_list_fini(&daemon->guests);
    route_fini(&daemon->route);
    loop_timer_free(daemon->drain);
    loop_timer_free(daemon->flood);
    loop_timer_free(daemon->log);
    loop_free(daemon->loop);
    if (daemon->pid_file[0])
        unlink(daemon->pid_file);
    conf_free(daemon->conf);
    log_next_interval();
}

int
main(int argc, char **argv)
{
    struct options options;
    struct daemon daemon = { 0 };
    char absolute[CONF_PATH_MAX * 16];
    int ready = -1;
    bool started;

    if (!parse_options(argc, argv, &options))
        return 2;
    daemon.conf = conf_load(realpath(options.conf, absolute) ? absolute : options.conf, stderr);
    if (!daemon.conf)
        return 1;
    if (options.print)
        conf_print(daemon.conf, stdout);
    if (options.check || options.print) {
        started = !options.check || svm_check_conf(daemon.conf);
        conf_free(daemon.conf);
        return started ? 0 : 1;
    }
    if (!options.foreground && (ready = become_daemon()) < 0) {
        perror("gimuxd: cannot become a daemon");
        return 1;
    }
    log_setup(daemon.conf->syslog != 0, daemon.conf->log_level);
    raise_file_limit(daemon.conf);
    started = start(&daemon);
    if (started) {
        log_info(NULL, "gimuxd %s: up with %u solutions, %u VM sections; memory bound %llu bytes",
                 GIMUX_VERSION, daemon.conf->solution_count, daemon.conf->vm_count,
                 (unsigned long long)route_memory_bound(daemon.conf));
        if (ready >= 0)
            leave_terminal(ready);
        loop_run(daemon.loop);
        log_info(NULL, "ended");
    }
    stop(&daemon);
    return started ? 0 : 1;
}
