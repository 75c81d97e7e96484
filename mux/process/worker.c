/* The worker: everything that gimuxd does, from start-up in order to tear-down in reverse. */
#include "mux/process/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "mux/base/log.h"
#include "mux/base/stats.h"
#include "mux/base/user.h"
#include "mux/guest/door.h"
#include "mux/guest/guest.h"
#include "mux/net/listen.h"
#include "mux/net/loop.h"
#include "mux/operator/bound.h"
#include "mux/operator/http.h"
#include "mux/process/keeper.h"
#include "mux/process/sandbox.h"
#include "mux/process/terminal.h"
#include "mux/process/upgrade.h"
#include "mux/route/route.h"
#include "mux/svm/svm.h"

#define DRAIN_STEP_MS   20
#define LOG_INTERVAL_MS 10000

struct worker {
    struct loop *loop;
    struct conf *conf;
    struct user user;
    struct route *route;
    struct guest_list *guests;
    struct svm_list *svms;
    struct door_list *doors;
    struct http *http;
    bool http_borrowed; /* its socket is that of the worker that this one relieves, which may go on with it */
    struct loop_timer *drain;
    struct loop_timer *flood;
    struct loop_timer *log;
    uint64_t flood_seen;  /* loop_now of the last look for floods */
    uint64_t drain_until; /* loop_now; 0: not draining */
    int control;          /* to the keeper */
    struct loop_watch *control_watch;
    pid_t keeper;
    struct upgrade upgrade;
};

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
    struct worker *worker = arg;
    struct conf *conf = load_logged(worker->conf->path);
    struct conf *old = worker->conf;

    upgrade_abort(&worker->upgrade, "SIGHUP has come");
    if (worker->drain_until)
        log_warning(NULL, "reload: not while ending");
    if (!conf || worker->drain_until || !svm_list_set_conf(worker->svms, conf)) {
        stats.reload_failures_total++;
        log_error(NULL, "reload: the old configuration stays in force%s", user_as());
        conf_free(conf);
        return;
    }
    if (strcmp(conf->user, old->user) != 0 || conf->sandbox != old->sandbox ||
        !address_equal(&conf->admin, &old->admin))
        log_warning(NULL, "reload: user, sandbox and admin count when gimuxd is started or upgraded");
    worker->conf = conf;
    log_setup(conf->syslog != 0, conf->log_level);
    guest_list_set_conf(worker->guests, conf);
    route_set_conf(worker->route, conf);
    door_list_set_conf(worker->doors, conf);
    http_set_conf(worker->http, conf);
    conf_free(old);
    stats.reloads_total++;
    log_info(NULL, "reload: %s is in force, memory bound %llu bytes", conf->path,
             (unsigned long long)memory_bound(conf));
}

/* ---- at intervals ---- */

static void
on_flood(void *arg)
{
    struct worker *worker = arg;
    uint64_t now = loop_now();

    if (now > worker->flood_seen)
        route_look_for_floods(worker->route, now - worker->flood_seen);
    worker->flood_seen = now;
    loop_timer_start(worker->flood, worker->conf->limits.flood_interval);
}

static void
on_log(void *arg)
{
    struct worker *worker = arg;

    log_next_interval();
    loop_timer_start(worker->log, LOG_INTERVAL_MS);
}

/* ---- the end ---- */

static void
say_undelivered(const struct worker *worker)
{
    uint64_t pending[VMLOG_SINKS];
    struct svm_snapshot svm;

    route_pending_by_slot(worker->route, pending);
    for (unsigned place = 0; svm_snapshot(worker->svms, place, &svm); place++) {
        if (pending[svm.slot] > 0)
            log_warning((&(struct log_who){ .solution = svm.solution }),
                        "ending with %llu events not delivered; %s", (unsigned long long)pending[svm.slot],
                        svm.durability == CONF_DELIVERED ? "drivers keep those that they still hold"
                                                         : "they stay in files");
    }
}

static void
on_drain(void *arg)
{
    struct worker *worker = arg;

    if (route_pending(worker->route, NULL) > 0 && loop_now() < worker->drain_until) {
        loop_timer_start(worker->drain, DRAIN_STEP_MS);
        return;
    }
    say_undelivered(worker);
    route_finish(worker->route);
    guest_list_close(worker->guests, "gimuxd ends");
    svm_list_close(worker->svms, "gimuxd ends");
    loop_stop(worker->loop);
}

