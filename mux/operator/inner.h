/* What the files of the admin door share: replies that are made in portions. */
#ifndef GIMUX_OPERATOR_INNER_H
#define GIMUX_OPERATOR_INNER_H

#include <event2/buffer.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/operator/http.h"
#include "mux/route/snapshot.h"

/* A portion ends with the VM or metric that makes it so many bytes, or with the reply: less than a
 * millisecond's work. The next one is made when the client has taken it, so the loop is free in between. */
#define PORTION_BYTES ((size_t)16 * 1024)

/* How far a reply is. VMs are walked by their UUIDs as they were when the reply began: those that are gone
 * since are left out, as are those that have come. */
struct progress {
    unsigned step; /* the kind's own, from 0 */
    size_t vm;     /* the next one's place in uuids; a kind that walks again sets it back to 0 */
    size_t vm_count;
    uint8_t (*uuids)[GR_UUID_SIZE]; /* the reply's */
};

/* A kind of reply. */
struct reply_kind {
    const char *content_type;
    /* Appends the next portion to `out`, which is empty. Returns false if that was the last; if not, it has
     * put at least a byte. */
    bool (*more)(const struct http_view *view, struct progress *progress, struct evbuffer *out);
};

extern const struct reply_kind metrics_reply; /* metrics.c */
extern const struct reply_kind status_reply;  /* status.c */

/* Copies the next VM of the walk to `out`, without or with its streams; vm_snapshot_fini must follow. False
 * at the end, and nothing is in `out`. */
bool next_vm(const struct http_view *view, struct progress *progress, bool streams, struct vm_snapshot *out);

#endif
