/* The daemon's log: one line for each occurrence, to stderr or syslog, never waiting for either. */
#include "mux/base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1000
#define ALIKE_SLOTS    1024
#define ALIKE_PROBES   8
#define ALIKE_EXAMPLE  256 /* bytes kept of a line that was left out */

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

/* A pipe that is writable takes 4,096 bytes without blocking; a line is shorter. */
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

/* ---- too many alike ---- */

/* One slot for each sort of line in this interval. When the table is full, several sorts share one: nothing
 * is allocated, whatever names peers send. `seed` keeps them from choosing whose slot they share. */
static struct {
    uint64_t sort;
    unsigned lines; /* 0: free */
    unsigned left_out;
    char example[ALIKE_EXAMPLE];
} alike[ALIKE_SLOTS];

static uint64_t
mix(uint64_t hash, const void *data, size_t len)
{
    for (const unsigned char *byte = data; len > 0; byte++, len--)
        hash = (hash ^ *byte) * UINT64_C(0x100000001b3); /* FNV-1a */
    return hash;
}

/* The slot of a line with that format, the first who_len bytes of whose text say whom it is about. */
static unsigned
slot_of(const char *format, const char *text, size_t who_len)
{
    static uint64_t seed;
    const char *door_end = strncmp(format, "%s: ", 4) == 0 ? strstr(text + who_len, ": ") : NULL;
    uint64_t hash;

    if (seed == 0 && getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed))
        seed = 1;
    hash = mix(seed, &format, sizeof(const char *));
    hash = mix(hash, text, door_end ? (size_t)(door_end - text) : who_len);
    for (unsigned i = 0; i < ALIKE_PROBES; i++) {
        unsigned slot = (unsigned)((hash >> 32) + i) % ALIKE_SLOTS;

        if (alike[slot].lines == 0)
            alike[slot].sort = hash;
        if (alike[slot].sort == hash)
            return slot;
    }
    return (unsigned)(hash >> 32) % ALIKE_SLOTS;
}

static bool
is_left_out(unsigned slot, const char *text)
{
    if (alike[slot].lines < LOG_ALIKE_MAX) {
        alike[slot].lines++;
        return false;
    }
    if (alike[slot].left_out++ == 0)
        snprintf(alike[slot].example, ALIKE_EXAMPLE, "%.*s", ALIKE_EXAMPLE - 1, text);
    return true;
}

/* ---- a line ---- */

static void
clean(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c; c++) {
        bool high =
            c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0; /* U+0080 to U+009F are control characters too */

        if (high)
            *c++ = ' ';
        if (high || *c < 0x20 || *c == 0x7f)
            *c = '?';
    }
}

static void
send_line(enum log_level level, const char *text)
{
    char told[LINE_MAX_BYTES];
    bool sent;

    if (log_state.dropped) {
        snprintf(told, sizeof(told), "(%u lines before this could not be written) %s", log_state.dropped,
                 text);
        text = told;
    }
    sent = log_state.syslog_fd >= 0 ? send_syslog(level, text) : send_stderr(level, text);
    log_state.dropped = sent ? 0 : log_state.dropped + 1;
}

void
log_line(enum log_level level, const struct log_who *who, const char *format, ...)
{
    char text[LINE_MAX_BYTES];
    size_t len = 0;
    va_list args;

    if (level > log_state.level)
        return;
    if (who)
        len = put_who(text, sizeof(text), who);
    va_start(args, format);
    vsnprintf(text + len, sizeof(text) - len, format, args);
    va_end(args);
    clean(text);
    if ((level == LOG_LEVEL_WARNING || level == LOG_LEVEL_INFO) &&
        is_left_out(slot_of(format, text, len), text))
        return;
    send_line(level, text);
}

void
log_next_interval(void)
{
    for (unsigned slot = 0; slot < ALIKE_SLOTS; slot++) {
        char text[LINE_MAX_BYTES];

        if (alike[slot].left_out > 0) {
            snprintf(text, sizeof(text), "%u more lines were left out like: %s", alike[slot].left_out,
                     alike[slot].example);
            send_line(LOG_LEVEL_WARNING, text);
        }
        alike[slot].lines = alike[slot].left_out = 0;
    }
}
