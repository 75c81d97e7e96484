/* A bounded queue of events that do not wait: what does not fit is dropped and becomes LOST. */
#include "thinagent-sim/queue.h"

#include <stdlib.h>
#include <string.h>

#include "proto/guest_record.h"
#include "thinagent-sim/memory.h"

struct entry {
    struct entry *next;
    uint64_t lost; /* not 0: that many events were dropped here; there is no record */
    uint16_t type;
    uint32_t len;
    uint8_t data[];
};

struct queue {
    struct source base;
    struct source *feeder;
    bool feeder_ended;
    uint64_t interest;
    size_t max;
    size_t used;         /* bytes of records that are queued */
    struct entry *given; /* the one whose bytes the reader has */
    struct entry *head;
    struct entry *tail;
};

static void
append(struct queue *queue, struct entry *entry)
{
    if (queue->tail)
        queue->tail->next = entry;
    else
        queue->head = entry;
    queue->tail = entry;
    queue->base.backlog++;
}

void
queue_put_lost(struct source *source, uint64_t count)
{
    struct queue *queue = (struct queue *)source;

    if (!queue->tail || queue->tail->lost == 0)
        append(queue, must_calloc(1, sizeof(struct entry)));
    queue->tail->lost += count;
}

void
queue_put(struct source *source, uint16_t type, const uint8_t *data, size_t len)
{
    struct queue *queue = (struct queue *)source;
    struct entry *entry;

    if (queue->used + len > queue->max) {
        if (!gr_type_is_event(type) || queue->interest & GR_KIND(type))
            queue_put_lost(source, 1);
        return;
    }
    entry = must_calloc(1, sizeof(*entry) + len);
    entry->type = type;
    entry->len = (uint32_t)len;
    memcpy(entry->data, data, len);
    queue->used += len;
    append(queue, entry);
}

static enum source_result
queue_next(struct source *source, int64_t now, struct source_item *item)
{
    struct queue *queue = (struct queue *)source;
    struct entry *entry = queue->head;

    (void)now;
    free(queue->given);
    queue->given = entry;
    if (!entry) {
        item->later = SOURCE_NEVER; /* the tick knows */
        return queue->feeder_ended || (source->stopped && !queue->feeder) ? SOURCE_END : SOURCE_LATER;
    }
    queue->head = entry->next;
    if (!queue->head)
        queue->tail = NULL;
    queue->used -= entry->len;
    source->backlog--;
    item->lost = entry->lost;
    item->data = entry->data;
    item->len = entry->len;
    item->type = entry->type;
    return entry->lost > 0 ? SOURCE_LOST : SOURCE_RECORD;
}

/* Takes from the feeder what is due, wanted or not. */
static int64_t
queue_tick(struct source *source, int64_t now, uint64_t interest)
{
    struct queue *queue = (struct queue *)source;
    struct source_item item;

    queue->interest = interest;
    if (!queue->feeder)
        return SOURCE_NEVER;
    queue->feeder->stopped = source->stopped;
    while (!queue->feeder_ended) {
        switch (queue->feeder->next(queue->feeder, now, &item)) {
        case SOURCE_RECORD:
            queue_put(source, item.type, item.data, item.len);
            break;
        case SOURCE_LOST:
            queue_put_lost(source, item.lost);
            break;
        case SOURCE_LATER:
            return item.later;
        case SOURCE_END:
            queue->feeder_ended = true;
            break;
        }
    }
    return SOURCE_NEVER;
}

static void
queue_free(struct source *source)
{
    struct queue *queue = (struct queue *)source;

    while (queue->head) {
        struct entry *next = queue->head->next;

        free(queue->head);
        queue->head = next;
    }
    free(queue->given);
    if (queue->feeder)
        queue->feeder->free(queue->feeder);
    free(queue);
}

struct source *
queue_new(size_t max, struct source *feeder)
{
    struct queue *queue = must_calloc(1, sizeof(*queue));

    queue->base.next = queue_next;
    queue->base.tick = queue_tick;
    queue->base.free = queue_free;
    queue->interest = GR_KIND_ALL;
    queue->max = max;
    queue->feeder = feeder;
    return &queue->base;
}
