/* A solution's TLS files: read and put in force together, and watched for their end. */
#ifndef GIMUX_SVM_CREDENTIAL_H
#define GIMUX_SVM_CREDENTIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "mux/base/conf.h"
#include "mux/net/tls.h"
#include "mux/svm/expiry.h"

/* What can end. */
enum credential_part {
    CREDENTIAL_OWN,  /* gimuxd's certificate */
    CREDENTIAL_PEER, /* that of the SVM, as last shown */
    CREDENTIAL_CRL,  /* the revocation lists */
    CREDENTIAL_PARTS
};

/* Of one solution; zero-initialize. */
struct credential {
    struct tls_context *tls; /* NULL: plain */
    struct expiry parts[CREDENTIAL_PARTS];
};

/* Reads the TLS files of every solution. contexts, in the order of conf->solutions and the caller's, are NULL
 * for plain ones. False, with all released, if one cannot be used; each is logged. */
bool credential_load(const struct conf *conf, struct tls_context *contexts[CONF_SOLUTIONS_MAX]);

/* Frees them and sets them to NULL. */
void credential_release(struct tls_context *contexts[CONF_SOLUTIONS_MAX]);

/* Whether files that were read (NULL: plain) may take the place of those in force: a certificate that is out
 * of date may not, while the one in force is good. If not, it is logged. */
bool credential_allows(const struct credential *credential, const struct tls_context *fresh,
                       const struct conf_solution *solution);

/* Puts what was read in force, and takes it over; what was in force is freed. NULL: plain from now on. */
void credential_set(struct credential *credential, struct tls_context *fresh);

/* Notes the certificate that the SVM has shown. */
void credential_meet(struct credential *credential, const struct tls *tls);

/* Warns, once for each mark (expiry.h), of what ends soon or has ended. Returns the seconds until it should
 * be called again, at least 1; INT64_MAX: not at all. */
int64_t credential_watch(struct credential *credential, const struct conf_solution *solution);

#endif
