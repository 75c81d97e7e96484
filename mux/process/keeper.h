/* The keeper: the process that service managers know. It starts the worker, which does everything else,
 * passes signals on to it, puts another one in its place on SIGUSR2, and ends as it ends. */
#ifndef GIMUX_PROCESS_KEEPER_H
#define GIMUX_PROCESS_KEEPER_H

#include <stdbool.h>

#include "mux/base/conf.h"

/* Runs a worker with this configuration, whose path is absolute, until it ends. `program` is how this one was
 * called. Not in the foreground: the caller's process ends as soon as the worker is up, and a child goes on.
 * Returns the exit status: the worker's, or 1. */
int keeper_run(const struct conf *conf, const char *program, bool foreground);

/* What keeper and worker tell each other: a keeper may be older than its worker, so this stays as it is.
 *
 * A worker is started as `gimuxd -c FILE [-f] --worker=CONTROL[,TAKEOVER]`. CONTROL is a descriptor of a
 * sequenced-packet socket to the keeper, TAKEOVER one to the worker that it is to relieve. Each packet begins
 * with one of: */
enum keeper_word {
    KEEPER_UP = 'u', /* from the worker: everything is open */
    KEEPER_HAND_OVER =
        'h', /* to the worker: somebody waits at the other end of the descriptor that comes along */
};

/* One packet, with a descriptor unless fd is -1. False if the other end is gone or does not read. */
bool keeper_send(int control, enum keeper_word word, int fd);

/* The next packet's word, 0 if there is none yet, -1 at the end. *fd: a descriptor, the caller's, or -1. */
int keeper_receive(int control, int *fd);

/* How long a new worker may take to be up before it is given up. */
#define KEEPER_UPGRADE_MS 10000u

#endif
