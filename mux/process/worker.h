/* The worker: everything that gimuxd does, from start-up in order to tear-down in reverse. */
#ifndef GIMUX_PROCESS_WORKER_H
#define GIMUX_PROCESS_WORKER_H

#include <stdbool.h>

#include "mux/base/conf.h"

/* Runs until the keeper says that it is enough, or is gone. `control` is the socket to the keeper, `takeover`
 * one to the worker that is to be relieved, or -1 (keeper.h). Owns the configuration. Returns the exit
 * status. */
int worker_run(struct conf *conf, int control, int takeover, bool foreground);

#endif
