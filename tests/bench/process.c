/* The program that is measured: started in a private directory, with what it costs, and ended. */
#include "tests/bench/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PIDS_MAX     16
#define WORDS_MAX    64
#define END_MS       15000
#define WRAP_END_MS  120000
#define NSEC_PER_SEC UINT64_C(1000000000)

bool
process_prepare(struct process *process, const char *wrap)
{
    const char *tmp = getenv("TMPDIR");

    process->pid = 0;
    process->wrap = wrap;
    snprintf(process->dir, sizeof(process->dir), "%s/gimux-bench-XXXXXX", tmp ? tmp : "/tmp");
    if (mkdtemp(process->dir))
        return true;
    fprintf(stderr, "bench: %s: %s\n", process->dir, strerror(errno));
    process->dir[0] = '\0';
    return false;
}

const char *
process_path(const struct process *process, const char *name, char out[PROCESS_PATH_MAX])
{
    if ((size_t)snprintf(out, PROCESS_PATH_MAX, "%s/%s", process->dir, name) >= PROCESS_PATH_MAX)
        abort();
    return out;
}

bool
process_write(const struct process *process, const char *name, const char *text)
{
    char path[PROCESS_PATH_MAX];
    FILE *file = fopen(process_path(process, name, path), "we");

    if (file && fputs(text, file) >= 0 && fclose(file) == 0)
        return true;
    fprintf(stderr, "bench: %s: %s\n", path, strerror(errno));
    return false;
}

/* Debian keeps servers in /usr/sbin, which is not in everybody's PATH. */
static bool
find_program(const char *program, char out[PROCESS_PATH_MAX])
{
    char places[4096];
    const char *path = getenv("PATH");
    char *save = NULL;

    if (strchr(program, '/'))
        return snprintf(out, PROCESS_PATH_MAX, "%s", program) < PROCESS_PATH_MAX && access(out, X_OK) == 0;
    snprintf(places, sizeof(places), "%s:/usr/sbin:/usr/bin", path ? path : "");
    for (char *place = strtok_r(places, ":", &save); place; place = strtok_r(NULL, ":", &save))
        if (snprintf(out, PROCESS_PATH_MAX, "%s/%s", place, program) < PROCESS_PATH_MAX &&
            access(out, X_OK) == 0)
            return true;
    return false;
}

bool
process_exists(const char *program)
{
    char path[PROCESS_PATH_MAX];

    return find_program(program, path);
}

static void
run_child(const char *wrap, const char *program, const char *const argv[], int log, pid_t parent)
{
    char words[1024];
    char *all[WORDS_MAX];
    char *save = NULL;
    unsigned count = 0;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    setpgid(0, 0);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    snprintf(words, sizeof(words), "%s", wrap ? wrap : "");
    for (char *word = strtok_r(words, " ", &save); word && count < WORDS_MAX / 2;
         word = strtok_r(NULL, " ", &save))
        all[count++] = word;
    all[count++] = strdup(program);
    for (unsigned i = 1; argv[i] && count < WORDS_MAX - 1; i++)
        all[count++] = strdup(argv[i]);
    all[count] = NULL;
    execvp(all[0], all);
    fprintf(stderr, "cannot run %s: %s\n", all[0], strerror(errno));
    _exit(127);
}

bool
process_start(struct process *process, const char *const argv[])
{
    char program[PROCESS_PATH_MAX], path[PROCESS_PATH_MAX];
    pid_t parent = getpid();
    int log;

    if (!find_program(argv[0], program)) {
        fprintf(stderr, "bench: %s: no such program\n", argv[0]);
        return false;
    }
    log = open(process_path(process, "log", path), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log < 0)
        return false;
    process->pid = fork();
    if (process->pid == 0)
        run_child(process->wrap, program, argv, log, parent);
    close(log);
    if (process->pid > 0) {
        setpgid(process->pid, process->pid); /* whoever comes first */
        return true;
    }
    process->pid = 0;
    return false;
}

bool
process_runs(struct process *process)
{
    if (process->pid != 0 && waitpid(process->pid, NULL, WNOHANG) == 0)
        return true;
    process->pid = 0;
    return false;
}

/* ---- what it costs ---- */

/* The process and all that it has started. */
static unsigned
family(const struct process *process, pid_t pids[PIDS_MAX])
{
    unsigned count = 0;

    if (process->pid == 0)
        return 0;
    pids[count++] = process->pid;
    for (unsigned i = 0; i < count; i++) {
        char path[64];
        long child;
        FILE *file;

        snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pids[i], (int)pids[i]);
        file = fopen(path, "re");
        while (file && count < PIDS_MAX && fscanf(file, "%ld", &child) == 1)
            pids[count++] = (pid_t)child;
        if (file)
            fclose(file);
    }
    return count;
}

uint64_t
process_cpu(const struct process *process)
{
    pid_t pids[PIDS_MAX];
    unsigned count = family(process, pids);
    uint64_t sum = 0;

    for (unsigned i = 0; i < count; i++) {
        struct timespec used;
        clockid_t clock;

        /* All of its threads, those that have ended, too; not in ticks, as /proc has it. */
        if (clock_getcpuclockid(pids[i], &clock) == 0 && clock_gettime(clock, &used) == 0)
            sum += (uint64_t)used.tv_sec * NSEC_PER_SEC + (uint64_t)used.tv_nsec;
    }
    return sum;
}

uint64_t
process_memory(const struct process *process)
{
    pid_t pids[PIDS_MAX];
    unsigned count = family(process, pids);
    uint64_t pages = 0;

    for (unsigned i = 0; i < count; i++) {
        char path[64];
        unsigned long long size, resident;
        FILE *file;

        snprintf(path, sizeof(path), "/proc/%d/statm", (int)pids[i]);
        file = fopen(path, "re");
        if (file && fscanf(file, "%llu %llu", &size, &resident) == 2)
            pages += resident;
        if (file)
            fclose(file);
    }
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- its end ---- */

void
process_show_log(const struct process *process)
{
    char path[PROCESS_PATH_MAX];
    char command[PROCESS_PATH_MAX + 64];

    snprintf(command, sizeof(command), "tail -n 20 '%s' | sed 's/^/  /' >&2",
             process_path(process, "log", path));
    if (system(command) != 0)
        fprintf(stderr, "  (no log)\n");
}

static bool
wait_for_group(pid_t group, int ms)
{
    for (int waited = 0; waited < ms * 2; waited++) {
        while (waitpid(-group, NULL, WNOHANG) > 0)
            continue;
        if (kill(-group, 0) != 0)
            return true;
        usleep(500);
    }
    return false;
}

void
process_end(struct process *process)
{
    char command[PROCESS_PATH_MAX + 16];

    if (process->pid > 0) {
        if (process->wrap) {
            kill(-process->pid, SIGTERM);
            if (!wait_for_group(process->pid, WRAP_END_MS))
                fprintf(stderr, "bench: %s did not end in time\n", process->wrap);
        }
        kill(-process->pid, SIGKILL);
        if (!wait_for_group(process->pid, END_MS))
            fprintf(stderr, "bench: process group %d is still there\n", (int)process->pid);
        process->pid = 0;
    }
    if (process->dir[0] == '\0')
        return;
    snprintf(command, sizeof(command), "rm -rf '%s'", process->dir);
    if (system(command) != 0)
        fprintf(stderr, "bench: cannot remove %s\n", process->dir);
    process->dir[0] = '\0';
}
