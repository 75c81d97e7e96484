/* Which certificates of an SVM gimuxd takes: names, solutions, revocation lists; over a socket pair. */
#include "mux/net/tls.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "tests/unit/certificates.h"

struct ends {
    struct certificates certificates;
    struct tls_context *context;
    struct tls *tls;
    SSL_CTX *server;
    SSL *ssl;
    int fds[2];
};

static struct tls_context *
load(const struct certificates *certificates, const char *crl)
{
    struct tls_files files = {
        .cert = certificates->cert, .key = certificates->key, .ca = certificates->cert, .crl = crl
    };
    char why[TLS_WHY_MAX] = "";
    struct tls_context *context = tls_context_new(&files, why);

    if (!context)
        fail_msg("%s", why);
    return context;
}

#define ALL_CIPHERS "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"

static const char *server_ciphers; /* that the server has; NULL: all */

/* Shakes hands with a server that shows a certificate of those names. */
static enum tls_result
meet(struct ends *ends, const char *names, const char *solution, bool crl, bool revoked, long crl_seconds)
{
    struct tls_peer peer = { .name = "svm.test", .solution = solution };
    enum tls_result result = TLS_WANT_READ;

    *ends = (struct ends){ 0 };
    certificates_make_with(&ends->certificates, names, 3600);
    if (crl)
        certificates_make_crl(&ends->certificates, revoked, crl_seconds);
    ends->context = load(&ends->certificates, crl ? ends->certificates.crl : "");
    ends->server = certificates_server(&ends->certificates);
    assert_int_equal(!server_ciphers || SSL_CTX_set_ciphersuites(ends->server, server_ciphers), 1);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends->fds), 0);
    ends->tls = tls_new(ends->context, ends->fds[0], &peer);
    assert_non_null(ends->tls);
    ends->ssl = SSL_new(ends->server);
    SSL_set_fd(ends->ssl, ends->fds[1]);
    SSL_set_accept_state(ends->ssl);
    while (result == TLS_WANT_READ || result == TLS_WANT_WRITE) {
        result = tls_handshake(ends->tls);
        SSL_do_handshake(ends->ssl);
    }
    return result;
}

static void
part(struct ends *ends)
{
    tls_free(ends->tls);
    SSL_free(ends->ssl);
    SSL_CTX_free(ends->server);
    tls_context_free(ends->context);
    close(ends->fds[0]);
    close(ends->fds[1]);
    certificates_remove(&ends->certificates);
}

#define NAMED "DNS:svm.test,"

