/* What a link is inside, for svm*.c alone. */
#ifndef GIMUX_SVM_INNER_H
#define GIMUX_SVM_INNER_H

#include <sys/queue.h>

#include "mux/svm/svm.h"

enum svm_state {
    SVM_WAITING,    /* for the next attempt */
    SVM_RESOLVING,  /* the host's name */
    SVM_CONNECTING, /* TCP, then TLS */
    SVM_GREETING,   /* MuxHello is sent, SvmHello is awaited */
    SVM_UP,
    SVM_REMOVED, /* its connection, if any, is closing */
};

struct svm_list {
    struct loop *loop;
    struct route *route;
    const struct conf *conf;
    LIST_HEAD(svm_links, svm) svms; /* in the order of altitude */
    struct loop_timer *expiry;      /* looks what ends; made with the first configuration */
};

#define SVM_ERROR_MAX TEXT_SHOWN_MAX /* bytes of a reason, NUL included */

struct svm {
    struct svm_list *list;
    struct conf_solution conf;
    struct sink *sink; /* the route's, as long as the link */
    enum svm_state state;
    struct credential credential;
    struct conn *conn;
    struct loop_lookup *lookup;
    struct loop_timer *timer; /* the next attempt; while up, the heartbeat */
    uint32_t redial;          /* ms until the next attempt, doubled by each */
    uint64_t heard;
    uint64_t up_since; /* loop_now of the SVM's hello */
    char name[VM_TEXT_MAX];
    char last_error[SVM_ERROR_MAX];
    LIST_ENTRY(svm) in_list;
};

/* Adds a solution behind the others and dials it. `tls` is the link's from now on; on false, which is out of
 * memory, it stays the caller's. */
bool svm_add(struct svm_list *list, const struct conf_solution *conf, struct tls_context *tls);

/* Takes the solution from the list and from the route; what it is goes when its connection is closed. */
void svm_remove(struct svm *svm, const char *reason);

/* What the configuration says now; what changed takes effect. `tls` is the link's from now on. */
void svm_change(struct svm *svm, const struct conf_solution *conf, struct tls_context *tls);

/* The state as one word. */
const char *svm_state_name(enum svm_state state);

/* Says Bye if the link is up. */
void svm_say_bye(struct svm *svm, const char *reason);

/* Warns of what ends; looks again when the next mark is reached. Called when there is something new to look
 * at, too; `list` is a struct svm_list. */
void svm_list_watch_expiry(void *list);

#endif
