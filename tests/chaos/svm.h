/* An SVM of chaos: a client of the library behind a relay, that enters all it is told into the ledger. It can
 * be started anew, stand still, and hold back its acknowledgements. */
#ifndef GIMUX_CHAOS_SVM_H
#define GIMUX_CHAOS_SVM_H

#include <stdbool.h>
#include <stdint.h>

#include "client/gimux_client.h"
#include "tests/chaos/ledger.h"
#include "tests/chaos/relay.h"

struct svm_conf {
    const char *name;
    const char *policy;     /* as in gimuxd's configuration */
    const char *durability; /* the same */
    bool mutes;             /* the two prefixes of event.h: one by gimuxd's configuration, one by its hello */
    bool tls;
};

/* A stream as one life of the client knows it; hangs at gimux_stream.user. */
struct told {
    struct gimux_stream *stream;
    struct stream *of; /* NULL: one of gimuxd's own */
    uint64_t last;
    uint64_t acked; /* by gimux_client_ack */
    struct told *next;
};

struct svm {
    struct svm_conf conf;
    struct reader reader;
    struct relay relay;
    struct gimux_client *client; /* NULL: not started */
    const char *certificates;    /* directory of svm.pem, svm.key and ca.pem */
    /* The stream that a driver of chaos made, or NULL. */
    struct stream *(*find)(void *arg, uint32_t vm, uint32_t boot, uint16_t driver);
    /* Calls each(stream, reader) for all of them. */
    void (*for_each)(void *arg, void (*each)(struct stream *stream, const struct reader *reader),
                     const struct reader *reader);
    void *arg;
    struct told *told;
    bool explicit_ack; /* this life acknowledges by itself */
    bool holds;        /* it does not acknowledge (explicit_ack only) */
    bool stopped;      /* the client is not dispatched, as if it had a SIGSTOP */
    uint64_t lives;
    uint64_t own_events; /* of gimuxd's own streams */
};

/* Starts a client with nothing in its memory. Aborts if that fails. */
void svm_start(struct svm *svm, bool explicit_ack);

/* As a kill -9 would end it: gimuxd sees its end, and nothing that it had still to say. */
void svm_kill(struct svm *svm, bool reset);

/* Acknowledges what was held back. */
void svm_release(struct svm *svm);

/* Lets the client do what is due. */
void svm_turn(struct svm *svm);

#endif
