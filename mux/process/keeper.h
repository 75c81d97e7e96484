/* The keeper: the process that service managers know. It starts the worker, which does everything else,
 * passes signals on to it, puts another one in its place on SIGUSR2, and ends as it ends. */
#ifndef GIMUX_PROCESS_KEEPER_H
#define GIMUX_PROCESS_KEEPER_H

#include <stdbool.h>

#include "mux/base/conf.h"

/* Runs a worker with this configuration, whose path is absolute and which stays the caller's, until it ends.
 * `program` is argv[0]. Not in the foreground: the caller's process exits as soon as the worker is up, with
 * 0, or has ended, with 1; a child goes on and returns. Returns the exit status: the worker's, or 1. */
int keeper_run(const struct conf *conf, const char *program, bool foreground);

/* What keeper and worker tell each other: a keeper may be older than its worker, so this stays as it is.
 *
 * A worker is started as `gimuxd -c FILE [-f] --worker=CONTROL[,TAKEOVER]`. CONTROL is a descriptor of a
 * sequenced-packet socket to the keeper, TAKEOVER one to the worker that it is to relieve. Each packet begins
 * with one of: */
enum keeper_word {
    /* From the worker: everything is open. */
    KEEPER_UP = 'u',
    /* To the worker: hand over to the one at the other end of the descriptor that comes along. */
    KEEPER_HAND_OVER = 'h',
};

/* Sends one packet, with a descriptor, which stays the caller's, unless fd is -1. Does not wait. False if the
 * other end is gone or does not read. */
bool keeper_send(int control, enum keeper_word word, int fd);

/* The next packet's word; 0 if there is none yet, -1 if the other end is gone. *fd: the descriptor that came
 * along, now the caller's, or -1. */
int keeper_receive(int control, int *fd);

/* How long a new worker may take to be up before it is given up, in ms. */
#define KEEPER_UPGRADE_MS 10000u

#endif
