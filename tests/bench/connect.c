/* What it takes to be connected: the memory of idle VMs, and the time of drivers that come all at once. */
#include "tests/bench/connect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/bench/system_gimuxd.h"
#include "tests/bench/wire.h"

#define FIRST_VMS   64 /* what is allocated only once is allocated after these */
#define CALM_US     20000
#define CALM_TIMES  10
#define CALM_MAX    250
#define EVENTS_MAX  64
#define AT_ONCE     16 /* connections made between two looks at the others */
#define STORM_NS    UINT64_C(30000000000)
#define NSEC_PER_MS 1e6

/* Waits until the memory does not change any more, and says how much it is. */
static uint64_t
calm_memory(struct run *run)
{
    uint64_t before = 0, now = process_memory(&run->process);
    int calm = 0;

    for (int i = 0; i < CALM_MAX && calm < CALM_TIMES && !run_interrupted; i++) {
        usleep(CALM_US);
        before = now;
        now = process_memory(&run->process);
        calm = now == before ? calm + 1 : 0;
    }
    return now;
}

bool
connect_open(struct run *run, const struct run_conf *conf)
{
    if (!run_open(run, conf))
        return false;
    for (unsigned i = 0; i < run->receivers.count; i++)
        wire_no_wait(run->receivers.all[i].fd);
    return receivers_start(&run->receivers);
}

bool
connect_idle(const struct run_conf *conf, struct connect_result *result)
{
    struct run run;
    uint64_t before, after;
    bool good = false;

    memset(result, 0, sizeof(*result));
    if (connect_open(&run, conf)) {
        good = run_join(&run, FIRST_VMS);
        before = calm_memory(&run);
        good = good && run_join(&run, conf->producers - FIRST_VMS);
        after = calm_memory(&run);
        result->kib_per_vm = ((double)after - (double)before) / 1024 / (conf->producers - FIRST_VMS);
        result->rss_mb = (double)after / (1 << 20);
        good = good && !atomic_load(&run.receivers.broken);
        receivers_stop(&run.receivers);
    }
    run_close(&run);
    return good;
}

/* ---- all at once ---- */

struct storm {
    struct run *run;
    int poller;
    unsigned next; /* who connects next */
    unsigned welcomed;
    struct producer *probe;
    uint64_t asked; /* when the probe has sent its PING; 0: no PONG is outstanding */
    uint64_t longest;
};

/* Returns false if it must be tried again. */
static bool
connect_one(struct storm *storm)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct producer *producer = &storm->run->producers.all[storm->next];
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = producer };

    producer->id = storm->next;
    producer->tape = storm->run->tapes[0];
    if (producer->fd <= 0)
        producer->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    memcpy(address.sun_path, storm->run->socket, sizeof(address.sun_path) - 1);
    if (connect(producer->fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        return false; /* the queue of those that wait to be accepted is full */
    epoll_ctl(storm->poller, EPOLL_CTL_ADD, producer->fd, &event);
    system_gimuxd_hello(producer);
    storm->run->producers.count = ++storm->next;
    return true;
}

static void
ask(struct storm *storm)
{
    if (storm->asked == 0 && system_gimuxd_ping(storm->probe, 0))
        storm->asked = wire_clock();
}

static void
hear(struct storm *storm, struct producer *producer)
{
    uint8_t buf[512];
    ssize_t got = recv(producer->fd, buf, sizeof(buf), MSG_DONTWAIT);
    uint16_t type;

    if (got < (ssize_t)GR_HEADER_SIZE)
        return;
    memcpy(&type, buf + 4, sizeof(type));
    if (producer != storm->probe) {
        storm->welcomed += type == GR_WELCOME;
        return;
    }
    if (type == GR_PONG && storm->asked) {
        uint64_t took = wire_clock() - storm->asked;

        storm->longest = took > storm->longest ? took : storm->longest;
        storm->asked = 0;
    }
}

static bool
storm_on(struct storm *storm, unsigned wanted, struct connect_result *result)
{
    uint64_t began = wire_clock();
    struct epoll_event events[EVENTS_MAX];

    while (storm->welcomed < wanted && wire_clock() - began < STORM_NS && !run_interrupted) {
        int count;

        ask(storm);
        for (int i = 0; i < AT_ONCE && storm->next <= wanted && connect_one(storm); i++)
            continue;
        count = epoll_wait(storm->poller, events, EVENTS_MAX, storm->next <= wanted ? 0 : 1);
        for (int i = 0; i < count; i++)
            hear(storm, events[i].data.ptr);
    }
    result->welcome_ms = (double)(wire_clock() - began) / NSEC_PER_MS;
    result->longest_ms = (double)storm->longest / NSEC_PER_MS;
    return storm->welcomed == wanted;
}

bool
connect_storm(const struct run_conf *conf, struct connect_result *result)
{
    struct run run;
    struct storm storm = { .run = &run };
    bool good = false;

    memset(result, 0, sizeof(*result));
    if (connect_open(&run, conf)) {
        storm.poller = epoll_create1(EPOLL_CLOEXEC);
        if (run_join(&run, 1)) {
            struct epoll_event event = { .events = EPOLLIN, .data.ptr = &run.producers.all[0] };

            storm.probe = &run.producers.all[0];
            storm.next = 1;
            epoll_ctl(storm.poller, EPOLL_CTL_ADD, storm.probe->fd, &event);
            good = storm_on(&storm, conf->producers - 1, result);
            if (!good)
                fprintf(stderr, "bench: storm: %u of %u drivers were welcomed\n", storm.welcomed,
                        conf->producers - 1);
        }
        result->rss_mb = (double)process_memory(&run.process) / (1 << 20);
        close(storm.poller);
        receivers_stop(&run.receivers);
    }
    run_close(&run);
    return good;
}
