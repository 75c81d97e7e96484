/* gimuxd as chaos runs it: in a private directory, with a configuration of its own, started, killed and
 * asked. */
#ifndef GIMUX_CHAOS_DAEMON_H
#define GIMUX_CHAOS_DAEMON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define DAEMON_PATH_MAX 256

struct daemon {
    const char *program; /* build/gimuxd */
    char dir[DAEMON_PATH_MAX];
    pid_t pid; /* 0: not running */
    uint64_t starts;
    const char *preload; /* library for LD_PRELOAD, or NULL */
};

/* The file of that name in the private directory. Returns out. */
const char *daemon_path(const struct daemon *daemon, const char *name, char out[DAEMON_PATH_MAX]);

/* Starts gimuxd with gimuxd.conf of its directory; its log goes to gimuxd.log there. Does not wait. */
bool daemon_start(struct daemon *daemon);

/* Waits until it answers at its admin door. False if it ended or `seconds` have passed. */
bool daemon_wait_up(struct daemon *daemon, unsigned seconds);

/* Sends the signal to the process that was started and, for SIGTERM, waits for its end. */
void daemon_signal(struct daemon *daemon, int number);

enum daemon_part {
    DAEMON_ALL,    /* at once */
    DAEMON_FIRST,  /* the process that was started */
    DAEMON_OTHERS, /* those that it has started; if it has none, DAEMON_ALL */
};

/* Kills with SIGKILL, and waits until none of its processes is left. False if some were left after
 * 15 seconds, and had to be killed, too. */
bool daemon_kill(struct daemon *daemon, enum daemon_part part);

/* Whether it runs. If it has ended by itself, *status is its status and it is no longer running. */
bool daemon_is_running(struct daemon *daemon, int *status);

/* What its admin door answers, its head included, to be freed; NULL if there was no answer in time. */
char *daemon_get(const struct daemon *daemon, const char *what);
char *daemon_metrics(const struct daemon *daemon);

/* Writes its /v1/status to status.json in its directory. */
void daemon_save_status(const struct daemon *daemon);

/* The sum of the values of that metric whose labels contain `label` (NULL: all); its name without "gimux_".
 */
uint64_t daemon_metric(const char *metrics, const char *name, const char *label);

/* The process that it has started and that does the work, or itself if there is none. */
pid_t daemon_worker(const struct daemon *daemon);

/* Whether it has a handler for that signal, or blocks it (to read it from a signalfd). */
bool daemon_takes(const struct daemon *daemon, int number);

/* Whether `gimuxd --help-config` mentions the word. */
bool daemon_has_option(const struct daemon *daemon, const char *word);

/* The last lines of its log, to stderr. */
void daemon_show_log(const struct daemon *daemon, unsigned lines);

#endif
