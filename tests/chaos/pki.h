/* A certificate authority of chaos's own, which gives both ends of the TLS links new certificates again and
 * again. */
#ifndef GIMUX_CHAOS_PKI_H
#define GIMUX_CHAOS_PKI_H

#include <stdbool.h>

struct pki; /* an authority, and the one before it */

/* Files in the directory: gimuxd.pem and .key, svm.pem and .key, ca.pem. The SVMs share one certificate;
 * `names` are those of their solutions. Aborts if that fails. */
struct pki *pki_new(const char *dir, const char *const *names, unsigned count);
void pki_free(struct pki *pki);

/* New certificates for one end ("gimuxd" or "svm") by the present authority; the files are replaced, each as
 * a whole. */
void pki_renew(struct pki *pki, const char *name);

/* A new authority; ca.pem trusts it and the one before. */
void pki_new_authority(struct pki *pki);

/* ca.pem trusts the present authority alone. */
void pki_drop_old_authority(struct pki *pki);

/* The serial number of the newest certificate. */
unsigned long pki_serial(const struct pki *pki);

#endif
