/* The daemon's log: one line for each occurrence, to stderr or syslog, never waiting for either. */
#ifndef GIMUX_BASE_LOG_H
#define GIMUX_BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Whom a line is about; members may be NULL. The line begins with them: vm=… driver=… solution=… */
struct log_who {
    const char *vm; /* UUID */
    const char *driver;
    const char *solution;
};

/* Where lines go and which are written: those of `level` and graver. May be called again on a reload. syslog
 * means the datagram socket /dev/log; if that cannot be had, lines go to stderr. So do, before the first
 * call, lines of level info and graver. */
void log_setup(bool to_syslog, enum log_level level);

/* Writes one line of at most 1,000 bytes. Control characters, which peers may have sent, become '?'. A line
 * that would block is dropped; the next one that gets through says how many were. `who` may be NULL.
 *
 * What peers cause again and again does not fill the log: of lines of level warning or info that are alike,
 * LOG_ALIKE_MAX are written in one interval. Lines are alike if they have the same format and the same `who`,
 * and, if the format begins with "%s: ", the same text there: the door. */
void log_line(enum log_level level, const struct log_who *who, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define LOG_ALIKE_MAX 10

/* Begins another interval; the caller has the timer. Writes a line for each sort of which some were left out,
 * with their number. */
void log_next_interval(void);

#define log_error(who, ...)   log_line(LOG_LEVEL_ERROR, who, __VA_ARGS__)
#define log_warning(who, ...) log_line(LOG_LEVEL_WARNING, who, __VA_ARGS__)
#define log_info(who, ...)    log_line(LOG_LEVEL_INFO, who, __VA_ARGS__)
#define log_debug(who, ...)   log_line(LOG_LEVEL_DEBUG, who, __VA_ARGS__)

#endif
