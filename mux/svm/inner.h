/* What a link is inside, for the files of this room alone. */
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
    LIST_HEAD(svm_links, svm) svms; /* by altitude at first; reloads add at the end */
    struct loop_timer *expiry;      /* for svm_list_watch_expiry; made by svm_list_set_conf */
};

#define SVM_ERROR_MAX TEXT_SHOWN_MAX /* bytes of a reason, NUL included */

struct svm {
    struct svm_list *list;
    struct conf_solution conf;
    struct sink *sink; /* the route's; as long as the link is in the list */
    enum svm_state state;
    struct credential credential;
    struct conn *conn;
    struct loop_lookup *lookup;
    struct loop_timer *timer;       /* the next attempt; while up, the heartbeat */
    uint32_t redial;                /* ms until the next attempt, doubled by each */
    uint64_t heard;                 /* loop_now of the last bytes; while greeting, of the connection */
    uint64_t up_since;              /* loop_now of the SVM's hello */
    char name[VM_TEXT_MAX];         /* of the last SvmHello */
    char last_error[SVM_ERROR_MAX]; /* why the link is not up; "" once it is */
    LIST_ENTRY(svm) in_list;
};

/* Adds a solution behind the others and dials it; `conf` is copied. `tls` is the link's from now on. False if
 * out of memory or if the route takes no more sinks: then `tls` stays the caller's. */
bool svm_add(struct svm_list *list, const struct conf_solution *conf, struct tls_context *tls);

/* Takes the solution from the list and from the route, for that reason. It is freed now, or when its
 * connection has closed. */
void svm_remove(struct svm *svm, const char *reason);

/* Puts what the configuration says now (`conf` is copied) and `tls`, which is the link's from now on, in
 * force. A link whose options have changed connects anew. */
void svm_change(struct svm *svm, const struct conf_solution *conf, struct tls_context *tls);

/* The state as one word, static. */
const char *svm_state_name(enum svm_state state);

/* Says Bye with that reason if the link is up. */
void svm_say_bye(struct svm *svm, const char *reason);

/* Warns of certificates and lists that end soon, and sets the timer for the next look: at the next mark, and
 * within an hour in any case, since the wall clock may be set. Also called when there is something new to
 * look at. `list` is a struct svm_list. */
void svm_list_watch_expiry(void *list);

#endif
