/* How far this SVM is in each stream, over all connections: the table that makes a resume possible. */
#include "client/position.h"

#include <stdlib.h>
#include <string.h>

bool
gimux_position_is_uuid(const char *text)
{
    for (size_t i = 0; i < POSITION_UUID_TEXT - 1; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            if (text[i] != '-')
                return false;
        } else if (!(text[i] >= '0' && text[i] <= '9') && !(text[i] >= 'a' && text[i] <= 'f')) {
            return false;
        }
    }
    return text[POSITION_UUID_TEXT - 1] == '\0';
}

struct position *
gimux_position_find(struct positions *positions, const struct position_key *key)
{
    struct position *found = NULL;

    HASH_FIND(hh, positions->table, key, sizeof(*key), found);
    return found;
}

struct position *
gimux_position_add(struct positions *positions, const struct position_key *key, uint64_t first)
{
    size_t before = HASH_COUNT(positions->table);
    struct position *position;

    if (before >= positions->max)
        return NULL;
    position = calloc(1, sizeof(*position));
    if (!position)
        return NULL;
    position->key = *key;
    position->stream.vm_uuid = position->key.vm_uuid;
    position->stream.boot_id = position->key.boot_id;
    position->stream.driver = key->driver;
    position->stream.driver_build = position->driver_build;
    position->stream.guest_os = position->guest_os;
    position->delivered = first ? first - 1 : 0;
    position->acked = position->delivered;
    HASH_ADD(hh, positions->table, key, sizeof(position->key), position);
    if (HASH_COUNT(positions->table) == before) {
        free(position);
        return NULL;
    }
    return position;
}

struct position *
gimux_position_victim(struct positions *positions)
{
    struct position *ended = NULL, *unused = NULL;

    if (HASH_COUNT(positions->table) < positions->max)
        return NULL;
    for (struct position *position = positions->table; position; position = position->hh.next) {
        if (position->ended && (!ended || position->ended < ended->ended))
            ended = position;
        if (!unused && !position->route)
            unused = position;
    }
    return ended ? ended : unused;
}

void
gimux_position_remove(struct positions *positions, struct position *position)
{
    HASH_DEL(positions->table, position);
    free(position);
}

void
gimux_position_end(struct positions *positions, struct position *position)
{
    position->ended = ++positions->ends;
}

void
gimux_position_supersede(struct positions *positions, const struct position *position)
{
    for (struct position *former = positions->table; former; former = former->hh.next)
        if (former != position && !former->ended && !former->route &&
            former->key.driver == position->key.driver &&
            strcmp(former->key.vm_uuid, position->key.vm_uuid) == 0)
            gimux_position_end(positions, former);
}

void
gimux_position_restart(struct position *position)
{
    position->delivered = position->acked;
    position->ended = 0;
}

bool
gimux_position_event(struct position *position, uint64_t sequence)
{
    if (sequence <= position->delivered)
        return false;
    position->delivered = sequence;
    return true;
}

bool
gimux_position_gap(struct position *position, uint64_t *first, uint64_t last)
{
    if (last <= position->delivered)
        return false;
    if (*first <= position->delivered)
        *first = position->delivered + 1;
    position->delivered = last;
    return true;
}

void
gimux_position_progress(struct position *position, uint64_t sequence)
{
    bool settled = position->acked == position->delivered;

    if (sequence <= position->delivered)
        return;
    position->delivered = sequence;
    if (settled)
        position->acked = sequence;
}

bool
gimux_position_ack(struct position *position, uint64_t sequence)
{
    if (sequence > position->delivered)
        return false;
    if (sequence > position->acked)
        position->acked = sequence;
    return true;
}
