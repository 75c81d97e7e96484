/* When a certificate or a revocation list ends: how many days it has, and when that is worth a warning. */
#include "mux/svm/expiry.h"

#define DAY   INT64_C(86400)
#define MARKS 4

static const int64_t marks[MARKS] = { 30 * DAY, 7 * DAY, 1 * DAY, 0 };

void
expiry_set(struct expiry *expiry, int64_t end, enum expiry_first first)
{
    if (end != expiry->end)
        *expiry = (struct expiry){ .end = end, .told = first };
}

int64_t
expiry_days(const struct expiry *expiry, int64_t now)
{
    int64_t left = expiry->end - now;

    return left > 0 ? left / DAY : left / DAY - 1;
}

/* How many marks have been passed. */
static unsigned
passed(const struct expiry *expiry, int64_t now)
{
    unsigned count = 0;

    while (count < MARKS && expiry->end - now <= marks[count])
        count++;
    return count;
}

bool
expiry_due(struct expiry *expiry, int64_t now)
{
    unsigned count = passed(expiry, now);

    if (expiry->end == 0 || count <= expiry->told)
        return false;
    expiry->told = count;
    return true;
}

int64_t
expiry_next(const struct expiry *expiry, int64_t now)
{
    unsigned count = passed(expiry, now);

    if (count < expiry->told)
        count = expiry->told;
    return expiry->end == 0 || count >= MARKS ? INT64_MAX : expiry->end - now - marks[count];
}
