/* Counts the events that an import leaves out, by their id. */
#ifndef SIM_IMPORT_LEFT_H
#define SIM_IMPORT_LEFT_H

#include <stdint.h>

#include <jansson.h>

struct import_left;

/* Free it with import_left_free. */
struct import_left *import_left_new(void);
void import_left_free(struct import_left *left);

/* Counts one. `source` (NULL: it names none) is copied, up to 47 characters, and '?' for what is not
 * printable ASCII; `why` must stay. The first 1,024 ids have rows, all further ones have one together, of
 * source "other" and id 0. */
void import_left_count(struct import_left *left, const char *source, uint64_t id, const char *why);

/* The rows, by source and id: a list with source, event_id, count and why; or on stdout, with a headline.
 * Nothing was left out: an empty list, or nothing. */
json_t *import_left_json(struct import_left *left);
void import_left_print(struct import_left *left);

#endif
