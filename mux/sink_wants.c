/* What a sink wants: the configuration of its solution, narrowed by the subscription in its SVM's hello. */
#include <string.h>

#include "mux/sink.h"

static bool
listed(const struct sink *sink, const char *uuid, size_t len)
{
    const struct conf_list *granted = &sink->conf->vms;
    uint8_t wanted[GR_UUID_SIZE];
    char text[GR_UUID_TEXT];
    bool found = granted->count == 0;

    if (len != GR_UUID_TEXT - 1)
        return false;
    memcpy(text, uuid, len);
    text[len] = '\0';
    for (unsigned i = 0; i < granted->count && !found; i++)
        found = strcasecmp(granted->texts[i], text) == 0;
    if (!found || sink->vm_count == 0)
        return found;
    if (!gr_uuid_parse(text, wanted))
        return false;
    for (unsigned i = 0; i < sink->vm_count; i++)
        if (memcmp(sink->vms[i], wanted, GR_UUID_SIZE) == 0)
            return true;
    return false;
}

bool
sink_wants_vm(const struct sink *sink, const struct vm *vm)
{
    return (sink->conf->vms.count == 0 && sink->vm_count == 0) ||
           listed(sink, vm->uuid_text, GR_UUID_TEXT - 1);
}

/* Windows paths compare without regard to ASCII case; others, which begin with a slash, exactly. */
static bool
has_prefix(const char *path, size_t len, const char *prefix)
{
    size_t prefix_len = strlen(prefix);

    if (prefix_len > len)
        return false;
    if (path[0] == '/')
        return memcmp(path, prefix, prefix_len) == 0;
    /* Most begin alike; where the prefix ends, most differ by more than the case of a letter. */
    if (prefix_len > 0 && ((path[prefix_len - 1] ^ prefix[prefix_len - 1]) & ~0x20) != 0)
        return false;
    return strncasecmp(path, prefix, prefix_len) == 0;
}

static bool
muted(const struct sink *sink, const char *path, size_t len)
{
    for (unsigned i = 0; i < sink->conf->mute.count; i++)
        if (has_prefix(path, len, sink->conf->mute.texts[i]))
            return true;
    if (!sink->hello || !sink->hello->subscription)
        return false;
    for (size_t i = 0; i < sink->hello->subscription->n_muted_path_prefixes; i++)
        if (has_prefix(path, len, sink->hello->subscription->muted_path_prefixes[i]))
            return true;
    return false;
}

static bool
wants(void *arg, enum event_class cls, const char *key, size_t len)
{
    const struct sink *sink = arg;

    if (cls == CLASS_FILE)
        return len == 0 || !muted(sink, key, len);
    if (cls == CLASS_POWER)
        return listed(sink, key, len);
    return true;
}

/* A VM that is not subscribed may still be the host's, in whose log the power events of others are. */
struct vmlog_filter
sink_filter(struct sink *sink, const struct vm *vm)
{
    struct vmlog_filter filter = { .class_mask = sink->class_mask | 1u << VMLOG_GAP, .arg = sink };
    bool has_mutes = sink->conf->mute.count > 0 || (sink->hello && sink->hello->subscription &&
                                                    sink->hello->subscription->n_muted_path_prefixes > 0);

    if (!sink_wants_vm(sink, vm))
        filter.class_mask = sink->class_mask & (1u << CLASS_POWER);
    filter.wants = wants;
    if (has_mutes)
        filter.key_mask |= 1u << CLASS_FILE;
    if (sink->conf->vms.count > 0 || sink->vm_count > 0)
        filter.key_mask |= 1u << CLASS_POWER;
    return filter;
}
