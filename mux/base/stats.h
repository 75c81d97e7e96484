/* Counters of the whole daemon: one list of name, kind and help, from which the struct, /metrics and docs
 * come. */
#ifndef GIMUX_BASE_STATS_H
#define GIMUX_BASE_STATS_H

#include <stdint.h>

#include "mux/base/histogram.h"

/* X(name, kind, help). Counters of one VM or solution are kept where they happen and listed below. */
#define STATS_DAEMON(X)                                                                                      \
    X(guest_connections_total, counter, "Connections that drivers opened")                                   \
    X(guest_rejects_total, counter, "Hellos that were rejected")                                             \
    X(guest_errors_total, counter, "Driver connections closed because of a malformed or unexpected record")  \
    X(guest_lost_total, counter, "Drivers reported lost: silent for too long, or cut off")                   \
    X(guest_records_total, counter, "Event records taken from drivers")                                      \
    X(guest_record_bytes_total, counter, "Bytes of these records")                                           \
    X(guest_duplicates_total, counter, "Event records that had been taken before")                           \
    X(guest_skipped_total, counter, "Records of a type that this version does not know")                     \
    X(guest_pauses_total, counter, "Times that reading from a VM stopped because its log was full")          \
    X(frames_total, counter, "Frames put into VM logs")                                                      \
    X(frame_bytes_total, counter, "Bytes of these frames")                                                   \
    X(storage_written_bytes_total, counter, "Bytes written to files of VM logs")                             \
    X(storage_errors_total, counter, "Writes and reads of such files that failed")                           \
    X(storage_loads_total, counter, "Pieces of VM logs read back from files")                                \
    X(storage_damaged_total, counter, "Sequences that became a gap because a file was damaged")              \
    X(svm_connections_total, counter, "Connections made to SVMs")                                            \
    X(svm_errors_total, counter, "SVM connections closed because of a malformed or unexpected frame")        \
    X(svm_tls_failures_total, counter, "SVM connections that failed in TLS")                                 \
    X(reloads_total, counter, "Configurations put in force by SIGHUP")                                       \
    X(reload_failures_total, counter, "Configurations that SIGHUP refused")                                  \
    X(upgrades_total, counter, "Times that a new gimuxd took the place of a running one")                    \
    X(upgrade_failures_total, counter, "Times that it could not, and the old one went on")

/* Gauges and counters that are read from the objects when they are asked for. */
#define STATS_OBJECTS(X)                                                                                     \
    X(memory_bound_bytes, gauge, "Upper bound of memory for events and connections, from the configuration") \
    X(log_bytes, gauge, "Memory of all VM logs")                                                             \
    X(log_limit_bytes, gauge, "Limit of that memory")                                                        \
    X(loop_busy_seconds, histogram, "How long turns of the event loop were busy")                            \
    X(storage_bytes, gauge, "Bytes of files of VM logs")                                                     \
    X(storage_segments, gauge, "Such files")                                                                 \
    X(storage_waiting, gauge, "VMs of which something is to be written")                                     \
    X(storage_failing, gauge, "1 while they cannot be written")                                              \
    X(storage_full, gauge, "1 while storage.vm or storage.total is used up")                                 \
    X(vms, gauge, "VMs known")                                                                               \
    X(vms_connected, gauge, "VMs with at least one driver connected")                                        \
    X(vm_log_bytes, gauge, "Memory of one VM's log")                                                         \
    X(vm_storage_bytes, gauge, "Bytes of files of one VM's log")                                             \
    X(vm_paused, gauge, "1 while the VM is not read because its log is full")                                \
    X(vm_flooding, gauge, "1 while the VM sends far more than the others")                                   \
    X(vm_events_total, counter, "Sequences taken from one VM's drivers, their own gaps included")            \
    X(solution_up, gauge, "1 while the SVM is connected and has said hello")                                 \
    X(solution_delivered_total, counter, "Events that the SVM has acknowledged")                             \
    X(solution_filtered_total, counter, "Events that its subscription filtered out")                         \
    X(solution_gapped_total, counter, "Events that were or will be told it as gaps")                         \
    X(solution_pending, gauge, "Events in VM logs that are not settled for it")                              \
    X(solution_sent_bytes_total, counter, "Bytes of events written to it")                                   \
    X(delivery_seconds, histogram, "From the arrival of a record to its frame being written; sampled")       \
    X(solution_certificate_days, gauge, "Whole days until gimuxd's certificate for it expires")              \
    X(solution_peer_certificate_days, gauge, "Whole days until the certificate of its connected SVM does")   \
    X(solution_crl_days, gauge, "Whole days until its revocation lists do")

struct stats {
#define STATS_FIELD(name, kind, help) uint64_t name;
    STATS_DAEMON(STATS_FIELD)
#undef STATS_FIELD
    struct histogram loop_busy; /* turns of the loop */
};

/* The daemon's one set of counters. */
extern struct stats stats;

#endif
