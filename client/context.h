/* What one client holds, shared by all parts of the library; private, not installed. */
#ifndef GIMUX_CLIENT_CONTEXT_H
#define GIMUX_CLIENT_CONTEXT_H

#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/decode.h"
#include "client/gimux_client.h"
#include "client/position.h"
#include "proto/address.h"
#include "proto/gimux.pb-c.h"

struct link;

struct gimux_client {
    struct gimux_client_callbacks callbacks;
    void *user;
    bool explicit_ack;
    char name[128];
    Gimux__V1__Subscription subscription; /* owns its arrays and texts */

    char address[ADDRESS_TEXT_MAX];
    char *cert_file, *key_file, *ca_file, *crl_file;
    char **peer_names;
    size_t peer_name_count;
    SSL_CTX *tls;        /* NULL: plain TCP */
    BIO_METHOD *tls_bio; /* how TLS uses a socket */

    int epoll;
    int listener;
    int timer;         /* wakes the epoll descriptor */
    int64_t timer_at;  /* when it does, milliseconds of gimux_now; INT64_MAX: not set */
    int64_t accept_at; /* not 0: descriptors ran out, listen again then */
    struct link *links[GIMUX_CONNECTIONS_MAX];
    uint64_t accepted; /* links so far */
    struct positions positions;
    struct decoder decoder;
    struct gimux_client_stats stats;
    bool dispatching;
    bool stopping;
};

/* Milliseconds of the monotonic clock. */
int64_t gimux_now(void);

/* Calls on_log. */
void gimux_log(struct gimux_client *client, enum gimux_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Makes the epoll descriptor readable no later than `at` (gimux_now's clock; 0: at once). */
void gimux_wake_at(struct gimux_client *client, int64_t at);

#endif
