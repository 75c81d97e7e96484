/* The keeper: the process that service managers know. It starts the worker, which does everything else,
 * passes signals on to it, puts another one in its place on SIGUSR2, and ends as it ends.
 *
 * It stays the user who started it, so it does as little as possible: it waits for signals, for its workers'
 * ends and for one-letter messages, and reads nothing that a guest or an SVM has sent. It does not restart a
 * worker that has crashed; that is for those who watch it.
 *
 * An upgrade. The program of the same path is started as a second worker, with one end of a socket; the other
 * end goes to the first, and the two agree on everything there (upgrade.c). When the second says that it is
 * up it is the worker; if it ends before that, or takes too long and is killed, the first was never told to
 * end. */
#include "mux/process/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mux/base/descriptors.h"
#include "mux/base/log.h"
#include "mux/process/pidfile.h"
#include "mux/process/terminal.h"

#define LOCK_MS 5000 /* to wait for the pid file: a killed keeper's worker needs a little time to end */

/* A worker as the keeper sees it. */
struct child {
    pid_t pid; /* 0: none */
    int control;
    bool up;
};

struct keeper {
    const struct conf *conf;
    bool foreground;
    char program[PATH_MAX];
    sigset_t signals; /* that the keeper waits for */
    sigset_t before;  /* the mask that workers are started with */
    int signal_fd;
    int ready; /* to the process that was started, which ends when the worker is up; -1: none */
    int lock;  /* -1: no pid file */
    struct child worker;
    struct child next; /* during an upgrade */
    uint64_t give_up;  /* when `next` is given up, ms */
    bool terminate;    /* SIGTERM or SIGINT has come */
    bool held_hup;     /* signals that wait for the end of an upgrade, or for the worker to be up */
    bool held_term;
    int status; /* of the worker that has ended */
};

static uint64_t
now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- the socket between the two ---- */

bool
keeper_send(int control, enum keeper_word word, int fd)
{
    const char byte = (char)word;

    return descriptors_send(control, &byte, 1, &fd, fd >= 0, 0);
}

int
keeper_receive(int control, int *fd)
{
    struct descriptors came = { 0 };
    char byte;
    ssize_t len = descriptors_receive(control, &byte, 1, &came, 0);
    int error = errno;

    *fd = descriptors_take(&came, 1);
    descriptors_fini(&came, true);
    if (len < 0 && (error == ETIMEDOUT || error == EAGAIN || error == EINTR))
        return 0;
    return len > 0 ? byte : -1;
}

/* ---- starting a worker ---- */

static void
keep_open(int fd)
{
    if (fd >= 0)
        fcntl(fd, F_SETFD, 0);
}

/* In the child: becomes the program. */
static void
become_worker(const struct keeper *keeper, int control, int takeover)
{
    char option[64];
    const char *words[7] = { keeper->program, "-c", keeper->conf->path, option };
    unsigned count = 4;

    if (takeover >= 0)
        snprintf(option, sizeof(option), "--worker=%d,%d", control, takeover);
    else
        snprintf(option, sizeof(option), "--worker=%d", control);
    if (keeper->foreground)
        words[count++] = "-f";
    words[count] = NULL;
    keep_open(control);
    keep_open(takeover);
    keep_open(keeper->lock);
    sigprocmask(SIG_SETMASK, &keeper->before, NULL);
    execv(keeper->program, (char *const *)(uintptr_t)words);
    log_error(NULL, "cannot run %s: %s", keeper->program, strerror(errno));
    _exit(127);
}

/* Starts a worker; `takeover` is given to it, or -1. */
static bool
spawn(struct keeper *keeper, struct child *child, int takeover)
{
    int control[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) != 0) {
        log_error(NULL, "cannot start a worker: %s", strerror(errno));
        return false;
    }
    *child = (struct child){ .pid = fork(), .control = control[0] };
    if (child->pid == 0)
        become_worker(keeper, control[1], takeover);
    close(control[1]);
    if (child->pid > 0)
        return true;
    log_error(NULL, "cannot start a worker: %s", strerror(errno));
    close(control[0]);
    child->pid = 0;
    return false;
}

/* ---- signals to the worker ---- */

/* What came while nobody could take it. */
static void
pass_held(struct keeper *keeper)
{
    if (keeper->next.pid || !keeper->worker.pid || !keeper->worker.up)
        return;
    if (keeper->held_hup)
        kill(keeper->worker.pid, SIGHUP);
    if (keeper->held_term)
        kill(keeper->worker.pid, SIGTERM);
    keeper->held_hup = keeper->held_term = false;
}

