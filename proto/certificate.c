/* What both ends of a link ask about the other's certificate: whether it is revoked, and in words what is
 * wrong. */
#include "proto/certificate.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

bool
certificate_read_revocations(X509_STORE *store, const char *file)
{
    X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());

    return lookup && X509_load_crl_file(lookup, file, X509_FILETYPE_PEM) > 0 &&
           X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL) == 1;
}

struct revocation {
    bool found;
    char *subject; /* NULL: nobody asks */
};

/* Goes on whatever is wrong, so that nothing hides a revocation. */
static int
look_for_revocation(int ok, X509_STORE_CTX *context)
{
    struct revocation *revocation = X509_STORE_CTX_get_app_data(context);
    const X509 *cert = X509_STORE_CTX_get_current_cert(context);

    if (ok || X509_STORE_CTX_get_error(context) != X509_V_ERR_CERT_REVOKED)
        return 1;
    revocation->found = true;
    if (revocation->subject)
        X509_NAME_oneline(X509_get_subject_name(cert), revocation->subject, CERTIFICATE_SUBJECT_MAX);
    return 1;
}

bool
certificate_is_revoked(const SSL *peer, X509_STORE *store, char subject[CERTIFICATE_SUBJECT_MAX])
{
    struct revocation revocation = { .subject = subject };
    X509 *cert = SSL_get0_peer_certificate(peer);
    X509_STORE_CTX *context = X509_STORE_CTX_new();

    if (cert && context && X509_STORE_CTX_init(context, store, cert, SSL_get_peer_cert_chain(peer)) == 1) {
        X509_STORE_CTX_set_app_data(context, &revocation);
        X509_STORE_CTX_set_verify_cb(context, look_for_revocation);
        X509_verify_cert(context);
    }
    X509_STORE_CTX_free(context);
    ERR_clear_error();
    return revocation.found;
}

const char *
certificate_fault(long code)
{
    switch (code) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return "name";
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
    case X509_V_ERR_ERROR_IN_CERT_NOT_BEFORE_FIELD:
    case X509_V_ERR_ERROR_IN_CERT_NOT_AFTER_FIELD:
    case X509_V_ERR_CRL_HAS_EXPIRED:
    case X509_V_ERR_CRL_NOT_YET_VALID:
        return "date";
    case X509_V_ERR_CERT_REVOKED:
        return "revoked";
    default:
        return "chain";
    }
}

const char *
certificate_error(void)
{
    unsigned long first = ERR_peek_error();
    unsigned long newest = ERR_peek_last_error();
    const char *reason = newest ? ERR_reason_error_string(newest) : NULL;

    if (ERR_SYSTEM_ERROR(first))
        reason = strerror(ERR_GET_REASON(first));
    ERR_clear_error();
    return reason ? reason : "no reason given";
}
