/* What both ends of a link ask about the other's certificate: whether it is revoked, and in words what is
 * wrong. The only file of proto/ that knows OpenSSL. */
#ifndef GIMUX_CERTIFICATE_H
#define GIMUX_CERTIFICATE_H

#include <openssl/ssl.h>
#include <stdbool.h>

#define CERTIFICATE_SUBJECT_MAX 128 /* room for whose a certificate is, NUL included; longer ones are cut */

/* Reads the revocation lists in a PEM file into the store. From then on each certificate in a peer's chain
 * must have a list of the CA that signed it, in date and without it. Returns false if the file cannot be read
 * or has no list; certificate_error then says why. */
bool certificate_read_revocations(X509_STORE *store, const char *file);

/* Whether the revocation lists in the store, which need not be those that the handshake went by, revoke the
 * certificate that the peer has shown, or a CA in its chain. Nothing else is looked at, neither dates nor
 * names. Returns false if the peer has shown none, or memory ran out. If revoked, writes whose certificate
 * that is to subject, which may be NULL. Empties OpenSSL's queue of errors. */
bool certificate_is_revoked(const SSL *peer, X509_STORE *store, char subject[CERTIFICATE_SUBJECT_MAX]);

/* In one word what must be mended after a failed verification (X509_V_ERR_*): "name", "date" (of a
 * certificate or of a revocation list), "revoked", else "chain". */
const char *certificate_fault(long code);

/* Why OpenSSL's last function failed: the system's own error if it began with one, else the newest in
 * OpenSSL's queue, else "no reason given". Empties the queue: call ERR_clear_error before what may fail.
 * Valid until the next call. */
const char *certificate_error(void);

#endif
