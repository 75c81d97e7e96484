/* The scenarios: how many producers and receivers, what they write how fast, and which systems take part. */
#ifndef GIMUX_BENCH_SCENARIO_H
#define GIMUX_BENCH_SCENARIO_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/bench/mix.h"
#include "tests/bench/system.h"

enum scenario_kind {
    SCENARIO_FLOW,  /* events flow */
    SCENARIO_IDLE,  /* VMs are connected and say nothing: memory */
    SCENARIO_STORM, /* drivers connect all at once: time */
    SCENARIO_ASK,   /* an operator asks while a driver waits for PONGs */
};

struct scenario {
    const char *name;
    const char *text;
    enum scenario_kind kind;
    unsigned producers;
    unsigned receivers;
    unsigned burst; /* events in one write */
    unsigned rate;  /* events a second; 0: as many as the system takes */
    enum mix_drivers drivers;
    uint32_t size;       /* bytes of a record; 0: as in the traces */
    const char *systems; /* names, each between spaces; NULL: all */
    const char *path;    /* SCENARIO_ASK: what is asked for */
};

/* All of them, ended by one without a name. */
extern const struct scenario scenarios[];

bool scenario_has(const struct scenario *scenario, const struct system *system);

#endif
