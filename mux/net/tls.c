/* TLS 1.3 with certificates on both sides, from memory to a socket. No other file knows OpenSSL. */
#include "mux/net/tls.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mux/base/stats.h"
#include "proto/certificate.h"

#define TLS_NAME_MAX    256
#define SOLUTION_PREFIX "gimux:solution:"

#define CIPHERS_MAX     512
#define CHEAPEST_CIPHER "TLS_AES_128_GCM_SHA256"

struct tls_context {
    SSL_CTX *ssl;
};

struct tls {
    SSL *ssl;
    char name[TLS_NAME_MAX]; /* these two the peer's certificate must bear, */
    char solution[TLS_NAME_MAX];
    char uri[TLS_NAME_MAX]; /* the solution as this URI */
    char why[TLS_WHY_MAX];
};

static bool
is_mismatch(unsigned long code)
{
    return ERR_GET_LIB(code) == ERR_LIB_X509 && (ERR_GET_REASON(code) == X509_R_KEY_VALUES_MISMATCH ||
                                                 ERR_GET_REASON(code) == X509_R_KEY_TYPE_MISMATCH);
}

static bool
load_files(SSL_CTX *ssl, const struct tls_files *files, char why[TLS_WHY_MAX])
{
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(ssl, files->cert) != 1)
        snprintf(why, TLS_WHY_MAX, "certificate %s: %s", files->cert, certificate_error());
    else if (SSL_CTX_use_PrivateKey_file(ssl, files->key, SSL_FILETYPE_PEM) != 1 &&
             !is_mismatch(ERR_peek_last_error()))
        snprintf(why, TLS_WHY_MAX, "key %s: %s", files->key, certificate_error());
    else if (SSL_CTX_check_private_key(ssl) != 1)
        snprintf(why, TLS_WHY_MAX, "key %s does not belong to certificate %s", files->key, files->cert);
    else if (SSL_CTX_load_verify_locations(ssl, files->ca, NULL) != 1)
        snprintf(why, TLS_WHY_MAX, "CA %s: %s", files->ca, certificate_error());
    else if (files->crl[0] && !certificate_read_revocations(SSL_CTX_get_cert_store(ssl), files->crl))
        snprintf(why, TLS_WHY_MAX, "revocation lists %s: %s", files->crl, certificate_error());
    else
        return true;
    return false;
}

/* ---- what the peer's certificate must bear ---- */

/* Writes the URI that names a solution; characters that RFC 3986 does not call unreserved become %XX. False
 * if it is too long. */
static bool
write_uri(const char *solution, char out[TLS_NAME_MAX])
{
    size_t len = (size_t)snprintf(out, TLS_NAME_MAX, SOLUTION_PREFIX);

    for (; *solution; solution++) {
        unsigned char c = (unsigned char)*solution;
        bool unreserved = isascii(c) && (isalnum(c) || strchr("-._~", c));

        if (len + 4 > TLS_NAME_MAX)
            return false;
        len += (size_t)snprintf(out + len, TLS_NAME_MAX - len, unreserved ? "%c" : "%%%02X", c);
    }
    return true;
}

static bool
bears_uri(X509 *cert, const char *uri)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    bool found = false;

    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; i++) {
        int type;
        const ASN1_STRING *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);

        found = type == GEN_URI && (size_t)ASN1_STRING_length(value) == strlen(uri) &&
                memcmp(ASN1_STRING_get0_data(value), uri, strlen(uri)) == 0;
    }
    GENERAL_NAMES_free(names);
    return found;
}

/* OpenSSL calls this for each certificate of the chain; `ok`: it has found nothing wrong with it. */
static int
verify(int ok, X509_STORE_CTX *store)
{
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    const struct tls *tls = SSL_get_app_data(ssl);

    if (!ok || X509_STORE_CTX_get_error_depth(store) > 0 ||
        bears_uri(X509_STORE_CTX_get0_cert(store), tls->uri))
        return ok;
    X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
    return 0;
}

/* Offers the cheapest cipher first, since most servers take the first that they know; but none that the
 * system's configuration of OpenSSL forbids. */
static void
prefer_cheapest(SSL_CTX *ssl)
{
    const STACK_OF(SSL_CIPHER) *ciphers = SSL_CTX_get_ciphers(ssl);
    char all[CIPHERS_MAX] = CHEAPEST_CIPHER;
    bool allowed = false;

    for (int i = 0; i < sk_SSL_CIPHER_num(ciphers); i++) {
        const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(ciphers, i);
        const char *name = SSL_CIPHER_get_name(cipher);
        size_t len = strlen(all);

        if (strcmp(SSL_CIPHER_get_version(cipher), "TLSv1.3") != 0)
            continue;
        if (strcmp(name, CHEAPEST_CIPHER) == 0)
            allowed = true;
        else
            snprintf(all + len, sizeof(all) - len, ":%s", name);
    }
    if (allowed)
        SSL_CTX_set_ciphersuites(ssl, all);
}

