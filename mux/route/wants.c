/* What a sink wants: the configuration of its solution, narrowed by the subscription in its SVM's hello. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "mux/route/inner.h"

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
           listed(sink, vm_uuid_text(vm), GR_UUID_TEXT - 1);
}

/* ---- muted paths ---- */

/* Windows paths compare without regard to ASCII case; others, which begin with a slash, exactly. */
static int
compare(const char *a, const char *b, size_t len)
{
    return a[0] == '/' ? memcmp(a, b, len) : strncasecmp(a, b, len);
}

static int
by_prefix(const void *left, const void *right)
{
    const struct sink_mute *a = left;
    const struct sink_mute *b = right;
    int order = compare(a->prefix, b->prefix, a->len < b->len ? a->len : b->len);

    return order != 0 ? order : (a->len > b->len) - (a->len < b->len);
}

static void
add_mute(struct sink *sink, const char *prefix)
{
    assert(sink->mute_count < CONF_LIST_MAX + SINK_MUTES_MAX);
    sink->mutes[sink->mute_count++] = (struct sink_mute){ prefix, strlen(prefix) };
}

/* Whether the path begins with a muted prefix. None of these begins with another, so there is one at most,
 * and the path would be sorted in right behind it. */
static bool
muted(const struct sink *sink, const char *path, size_t len)
{
    unsigned low = 0;
    unsigned high = sink->mute_count;

    while (low < high) {
        unsigned middle = (low + high) / 2;
        const struct sink_mute *mute = &sink->mutes[middle];
        int order = compare(path, mute->prefix, len < mute->len ? len : mute->len);

        if (order == 0 && len >= mute->len)
            return true;
        if (order <= 0)
            high = middle;
        else
            low = middle + 1;
    }
    return false;
}

void
sink_set_mutes(struct sink *sink)
{
    const Gimux__V1__Subscription *subscription = sink->hello ? sink->hello->subscription : NULL;
    unsigned count;

    sink->mute_count = 0;
    for (unsigned i = 0; i < sink->conf->mute.count; i++)
        add_mute(sink, sink->conf->mute.texts[i]);
    for (size_t i = 0; subscription && i < subscription->n_muted_path_prefixes; i++)
        add_mute(sink, subscription->muted_path_prefixes[i]);
    count = sink->mute_count;
    qsort(sink->mutes, count, sizeof(sink->mutes[0]), by_prefix);
    sink->mute_count = 0;
    for (unsigned i = 0; i < count; i++) /* what begins with another is muted by that */
        if (!muted(sink, sink->mutes[i].prefix, sink->mutes[i].len))
            sink->mutes[sink->mute_count++] = sink->mutes[i];
}

/* ---- all that it wants ---- */

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

    if (!sink_wants_vm(sink, vm))
        filter.class_mask = sink->class_mask & (1u << CLASS_POWER);
    filter.wants = wants;
    if (sink->mute_count > 0)
        filter.key_mask |= 1u << CLASS_FILE;
    if (sink->conf->vms.count > 0 || sink->vm_count > 0)
        filter.key_mask |= 1u << CLASS_POWER;
    return filter;
}
