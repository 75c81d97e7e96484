/* TLS 1.3 with certificates on both sides, from memory to a socket. Of mux, no other file knows OpenSSL. */
#ifndef GIMUX_NET_TLS_H
#define GIMUX_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tls_context; /* one solution's certificate, key, CA and revocation lists */
struct tls;         /* one connection */

/* Names of PEM files. */
struct tls_files {
    const char *cert; /* our certificate chain */
    const char *key;  /* its key */
    const char *ca;   /* the CA that must have issued the peer's certificate */
    const char *crl;  /* revocation lists, one of every CA in the peer's chain; empty: none are checked */
};

/* What the peer's certificate must bear. */
struct tls_peer {
    const char *name;     /* a DNS name or a numeric IP address */
    const char *solution; /* as the URI gimux:solution:NAME */
};

#define TLS_WHY_MAX 640 /* room for the names of two files */

/* Loads the files. Returns NULL with the reason in `why`: which file, and what is wrong with it. */
struct tls_context *tls_context_new(const struct tls_files *files, char why[TLS_WHY_MAX]);

/* NULL is fine. Connections that were made with it keep working. */
void tls_context_free(struct tls_context *context);

/* Unix times: when our certificate becomes valid and when it expires, and when the first of the revocation
 * lists does (0: there are none, or they do not expire). */
int64_t tls_context_begins(const struct tls_context *context);
int64_t tls_context_ends(const struct tls_context *context);
int64_t tls_context_crl_ends(const struct tls_context *context);

/* A client on the connected socket fd (not closed by tls_free). NULL if out of memory, or if a name in `peer`
 * is too long. */
struct tls *tls_new(struct tls_context *context, int fd, const struct tls_peer *peer);
void tls_free(struct tls *tls); /* NULL is fine */

enum tls_result {
    TLS_DONE,       /* handshake: finished; read, write: at least one byte */
    TLS_WANT_READ,  /* again when the socket is readable */
    TLS_WANT_WRITE, /* again when it is writable */
    TLS_CLOSED,     /* the peer ended in order */
    TLS_FAILED,     /* broken; tls_why says how */
};

enum tls_result tls_handshake(struct tls *tls);

/* On TLS_DONE *len is how many bytes, of one record, were put into buf. */
enum tls_result tls_read(struct tls *tls, uint8_t *buf, size_t cap, size_t *len);

/* On TLS_DONE *taken is how many bytes were taken. After TLS_WANT_* the next write must begin with the same
 * bytes, though they may be elsewhere in memory. */
enum tls_result tls_write(struct tls *tls, const uint8_t *buf, size_t len, size_t *taken);

/* Why the last call returned TLS_FAILED; for certificates begins with "chain: ", "name: ", "solution: ",
 * "date: " or "revoked: ". Valid until the next call or tls_free. */
const char *tls_why(const struct tls *tls);

/* When the peer's certificate expires, Unix time; 0: it has shown none yet. */
int64_t tls_peer_ends(const struct tls *tls);

/* Whether the revocation lists of a context, which need not be the connection's own, revoke the peer's
 * certificate or a CA in its chain. Dates and names are not checked. */
bool tls_peer_revoked(const struct tls *tls, const struct tls_context *context);
#define TLS_REVOKED "revoked: the peer's certificate has been revoked"

#endif