/* ---- contexts ---- */

struct tls_context *
tls_context_new(const struct tls_files *files, char why[TLS_WHY_MAX])
{
    struct tls_context *context = calloc(1, sizeof(*context));
    SSL_CTX *ssl = context ? SSL_CTX_new(TLS_client_method()) : NULL;

    if (!ssl) {
        free(context);
        snprintf(why, TLS_WHY_MAX, "out of memory");
        return NULL;
    }
    SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION);
    prefer_cheapest(ssl);
    SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    /* One record at a time: else a peer that sends only key updates would keep us in one call. */
    SSL_CTX_clear_mode(ssl, SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, verify);
    context->ssl = ssl;
    if (!load_files(ssl, files, why)) {
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

static int64_t
unix_time(const ASN1_TIME *time)
{
    struct tm tm;

    return ASN1_TIME_to_tm(time, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

int64_t
tls_context_begins(const struct tls_context *context)
{
    return unix_time(X509_get0_notBefore(SSL_CTX_get0_certificate(context->ssl)));
}

int64_t
tls_context_ends(const struct tls_context *context)
{
    return unix_time(X509_get0_notAfter(SSL_CTX_get0_certificate(context->ssl)));
}

/* When the newest list of the same CA ends; INT64_MAX: never. */
static int64_t
newest_ends(STACK_OF(X509_OBJECT) * objects, const X509_CRL *list)
{
    int64_t ends = 0;

    for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
        X509_CRL *other = X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(objects, i));
        const ASN1_TIME *next = other ? X509_CRL_get0_nextUpdate(other) : NULL;
        int64_t other_ends = next ? unix_time(next) : INT64_MAX;

        if (other && other_ends > ends &&
            X509_NAME_cmp(X509_CRL_get_issuer(other), X509_CRL_get_issuer(list)) == 0)
            ends = other_ends;
    }
    return ends;
}

int64_t
tls_context_crl_ends(const struct tls_context *context)
{
    STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(SSL_CTX_get_cert_store(context->ssl));
    int64_t ends = INT64_MAX;

    for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
        const X509_CRL *list = X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(objects, i));

        if (list && newest_ends(objects, list) < ends)
            ends = newest_ends(objects, list);
    }
    return ends == INT64_MAX ? 0 : ends;
}

/* ---- connections ---- */

struct tls *
tls_new(struct tls_context *context, int fd, const struct tls_peer *peer)
{
    struct tls *tls = calloc(1, sizeof(*tls));
    const char *name = peer->name;
    struct in6_addr address;
    bool numeric = inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1;

    if (!tls)
        return NULL;
    tls->ssl = SSL_new(context->ssl);
    if (!tls->ssl || SSL_set_fd(tls->ssl, fd) != 1 || SSL_set_app_data(tls->ssl, tls) != 1 ||
        !write_uri(peer->solution, tls->uri) ||
        (numeric ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls->ssl), name)
                 : SSL_set1_host(tls->ssl, name) && SSL_set_tlsext_host_name(tls->ssl, name)) != 1) {
        tls_free(tls);
        return NULL;
    }
    snprintf(tls->name, sizeof(tls->name), "%s", name);
    snprintf(tls->solution, sizeof(tls->solution), "%s", peer->solution);
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

/* Writes why verification failed, beginning with what an administrator has to mend. */
static void
explain(struct tls *tls, long code)
{
    switch (code) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        snprintf(tls->why, sizeof(tls->why), "name: the peer's certificate does not bear %s", tls->name);
        return;
    case X509_V_ERR_APPLICATION_VERIFICATION:
        snprintf(tls->why, sizeof(tls->why),
                 "solution: the peer's certificate does not name solution %s: expected URI:%s", tls->solution,
                 tls->uri);
        return;
    case X509_V_ERR_CERT_REVOKED:
        snprintf(tls->why, sizeof(tls->why), TLS_REVOKED);
        return;
    default:
        snprintf(tls->why, sizeof(tls->why), "%s: the peer's certificate: %s", certificate_fault(code),
                 X509_verify_cert_error_string(code));
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
        explain(tls, verified);
        ERR_clear_error();
    } else if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) > SSL_AD_REASON_OFFSET) {
        snprintf(tls->why, sizeof(tls->why), "the peer refused us: %s", certificate_error());
    } else if (code) {
        snprintf(tls->why, sizeof(tls->why), "TLS: %s", certificate_error());
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

/* ---- the peer's certificate ---- */

int64_t
tls_peer_ends(const struct tls *tls)
{
    const X509 *cert = SSL_get0_peer_certificate(tls->ssl);

    return cert ? unix_time(X509_get0_notAfter(cert)) : 0;
}

bool
tls_peer_revoked(const struct tls *tls, const struct tls_context *context)
{
    return certificate_is_revoked(tls->ssl, SSL_CTX_get_cert_store(context->ssl), NULL);
}
