/* SVM links: for every solution a connection that gimuxd dials, again and again, and the frames on it. */
#ifndef GIMUX_SVM_SVM_H
#define GIMUX_SVM_SVM_H

#include <stdbool.h>
#include <stdint.h>

#include "mux/base/conf.h"
#include "mux/net/loop.h"
#include "mux/route/route.h"
#include "mux/svm/credential.h"

enum svm_state {
    SVM_WAITING,    /* for the next attempt */
    SVM_RESOLVING,  /* the host's name */
    SVM_CONNECTING, /* TCP, then TLS */
    SVM_GREETING,   /* MuxHello is sent, SvmHello is awaited */
    SVM_UP,
    SVM_REMOVED, /* its connection, if any, is closing */
};

struct svm;

/* All solutions of the configuration. */
struct svm_list {
    struct loop *loop;
    struct route *route;
    const struct conf *conf;
    LIST_HEAD(svm_links, svm) svms;
    struct loop_timer *expiry; /* looks what ends; made with the first configuration */
};

void svm_list_init(struct svm_list *list, struct loop *loop, struct route *route, const struct conf *conf);

/* Makes the list what the configuration says: solutions that are new are added and dialled, those that are
 * gone removed, those that changed connect anew, the others are left alone. TLS files are read again for all,
 * and used from the next connection on; a link ends if the SVM's certificate is revoked now. Returns false,
 * having changed nothing, if a solution's TLS files cannot be used; each is logged. The caller keeps conf
 * until the next call. */
bool svm_list_set_conf(struct svm_list *list, const struct conf *conf);

/* Whether the TLS files of all solutions can be used; each that cannot is logged, and what ends soon. */
bool svm_check_conf(const struct conf *conf);

/* Says Bye to all SVMs that are up, as far as their sockets take it. */
void svm_list_bye(struct svm_list *list, const char *reason);

/* Says BYE and closes. */
void svm_list_close(struct svm_list *list, const char *reason);

/* For status: walks the solutions in the order of altitude; start with NULL. */
struct svm *svm_next(const struct svm_list *list, const struct svm *svm);
const struct sink *svm_sink(const struct svm *svm);
enum svm_state svm_state(const struct svm *svm);
const char *svm_state_name(enum svm_state state);
const char *svm_name(const struct svm *svm); /* of the SvmHello; "" before it */
const char *svm_last_error(const struct svm *svm);

/* Whole days until something of the link ends, negative when it has. False if there is none: plain, no
 * revocation lists, or (the SVM's certificate) not connected. */
bool svm_days_left(const struct svm *svm, enum credential_part part, int64_t *days);

#endif
