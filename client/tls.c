/* TLS 1.3 with certificates on both sides, over a socket, without signals. */
#include "client/tls.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/certificate.h"

/* ---- a BIO that sends without SIGPIPE ---- */

static int
bio_fd(BIO *bio)
{
    return (int)(intptr_t)BIO_get_data(bio);
}

static int
bio_result(BIO *bio, ssize_t n, int retry_flag)
{
    BIO_clear_retry_flags(bio);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_flags(bio, retry_flag | BIO_FLAGS_SHOULD_RETRY);
    return (int)n;
}

static int
bio_write(BIO *bio, const char *data, int len)
{
    return bio_result(bio, send(bio_fd(bio), data, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT),
                      BIO_FLAGS_WRITE);
}

static int
bio_read(BIO *bio, char *data, int len)
{
    ssize_t n = recv(bio_fd(bio), data, (size_t)len, MSG_DONTWAIT);

    if (n == 0)
        BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    return bio_result(bio, n, BIO_FLAGS_READ);
}

static long
bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)number;
    (void)pointer;
    if (command == BIO_CTRL_EOF)
        return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    return command == BIO_CTRL_FLUSH;
}

BIO_METHOD *
gimux_tls_bio(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "socket without signals");

    if (method) {
        BIO_meth_set_write(method, bio_write);
        BIO_meth_set_read(method, bio_read);
        BIO_meth_set_ctrl(method, bio_ctrl);
    }
    return method;
}

/* ---- words ---- */

static const char *
alert_kind(int alert)
{
    switch (alert) {
    case SSL_AD_CERTIFICATE_EXPIRED:
        return "date: ";
    case SSL_AD_CERTIFICATE_REVOKED:
        return "revoked: ";
    case SSL_AD_UNKNOWN_CA:
        return "chain: ";
    default:
        return "";
    }
}

static void
write_refusal(int code, const char *subject, char refusal[TLS_TEXT_MAX])
{
    snprintf(refusal, TLS_TEXT_MAX, "gimuxd's certificate is refused: %s: %s (%s)",
             code == X509_V_ERR_INVALID_PURPOSE ? "purpose" : certificate_fault(code),
             X509_verify_cert_error_string(code), subject);
}

/* Writes why the peer's certificate is refused to where gimux_tls_new was told. */
static int
verify(int ok, X509_STORE_CTX *store)
{
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    const X509 *cert = X509_STORE_CTX_get_current_cert(store);
    char subject[CERTIFICATE_SUBJECT_MAX] = "";

    if (ok)
        return ok;
    if (cert)
        X509_NAME_oneline(X509_get_subject_name(cert), subject, sizeof(subject));
    write_refusal(X509_STORE_CTX_get_error(store), subject, SSL_get_app_data(ssl));
    return 0;
}

bool
gimux_tls_is_revoked(const struct gimux_client *client, const SSL *ssl, char out[TLS_TEXT_MAX])
{
    char subject[CERTIFICATE_SUBJECT_MAX] = "";

    if (!client->crl_file || !certificate_is_revoked(ssl, SSL_CTX_get_cert_store(client->tls), subject))
        return false;
    write_refusal(X509_V_ERR_CERT_REVOKED, subject, out);
    return true;
}

void
gimux_tls_explain(const char *refusal, char out[TLS_TEXT_MAX])
{
    unsigned long error = ERR_get_error();
    const char *reason = ERR_reason_error_string(error);
    int alert = ERR_GET_REASON(error) - SSL_AD_REASON_OFFSET;

    ERR_clear_error();
    if (!reason)
        reason = "the connection broke";
    if (refusal[0])
        snprintf(out, TLS_TEXT_MAX, "%s", refusal);
    else if (ERR_GET_LIB(error) == ERR_LIB_SSL && alert >= 0)
        snprintf(out, TLS_TEXT_MAX, "gimuxd refused the handshake: %s%s", alert_kind(alert), reason);
    else if (ERR_GET_REASON(error) == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
        snprintf(out, TLS_TEXT_MAX, "gimuxd's certificate is refused: chain: it sent none");
    else
        snprintf(out, TLS_TEXT_MAX, "TLS failed: %s", reason);
}

/* ---- files ---- */

static bool
load(SSL_CTX *context, const struct gimux_client *client, char error[GIMUX_ERROR_MAX])
{
    const char *file = client->cert_file;
    bool ok = SSL_CTX_use_certificate_chain_file(context, file) == 1;

    if (ok) {
        file = client->key_file;
        ok = SSL_CTX_use_PrivateKey_file(context, file, SSL_FILETYPE_PEM) == 1;
    }
    if (ok) {
        file = client->ca_file;
        ok = SSL_CTX_load_verify_file(context, file) == 1;
    }
    if (ok && client->crl_file) {
        file = client->crl_file;
        ok = certificate_read_revocations(SSL_CTX_get_cert_store(context), file);
    }
    if (!ok)
        snprintf(error, GIMUX_ERROR_MAX, "cannot use %s: %s", file, certificate_error());
    return ok;
}

/* The names of which gimuxd's certificate must bear one. */
static bool
set_peer_names(SSL_CTX *context, const struct gimux_client *client)
{
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(context);

    for (size_t i = 0; i < client->peer_name_count; i++)
        if (X509_VERIFY_PARAM_add1_host(param, client->peer_names[i], 0) != 1)
            return false;
    return true;
}

SSL_CTX *
gimux_tls_context(const struct gimux_client *client, char error[GIMUX_ERROR_MAX])
{
    SSL_CTX *context;

    ERR_clear_error();
    context = SSL_CTX_new(TLS_server_method());
    if (!context || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        !set_peer_names(context, client)) {
        snprintf(error, GIMUX_ERROR_MAX, "cannot set up TLS: out of memory, or a bad peer name");
        SSL_CTX_free(context);
        ERR_clear_error();
        return NULL;
    }
    if (!load(context, client, error)) {
        SSL_CTX_free(context);
        context = NULL;
    } else {
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, verify);
        SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_num_tickets(context, 0);
    }
    ERR_clear_error();
    return context;
}

SSL *
gimux_tls_new(const struct gimux_client *client, int fd, char *refusal)
{
    SSL *ssl = SSL_new(client->tls);
    BIO *bio = ssl ? BIO_new(client->tls_bio) : NULL;

    if (!bio) {
        SSL_free(ssl);
        ERR_clear_error();
        return NULL;
    }
    BIO_set_data(bio, (void *)(intptr_t)fd);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_accept_state(ssl);
    refusal[0] = '\0';
    SSL_set_app_data(ssl, refusal);
    return ssl;
}
