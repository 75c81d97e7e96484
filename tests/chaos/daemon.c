/* gimuxd as chaos runs it: in a private directory, with a configuration of its own, started, killed and
 * asked. */
#include "tests/chaos/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/chaos/tally.h"

#define LOG_MAX     (8 << 20) /* bytes; then it starts again */
#define END_MS      15000
#define METRICS_MAX (1u << 20)

const char *
daemon_path(const struct daemon *daemon, const char *name, char out[DAEMON_PATH_MAX])
{
    if ((size_t)snprintf(out, DAEMON_PATH_MAX, "%s/%s", daemon->dir, name) >= DAEMON_PATH_MAX)
        abort();
    return out;
}

static void
run_child(const struct daemon *daemon, int log, pid_t parent)
{
    char conf[DAEMON_PATH_MAX];
    sigset_t none;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0); /* Ctrl-C is for chaos; and all that it starts can be told apart */
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    if (daemon->preload)
        setenv("LD_PRELOAD", daemon->preload, 1);
    execl(daemon->program, "gimuxd", "-f", "-c", daemon_path(daemon, "gimuxd.conf", conf), (char *)NULL);
    fprintf(stderr, "cannot run %s: %s\n", daemon->program, strerror(errno));
    _exit(127);
}

bool
daemon_start(struct daemon *daemon)
{
    char path[DAEMON_PATH_MAX];
    struct stat stat;
    pid_t parent = getpid();
    int log = open(daemon_path(daemon, "gimuxd.log", path), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    if (log < 0)
        return false;
    if (fstat(log, &stat) == 0 && stat.st_size > LOG_MAX && ftruncate(log, 0) != 0)
        fprintf(stderr, "chaos: %s: %s\n", path, strerror(errno));
    daemon->pid = fork();
    if (daemon->pid == 0)
        run_child(daemon, log, parent);
    if (daemon->pid > 0)
        setpgid(daemon->pid, daemon->pid); /* whoever comes first */
    close(log);
    daemon->starts++;
    if (daemon->pid < 0) {
        daemon->pid = 0;
        return false;
    }
    return true;
}

bool
daemon_is_running(struct daemon *daemon, int *status)
{
    if (daemon->pid == 0 || waitpid(daemon->pid, status, WNOHANG) == 0)
        return daemon->pid != 0;
    daemon->pid = 0;
    return false;
}

void
daemon_signal(struct daemon *daemon, int number)
{
    if (daemon->pid == 0)
        return;
    kill(daemon->pid, number);
    if (number != SIGTERM)
        return;
    while (waitpid(daemon->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    daemon->pid = 0;
}

/* What the process has started, at most `max`. Returns how many. */
static unsigned
children_of(pid_t pid, pid_t *out, unsigned max)
{
    char path[64];
    long child;
    unsigned count = 0;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
    file = fopen(path, "re");
    while (file && count < max && fscanf(file, "%ld", &child) == 1)
        out[count++] = (pid_t)child;
    if (file)
        fclose(file);
    return count;
}

pid_t
daemon_worker(const struct daemon *daemon)
{
    pid_t child;

    return children_of(daemon->pid, &child, 1) ? child : daemon->pid;
}

/* Kills what the process has started. Returns whether there was any. */
static bool
kill_children(pid_t pid)
{
    pid_t children[8];
    unsigned count = children_of(pid, children, 8);

    for (unsigned i = 0; i < count; i++)
        kill(children[i], SIGKILL);
    return count > 0;
}

/* All of its processes are in a group of their own, which has its process id. */
static bool
wait_for_group(pid_t group)
{
    int64_t until = now_ms() + END_MS;
    bool left = false;

    for (;;) {
        while (waitpid(-group, NULL, WNOHANG) > 0) /* those whose parent is gone are ours, too */
            continue;
        if (kill(-group, 0) != 0)
            return !left;
        if (now_ms() >= until) {
            left = true;
            kill(-group, SIGKILL);
        }
        usleep(500);
    }
}

bool
daemon_kill(struct daemon *daemon, enum daemon_part part)
{
    pid_t group = daemon->pid;

    if (group == 0)
        return true;
    daemon->pid = 0;
    if (part == DAEMON_FIRST)
        kill(group, SIGKILL);
    else if (part == DAEMON_ALL || !kill_children(group))
        kill(-group, SIGKILL);
    return wait_for_group(group);
}

bool
daemon_wait_up(struct daemon *daemon, unsigned seconds)
{
    int64_t until = now_ms() + seconds * INT64_C(1000);
    int status;

    while (daemon_is_running(daemon, &status) && now_ms() < until) {
        char *metrics = daemon_metrics(daemon);

        if (metrics) {
            free(metrics);
            return true;
        }
        usleep(2000);
    }
    return false;
}

/* ---- what it says of itself ---- */

static int
dial_admin(const struct daemon *daemon)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct timeval patience = { 10, 0 };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if ((size_t)snprintf(address.sun_path, sizeof(address.sun_path), "%s/admin.sock", daemon->dir) >=
        sizeof(address.sun_path))
        abort();
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    close(fd);
    return -1;
}

char *
daemon_get(const struct daemon *daemon, const char *what)
{
    char request[128];
    char *answer = malloc(METRICS_MAX);
    size_t len = 0;
    ssize_t got;
    int fd = dial_admin(daemon);
    int size = snprintf(request, sizeof(request), "GET %s HTTP/1.0\r\nConnection: close\r\n\r\n", what);

    if (!answer)
        abort();
    if (fd >= 0 && send(fd, request, (size_t)size, MSG_NOSIGNAL) > 0)
        while (len < METRICS_MAX - 1 && (got = recv(fd, answer + len, METRICS_MAX - 1 - len, 0)) > 0)
            len += (size_t)got;
    if (fd >= 0)
        close(fd);
    answer[len] = '\0';
    if (strstr(answer, "\r\n\r\n") && strncmp(answer, "HTTP/1.", 7) == 0 && strstr(answer, " 200 "))
        return answer;
    free(answer);
    return NULL;
}

char *
daemon_metrics(const struct daemon *daemon)
{
    return daemon_get(daemon, "/metrics");
}

void
daemon_save_status(const struct daemon *daemon)
{
    char path[DAEMON_PATH_MAX];
    char *status = daemon_get(daemon, "/v1/status");
    FILE *out = fopen(daemon_path(daemon, "status.json", path), "we");
    const char *body = status ? strstr(status, "\r\n\r\n") : NULL;

    if (out && body)
        fputs(body + 4, out);
    if (out)
        fclose(out);
    free(status);
}

uint64_t
daemon_metric(const char *metrics, const char *name, const char *label)
{
    char prefix[128];
    size_t len = (size_t)snprintf(prefix, sizeof(prefix), "gimux_%s", name);
    uint64_t sum = 0;

    for (const char *line = metrics; line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        const char *end = strchr(line, '\n');
        const char *value = end;
        const char *found = label ? strstr(line, label) : line;

        if (strncmp(line, prefix, len) != 0 || (line[len] != '{' && line[len] != ' ') || !end)
            continue;
        while (value > line && value[-1] != ' ')
            value--;
        if (found && found < end)
            sum += strtoull(value, NULL, 10);
    }
    return sum;
}

bool
daemon_takes(const struct daemon *daemon, int number)
{
    char path[64];
    char line[256];
    unsigned long long taken = 0;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)daemon->pid);
    file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file))
        if (strncmp(line, "SigCgt:", 7) == 0 || strncmp(line, "SigBlk:", 7) == 0)
            taken |= strtoull(line + 7, NULL, 16);
    if (file)
        fclose(file);
    return taken & 1ull << (number - 1);
}

bool
daemon_has_option(const struct daemon *daemon, const char *word)
{
    char command[DAEMON_PATH_MAX * 2];
    char line[512];
    bool found = false;
    FILE *help;

    snprintf(command, sizeof(command), "'%s' --help-config", daemon->program);
    help = popen(command, "re");
    while (help && fgets(line, sizeof(line), help))
        found = found || strstr(line, word) != NULL;
    if (help)
        pclose(help);
    return found;
}

void
daemon_show_log(const struct daemon *daemon, unsigned lines)
{
    char path[DAEMON_PATH_MAX];
    char command[DAEMON_PATH_MAX + 64];

    fprintf(stderr, "  ---- gimuxd's log, the end of it ----\n");
    snprintf(command, sizeof(command), "tail -n %u '%s' | sed 's/^/  /' >&2", lines,
             daemon_path(daemon, "gimuxd.log", path));
    if (system(command) != 0)
        fprintf(stderr, "  (no log)\n");
}
