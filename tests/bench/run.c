/* One run: a system, its producers and receivers, a stretch of time that is measured. */
#include "tests/bench/run.h"

#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/wire.h"
#include "tests/chaos/pki.h"

#define WINDOW                                                                                               \
    (256u << 10)      /* bytes that a driver keeps unacknowledged: what one in a kernel may well have        \
                       */
#define DRAIN_MS 3000 /* after this long without anything, what is missing is lost */
#define ACK_MS   10000
#define NSEC     1e9
#define POLL_US  1000

volatile bool run_interrupted;

/* ---- opening ---- */

static void
make_tapes(struct run *run)
{
    static const uint16_t drivers[RUN_TAPES] = { GR_LINUX, GR_VSEPFLT, GR_VNETWFP };

    for (unsigned i = 0; i < RUN_TAPES; i++) {
        struct mix *mix = mix_new(drivers[i], run->conf->size);

        run->tapes[i] = tape_new(mix, run->conf->system->wrap, run->conf->system->filetime);
        mix_free(mix);
    }
}

static bool
failed(struct run *run, const char *what)
{
    if (run_interrupted)
        return false;
    fprintf(stderr, "bench: %s: %s\n", run->conf->system->name, what);
    process_show_log(&run->process);
    return false;
}

bool
run_open(struct run *run, const struct run_conf *conf)
{
    const struct system *system = conf->system;

    memset(run, 0, sizeof(*run));
    run->conf = conf;
    for (unsigned i = 0; i < RECEIVERS_MAX; i++)
        run->listeners[i] = -1;
    receivers_init(&run->receivers, conf->receivers, conf->producers);
    run->receivers.take = system->take;
    run->receivers.ack = system->ack;
    run->receivers.ack_us = conf->ack_us;
    make_tapes(run);
    run->producers.all = calloc(conf->producers, sizeof(*run->producers.all));
    if (!run->producers.all)
        abort();
    if (!process_prepare(&run->process, conf->wrap))
        return false;
    process_path(&run->process, "in.sock", run->socket);
    run->port = wire_free_port();
    if (!system->start(run))
        return failed(run, "cannot be started");
    if (conf->verbose)
        fprintf(stderr, "bench: %s is process %d\n", system->name, (int)run->process.pid);
    for (unsigned i = 0; i < conf->receivers; i++)
        if (!system->join_receiver(run, &run->receivers.all[i]))
            return failed(run, "a receiver cannot join");
    return true;
}

bool
run_join(struct run *run, unsigned count)
{
    for (; count > 0; count--) {
        struct producer *producer = &run->producers.all[run->joined];
        uint16_t driver = mix_driver(run->conf->drivers, run->joined);

        producer->id = run->joined;
        producer->fd = -1;
        producer->next = 1;
        snprintf(producer->tag, sizeof(producer->tag), "%04u", producer->id % 10000);
        for (unsigned i = 0; i < RUN_TAPES; i++)
            if (run->tapes[i]->driver == driver)
                producer->tape = run->tapes[i];
        run->producers.count = ++run->joined;
        if (!run->conf->system->join_producer(run, producer))
            return failed(run, "a producer cannot join");
    }
    return true;
}

/* ---- measuring ---- */

static uint64_t
received(const struct run *run)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < run->receivers.count; i++)
        sum += atomic_load(&run->receivers.all[i].count);
    return sum;
}

static uint64_t
last_at(const struct run *run)
{
    uint64_t last = 0;

    for (unsigned i = 0; i < run->receivers.count; i++) {
        uint64_t at = atomic_load(&run->receivers.all[i].last_at);

        last = at > last ? at : last;
    }
    return last;
}

static bool
is_broken(const struct run *run)
{
    return run_interrupted || atomic_load(&run->producers.broken) || atomic_load(&run->receivers.broken);
}

static bool
wait_for(const struct run *run, const _Atomic bool *flag)
{
    for (int i = 0; i < ACK_MS * 1000 / POLL_US && !is_broken(run); i++) {
        if (atomic_load(flag))
            return true;
        usleep(POLL_US);
    }
    return false;
}

/* Stops the producers and waits until everything has come, or nothing comes any more. */
static bool
drain(struct run *run)
{
    uint64_t wanted, seen = 0;
    int silent = 0;

    atomic_store(&run->producers.quiet, false);
    atomic_store(&run->producers.all_acked, false);
    atomic_store(&run->producers.phase, PRODUCE_NOTHING);
    if (!wait_for(run, &run->producers.quiet))
        return false;
    wanted = producers_sent(&run->producers) * run->receivers.count;
    while (received(run) < wanted && silent < DRAIN_MS * 1000 / POLL_US && !is_broken(run)) {
        silent = received(run) == seen ? silent + 1 : 0;
        seen = received(run);
        usleep(POLL_US);
    }
    return wait_for(run, &run->producers.all_acked) || received(run) < wanted;
}

