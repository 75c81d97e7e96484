/* What an SVM's hello says: its subscription, and how far it has each stream, which counts for the streams
 * that are there and for those that come later. */
#include <stdlib.h>
#include <string.h>

#include "mux/route/inner.h"

struct sink_position {
    struct sink_key {
        uint8_t vm_uuid[GR_UUID_SIZE];
        uint8_t boot_id[GR_UUID_SIZE];
        uint32_t driver;
    } key;
    uint64_t sequence;
    UT_hash_handle hh;
};

static void
clear_positions(struct sink *sink)
{
    struct sink_position *position;
    struct sink_position *next;

    HASH_ITER (hh, sink->positions, position, next) {
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the macro frees its table with the last element only */
        HASH_DEL(sink->positions, position);
        free(position);
    }
}

void
sink_clear_hello(struct sink *sink)
{
    if (sink->hello)
        gimux__v1__svm_hello__free_unpacked(sink->hello, NULL);
    sink->hello = NULL;
    sink->vm_count = 0;
    sink->class_mask = sink->conf->class_mask;
    sink_set_mutes(sink);
    clear_positions(sink);
}

static const char *
take_subscription(struct sink *sink, const Gimux__V1__Subscription *subscription)
{
    uint32_t mask = 0;

    if (!subscription)
        return NULL;
    if (subscription->n_vm_uuids > SINK_VMS_MAX)
        return "hello: more than 64 VMs in the subscription";
    if (subscription->n_muted_path_prefixes > SINK_MUTES_MAX)
        return "hello: more than 1024 muted path prefixes in the subscription";
    for (size_t i = 0; i < subscription->n_vm_uuids; i++)
        if (!gr_uuid_parse(subscription->vm_uuids[i], sink->vms[sink->vm_count++]))
            return "hello: a VM in the subscription is not a UUID";
    for (size_t i = 0; i < subscription->n_class_uids; i++) {
        enum event_class cls = event_class_by_uid(subscription->class_uids[i]);

        if (cls < CLASS_COUNT) /* a class of a newer version is nothing that we could send */
            mask |= 1u << cls;
    }
    if (subscription->n_class_uids > 0)
        sink->class_mask &= mask;
    sink_set_mutes(sink);
    return NULL;
}

static const char *
take_positions(struct sink *sink, const Gimux__V1__SvmHello *hello)
{
    for (size_t i = 0; i < hello->n_positions; i++) {
        const Gimux__V1__StreamPosition *from = hello->positions[i];
        struct sink_position *position = calloc(1, sizeof(*position));
        struct sink_position *known;

        if (!position)
            return "out of memory";
        if (!gr_uuid_parse(from->vm_uuid, position->key.vm_uuid) ||
            !gr_uuid_parse(from->boot_id, position->key.boot_id)) {
            free(position);
            return "hello: a position's VM or boot id is not a UUID";
        }
        if (from->last_sequence > GR_SEQUENCE_MAX) {
            free(position);
            return "hello: a position's sequence is more than 2^63 - 1";
        }
        position->key.driver = (uint32_t)from->driver;
        position->sequence = from->last_sequence;
        HASH_FIND(hh, sink->positions, &position->key, sizeof(position->key), known);
        if (known) {
            free(position);
            return "hello: two positions for one stream";
        }
        HASH_ADD(hh, sink->positions, key, sizeof(position->key), position);
    }
    return NULL;
}

void
sink_stream_added(struct sink *sink, struct stream *stream)
{
    const struct vmlog_progress *progress = stream_progress(stream, sink->slot);
    struct sink_position *position;
    struct sink_key key;

    memset(&key, 0, sizeof(key));
    memcpy(key.vm_uuid, vm_uuid(stream_vm(stream)), GR_UUID_SIZE);
    memcpy(key.boot_id, stream_about(stream)->boot_id, GR_UUID_SIZE);
    key.driver = stream_about(stream)->driver;
    HASH_FIND(hh, sink->positions, &key, sizeof(key), position);
    if (!position)
        return;
    if (position->sequence > progress->acked)
        vmlog_resume(vm_log(stream_vm(stream)), sink->slot, stream_log(stream), position->sequence);
    else if (position->sequence < stream_about(stream)->start - 1 &&
             progress->acked == stream_about(stream)->start - 1 && sink_wants_vm(sink, stream_vm(stream)))
        vmlog_gap_before(vm_log(stream_vm(stream)), sink->slot, stream_log(stream), position->sequence + 1,
                         stream_about(stream)->start - 1, GIMUX__V1__GAP_REASON__GAP_REASON_RESTART);
    HASH_DEL(sink->positions, position);
    free(position);
}

const char *
sink_take_hello(struct sink *sink, Gimux__V1__SvmHello *hello)
{
    const char *why;

    sink_clear_hello(sink);
    sink->hello = hello;
    why = take_subscription(sink, hello->subscription);
    if (!why)
        why = take_positions(sink, hello);
    if (why)
        sink_clear_hello(sink);
    return why;
}
