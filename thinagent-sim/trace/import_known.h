/* What earlier events of a log said that a later one needs: names of open handles, and logoffs. */
#ifndef SIM_IMPORT_KNOWN_H
#define SIM_IMPORT_KNOWN_H

#include <stdint.h>

struct import_known;

enum import_known_kind {
    KNOWN_HANDLE = 1, /* first: process id, second: handle; the text is the file's name, empty if no file */
    KNOWN_LOGOFF = 2, /* first: logon id, second: 0; there when a 4647 has told it; the text is empty */
};

struct import_known_key {
    uint32_t kind;    /* enum import_known_kind */
    uint32_t machine; /* the caller's number for it */
    uint64_t first;
    uint64_t second;
};

/* Free it with import_known_free, which takes NULL too. */
struct import_known *import_known_new(void);
void import_known_free(struct import_known *known);

/* Keeps a copy of the text, instead of what the key had. At most 16 MiB are kept in all: what was put first
 * is forgotten first. */
void import_known_put(struct import_known *known, const struct import_known_key *key, const char *text);

/* Takes it out. Returns the text, which the caller frees, or NULL if the key is not known. */
char *import_known_take(struct import_known *known, const struct import_known_key *key);

#endif
