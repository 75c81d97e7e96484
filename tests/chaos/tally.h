/* The tally of a scenario: what went wrong, by kind, and the first few cases in words. */
#ifndef GIMUX_CHAOS_TALLY_H
#define GIMUX_CHAOS_TALLY_H

#include <stdbool.h>
#include <stdint.h>

enum wrong {
    WRONG_LOST,        /* acknowledged to the driver, wanted, and neither delivered nor in a gap */
    WRONG_DOUBLED,     /* delivered twice in one life of a client */
    WRONG_UNACCOUNTED, /* whatever else does not add up */
    WRONG_REORDERED,   /* a sequence behind one that had come */
    WRONG_KINDS,
};

struct tally {
    uint64_t wrong[WRONG_KINDS];
    unsigned said[WRONG_KINDS]; /* cases that were printed */
};

/* Counts `count` of that kind, and says why to stderr unless enough were printed. */
void tally_add(struct tally *tally, enum wrong kind, uint64_t count, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Whether all is zero. */
bool tally_is_clean(const struct tally *tally);

/* "lost", "doubled", ... */
const char *tally_name(enum wrong kind);

/* Milliseconds of the monotonic clock. */
int64_t now_ms(void);

#endif
