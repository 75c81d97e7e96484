/* A solution's TLS files: read and put in force together, and watched for their end. */
#include "mux/svm/credential.h"

#include <stdio.h>
#include <time.h>

#include "mux/base/log.h"

static struct log_who
who(const struct conf_solution *solution)
{
    return (struct log_who){ .solution = solution->name };
}

/* ---- reading ---- */

void
credential_release(struct tls_context *contexts[CONF_SOLUTIONS_MAX])
{
    for (unsigned i = 0; i < CONF_SOLUTIONS_MAX; i++) {
        tls_context_free(contexts[i]);
        contexts[i] = NULL;
    }
}

bool
credential_load(const struct conf *conf, struct tls_context *contexts[CONF_SOLUTIONS_MAX])
{
    bool good = true;

    for (unsigned i = 0; i < CONF_SOLUTIONS_MAX; i++)
        contexts[i] = NULL;
    for (unsigned i = 0; i < conf->solution_count; i++) {
        const struct conf_solution *solution = &conf->solutions[i];
        struct tls_files files = {
            .cert = solution->cert, .key = solution->key, .ca = solution->ca, .crl = solution->crl
        };
        struct log_who about = who(solution);
        char why[TLS_WHY_MAX];

        if (solution->address.kind != ADDRESS_TLS)
            continue;
        contexts[i] = tls_context_new(&files, why);
        if (!contexts[i]) {
            log_error(&about, "%s", why);
            good = false;
        }
    }
    if (!good)
        credential_release(contexts);
    return good;
}

/* ---- putting in force ---- */

static bool
in_date(const struct tls_context *context)
{
    int64_t now = time(NULL);

    return tls_context_begins(context) <= now && now < tls_context_ends(context);
}

bool
credential_allows(const struct credential *credential, const struct tls_context *fresh,
                  const struct conf_solution *solution)
{
    struct log_who about = who(solution);

    if (!credential->tls || !fresh || in_date(fresh) || !in_date(credential->tls))
        return true;
    log_error(&about, "certificate %s: %s, and the one in force is good", solution->cert,
              tls_context_begins(fresh) > time(NULL) ? "is not yet valid" : "has expired");
    return false;
}

void
credential_set(struct credential *credential, struct tls_context *fresh)
{
    tls_context_free(credential->tls);
    credential->tls = fresh;
    expiry_set(&credential->parts[CREDENTIAL_OWN], fresh ? tls_context_ends(fresh) : 0, EXPIRY_DAYS_30);
    expiry_set(&credential->parts[CREDENTIAL_CRL], fresh ? tls_context_crl_ends(fresh) : 0, EXPIRY_END);
    if (!fresh)
        expiry_set(&credential->parts[CREDENTIAL_PEER], 0, EXPIRY_DAYS_30);
}

void
credential_meet(struct credential *credential, const struct tls *tls)
{
    expiry_set(&credential->parts[CREDENTIAL_PEER], tls_peer_ends(tls), EXPIRY_DAYS_30);
}

/* ---- time ---- */

static void
warn(const struct credential *credential, enum credential_part part, const struct conf_solution *solution,
     int64_t now)
{
    static const char *const words[] = { [CREDENTIAL_OWN] = "our certificate ",
                                         [CREDENTIAL_PEER] = "the SVM's certificate",
                                         [CREDENTIAL_CRL] = "the revocation list in " };
    const char *path = part == CREDENTIAL_OWN ? solution->cert : part == CREDENTIAL_CRL ? solution->crl : "";
    struct log_who about = who(solution);
    long long days = expiry_days(&credential->parts[part], now);
    time_t end = credential->parts[part].end;
    struct tm tm;
    char what[CONF_PATH_MAX + 32];
    char date[32];

    snprintf(what, sizeof(what), "%s%s", words[part], path);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&end, &tm));
    if (days < 0)
        log_warning(&about, "%s has expired: %s; new connections fail until it is replaced", what, date);
    else if (days == 0)
        log_warning(&about, "%s expires in less than a day: %s", what, date);
    else
        log_warning(&about, "%s expires in %lld %s: %s", what, days, days == 1 ? "day" : "days", date);
}

int64_t
credential_watch(struct credential *credential, const struct conf_solution *solution)
{
    int64_t now = time(NULL);
    int64_t next = INT64_MAX;

    for (enum credential_part part = 0; part < CREDENTIAL_PARTS; part++) {
        struct expiry *expiry = &credential->parts[part];
        int64_t due;

        if (expiry_due(expiry, now))
            warn(credential, part, solution, now);
        due = expiry_next(expiry, now);
        if (due < next)
            next = due;
    }
    return next;
}
