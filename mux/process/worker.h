/* The worker: everything that gimuxd does, from start-up in order to tear-down in reverse. */
#ifndef GIMUX_PROCESS_WORKER_H
#define GIMUX_PROCESS_WORKER_H

#include <stdbool.h>

#include "mux/base/conf.h"

/* Runs until SIGTERM or SIGINT ends it; until another worker has taken its place, or the keeper is gone, in
 * which cases the process exits. `control` is the socket to the keeper, `takeover` one to the worker that
 * this one relieves, or -1 (keeper.h); `foreground`: it does not leave the terminal. Takes over all of these,
 * and frees the configuration. Returns the exit status. */
int worker_run(struct conf *conf, int control, int takeover, bool foreground);

#endif
