/* The daemon's log: one line an occurrence, to stderr or syslog, never waiting for either. */
#ifndef GIMUX_BASE_LOG_H
#define GIMUX_BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Whom a line is about; members may be NULL. They come first in the line: vm=… driver=… solution=… */
struct log_who {
    const char *vm; /* UUID */
    const char *driver;
    const char *solution;
};

/* Where lines go and up to which level; may be called again on a reload. syslog means the datagram socket
 * /dev/log. Before the first call, lines of level info and up go to stderr. */
void log_setup(bool to_syslog, enum log_level level);

/* Writes one line of at most 1,000 bytes. Control characters, which peers may have sent, become '?'. A line
 * that would block is dropped; the next one that gets through says how many were. `who` may be NULL.
 *
 * What peers bring about again and again does not fill the log: of the lines of level warning or info that
 * are alike, LOG_ALIKE_MAX are written in one interval. Alike are lines of one call site about the same
 * `who`, and the same door if the format begins with "%s: ". */
void log_line(enum log_level level, const struct log_who *who, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define LOG_ALIKE_MAX 10

/* Begins another interval, for the caller's timer; a line for each sort of which some were left out says how
 * many. */
void log_next_interval(void);

#define log_error(who, ...)   log_line(LOG_LEVEL_ERROR, who, __VA_ARGS__)
#define log_warning(who, ...) log_line(LOG_LEVEL_WARNING, who, __VA_ARGS__)
#define log_info(who, ...)    log_line(LOG_LEVEL_INFO, who, __VA_ARGS__)
#define log_debug(who, ...)   log_line(LOG_LEVEL_DEBUG, who, __VA_ARGS__)

#endif
