/* What a driver keeps until gimuxd acknowledges it: everything that was given a sequence, oldest first. */
#include "thinagent-sim/held.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "thinagent-sim/memory.h"

#define SEQUENCE_AT 8u /* in a record */

void
held_add(struct held_list *list, uint64_t sequence, uint64_t count, const uint8_t *record, size_t len)
{
    struct held *held = must_calloc(1, sizeof(*held) + len);
    uint64_t number = htole64(sequence);

    held->first = sequence;
    held->last = sequence + count - 1;
    held->len = (uint32_t)len;
    memcpy(held->bytes, record, len);
    memcpy(held->bytes + SEQUENCE_AT, &number, sizeof(number));
    if (list->tail)
        list->tail->next = held;
    else
        list->head = held;
    list->tail = held;
    if (!list->unsent)
        list->unsent = held;
}

/* Takes the oldest off. */
static void
drop_head(struct held_list *list)
{
    struct held *held = list->head;

    if (list->unsent == held)
        list->unsent = held->next;
    else
        list->outstanding -= held->len;
    list->head = held->next;
    if (!list->head)
        list->tail = NULL;
    free(held);
}

void
held_release(struct held_list *list, uint64_t sequence)
{
    while (list->head && list->head->last <= sequence)
        drop_head(list);
}

bool
held_mark_sent(struct held_list *list)
{
    struct held *held = list->unsent;
    bool before = held->sent;

    list->outstanding += held->len;
    list->unsent = held->next;
    held->sent = true;
    return before;
}

void
held_rewind(struct held_list *list, uint64_t next_wanted)
{
    list->unsent = list->head;
    list->outstanding = 0;
    while (list->unsent && list->unsent->last < next_wanted)
        held_mark_sent(list);
}

const struct held *
held_to_send(const struct held_list *list, uint64_t window)
{
    const struct held *held = list->unsent;

    if (held && list->outstanding > 0 && list->outstanding + held->len > window)
        return NULL;
    return held;
}

void
held_clear(struct held_list *list)
{
    while (list->head)
        drop_head(list);
}
