/* A certificate authority of chaos's own, which gives both ends of the TLS links new certificates again and
 * again. */
#include "tests/chaos/pki.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DAY      86400L
#define PKI_PATH 512

struct authority {
    EVP_PKEY *key;
    X509 *certificate;
};

struct pki {
    char dir[200];
    struct authority now;
    struct authority before; /* certificate NULL: none */
    long serial;
    char svm_names[512]; /* subjectAltName of SVMs */
};

static void
check(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "chaos: certificates: %s failed\n", what);
    abort();
}

/* ---- files, replaced as a whole ---- */

static FILE *
begin_file(const struct pki *pki, const char *name, char path[PKI_PATH])
{
    FILE *file;

    snprintf(path, PKI_PATH, "%s/%s.new", pki->dir, name);
    file = fopen(path, "we");
    check(file != NULL, path);
    return file;
}

static void
end_file(FILE *file, char path[PKI_PATH])
{
    char final[PKI_PATH];

    snprintf(final, sizeof(final), "%.*s", (int)(strlen(path) - strlen(".new")), path);
    check(fclose(file) == 0 && rename(path, final) == 0, final);
}

static void
write_authorities(const struct pki *pki)
{
    char path[PKI_PATH];
    FILE *file = begin_file(pki, "ca.pem", path);

    check(PEM_write_X509(file, pki->now.certificate) == 1, path);
    if (pki->before.certificate)
        check(PEM_write_X509(file, pki->before.certificate) == 1, path);
    end_file(file, path);
}

/* ---- certificates ---- */

static void
extend(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;

    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    check(extension && X509_add_ext(certificate, extension, -1) == 1, value);
    X509_EXTENSION_free(extension);
}

/* A certificate for the key, signed by the authority (NULL: by itself). */
static X509 *
certify(struct pki *pki, EVP_PKEY *key, const char *name, const struct authority *by)
{
    X509 *certificate = X509_new();
    X509_NAME *subject = X509_NAME_new();

    check(certificate && subject, "memory");
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++pki->serial);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -DAY);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 90 * DAY);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_subject_name(certificate, subject);
    X509_set_issuer_name(certificate, by ? X509_get_subject_name(by->certificate) : subject);
    X509_set_pubkey(certificate, key);
    X509_NAME_free(subject);
    if (by) {
        extend(certificate, by->certificate, NID_basic_constraints, "critical,CA:FALSE");
        extend(certificate, by->certificate, NID_key_usage, "critical,digitalSignature");
        extend(certificate, by->certificate, NID_ext_key_usage,
               strcmp(name, "svm") == 0 ? "serverAuth" : "clientAuth");
        extend(certificate, by->certificate, NID_subject_alt_name,
               strcmp(name, "svm") == 0 ? pki->svm_names : "DNS:gimuxd");
    } else {
        extend(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE");
        extend(certificate, certificate, NID_key_usage, "critical,keyCertSign");
    }
    check(X509_sign(certificate, by ? by->key : key, EVP_sha256()) > 0, "X509_sign");
    return certificate;
}

void
pki_renew(struct pki *pki, const char *name)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate;
    char file_name[64], path[PKI_PATH];
    FILE *file;

    check(key != NULL, "EVP_EC_gen");
    certificate = certify(pki, key, name, &pki->now);
    snprintf(file_name, sizeof(file_name), "%s.key", name);
    file = begin_file(pki, file_name, path);
    check(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1, path);
    end_file(file, path);
    snprintf(file_name, sizeof(file_name), "%s.pem", name);
    file = begin_file(pki, file_name, path);
    check(PEM_write_X509(file, certificate) == 1, path);
    end_file(file, path);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static void
make_authority(struct pki *pki)
{
    char name[64];

    pki->now.key = EVP_EC_gen("P-256");
    check(pki->now.key != NULL, "EVP_EC_gen");
    snprintf(name, sizeof(name), "gimux chaos %ld", pki->serial);
    pki->now.certificate = certify(pki, pki->now.key, name, NULL);
}

static void
free_authority(struct authority *authority)
{
    X509_free(authority->certificate);
    EVP_PKEY_free(authority->key);
    *authority = (struct authority){ NULL, NULL };
}

void
pki_new_authority(struct pki *pki)
{
    free_authority(&pki->before);
    pki->before = pki->now;
    make_authority(pki);
    write_authorities(pki);
}

void
pki_drop_old_authority(struct pki *pki)
{
    free_authority(&pki->before);
    write_authorities(pki);
}

struct pki *
pki_new(const char *dir, const char *const *names, unsigned count)
{
    struct pki *pki = calloc(1, sizeof(*pki));
    size_t len;

    check(pki != NULL, "memory");
    len = (size_t)snprintf(pki->svm_names, sizeof(pki->svm_names), "DNS:localhost");
    for (unsigned i = 0; i < count; i++)
        len += (size_t)snprintf(pki->svm_names + len, sizeof(pki->svm_names) - len, ",URI:gimux:solution:%s",
                                names[i]);
    snprintf(pki->dir, sizeof(pki->dir), "%s", dir);
    make_authority(pki);
    write_authorities(pki);
    pki_renew(pki, "gimuxd");
    pki_renew(pki, "svm");
    return pki;
}

void
pki_free(struct pki *pki)
{
    if (!pki)
        return;
    free_authority(&pki->now);
    free_authority(&pki->before);
    free(pki);
}

unsigned long
pki_serial(const struct pki *pki)
{
    return (unsigned long)pki->serial;
}
