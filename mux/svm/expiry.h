/* When a certificate or a revocation list ends: how many days are left, and when that is worth a warning. */
#ifndef GIMUX_SVM_EXPIRY_H
#define GIMUX_SVM_EXPIRY_H

#include <stdbool.h>
#include <stdint.h>

struct expiry {
    int64_t end;   /* Unix time; 0: there is nothing that ends */
    unsigned told; /* how many of the marks have been told of */
};

/* The marks are 30, 7 and 1 days before the end, and the end. Which is the first that matters: */
enum expiry_first { EXPIRY_DAYS_30 = 0, EXPIRY_END = 3 };

/* Sets the end, a Unix time. If it had another one, it is another certificate, and warnings start afresh. */
void expiry_set(struct expiry *expiry, int64_t end, enum expiry_first first);

/* Whole days left at `now`, a Unix time as below: 0 is less than one; -1 for the first day after the end, and
 * so on. */
int64_t expiry_days(const struct expiry *expiry, int64_t now);

/* Whether a mark has been passed that has not been told of. The caller tells of it: it counts as told. */
bool expiry_due(struct expiry *expiry, int64_t now);

/* Seconds from `now` to the next mark, at least 1; INT64_MAX: none. */
int64_t expiry_next(const struct expiry *expiry, int64_t now);

#endif
