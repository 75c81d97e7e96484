/* Snapshots: what operators see of VMs, streams and solutions, copied. Nothing else shows them. */
#ifndef GIMUX_ROUTE_SNAPSHOT_H
#define GIMUX_ROUTE_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/base/conf.h"
#include "mux/base/histogram.h"
#include "mux/route/route.h"
#include "mux/store/store.h"
#include "mux/vmlog/vm.h"

/* All of it in sums. */
struct route_snapshot {
    uint64_t log_bytes; /* of all VM logs in memory */
    uint64_t log_limit;
    unsigned vms;
    unsigned vms_connected; /* with at least one driver */
    bool has_storage;       /* else VM logs are in memory alone, and `storage` is zeros */
    struct storage_snapshot storage;
};

void route_snapshot(const struct route *route, struct route_snapshot *out);

/* One solution. */
struct sink_snapshot {
    struct vmlog_counts counts; /* since this gimuxd began, or the one that it relieved */
    uint64_t sent_bytes;        /* of events written to it */
    uint64_t skips;             /* times that events were given up */
    const struct histogram
        *delivery; /* from the arrival of a record to its frame being written; the sink's */
};

void sink_snapshot(const struct route *route, const struct sink *sink, struct sink_snapshot *out);

/* How far one solution is in one stream. */
struct cursor_snapshot {
    char solution[CONF_NAME_MAX];
    struct vmlog_progress at;
};

struct stream_snapshot {
    struct stream_about about;
    uint64_t last; /* sequences: what came, and what was acknowledged to the driver */
    uint64_t accepted;
    bool connected;
    unsigned cursor_count;
    struct cursor_snapshot cursors[VMLOG_SINKS];
};

struct vm_snapshot {
    char uuid_text[GR_UUID_TEXT];
    uint16_t power; /* enum gr_power_op of the last lifecycle event about it, 0: none */
    bool connected;
    bool paused;
    bool flooding;
    uint64_t log_bytes;
    uint64_t storage_bytes;
    uint64_t events; /* sequences taken from its drivers */
    size_t stream_count;
    struct stream_snapshot *streams; /* the newest first; the snapshot's own */
};

/* The UUIDs of all VMs, for walking over them in portions: they may come and go in between. The caller frees
 * what is returned, also if there are none; NULL if out of memory. */
uint8_t (*route_list_vms(const struct route *route, size_t *count))[GR_UUID_SIZE];

/* A VM, with its streams or without. False if it is not there any more, or out of memory. On true
 * vm_snapshot_fini must follow. */
bool vm_snapshot(const struct route *route, const uint8_t uuid[GR_UUID_SIZE], bool streams,
                 struct vm_snapshot *out);
void vm_snapshot_fini(struct vm_snapshot *snapshot);

/* Events in VM logs that are not settled, by slot of the sink (sink_slot); 0 where there is none. Walks over
 * all VMs once. */
void route_pending_by_slot(const struct route *route, uint64_t pending[VMLOG_SINKS]);
unsigned sink_slot(const struct sink *sink);

#endif
