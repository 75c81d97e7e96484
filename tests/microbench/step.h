/* A step of the event path, to be run by itself again and again over the mix. */
#ifndef GIMUX_MICROBENCH_STEP_H
#define GIMUX_MICROBENCH_STEP_H

#include "tests/microbench/mix.h"

#define STEP_SINKS 3u /* SVMs that each event goes to */

struct step {
    const char *name; /* a word */
    const char *what; /* is measured */
    unsigned times;   /* for each event: STEP_SINKS where it is a delivery that is counted */
    void (*open)(struct mix *mix);
    void (*prepare)(void); /* before each run, not measured; or NULL */
    void (*run)(void);     /* all events of the mix */
    void (*close)(void);
};

extern const struct step step_decode;
extern const struct step step_normalize;
extern const struct step step_pack; /* protobuf-c's encoding, for comparison */
extern const struct step step_append;
extern const struct step step_send;
extern const struct step step_whole;

#endif