static void
produce(struct run *run, double seconds)
{
    uint64_t until = wire_clock() + (uint64_t)(seconds * NSEC);

    atomic_store(&run->producers.phase, PRODUCE);
    while (wire_clock() < until && !is_broken(run))
        usleep(POLL_US);
}

static void
sum_up(const struct run *run, struct run_result *result)
{
    struct histogram *all = calloc(1, sizeof(*all));
    uint64_t sent = 0, bytes = 0;

    if (!all)
        abort();
    for (unsigned i = 0; i < run->receivers.count; i++) {
        const struct receiver *receiver = &run->receivers.all[i];

        result->lost += receiver->lost;
        result->reordered += receiver->reordered;
        all->count += receiver->latency.count;
        for (unsigned j = 0; j < HISTOGRAM_BUCKETS; j++)
            all->buckets[j] += receiver->latency.buckets[j];
        for (uint32_t j = 0; j < run->producers.count; j++) /* lost at the end, which nobody came after */
            result->lost += run->producers.all[j].next - receiver->next[j];
    }
    for (uint32_t j = 0; j < run->producers.count; j++) {
        sent += run->producers.all[j].next - 1;
        bytes += tape_bytes(run->producers.all[j].tape, run->producers.all[j].next - 1);
    }
    result->event_bytes = sent ? (double)bytes / (double)sent : 0;
    result->lossless = result->lost == 0 && result->reordered == 0;
    if (run->conf->rate) {
        result->p50_us = histogram_at(all, 0.5);
        result->p99_us = histogram_at(all, 0.99);
    }
    free(all);
}

static bool
explain(struct run *run)
{
    for (unsigned i = 0; i < run->receivers.count; i++)
        if (run->receivers.all[i].wrong)
            return failed(run, run->receivers.all[i].wrong);
    return failed(run, is_broken(run) ? "a connection ended" : "not all was acknowledged");
}

bool
run_measure(struct run *run, struct run_result *result)
{
    uint64_t cpu, began, before;
    bool good;

    memset(result, 0, sizeof(*result));
    run->producers.burst = run->conf->burst;
    run->producers.rate = run->conf->rate;
    run->producers.listen = run->conf->system->listen;
    run->producers.window = WINDOW;
    for (unsigned i = 0; i < run->receivers.count; i++)
        wire_no_wait(run->receivers.all[i].fd);
    for (uint32_t i = 0; i < run->producers.count; i++)
        wire_no_wait(run->producers.all[i].fd);
    if (!receivers_start(&run->receivers))
        return failed(run, "no thread");
    if (!producers_start(&run->producers)) {
        receivers_stop(&run->receivers);
        return failed(run, "no thread");
    }
    produce(run, run->conf->warm);
    good = drain(run);
    before = received(run);
    cpu = process_cpu(&run->process);
    began = wire_clock();
    atomic_store(&run->receivers.timed, run->conf->rate > 0);
    if (good) {
        produce(run, run->conf->seconds);
        result->rss_mb = (double)process_memory(&run->process) / (1 << 20);
        good = drain(run);
    }
    cpu = process_cpu(&run->process) - cpu;
    good = good && process_runs(&run->process) && !is_broken(run);
    producers_stop(&run->producers);
    receivers_stop(&run->receivers);
    if (!good)
        return explain(run);
    result->deliveries = received(run) - before;
    if (result->deliveries == 0)
        return failed(run, "nothing was delivered");
    result->cpu_per_million = (double)cpu / NSEC * 1e6 / (double)result->deliveries;
    result->deliveries_per_s = (double)result->deliveries * NSEC / (double)(last_at(run) - began);
    sum_up(run, result);
    return true;
}

void
run_close(struct run *run)
{
    process_end(&run->process);
    for (uint32_t i = 0; i < run->producers.count; i++) {
        if (run->producers.all[i].fd >= 0)
            close(run->producers.all[i].fd);
        free(run->producers.all[i].rest);
    }
    free(run->producers.all);
    receivers_fini(&run->receivers);
    for (unsigned i = 0; i < RECEIVERS_MAX; i++)
        if (run->listeners[i] >= 0)
            close(run->listeners[i]);
    for (unsigned i = 0; i < RUN_TAPES; i++)
        tape_free(run->tapes[i]);
    pki_free(run->pki);
    SSL_CTX_free(run->tls);
}