static void
on_terminate(void *arg)
{
    struct worker *worker = arg;

    if (worker->drain_until)
        return;
    upgrade_abort(&worker->upgrade, "gimuxd is ending");
    log_info(NULL, "ending: waiting at most %u ms for SVMs", worker->conf->drain);
    worker->drain_until = loop_now() + worker->conf->drain;
    door_list_close(worker->doors);
    guest_list_pause(worker->guests);
    loop_timer_start(worker->drain, 0);
}

/* ---- the beginning ---- */

/* Every connection is a descriptor, and the segment that a VM log is written to. */
static void
raise_file_limit(const struct conf *conf)
{
    struct rlimit limit;
    rlim_t wanted = conf->limits.connections + conf->vm_count * 2 + 64;

    if (conf->storage.dir[0] != '\0')
        wanted += conf->limits.vms;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = wanted;
    if (limit.rlim_max < wanted)
        limit.rlim_max = wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        log_warning(NULL, "cannot have %llu descriptors: %s", (unsigned long long)wanted, strerror(errno));
}

/* Everything ends with the keeper, however that ends. Where the kernel cannot see to that, on_keeper does. To
 * be done again after every change of user, which unties it. */
static bool
tie_to_keeper(const struct worker *worker)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        log_debug(NULL, "the kernel does not tie us to the keeper: %s", strerror(errno));
    return getppid() == worker->keeper;
}

static void
on_keeper(void *arg, unsigned events)
{
    struct worker *worker = arg;
    int fd;
    int word = keeper_receive(worker->control, &fd);

    (void)events;
    if (word == KEEPER_HAND_OVER && fd >= 0 && worker->drain_until)
        upgrade_refuse(fd, "gimuxd is ending");
    else if (word == KEEPER_HAND_OVER && fd >= 0)
        upgrade_begin(&worker->upgrade, fd);
    else if (fd >= 0)
        close(fd);
    if (word < 0) { /* where the kernel does not end us for it */
        log_error(NULL, "the keeper is gone");
        _exit(1);
    }
}

/* main has held it back until now, and the keeper for both. */
static void
take_hup(void)
{
    sigset_t hup;

    sigemptyset(&hup);
    sigaddset(&hup, SIGHUP);
    sigprocmask(SIG_UNBLOCK, &hup, NULL);
}

static bool
start_loop(struct worker *worker)
{
    worker->loop = loop_new();
    if (!worker->loop)
        return false;
    mallopt(M_MMAP_THRESHOLD, VMLOG_LARGE_CHUNK); /* what a full log took goes back to the system */
    worker->route = route_new(worker->loop, worker->conf, &guest_route_ops);
    if (!worker->route)
        return false;
    worker->guests = guest_list_new(worker->loop, worker->route, worker->conf);
    worker->svms = svm_list_new(worker->loop, worker->route, worker->conf);
    if (!worker->guests || !worker->svms)
        return false;
    worker->doors = door_list_new(worker->loop, worker->guests, &worker->user);
    worker->upgrade = (struct upgrade){ .loop = worker->loop,
                                        .route = worker->route,
                                        .guests = worker->guests,
                                        .doors = worker->doors,
                                        .svms = worker->svms,
                                        .http = &worker->http };
    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR2, SIG_IGN); /* is for the keeper, but may be sent to all */
    worker->drain = loop_timer_new(worker->loop, on_drain, worker);
    worker->flood = loop_timer_new(worker->loop, on_flood, worker);
    worker->log = loop_timer_new(worker->loop, on_log, worker);
    worker->control_watch = loop_watch_new(worker->loop, worker->control, on_keeper, worker);
    if (!worker->doors || !worker->drain || !worker->flood || !worker->log || !worker->control_watch ||
        !upgrade_init(&worker->upgrade) || !loop_signal(worker->loop, SIGTERM, on_terminate, worker) ||
        !loop_signal(worker->loop, SIGINT, on_terminate, worker) ||
        !loop_signal(worker->loop, SIGHUP, on_reload, worker))
        return false;
    loop_watch_set(worker->control_watch, LOOP_READ);
    take_hup();
    return true;
}

