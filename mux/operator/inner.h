/* What the files of the admin door share: replies that are made in portions. */
#ifndef GIMUX_OPERATOR_INNER_H
#define GIMUX_OPERATOR_INNER_H

#include <event2/buffer.h>
#include <stdbool.h>
#include <stddef.h>

#include "mux/operator/http.h"
#include "mux/route/snapshot.h"

/* A portion has at least so many bytes, unless it is the last: half a millisecond's work. What comes next is
 * made when the client has taken this one, so the loop is free in between. */
#define PORTION_BYTES ((size_t)32 * 1024)

/* How far a reply is. VMs are walked by their UUIDs as they were when the reply began: one that has gone
 * since is left out. */
struct progress {
    unsigned step; /* the reply's own, from 0 */
    size_t vm;     /* place in uuids */
    size_t vm_count;
    uint8_t (*uuids)[GR_UUID_SIZE];
};

/* A kind of reply. */
struct reply_kind {
    const char *content_type;
    /* Puts the next portion. Returns false if that was the last. */
    bool (*more)(const struct http_view *view, struct progress *progress, struct evbuffer *out);
};

extern const struct reply_kind metrics_reply; /* metrics.c */
extern const struct reply_kind status_reply;  /* status.c */

/* The next VM of the walk, without or with its streams, to be freed by vm_snapshot_fini; false at the end. */
bool next_vm(const struct http_view *view, struct progress *progress, bool streams, struct vm_snapshot *out);

#endif
