/* What it costs a driver that an operator asks: how long it waits for a PONG without, and with. */
#include "tests/bench/ask.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/connect.h"
#include "tests/bench/histogram.h"
#include "tests/bench/system_gimuxd.h"
#include "tests/bench/wire.h"

#define EVERY_NS    UINT64_C(1000000)
#define READ_SIZE   65536
#define PATIENCE_NS UINT64_C(10000000000) /* for the last PONGs */
#define NSEC        1e9
#define NSEC_PER_MS 1e6

/* ---- the operator ---- */

struct asker {
    char socket[PROCESS_PATH_MAX];
    const char *path;
    _Atomic bool ended;
    uint64_t replies, bytes, took;
    bool broken;
};

/* One request on a connection of its own, which ends with the reply. */
static bool
ask_once(struct asker *asker, char *buf)
{
    uint64_t began = wire_clock(), bytes = 0;
    int fd = wire_dial_unix(asker->socket);
    int len = snprintf(buf, READ_SIZE, "GET %s HTTP/1.0\r\n\r\n", asker->path);
    bool good = fd >= 0 && wire_send(fd, buf, (size_t)len);
    ssize_t got = 0;

    while (good && (got = read(fd, buf, READ_SIZE)) > 0) {
        good = bytes > 0 || strncmp(buf, "HTTP/1.0 200 ", strlen("HTTP/1.0 200 ")) == 0;
        bytes += (uint64_t)got;
    }
    if (fd >= 0)
        close(fd);
    asker->replies++;
    asker->bytes += bytes;
    asker->took += wire_clock() - began;
    return good && got == 0 && bytes > 0;
}

static void *
ask_on(void *arg)
{
    struct asker *asker = arg;
    char *buf = malloc(READ_SIZE);

    if (!buf)
        abort();
    while (!asker->broken && !atomic_load(&asker->ended))
        asker->broken = !ask_once(asker, buf);
    free(buf);
    return NULL;
}

/* ---- the driver ---- */

struct pinger {
    const struct producer *probe;
    struct histogram waits;
    uint64_t most;
    uint64_t sent, answered;
    uint8_t in[READ_SIZE];
    size_t in_len;
};

/* Takes the records that have come. The token of a PONG is when its PING was due; PINGs of gimuxd are
 * skipped. */
static bool
take_pongs(struct pinger *pinger)
{
    ssize_t got =
        recv(pinger->probe->fd, pinger->in + pinger->in_len, READ_SIZE - pinger->in_len, MSG_DONTWAIT);
    uint64_t now = wire_clock(), token;
    size_t used = 0;

    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    pinger->in_len += (size_t)got;
    while (pinger->in_len - used >= GR_HEADER_SIZE) {
        uint32_t size;
        uint16_t type;

        memcpy(&size, pinger->in + used, sizeof(size));
        memcpy(&type, pinger->in + used + 4, sizeof(type));
        if (size < GR_HEADER_SIZE || size > pinger->in_len - used)
            break;
        if (type == GR_PONG) {
            memcpy(&token, pinger->in + used + GR_HEADER_SIZE, sizeof(token));
            histogram_add(&pinger->waits, now - token);
            pinger->most = now - token > pinger->most ? now - token : pinger->most;
            pinger->answered++;
        }
        used += size;
    }
    memmove(pinger->in, pinger->in + used, pinger->in_len - used);
    pinger->in_len -= used;
    return true;
}

/* PINGs every EVERY_NS, whether those before are answered or not: so a stretch of work in the loop counts for
 * all that wait meanwhile. */
static bool
ping_on(const struct producer *probe, double seconds, struct ask_delay *delay)
{
    struct pinger *pinger = calloc(1, sizeof(*pinger));
    uint64_t began = wire_clock(), due = began, until = began + (uint64_t)(seconds * NSEC);
    bool good = pinger;

    if (pinger)
        pinger->probe = probe;
    while (good && !run_interrupted && (due < until || pinger->answered < pinger->sent)) {
        struct pollfd poll_fd = { .fd = probe->fd, .events = POLLIN };
        uint64_t now = wire_clock();

        good = now < until + PATIENCE_NS;
        if (due < until && now >= due) {
            good = system_gimuxd_ping(probe, now);
            pinger->sent++;
            due += EVERY_NS;
        } else if (poll(&poll_fd, 1, 1) > 0) {
            good = take_pongs(pinger);
        }
    }
    if (good)
        *delay = (struct ask_delay){ histogram_at(&pinger->waits, 0.5), histogram_at(&pinger->waits, 0.99),
                                     (double)pinger->most / 1e3 };
    free(pinger);
    return good;
}

/* ---- both ---- */

static bool
ping_while_asked(struct run *run, const struct producer *probe, const char *path, struct ask_result *result)
{
    struct asker asker = { .path = path };
    pthread_t thread;
    bool good;

    process_path(&run->process, "admin.sock", asker.socket);
    if (pthread_create(&thread, NULL, ask_on, &asker) != 0)
        return false;
    good = ping_on(probe, run->conf->seconds, &result->asked);
    atomic_store(&asker.ended, true);
    pthread_join(thread, NULL);
    if (asker.broken || asker.replies == 0)
        return false;
    result->reply_kib = (double)asker.bytes / 1024 / (double)asker.replies;
    result->reply_ms = (double)asker.took / NSEC_PER_MS / (double)asker.replies;
    return good;
}

bool
ask_measure(const struct run_conf *conf, const char *path, struct ask_result *result)
{
    struct run run;
    bool good = false;

    memset(result, 0, sizeof(*result));
    if (connect_open(&run, conf)) {
        if (run_join(&run, conf->producers)) {
            const struct producer *probe = &run.producers.all[conf->producers - 1];

            good = ping_on(probe, conf->warm, &result->quiet) &&
                   ping_on(probe, conf->seconds, &result->quiet) &&
                   ping_while_asked(&run, probe, path, result) && !atomic_load(&run.receivers.broken);
            if (!good && !run_interrupted)
                fprintf(stderr, "bench: %s: a connection ended\n", path);
        }
        result->rss_mb = (double)process_memory(&run.process) / (1 << 20);
        receivers_stop(&run.receivers);
    }
    run_close(&run);
    return good;
}