/* A worker that is not up yet ends by SIGTERM at once. */
static void
terminate(struct keeper *keeper)
{
    keeper->terminate = true;
    keeper->held_term = true;
    if (keeper->worker.pid && !keeper->worker.up)
        kill(keeper->worker.pid, SIGTERM);
    pass_held(keeper);
}

/* ---- the upgrade ---- */

static void
end_upgrade(struct keeper *keeper, bool good)
{
    if (good)
        log_info(NULL, "upgrade: done, process %d is the worker now", (int)keeper->worker.pid);
    else
        log_error(NULL, "upgrade: failed; %s",
                  keeper->worker.pid ? "the old gimuxd goes on" : "the old gimuxd has ended, too");
    if (keeper->lock >= 0)
        pidfile_tell_upgrade(keeper->conf->pid_file, good);
    pass_held(keeper);
}

static void
begin_upgrade(struct keeper *keeper)
{
    int ends[2];
    bool good;

    if (keeper->next.pid || keeper->terminate || !keeper->worker.up) {
        log_warning(NULL, "upgrade: not now, gimuxd is %s",
                    keeper->next.pid    ? "being upgraded already"
                    : keeper->terminate ? "ending"
                                        : "not up yet");
        return;
    }
    log_info(NULL, "upgrade: starting %s", keeper->program);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        log_error(NULL, "upgrade: %s", strerror(errno));
        end_upgrade(keeper, false);
        return;
    }
    good = spawn(keeper, &keeper->next, ends[0]);
    close(ends[0]);
    if (good && !keeper_send(keeper->worker.control, KEEPER_HAND_OVER, ends[1]))
        log_error(NULL, "upgrade: the worker does not listen"); /* the new one will see the socket close */
    close(ends[1]);
    if (!good)
        end_upgrade(keeper, false);
    keeper->give_up = now_ms() + KEEPER_UPGRADE_MS;
}

static void
check_give_up(struct keeper *keeper)
{
    if (!keeper->next.pid || now_ms() < keeper->give_up)
        return;
    log_error(NULL, "upgrade: the new gimuxd was not up within %u ms", KEEPER_UPGRADE_MS);
    kill(keeper->next.pid, SIGKILL);
    keeper->give_up = UINT64_MAX;
}

/* ---- what workers say, and their ends ---- */

static void
forget(struct child *child)
{
    if (child->control >= 0)
        close(child->control);
    *child = (struct child){ .control = -1 };
}

static void
say_ready(struct keeper *keeper)
{
    leave_terminal();
    if (write(keeper->ready, "r", 1) != 1)
        log_debug(NULL, "nobody waits for us to be up");
    close(keeper->ready);
    keeper->ready = -1;
}

static void
on_up(struct keeper *keeper, struct child *child)
{
    child->up = true;
    if (child == &keeper->next) {
        forget(&keeper->worker); /* it is ending by itself */
        keeper->worker = keeper->next;
        keeper->next = (struct child){ .control = -1 };
        keeper->status = 0;
        end_upgrade(keeper, true);
        return;
    }
    if (keeper->lock >= 0 && !pidfile_write(keeper->conf->pid_file)) {
        keeper->status = 1;
        kill(child->pid, SIGTERM);
    }
    if (keeper->ready >= 0)
        say_ready(keeper);
    pass_held(keeper);
}

static void
listen_to(struct keeper *keeper, struct child *child)
{
    int fd;
    int word = keeper_receive(child->control, &fd);

    if (fd >= 0)
        close(fd);
    if (word == KEEPER_UP) {
        on_up(keeper, child);
    } else if (word < 0) { /* it is ending, which SIGCHLD tells */
        close(child->control);
        child->control = -1;
    }
}

/* Reads what the worker may have said last, before its end counts. */
static void
hear_out(struct keeper *keeper, struct child *child)
{
    while (child->pid && child->control >= 0 && !child->up) {
        struct pollfd said = { .fd = child->control, .events = POLLIN };

        if (poll(&said, 1, 0) != 1)
            return;
        listen_to(keeper, child);
    }
}

static int
exit_status(int status, const char *who, bool asked)
{
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    if (asked && WTERMSIG(status) == SIGTERM)
        return 0;
    log_error(NULL, "%s has ended by signal %d (%s)", who, WTERMSIG(status), strsignal(WTERMSIG(status)));
    return 1;
}