static bool
open_admin(struct worker *worker)
{
    struct http_view view = { worker->conf, worker->route, worker->svms, worker->guests };
    const struct address *address = &worker->conf->admin;
    int fd = door_list_take(worker->doors, address);
    char text[ADDRESS_TEXT_MAX];

    worker->http_borrowed = fd >= 0;
    if (fd < 0)
        fd = listen_open(address, 0600, &worker->user, LISTEN_PATIENCE_MS);
    worker->http = fd >= 0 ? http_new(worker->loop, address, fd, &view) : NULL;
    if (!worker->http)
        log_error(NULL, "admin: cannot listen on %s: %s%s", address_format(address, text), strerror(errno),
                  user_as());
    return worker->http;
}

/* What is opened as the user who started us. */
static bool
open_doors(struct worker *worker, int takeover)
{
    raise_file_limit(worker->conf);
    if (takeover >= 0 && !upgrade_take(&worker->upgrade, takeover))
        return false;
    if (!door_list_set_conf(worker->doors, worker->conf))
        return false;
    door_list_set_patient(worker->doors, false);
    return open_admin(worker);
}

/* What a reload opens again, as the user who will do that. */
static bool
open_files(struct worker *worker, bool taken)
{
    if (access(worker->conf->path, R_OK) != 0)
        log_warning(NULL, "%s: %s%s: SIGHUP will change nothing", worker->conf->path, strerror(errno),
                    user_as());
    if (!route_recover(worker->route, taken))
        return false;
    if (!svm_list_set_conf(worker->svms, worker->conf)) {
        if (user_as()[0])
            log_error(NULL, "certificates and keys were read%s", user_as());
        return false;
    }
    route_recovered(worker->route);
    route_set_conf(worker->route, worker->conf);
    return true;
}

static bool
start(struct worker *worker, int takeover)
{
    if (!start_loop(worker) || !tie_to_keeper(worker) || !user_find(worker->conf->user, &worker->user) ||
        !open_doors(worker, takeover) || !user_become(&worker->user) || !tie_to_keeper(worker) ||
        !open_files(worker, takeover >= 0) || (takeover >= 0 && !upgrade_import(&worker->upgrade)))
        return false;
    if (worker->conf->sandbox)
        sandbox_filter();
    else
        log_info(NULL, "no filter of system calls: sandbox = false");
    return takeover < 0 || upgrade_finish(&worker->upgrade);
}

static void
stop(struct worker *worker)
{
    if (!worker->loop)
        return;
    http_free(worker->http);
    if (worker->doors) { /* and with them all that was made before them */
        route_finish(worker->route);
        door_list_close(worker->doors);
        guest_list_close(worker->guests, "gimuxd ends");
        svm_list_close(worker->svms, "gimuxd ends");
        loop_flush(worker->loop);
    }
    guest_list_free(worker->guests);
    door_list_free(worker->doors);
    svm_list_free(worker->svms);
    route_free(worker->route);
    upgrade_fini(&worker->upgrade);
    loop_timer_free(worker->drain);
    loop_timer_free(worker->flood);
    loop_timer_free(worker->log);
    loop_watch_free(worker->control_watch);
    loop_free(worker->loop);
}

/* The worker that was to be relieved goes on: what this one has opened is removed, and nothing of that one's
 * is touched. */
static void __attribute__((noreturn)) abandon(struct worker *worker)
{
    if (worker->http && !worker->http_borrowed)
        unlink(worker->conf->admin.path);
    if (worker->doors)
        door_list_abandon(worker->doors);
    _exit(1);
}

int
worker_run(struct conf *conf, int control, int takeover, bool foreground)
{
    struct worker worker = { .conf = conf, .control = control, .keeper = getppid() };
    bool started;

    fcntl(control, F_SETFD, FD_CLOEXEC);
    log_setup(conf->syslog != 0, conf->log_level);
    if (takeover >= 0)
        fcntl(takeover, F_SETFD, FD_CLOEXEC);
    started = start(&worker, takeover);
    if (!started && takeover >= 0)
        abandon(&worker);
    if (started) {
        log_info(NULL, "gimuxd %s: up with %u solutions, %u VM sections; memory bound %llu bytes",
                 GIMUX_VERSION, conf->solution_count, conf->vm_count, (unsigned long long)memory_bound(conf));
        if (!foreground)
            leave_terminal();
        on_flood(&worker);
        on_log(&worker);
        keeper_send(control, KEEPER_UP, -1);
        loop_run(worker.loop);
        log_info(NULL, "ended");
    }
    stop(&worker);
    conf_free(worker.conf);
    log_next_interval();
    return started ? 0 : 1;
}
