/* SVM links: for every solution a connection that gimuxd dials, again and again, and the frames on it. */
#ifndef GIMUX_SVM_SVM_H
#define GIMUX_SVM_SVM_H

#include <stdbool.h>
#include <stdint.h>

#include "mux/base/conf.h"
#include "mux/event/text.h"
#include "mux/net/loop.h"
#include "mux/route/route.h"
#include "mux/route/snapshot.h"
#include "mux/svm/credential.h"

struct svm_list; /* all solutions of the configuration */

/* `conf` must stay until svm_list_set_conf. NULL if out of memory. */
struct svm_list *svm_list_new(struct loop *loop, struct route *route, const struct conf *conf);

/* After svm_list_close and when the loop has ended. NULL is fine. */
void svm_list_free(struct svm_list *list);

/* Makes the list what the configuration says: solutions that are new are added and dialled, those that are
 * gone removed, those that changed connect anew, the others are left alone. TLS files are read again for all,
 * and used from the next connection on; a link ends if the SVM's certificate is revoked now. Returns false,
 * having changed nothing, if a solution's TLS files cannot be used, each of which is logged, or if memory is
 * out for them. A new solution that memory is out for later is logged, and missing until the next call.
 * `conf` must stay until the next call. */
bool svm_list_set_conf(struct svm_list *list, const struct conf *conf);

/* Whether the TLS files of all solutions can be used; each that cannot is logged, and what ends soon. */
bool svm_check_conf(const struct conf *conf);

/* Says Bye with that reason to all SVMs that are up, as far as their sockets take it; the links stay. */
void svm_list_bye(struct svm_list *list, const char *reason);

/* Says the same, and removes all links. */
void svm_list_close(struct svm_list *list, const char *reason);

/* The most memory that connections to SVMs can take, in bytes, with as many solutions as there can be. */
uint64_t svm_memory_bound(void);

/* ---- what operators see ---- */

/* A link, copied. */
struct svm_snapshot {
    char solution[CONF_NAME_MAX];
    uint32_t altitude;
    char address[ADDRESS_TEXT_MAX];
    enum conf_policy policy;
    enum conf_durability durability;
    const char *state; /* a word: waiting, resolving, connecting, greeting, up */
    bool up;
    char name[VM_TEXT_MAX];          /* of the last SvmHello; "" before the first */
    char last_error[TEXT_SHOWN_MAX]; /* why it is not up; "" once it is */
    /* By enum credential_part: whole days until that ends, negative when it has; has_days false: there is no
     * such thing. */
    int64_t days[CREDENTIAL_PARTS];
    bool has_days[CREDENTIAL_PARTS];
    unsigned slot; /* of its sink: see route_pending_by_slot */
    struct sink_snapshot sink;
};

/* The solution at that place, from 0: by altitude, and behind these what later reloads have added. False if
 * there are no more. */
bool svm_snapshot(const struct svm_list *list, unsigned place, struct svm_snapshot *out);

#endif
