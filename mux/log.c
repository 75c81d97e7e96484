/* The daemon's log: one line an occurrence, to stderr or syslog, never waiting for either. */
#include "mux/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1000

static const char *const level_names[] = {
    [LOG_LEVEL_ERROR] = "error",
    [LOG_LEVEL_WARNING] = "warning",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_DEBUG] = "debug",
};

static struct {
    enum log_level level;
    int syslog_fd; /* -1: stderr */
    unsigned dropped;
} log_state = { LOG_LEVEL_INFO, -1, 0 };

void
log_setup(bool to_syslog, enum log_level level)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };

    if (log_state.syslog_fd >= 0)
        close(log_state.syslog_fd);
    log_state.syslog_fd = -1;
    log_state.level = level;
    if (!to_syslog)
        return;
    log_state.syslog_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (log_state.syslog_fd >= 0 &&
        connect(log_state.syslog_fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        int why = errno;

        close(log_state.syslog_fd);
        log_state.syslog_fd = -1;
        log_error(NULL, "syslog: cannot connect to /dev/log: %s; logging to stderr", strerror(why));
    }
}

static bool
send_syslog(enum log_level level, const char *text)
{
    static const int severity[] = { 3, 4, 6, 7 }; /* RFC 5424 */
    char line[LINE_MAX_BYTES + 64];
    int len =
        snprintf(line, sizeof(line), "<%d>gimuxd[%d]: %s", 3 * 8 + severity[level], (int)getpid(), text);

    return send(log_state.syslog_fd, line, (size_t)len, MSG_NOSIGNAL) >= 0;
}

/* A pipe that says it is writable takes 4,096 bytes without blocking, which a line never reaches. */
static bool
send_stderr(enum log_level level, const char *text)
{
    struct pollfd ready = { .fd = STDERR_FILENO, .events = POLLOUT };
    char line[LINE_MAX_BYTES + 64];
    char when[32];
    struct timespec now;
    struct tm utc;
    int len;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &utc);
    len = snprintf(line, sizeof(line), "%s.%03ldZ %s %s\n", when, now.tv_nsec / 1000000, level_names[level],
                   text);
    return poll(&ready, 1, 0) == 1 && write(STDERR_FILENO, line, (size_t)len) > 0;
}

static size_t
put_who(char *out, size_t cap, const struct log_who *who)
{
    int len = 0;

    if (who->vm)
        len += snprintf(out + len, cap - (size_t)len, "vm=%s ", who->vm);
    if (who->driver)
        len += snprintf(out + len, cap - (size_t)len, "driver=%s ", who->driver);
    if (who->solution)
        len += snprintf(out + len, cap - (size_t)len, "solution=%.100s ", who->solution);
    return (size_t)len;
}

void
log_line(enum log_level level, const struct log_who *who, const char *format, ...)
{
    char text[LINE_MAX_BYTES];
    size_t len = 0;
    va_list args;
    bool sent;

    if (level > log_state.level)
        return;
    if (log_state.dropped)
        len = (size_t)snprintf(text, sizeof(text), "(%u lines before this could not be written) ",
                               log_state.dropped);
    if (who)
        len += put_who(text + len, sizeof(text) - len, who);
    va_start(args, format);
    vsnprintf(text + len, sizeof(text) - len, format, args);
    va_end(args);
    for (unsigned char *c = (unsigned char *)text; *c; c++) {
        bool high = c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0; /* U+0080 to U+009F are controls, too */

        if (high)
            *c++ = ' ';
        if (high || *c < 0x20 || *c == 0x7f)
            *c = '?';
    }
    sent = log_state.syslog_fd >= 0 ? send_syslog(level, text) : send_stderr(level, text);
    log_state.dropped = sent ? 0 : log_state.dropped + 1;
}
