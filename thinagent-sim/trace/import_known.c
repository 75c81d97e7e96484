/* What earlier events of a log said that a later one needs: names of open handles, and logoffs. */
#include "thinagent-sim/trace/import_known.h"

#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "thinagent-sim/memory.h"

#define KNOWN_MAX ((size_t)16 << 20) /* bytes of all entries and texts */

struct entry {
    struct import_known_key key;
    char *text;
    UT_hash_handle hh;
};

struct import_known {
    struct entry *entries; /* in the order in which they were put */
    size_t bytes;
};

static size_t
entry_bytes(const struct entry *entry)
{
    return sizeof(*entry) + strlen(entry->text) + 1;
}

/* Takes the entry out and returns its text, which the caller frees. */
static char *
entry_remove(struct import_known *known, struct entry *entry)
{
    char *text = entry->text;

    known->bytes -= entry_bytes(entry);
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the macro frees its table with the last element only */
    HASH_DEL(known->entries, entry);
    free(entry);
    return text;
}

struct import_known *
import_known_new(void)
{
    return must_calloc(1, sizeof(struct import_known));
}

void
import_known_free(struct import_known *known)
{
    struct entry *entry = known ? known->entries : NULL;
    struct entry *next;

    if (known)
        HASH_CLEAR(hh, known->entries); /* the entries stay linked */
    for (; entry; entry = next) {
        next = entry->hh.next;
        free(entry->text);
        free(entry);
    }
    free(known);
}

void
import_known_put(struct import_known *known, const struct import_known_key *key, const char *text)
{
    struct entry *entry = must_calloc(1, sizeof(*entry));
    struct entry *oldest;
    struct entry *next;

    free(import_known_take(known, key));
    entry->key = *key;
    entry->text = must_strdup(text);
    HASH_ADD(hh, known->entries, key, sizeof(entry->key), entry);
    known->bytes += entry_bytes(entry);
    HASH_ITER (hh, known->entries, oldest, next) {
        if (known->bytes <= KNOWN_MAX)
            break;
        free(entry_remove(known, oldest));
    }
}

char *
import_known_take(struct import_known *known, const struct import_known_key *key)
{
    struct entry *entry;

    HASH_FIND(hh, known->entries, key, sizeof(*key), entry);
    return entry ? entry_remove(known, entry) : NULL;
}