static void
on_end(struct keeper *keeper, pid_t pid, int status)
{
    if (pid == keeper->next.pid) {
        hear_out(keeper, &keeper->next); /* it may have become the worker */
        if (pid == keeper->next.pid) {
            log_error(NULL, "upgrade: the new gimuxd has ended with status %d before it was up",
                      exit_status(status, "the new gimuxd", false));
            forget(&keeper->next);
            if (!keeper->worker.pid && !keeper->terminate)
                keeper->status = 1; /* that one had let go already */
            end_upgrade(keeper, false);
            return;
        }
    }
    if (pid == keeper->worker.pid) {
        if (keeper->status == 0)
            keeper->status = exit_status(status, "the worker", keeper->terminate);
        forget(&keeper->worker);
    } else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        exit_status(status, "the worker that was relieved", false);
    }
}

/* ---- waiting ---- */

static void
on_signal(struct keeper *keeper)
{
    struct signalfd_siginfo info;
    pid_t pid;
    int status;

    if (read(keeper->signal_fd, &info, sizeof(info)) != sizeof(info))
        return;
    switch (info.ssi_signo) {
    case SIGCHLD:
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
            on_end(keeper, pid, status);
        break;
    case SIGHUP:
        keeper->held_hup = true;
        pass_held(keeper);
        break;
    case SIGUSR2:
        begin_upgrade(keeper);
        break;
    default:
        terminate(keeper);
        break;
    }
}

static int
time_left(const struct keeper *keeper)
{
    uint64_t now = now_ms();

    if (!keeper->next.pid || keeper->give_up == UINT64_MAX)
        return -1;
    return now >= keeper->give_up ? 0 : (int)(keeper->give_up - now);
}

/* Until neither the worker nor one that is to relieve it is there. */
static void
wait_for_all(struct keeper *keeper)
{
    while (keeper->worker.pid || keeper->next.pid) {
        struct pollfd from[] = { { .fd = keeper->signal_fd, .events = POLLIN },
                                 { .fd = keeper->worker.pid ? keeper->worker.control : -1, .events = POLLIN },
                                 { .fd = keeper->next.pid ? keeper->next.control : -1, .events = POLLIN } };

        if (poll(from, 3, time_left(keeper)) < 0 && errno != EINTR)
            return;
        if (from[1].revents && keeper->worker.pid)
            listen_to(keeper, &keeper->worker);
        if (from[2].revents && keeper->next.pid)
            listen_to(keeper, &keeper->next);
        if (from[0].revents)
            on_signal(keeper);
        check_give_up(keeper);
    }
}

/* ---- the whole ---- */

/* Leaves the caller's process. That one ends when the child has said through the pipe that it is up (or has
 * died). */
static bool
become_daemon(struct keeper *keeper)
{
    int ready[2];
    char byte;

    if (pipe2(ready, O_CLOEXEC) != 0)
        return false;
    switch (fork()) {
    case -1:
        return false;
    case 0:
        close(ready[0]);
        keeper->ready = ready[1];
        setsid();
        return chdir("/") == 0;
    default:
        close(ready[1]);
        _exit(read(ready[0], &byte, 1) == 1 ? 0 : 1);
    }
}

static bool
prepare(struct keeper *keeper, const char *program)
{
    static const int waited_for[] = { SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR2 };

    if (readlink("/proc/self/exe", keeper->program, sizeof(keeper->program) - 1) <= 0 &&
        !realpath(program, keeper->program)) { /* where there is no /proc */
        log_error(NULL, "cannot tell which program this is: %s: %s", program, strerror(errno));
        return false;
    }
    if (!keeper->foreground && !become_daemon(keeper)) {
        perror("gimuxd: cannot become a daemon");
        return false;
    }
    log_setup(keeper->conf->syslog != 0, keeper->conf->log_level);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    sigemptyset(&keeper->signals);
    for (size_t i = 0; i < sizeof(waited_for) / sizeof(waited_for[0]); i++)
        sigaddset(&keeper->signals, waited_for[i]);
    sigprocmask(SIG_BLOCK, &keeper->signals, &keeper->before);
    keeper->signal_fd = signalfd(-1, &keeper->signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (keeper->signal_fd < 0) {
        log_error(NULL, "cannot wait for signals: %s", strerror(errno));
        return false;
    }
    return true;
}

int
keeper_run(const struct conf *conf, const char *program, bool foreground)
{
    struct keeper keeper = { .conf = conf, .foreground = foreground, .ready = -1, .lock = -1 };

    keeper.worker.control = keeper.next.control = -1;
    if (!prepare(&keeper, program))
        return 1;
    if (conf->pid_file[0]) {
        keeper.lock = pidfile_lock(conf->pid_file, LOCK_MS);
        if (keeper.lock < 0)
            return 1;
    }
    if (spawn(&keeper, &keeper.worker, -1))
        wait_for_all(&keeper);
    else
        keeper.status = 1;
    if (keeper.lock >= 0)
        pidfile_remove(conf->pid_file);
    return keeper.status;
}
