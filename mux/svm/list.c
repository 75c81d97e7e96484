/* All SVM links: what the configuration says, and what ends. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mux/base/log.h"
#include "mux/event/frame.h"
#include "mux/svm/inner.h"
#include "proto/delimited.h"

#define EXPIRY_SECONDS 3600 /* the longest time between two looks at what ends */

struct svm_list *
svm_list_new(struct loop *loop, struct route *route, const struct conf *conf)
{
    struct svm_list *list = malloc(sizeof(*list));

    if (!list)
        return NULL;
    *list = (struct svm_list){ .loop = loop, .route = route, .conf = conf };
    LIST_INIT(&list->svms);
    return list;
}

void
svm_list_free(struct svm_list *list)
{
    free(list);
}

static struct svm *
find_svm(const struct svm_list *list, const char *name)
{
    struct svm *svm;

    LIST_FOREACH (svm, &list->svms, in_list)
        if (strcmp(svm->conf.name, name) == 0)
            return svm;
    return NULL;
}

static const struct conf_solution *
find_conf(const struct conf *conf, const char *name)
{
    for (unsigned i = 0; i < conf->solution_count; i++)
        if (strcmp(conf->solutions[i].name, name) == 0)
            return &conf->solutions[i];
    return NULL;
}

bool
svm_check_conf(const struct conf *conf)
{
    struct tls_context *contexts[CONF_SOLUTIONS_MAX];

    if (!credential_load(conf, contexts))
        return false;
    for (unsigned i = 0; i < conf->solution_count; i++) {
        struct credential credential = { NULL };

        credential_set(&credential, contexts[i]);
        credential_watch(&credential, &conf->solutions[i]);
        credential_set(&credential, NULL);
    }
    return true;
}

/* Reads the TLS files; false, with all released, if one cannot be used or is worse than what is in force. */
static bool
load_tls(const struct svm_list *list, const struct conf *conf,
         struct tls_context *contexts[CONF_SOLUTIONS_MAX])
{
    bool good = true;

    if (!credential_load(conf, contexts))
        return false;
    for (unsigned i = 0; i < conf->solution_count; i++) {
        const struct svm *svm = find_svm(list, conf->solutions[i].name);

        if (svm && !credential_allows(&svm->credential, contexts[i], &conf->solutions[i]))
            good = false;
    }
    if (!good)
        credential_release(contexts);
    return good;
}

void
svm_list_watch_expiry(void *arg)
{
    struct svm_list *list = arg;
    int64_t next = EXPIRY_SECONDS;
    struct svm *svm;

    LIST_FOREACH (svm, &list->svms, in_list) {
        int64_t due = credential_watch(&svm->credential, &svm->conf);

        if (due < next)
            next = due;
    }
    loop_timer_start(list->expiry, (uint32_t)next * 1000);
}

bool
svm_list_set_conf(struct svm_list *list, const struct conf *conf)
{
    struct tls_context *contexts[CONF_SOLUTIONS_MAX];
    struct svm *svm;
    struct svm *next;

    if (!list->expiry)
        list->expiry = loop_timer_new(list->loop, svm_list_watch_expiry, list);
    if (!list->expiry || !load_tls(list, conf, contexts))
        return false;
    for (svm = LIST_FIRST(&list->svms); svm; svm = next) {
        next = LIST_NEXT(svm, in_list);
        if (!find_conf(conf, svm->conf.name))
            svm_remove(svm, "it is no longer in the configuration");
    }
    list->conf = conf;
    for (unsigned i = 0; i < conf->solution_count; i++) {
        svm = find_svm(list, conf->solutions[i].name);
        if (svm) {
            svm_change(svm, &conf->solutions[i], contexts[i]);
        } else if (!svm_add(list, &conf->solutions[i], contexts[i])) {
            log_error((&(struct log_who){ .solution = conf->solutions[i].name }), "out of memory");
            tls_context_free(contexts[i]);
        }
    }
    svm_list_watch_expiry(list);
    return true;
}

void
svm_list_bye(struct svm_list *list, const char *reason)
{
    struct svm *svm;

    LIST_FOREACH (svm, &list->svms, in_list)
        svm_say_bye(svm, reason);
}

void
svm_list_close(struct svm_list *list, const char *reason)
{
    struct svm *svm;
    struct svm *next;

    for (svm = LIST_FIRST(&list->svms); svm; svm = next) {
        next = LIST_NEXT(svm, in_list);
        svm_say_bye(svm, reason);
        svm_remove(svm, reason);
    }
    loop_timer_free(list->expiry);
    list->expiry = NULL;
}

uint64_t
svm_memory_bound(void)
{
    /* a frame in, and unpacked; the SvmHello that is kept, and its positions; what waits to go out, in a
     * buffer half as large again */
    uint64_t link =
        DELIMITED_FRAME_MAX + 2 * FRAME_UNPACKED_MAX + DELIMITED_FRAME_MAX + 3 * DELIMITED_FRAME_MAX;

    return CONF_SOLUTIONS_MAX * link;
}

/* ---- what operators see ---- */

bool
svm_snapshot(const struct svm_list *list, unsigned place, struct svm_snapshot *out)
{
    const struct svm *svm = LIST_FIRST(&list->svms);

    while (svm && place-- > 0)
        svm = LIST_NEXT(svm, in_list);
    if (!svm)
        return false;
    *out = (struct svm_snapshot){ .altitude = svm->conf.altitude,
                                  .policy = (enum conf_policy)svm->conf.policy,
                                  .durability = (enum conf_durability)svm->conf.durability,
                                  .state = svm_state_name(svm->state),
                                  .up = svm->state == SVM_UP,
                                  .slot = sink_slot(svm->sink) };
    memcpy(out->solution, svm->conf.name, sizeof(out->solution));
    memcpy(out->name, svm->name, sizeof(out->name));
    memcpy(out->last_error, svm->last_error, sizeof(out->last_error));
    address_format(&svm->conf.address, out->address);
    for (unsigned part = 0; part < CREDENTIAL_PARTS; part++) {
        const struct expiry *expiry = &svm->credential.parts[part];

        out->has_days[part] = expiry->end != 0 &&
                              (part != CREDENTIAL_PEER || svm->state == SVM_GREETING || svm->state == SVM_UP);
        if (out->has_days[part])
            out->days[part] = expiry_days(expiry, time(NULL));
    }
    sink_snapshot(list->route, svm->sink, &out->sink);
    return true;
}
