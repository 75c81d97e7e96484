/* A certificate for tests, made on the spot: self-signed, so that it is its own CA, and shown by both ends.
 */
#ifndef GIMUX_TESTS_CERTIFICATES_H
#define GIMUX_TESTS_CERTIFICATES_H

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* Names of PEM files in a directory of their own. */
struct certificates {
    char directory[32]; /* empty: nothing was made */
    char cert[64];
    char key[64];
    char crl[64]; /* once certificates_make_crl has made it */
};

/* Makes a key and a certificate that bears the names, as openssl's configuration has them ("DNS:..,URI:.."),
 * good from an hour ago until in `seconds`. */
static inline void
certificates_make_with(struct certificates *out, const char *names, long seconds)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_EXTENSION *extension;
    FILE *file;

    snprintf(out->directory, sizeof(out->directory), "/tmp/certificates.XXXXXX");
    assert_non_null(mkdtemp(out->directory));
    snprintf(out->cert, sizeof(out->cert), "%s/cert.pem", out->directory);
    snprintf(out->key, sizeof(out->key), "%s/key.pem", out->directory);
    snprintf(out->crl, sizeof(out->crl), "%s/crl.pem", out->directory);
    assert_true(key && cert);
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), seconds);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (const uint8_t *)"test", -1,
                               -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    X509_set_pubkey(cert, key);
    extension = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
    X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    file = fopen(out->cert, "w");
    assert_non_null(file);
    PEM_write_X509(file, cert);
    fclose(file);
    file = fopen(out->key, "w");
    assert_non_null(file);
    PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
    fclose(file);
    X509_free(cert);
    EVP_PKEY_free(key);
}

/* The same for a DNS name and a solution, for an hour. */
static inline void
certificates_make(struct certificates *out, const char *name, const char *solution)
{
    char names[200];

    snprintf(names, sizeof(names), "DNS:%s,URI:gimux:solution:%s", name, solution);
    certificates_make_with(out, names, 3600);
}

/* Writes the CA's list in crl.pem, which has the certificate on it or nothing, and ends in `seconds`. */
static inline void
certificates_make_crl(const struct certificates *of, bool revoked, long seconds)
{
    FILE *file = fopen(of->cert, "r");
    X509 *cert = PEM_read_X509(file, NULL, NULL, NULL);
    EVP_PKEY *key;
    X509_CRL *list = X509_CRL_new();
    ASN1_TIME *time = X509_gmtime_adj(NULL, -7200);

    fclose(file);
    file = fopen(of->key, "r");
    key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    fclose(file);
    assert_true(cert && key && list && time);
    X509_CRL_set_version(list, X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(list, X509_get_subject_name(cert));
    X509_CRL_set1_lastUpdate(list, time);
    if (revoked) {
        X509_REVOKED *entry = X509_REVOKED_new();

        X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(cert));
        X509_REVOKED_set_revocationDate(entry, time);
        X509_CRL_add0_revoked(list, entry);
    }
    X509_gmtime_adj(time, seconds);
    X509_CRL_set1_nextUpdate(list, time);
    assert_true(X509_CRL_sign(list, key, EVP_sha256()) > 0);
    file = fopen(of->crl, "w");
    assert_non_null(file);
    PEM_write_X509_CRL(file, list);
    fclose(file);
    ASN1_TIME_free(time);
    X509_CRL_free(list);
    X509_free(cert);
    EVP_PKEY_free(key);
}

/* A server that shows the certificate and wants to be shown it. */
static inline SSL_CTX *
certificates_server(const struct certificates *of)
{
    SSL_CTX *server = SSL_CTX_new(TLS_server_method());

    assert_non_null(server);
    assert_int_equal(SSL_CTX_use_certificate_chain_file(server, of->cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(server, of->key, SSL_FILETYPE_PEM), 1);
    assert_int_equal(SSL_CTX_load_verify_locations(server, of->cert, NULL), 1);
    SSL_CTX_set_verify(server, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_mode(server, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return server;
}

static inline void
certificates_remove(const struct certificates *of)
{
    if (!of->directory[0])
        return;
    unlink(of->cert);
    unlink(of->key);
    unlink(of->crl);
    rmdir(of->directory);
}

#endif
