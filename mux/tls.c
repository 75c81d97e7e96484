/* TLS 1.3 with certificates on both sides, from memory to a socket; the only room that knows OpenSSL. */
#include "mux/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mux/stats.h"

#define TLS_NAME_MAX 256

struct tls_context {
    SSL_CTX *ssl;
};

struct tls {
    SSL *ssl;
    char name[TLS_NAME_MAX]; /* that the peer's certificate must bear */
    char why[TLS_WHY_MAX];
};

/* What went wrong, as text: the system's own error if that is how it began, else the newest of OpenSSL.
 * Empties the queue. */
static const char *
last_error(void)
{
    unsigned long first = ERR_peek_error();
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;

    if (ERR_SYSTEM_ERROR(first))
        reason = strerror(ERR_GET_REASON(first));

    ERR_clear_error();
    return reason ? reason : "no reason given";
}

static bool
is_mismatch(unsigned long code)
{
    return ERR_GET_LIB(code) == ERR_LIB_X509 && (ERR_GET_REASON(code) == X509_R_KEY_VALUES_MISMATCH ||
                                                 ERR_GET_REASON(code) == X509_R_KEY_TYPE_MISMATCH);
}

static bool
load_files(SSL_CTX *ssl, const char *cert, const char *key, const char *ca, char why[TLS_WHY_MAX])
{
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(ssl, cert) != 1)
        snprintf(why, TLS_WHY_MAX, "certificate %s: %s", cert, last_error());
    else if (SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) != 1 &&
             !is_mismatch(ERR_peek_last_error()))
        snprintf(why, TLS_WHY_MAX, "key %s: %s", key, last_error());
    else if (SSL_CTX_check_private_key(ssl) != 1)
        snprintf(why, TLS_WHY_MAX, "key %s does not belong to certificate %s", key, cert);
    else if (SSL_CTX_load_verify_locations(ssl, ca, NULL) != 1)
        snprintf(why, TLS_WHY_MAX, "CA %s: %s", ca, last_error());
    else
        return true;
    return false;
}

struct tls_context *
tls_context_new(const char *cert, const char *key, const char *ca, char why[TLS_WHY_MAX])
{
    struct tls_context *context = calloc(1, sizeof(*context));
    SSL_CTX *ssl = context ? SSL_CTX_new(TLS_client_method()) : NULL;

    if (!ssl) {
        free(context);
        snprintf(why, TLS_WHY_MAX, "out of memory");
        return NULL;
    }
    SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION);
    SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    /* One record at a time: a peer that sends nothing but key updates would else keep us in one call. */
    SSL_CTX_clear_mode(ssl, SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL);
    context->ssl = ssl;
    if (!load_files(ssl, cert, key, ca, why)) {
        tls_context_free(context);
        return NULL;
    }
    return context;
}

void
tls_context_free(struct tls_context *context)
{
    if (!context)
        return;
    SSL_CTX_free(context->ssl);
    free(context);
}

struct tls *
tls_new(struct tls_context *context, int fd, const char *name)
{
    struct tls *tls = calloc(1, sizeof(*tls));
    struct in6_addr address;
    bool numeric = inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1;

    if (!tls)
        return NULL;
    tls->ssl = SSL_new(context->ssl);
    if (!tls->ssl || SSL_set_fd(tls->ssl, fd) != 1 ||
        (numeric ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls->ssl), name)
                 : SSL_set1_host(tls->ssl, name) && SSL_set_tlsext_host_name(tls->ssl, name)) != 1) {
        tls_free(tls);
        return NULL;
    }
    snprintf(tls->name, sizeof(tls->name), "%s", name);
    SSL_set_connect_state(tls->ssl);
    return tls;
}

void
tls_free(struct tls *tls)
{
    if (!tls)
        return;
    SSL_free(tls->ssl);
    free(tls);
}

/* Which of the three things that an administrator can mend a failed verification is about. */
static const char *
verify_kind(long code)
{
    switch (code) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
    case X509_V_ERR_CRL_HAS_EXPIRED:
    case X509_V_ERR_CRL_NOT_YET_VALID:
        return "date";
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return "name";
    default:
        return "chain";
    }
}

static enum tls_result
fail(struct tls *tls)
{
    long verified = SSL_get_verify_result(tls->ssl);
    unsigned long code = ERR_peek_last_error();

    if (code)
        stats.svm_tls_failures_total++;
    if (ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED && verified != X509_V_OK) {
        const char *kind = verify_kind(verified);

        if (strcmp(kind, "name") == 0)
            snprintf(tls->why, sizeof(tls->why), "name: the peer's certificate does not bear %s", tls->name);
        else
            snprintf(tls->why, sizeof(tls->why), "%s: the peer's certificate: %s", kind,
                     X509_verify_cert_error_string(verified));
        ERR_clear_error();
    } else if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) > SSL_AD_REASON_OFFSET) {
        snprintf(tls->why, sizeof(tls->why), "the peer refused us: %s", last_error());
    } else if (code) {
        snprintf(tls->why, sizeof(tls->why), "TLS: %s", last_error());
    } else {
        snprintf(tls->why, sizeof(tls->why), "TLS: %s", errno ? strerror(errno) : "the peer hung up");
    }
    return TLS_FAILED;
}

static enum tls_result
result_of(struct tls *tls, int returned)
{
    switch (SSL_get_error(tls->ssl, returned)) {
    case SSL_ERROR_NONE:
        return TLS_DONE;
    case SSL_ERROR_WANT_READ:
        return TLS_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return TLS_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return TLS_CLOSED;
    default:
        return fail(tls);
    }
}

enum tls_result
tls_handshake(struct tls *tls)
{
    ERR_clear_error();
    errno = 0;
    return result_of(tls, SSL_do_handshake(tls->ssl));
}

enum tls_result
tls_read(struct tls *tls, uint8_t *buf, size_t cap, size_t *len)
{
    ERR_clear_error();
    errno = 0;
    return result_of(tls, SSL_read_ex(tls->ssl, buf, cap, len));
}

enum tls_result
tls_write(struct tls *tls, const uint8_t *buf, size_t len, size_t *taken)
{
    ERR_clear_error();
    errno = 0;
    return result_of(tls, SSL_write_ex(tls->ssl, buf, len, taken));
}

const char *
tls_why(const struct tls *tls)
{
    return tls->why;
}
