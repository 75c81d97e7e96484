/* What came out: medians with minimum and maximum, as a table and as JSON. */
#ifndef GIMUX_BENCH_REPORT_H
#define GIMUX_BENCH_REPORT_H

#include "tests/bench/ask.h"
#include "tests/bench/connect.h"
#include "tests/bench/run.h"
#include "tests/bench/scenario.h"

#define REPORT_REPETITIONS 64

enum measure {
    CPU_S_PER_MILLION,
    DELIVERIES_PER_S,
    RATIO_TO_LIMIT,
    P50_US,
    P99_US,
    P99_TO_LIMIT,
    RSS_MB,
    KIB_PER_VM,
    WELCOME_MS,
    LONGEST_MS,
    QUIET_P50_US,
    QUIET_P99_US,
    QUIET_MOST_US,
    ASKED_P50_US,
    ASKED_P99_US,
    ASKED_MOST_US,
    REPLY_KIB,
    REPLY_MS,
    MEASURES
};

struct samples {
    unsigned count;
    double all[REPORT_REPETITIONS];
};

/* One system in one scenario. */
struct row {
    const struct scenario *scenario;
    const struct system *system;
    struct samples samples[MEASURES];
    double event_bytes;
    uint64_t lost, reordered;
    unsigned failed; /* repetitions that broke */
    bool lossless;
};

/* Enters one repetition; `limit` is that of the limit in the same repetition, or NULL. */
void report_flow(struct row *row, const struct run_result *result, const struct run_result *limit);
void report_connect(struct row *row, const struct connect_result *result);
void report_ask(struct row *row, const struct ask_result *result);

void report_table(const struct row *rows, unsigned count);

/* Writes a list of objects. False, with a message, if it cannot. */
bool report_json(const struct row *rows, unsigned count, const char *path);

#endif
