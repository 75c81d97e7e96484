/* The program that is measured: started in a private directory, with what it costs, and ended. */
#ifndef GIMUX_BENCH_PROCESS_H
#define GIMUX_BENCH_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROCESS_PATH_MAX 256

struct process {
    char dir[PROCESS_PATH_MAX]; /* private; the log is there, too */
    const char *wrap;           /* words before the command ("perf record -g"), or NULL */
    pid_t pid;                  /* 0: not running */
};

/* Makes the private directory, under $TMPDIR. False, with a message, if it cannot. */
bool process_prepare(struct process *process, const char *wrap);

/* The file of that name in the private directory. Returns out. */
const char *process_path(const struct process *process, const char *name, char out[PROCESS_PATH_MAX]);

/* Writes a file there. False, with a message, if it cannot. */
bool process_write(const struct process *process, const char *name, const char *text);

/* Starts argv[0] (a path, or a name in PATH or /usr/sbin); what it says goes to the file "log". */
bool process_start(struct process *process, const char *const argv[]);

/* Whether it has not ended by itself. */
bool process_runs(struct process *process);

/* CPU time that it and what it has started have used, in nanoseconds, user and system; resident bytes. */
uint64_t process_cpu(const struct process *process);
uint64_t process_memory(const struct process *process);

/* The end of its log, to stderr. */
void process_show_log(const struct process *process);

/* Ends all of it (with SIGTERM and patience, if it is wrapped: profilers write at their end) and removes the
 * directory. */
void process_end(struct process *process);

/* Whether that program is there. */
bool process_exists(const char *program);

#endif