static void
test_a_certificate_must_name_its_solution(void **state)
{
    static const struct {
        const char *names;
        const char *solution;
        bool good;
    } cases[] = {
        { NAMED "URI:gimux:solution:av", "av", true },
        { NAMED "URI:gimux:solution:other,URI:gimux:solution:av", "av", true },
        { NAMED "URI:gimux:solution:other", "av", false },
        { NAMED "URI:gimux:solution:av2", "av", false },
        { NAMED "URI:gimux:solution:av", "av2", false },
        { NAMED "URI:gimux:solution:AV", "av", false },
        { NAMED "URI:gimux:solution:*", "av", false },
        { NAMED "DNS:av,DNS:gimux-solution-av", "av", false },
        { NAMED "DNS:gimux:solution:av", "av", false }, /* the words, in another kind of name */
        { "DNS:svm.test", "av", false },
        { NAMED "URI:gimux:solution:a%2Fb%C3%BC", "a/b\xc3\xbc", true },
        { NAMED "URI:gimux:solution:a/b", "a/b", false }, /* one way to write it */
        { NAMED "URI:gimux:solution:a-1.b_c~", "a-1.b_c~", true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ends ends;
        enum tls_result result = meet(&ends, cases[i].names, cases[i].solution, false, false, 0);

        if ((result == TLS_DONE) != cases[i].good)
            fail_msg("%s for %s: %d, %s", cases[i].names, cases[i].solution, result, tls_why(ends.tls));
        if (!cases[i].good)
            assert_non_null(
                strstr(tls_why(ends.tls), "solution: the peer's certificate does not name solution "));
        part(&ends);
    }
}

/* The host's name is asked for as well. */
static void
test_the_host_first(void **state)
{
    struct ends ends;

    (void)state;
    assert_int_equal(meet(&ends, "DNS:other.test,URI:gimux:solution:av", "av", false, false, 0), TLS_FAILED);
    assert_string_equal(tls_why(ends.tls), "name: the peer's certificate does not bear svm.test");
    part(&ends);
}

static void
test_a_solution_of_any_length(void **state)
{
    struct ends ends;
    char longest[64];
    char too_long[101];

    (void)state;
    memset(longest, '/', sizeof(longest) - 1); /* three bytes each in the URI */
    longest[sizeof(longest) - 1] = '\0';
    memset(too_long, '/', sizeof(too_long) - 1);
    too_long[sizeof(too_long) - 1] = '\0';
    assert_int_equal(meet(&ends, "DNS:svm.test", longest, false, false, 0), TLS_FAILED);
    assert_null(tls_new(ends.context, ends.fds[0], &(struct tls_peer){ "svm.test", too_long }));
    part(&ends);
}

static void
test_revocation(void **state)
{
    static const struct {
        bool revoked;
        long seconds;
        const char *why; /* NULL: it is taken */
    } cases[] = {
        { false, 3600, NULL },
        { true, 3600, "revoked: the peer's certificate has been revoked" },
        { false, -1, "date: the peer's certificate: CRL has expired" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ends ends;
        enum tls_result result =
            meet(&ends, NAMED "URI:gimux:solution:av", "av", true, cases[i].revoked, cases[i].seconds);

        assert_int_equal(result, cases[i].why ? TLS_FAILED : TLS_DONE);
        if (cases[i].why)
            assert_string_equal(tls_why(ends.tls), cases[i].why);
        part(&ends);
    }
}

/* A list of another CA than the peer's says nothing about it: refused, since nobody knows. */
static void
test_no_list_of_that_ca(void **state)
{
    struct certificates other;
    struct ends ends;
    struct tls_context *context;

    (void)state;
    certificates_make(&other, "svm.test", "av");
    certificates_make_crl(&other, false, 3600);
    assert_int_equal(meet(&ends, NAMED "URI:gimux:solution:av", "av", false, false, 0), TLS_DONE);
    context = load(&ends.certificates, other.crl);
    assert_false(tls_peer_revoked(ends.tls, context));
    tls_context_free(context);
    part(&ends);
    certificates_remove(&other);
}

/* A link that stands is looked up in lists that are newer, even in one that has expired; whatever else is
 * wrong with the certificate by now is no revocation. */
static void
test_a_link_that_stands(void **state)
{
    struct ends ends;
    struct tls_context *context;

    (void)state;
    assert_int_equal(meet(&ends, NAMED "URI:gimux:solution:av", "av", true, false, 3600), TLS_DONE);
    assert_false(tls_peer_revoked(ends.tls, ends.context));
    for (int expired = 0; expired < 2; expired++) {
        for (int revoked = 0; revoked < 2; revoked++) {
            certificates_make_crl(&ends.certificates, revoked, expired ? -1 : 3600);
            context = load(&ends.certificates, ends.certificates.crl);
            assert_int_equal(tls_peer_revoked(ends.tls, context), revoked);
            tls_context_free(context);
        }
    }
    context = load(&ends.certificates, "");
    assert_false(tls_peer_revoked(ends.tls, context));
    tls_context_free(context);
    part(&ends);
}

static bool
near(int64_t a, int64_t b)
{
    return a - b < 60 && b - a < 60;
}

static void
test_dates(void **state)
{
    int64_t now = time(NULL);
    struct ends ends;
    struct tls_context *context;
    char both[300];

    (void)state;
    assert_int_equal(meet(&ends, NAMED "URI:gimux:solution:av", "av", true, false, 86400), TLS_DONE);
    assert_true(near(tls_context_begins(ends.context), now - 3600));
    assert_true(near(tls_context_ends(ends.context), now + 3600));
    assert_true(near(tls_peer_ends(ends.tls), now + 3600));
    assert_true(near(tls_context_crl_ends(ends.context), now + 86400));

    /* The newest of a CA counts, the earliest of several CAs. */
    snprintf(both, sizeof(both), "cp %s %s.old", ends.certificates.crl, ends.certificates.crl);
    assert_int_equal(system(both), 0);
    certificates_make_crl(&ends.certificates, false, -86400);
    snprintf(both, sizeof(both), "cat %s.old >> %s && rm %s.old", ends.certificates.crl,
             ends.certificates.crl, ends.certificates.crl);
    assert_int_equal(system(both), 0);
    context = load(&ends.certificates, ends.certificates.crl);
    assert_true(near(tls_context_crl_ends(context), now + 86400));
    tls_context_free(context);
    context = load(&ends.certificates, "");
    assert_int_equal(tls_context_crl_ends(context), 0);
    tls_context_free(context);
    part(&ends);
}

static void
test_bad_files(void **state)
{
    struct certificates one;
    struct certificates two;
    struct tls_files files;
    char why[TLS_WHY_MAX];

    (void)state;
    certificates_make(&one, "svm.test", "av");
    certificates_make(&two, "svm.test", "av");
    files = (struct tls_files){ .cert = one.cert, .key = two.key, .ca = one.cert, .crl = "" };
    assert_null(tls_context_new(&files, why));
    assert_non_null(strstr(why, "does not belong to certificate"));
    files = (struct tls_files){ .cert = one.cert, .key = one.key, .ca = one.cert, .crl = one.cert };
    assert_null(tls_context_new(&files, why));
    assert_non_null(strstr(why, "revocation lists /tmp/"));
    files.crl = "/nonexistent";
    assert_null(tls_context_new(&files, why));
    assert_string_equal(why, "revocation lists /nonexistent: No such file or directory");
    certificates_remove(&one);
    certificates_remove(&two);
}

/* A server that has no preference takes the cheapest; one that has only another gets that. */
static void
test_ciphers(void **state)
{
    static const struct {
        const char *server;
        const char *taken;
    } cases[] = {
        { NULL, "TLS_AES_128_GCM_SHA256" },
        { "TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384" },
        { "TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ends ends;

        server_ciphers = cases[i].server;
        assert_int_equal(meet(&ends, NAMED "URI:gimux:solution:av", "av", false, false, 0), TLS_DONE);
        assert_string_equal(SSL_get_cipher_name(ends.ssl), cases[i].taken);
        part(&ends);
    }
    server_ciphers = NULL;
}

/* As /etc/ssl/openssl.cnf would have it. */
static void
set_system_ciphers(const char *ciphers)
{
    char path[] = "/tmp/gimux-test-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    dprintf(fd,
            "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = all\n"
            "[all]\nCiphersuites = %s\n",
            ciphers);
    close(fd);
    assert_int_equal(CONF_modules_load_file(path, NULL, 0), 1);
    unlink(path);
}

/* What the system's configuration does not allow is not offered, nor is its order lost otherwise. */
static void
test_ciphers_of_the_system(void **state)
{
    struct ends ends;

    (void)state;
    set_system_ciphers("TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384");
    server_ciphers = ALL_CIPHERS;
    assert_int_equal(meet(&ends, NAMED "URI:gimux:solution:av", "av", false, false, 0), TLS_DONE);
    assert_string_equal(SSL_get_cipher_name(ends.ssl), "TLS_CHACHA20_POLY1305_SHA256");
    part(&ends);
    set_system_ciphers(ALL_CIPHERS);
    server_ciphers = NULL;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_certificate_must_name_its_solution),
        cmocka_unit_test(test_the_host_first),
        cmocka_unit_test(test_a_solution_of_any_length),
        cmocka_unit_test(test_revocation),
        cmocka_unit_test(test_no_list_of_that_ca),
        cmocka_unit_test(test_a_link_that_stands),
        cmocka_unit_test(test_dates),
        cmocka_unit_test(test_ciphers),
        cmocka_unit_test(test_ciphers_of_the_system),
        cmocka_unit_test(test_bad_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
