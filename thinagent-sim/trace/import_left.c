/* Counts the events that an import leaves out, by their id. */
#include "thinagent-sim/trace/import_left.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "thinagent-sim/memory.h"

#define ROWS_MAX   1024u
#define SOURCE_MAX 48

struct row_key {
    uint64_t id;
    char source[SOURCE_MAX]; /* the rest is 0 */
};

struct row {
    struct row_key key;
    const char *why;
    uint64_t count;
    UT_hash_handle hh;
};

struct import_left {
    struct row *rows;
};

struct import_left *
import_left_new(void)
{
    return must_calloc(1, sizeof(struct import_left));
}

void
import_left_free(struct import_left *left)
{
    struct row *row = left->rows;
    struct row *next;

    HASH_CLEAR(hh, left->rows); /* the rows stay linked */
    for (; row; row = next) {
        next = row->hh.next;
        free(row);
    }
    free(left);
}

static struct row_key
key_of(const char *source, uint64_t id)
{
    struct row_key key;
    size_t len = 0;

    memset(&key, 0, sizeof(key));
    key.id = id <= INT64_MAX ? id : 0; /* so that it is a number of JSON too */
    for (; *source != '\0' && len < SOURCE_MAX - 1; source++)
        key.source[len++] = *source >= ' ' && *source <= '~' ? *source : '?';
    return key;
}

void
import_left_count(struct import_left *left, const char *source, uint64_t id, const char *why)
{
    struct row_key key = key_of(source ? source : "", id);
    struct row *row;

    HASH_FIND(hh, left->rows, &key, sizeof(key), row);
    if (!row && HASH_COUNT(left->rows) >= ROWS_MAX) {
        key = key_of("other", 0);
        why = "more ids than are listed";
        HASH_FIND(hh, left->rows, &key, sizeof(key), row);
    }
    if (!row) {
        row = must_calloc(1, sizeof(*row));
        row->key = key;
        row->why = why;
        HASH_ADD(hh, left->rows, key, sizeof(row->key), row);
    }
    row->count++;
}

static int
by_source_and_id(const struct row *a, const struct row *b)
{
    int order = strcmp(a->key.source, b->key.source);

    return order != 0 ? order : (a->key.id > b->key.id) - (a->key.id < b->key.id);
}

json_t *
import_left_json(struct import_left *left)
{
    json_t *rows = json_array();

    HASH_SORT(left->rows, by_source_and_id);
    for (const struct row *row = left->rows; row; row = row->hh.next)
        json_array_append_new(rows, json_pack("{s:s, s:I, s:I, s:s}", "source", row->key.source, "event_id",
                                              (json_int_t)row->key.id, "count", (json_int_t)row->count, "why",
                                              row->why));
    return rows;
}

void
import_left_print(struct import_left *left)
{
    HASH_SORT(left->rows, by_source_and_id);
    if (left->rows)
        printf("left out:\n");
    for (const struct row *row = left->rows; row; row = row->hh.next)
        printf("%-9s %6" PRIu64 " %9" PRIu64 "  %s\n", row->key.source[0] != '\0' ? row->key.source : "-",
               row->key.id, row->count, row->why);
}
