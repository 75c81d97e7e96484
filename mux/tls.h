/* TLS 1.3 with certificates on both sides, from memory to a socket; the only room that knows OpenSSL. */
#ifndef GIMUX_TLS_H
#define GIMUX_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tls_context; /* one solution's certificate, key and CA */
struct tls;         /* one connection */

#define TLS_WHY_MAX 640 /* room for the names of two files */

/* Loads PEM files: our certificate chain, its key, and the CA that the peer's certificate must come from.
 * Returns NULL with the reason in why: which file, and what was wrong with it. */
struct tls_context *tls_context_new(const char *cert, const char *key, const char *ca, char why[TLS_WHY_MAX]);

/* NULL is fine. Connections that were made with it go on. */
void tls_context_free(struct tls_context *context);

/* A client on the connected socket fd (not closed by tls_free). The peer's certificate must bear `name`, a
 * DNS name or a numeric IP address. NULL if out of memory. */
struct tls *tls_new(struct tls_context *context, int fd, const char *name);
void tls_free(struct tls *tls); /* NULL is fine */

enum tls_result {
    TLS_DONE,       /* handshake: finished; read, write: at least one byte */
    TLS_WANT_READ,  /* again when the socket is readable */
    TLS_WANT_WRITE, /* again when it is writable */
    TLS_CLOSED,     /* the peer ended in order */
    TLS_FAILED,     /* broken; tls_why says how */
};

enum tls_result tls_handshake(struct tls *tls);
enum tls_result tls_read(struct tls *tls, uint8_t *buf, size_t cap, size_t *len);

/* After TLS_WANT_* the next write must begin with the same bytes, though they may be elsewhere in memory. */
enum tls_result tls_write(struct tls *tls, const uint8_t *buf, size_t len, size_t *taken);

/* What went wrong: for certificates begins with "chain: ", "name: " or "date: ". Valid until tls_free. */
const char *tls_why(const struct tls *tls);

#endif
