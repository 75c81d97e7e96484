/* What both ends of a link ask about certificates: words for faults, revocation lists that cannot be read. */
#include "proto/certificate.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "tests/unit/certificates.h"

static void
a_fault_is_one_word(void **state)
{
    static const struct {
        long code;
        const char *word;
    } cases[] = {
        { X509_V_ERR_HOSTNAME_MISMATCH, "name" },
        { X509_V_ERR_IP_ADDRESS_MISMATCH, "name" },
        { X509_V_ERR_CERT_HAS_EXPIRED, "date" },
        { X509_V_ERR_CERT_NOT_YET_VALID, "date" },
        { X509_V_ERR_CRL_HAS_EXPIRED, "date" },
        { X509_V_ERR_CRL_NOT_YET_VALID, "date" },
        { X509_V_ERR_CERT_REVOKED, "revoked" },
        { X509_V_ERR_UNABLE_TO_GET_CRL, "chain" },
        { X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, "chain" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(certificate_fault(cases[i].code), cases[i].word);
}

/* A missing file has the system's own error; a file without a list has OpenSSL's. */
static void
files_that_hold_no_list_are_refused(void **state)
{
    X509_STORE *store = X509_STORE_new();
    struct certificates files = { 0 };

    (void)state;
    certificates_make(&files, "svm.test", "av");
    ERR_clear_error();
    assert_false(certificate_read_revocations(store, files.crl));
    assert_string_equal(certificate_error(), "No such file or directory");
    assert_false(certificate_read_revocations(store, files.key));
    assert_string_not_equal(certificate_error(), "no reason given");
    assert_string_equal(certificate_error(), "no reason given"); /* the queue is empty */
    assert_int_equal(X509_VERIFY_PARAM_get_flags(X509_STORE_get0_param(store)) & X509_V_FLAG_CRL_CHECK, 0);
    certificates_make_crl(&files, false, 3600);
    assert_true(certificate_read_revocations(store, files.crl));
    assert_int_not_equal(X509_VERIFY_PARAM_get_flags(X509_STORE_get0_param(store)) & X509_V_FLAG_CRL_CHECK,
                         0);
    certificates_remove(&files);
    X509_STORE_free(store);
}

/* A handshake in memory; the client then knows the server's certificate. */
static SSL *
meet(SSL *server, const struct certificates *files)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *client;
    BIO *here, *there;
    int done = 0;

    assert_int_equal(SSL_CTX_use_certificate_chain_file(context, files->cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(context, files->key, SSL_FILETYPE_PEM), 1);
    client = SSL_new(context);
    SSL_CTX_free(context);
    assert_int_equal(BIO_new_bio_pair(&here, 0, &there, 0), 1);
    SSL_set_bio(client, here, here);
    SSL_set_bio(server, there, there);
    SSL_set_connect_state(client);
    SSL_set_accept_state(server);
    for (int i = 0; i < 10 && done != 2; i++)
        done = (SSL_do_handshake(client) == 1) + (SSL_do_handshake(server) == 1);
    assert_int_equal(done, 2);
    return client;
}

static void
a_revoked_certificate_is_named(void **state)
{
    X509_STORE *store = X509_STORE_new();
    char subject[CERTIFICATE_SUBJECT_MAX] = "";
    struct certificates files = { 0 };
    SSL_CTX *context;
    SSL *server, *client;

    (void)state;
    certificates_make(&files, "svm.test", "av");
    context = certificates_server(&files);
    server = SSL_new(context);
    client = meet(server, &files);
    assert_int_equal(X509_STORE_load_file(store, files.cert), 1);
    assert_false(certificate_is_revoked(client, store, subject)); /* no list */
    certificates_make_crl(&files, false, 3600);
    assert_true(certificate_read_revocations(store, files.crl));
    assert_false(certificate_is_revoked(client, store, subject));
    assert_string_equal(subject, "");
    X509_STORE_free(store);
    store = X509_STORE_new();
    assert_int_equal(X509_STORE_load_file(store, files.cert), 1);
    certificates_make_crl(&files, true, -1); /* that the list has run out hides nothing */
    assert_true(certificate_read_revocations(store, files.crl));
    assert_true(certificate_is_revoked(client, store, NULL));
    assert_true(certificate_is_revoked(client, store, subject));
    assert_string_equal(subject, "/CN=test");
    SSL_free(client);
    SSL_free(server);
    SSL_CTX_free(context);
    X509_STORE_free(store);
    certificates_remove(&files);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fault_is_one_word),
        cmocka_unit_test(files_that_hold_no_list_are_refused),
        cmocka_unit_test(a_revoked_certificate_is_named),
    };

    return cmocka_run_group_tests_name("certificate", tests, NULL, NULL);
}
