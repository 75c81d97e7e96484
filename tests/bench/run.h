/* One run: a system, its producers and receivers, a stretch of time that is measured. */
#ifndef GIMUX_BENCH_RUN_H
#define GIMUX_BENCH_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/bench/process.h"
#include "tests/bench/producer.h"
#include "tests/bench/receiver.h"
#include "tests/bench/system.h"

#define RUN_TAPES 3 /* linux, vsepflt, vnetwfp */

struct run_conf {
    const struct system *system;
    unsigned producers;
    unsigned receivers;
    unsigned burst; /* events in one write */
    unsigned rate;  /* events a second; 0: as many as it takes */
    enum mix_drivers drivers;
    uint32_t size;   /* bytes of each record; 0: as in the traces */
    double warm;     /* seconds before the stretch */
    double seconds;  /* of the stretch */
    unsigned ack_us; /* how long receivers may hold back acknowledgements */
    bool calm;       /* gimuxd sends no heartbeats, and takes nobody for lost who sends none */
    bool verbose;
    const char *wrap;     /* words before the command of the system, or NULL */
    const char *gimuxd;   /* the program */
    const char *programs; /* directory of the benchmark's own programs */
};

struct run {
    const struct run_conf *conf;
    struct process process;
    char socket[PROCESS_PATH_MAX];
    uint16_t port;
    int listeners[RECEIVERS_MAX]; /* where the system dials the receivers */
    struct pki *pki;
    struct ssl_ctx_st *tls; /* the receivers' */
    struct tape *tapes[RUN_TAPES];
    struct producers producers;
    struct receivers receivers;
    unsigned joined; /* producers that have joined */
};

struct run_result {
    double cpu_per_million; /* CPU seconds of the system for a million deliveries */
    double deliveries_per_s;
    double p50_us, p99_us; /* 0 unless the rate was fixed */
    double rss_mb;         /* at the end of the stretch */
    double event_bytes;    /* of a record, on average */
    uint64_t deliveries;
    uint64_t lost;
    uint64_t reordered;
    bool lossless;
};

extern volatile bool run_interrupted;

/* Starts the system and lets receivers join. False, with a message, if that fails; run_close in any case. */
bool run_open(struct run *run, const struct run_conf *conf);

/* Lets so many more producers join. */
bool run_join(struct run *run, unsigned count);

/* Produces, waits until all is delivered, and says what it took. False, with a message, if something broke.
 */
bool run_measure(struct run *run, struct run_result *result);

void run_close(struct run *run);

#endif
