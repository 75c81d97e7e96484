/* TLS 1.3 with certificates on both sides, over a socket, without signals. */
#ifndef GIMUX_CLIENT_TLS_H
#define GIMUX_CLIENT_TLS_H

#include <openssl/ssl.h>
#include <stddef.h>

#include "client/context.h"

#define TLS_TEXT_MAX 256 /* room for what tls functions say, NUL included */

/* Makes the server side from the client's cert_file, key_file, ca_file, crl_file and peer_names. Returns NULL
 * and says in error what was wrong and with which file. */
SSL_CTX *gimux_tls_context(const struct gimux_client *client, char error[GIMUX_ERROR_MAX]);

/* Makes how TLS uses a socket: writes that raise no SIGPIPE. NULL if memory ran out. Must outlive every SSL
 * made with it; free it with BIO_meth_free. */
BIO_METHOD *gimux_tls_bio(void);

/* Makes the TLS end of an accepted socket, from client->tls and client->tls_bio. `refusal` (TLS_TEXT_MAX
 * bytes, lives as long as the SSL) receives the reason if the peer's certificate is refused. Returns NULL if
 * memory ran out. The socket stays the caller's. */
SSL *gimux_tls_new(const struct gimux_client *client, int fd, char *refusal);

/* Whether the revocation lists in force, which may be newer than those that its handshake went by, revoke
 * gimuxd's certificate or a CA in its chain. If so, writes that to out. */
bool gimux_tls_is_revoked(const struct gimux_client *client, const SSL *ssl, char out[TLS_TEXT_MAX]);

/* Says in words why the last operation failed: whose certificate, and whether chain, name, date or a
 * revocation is at fault. Empties OpenSSL's queue of errors. */
void gimux_tls_explain(const char *refusal, char out[TLS_TEXT_MAX]);

#endif
