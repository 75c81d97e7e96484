/* Texts and times as a driver writes them: UTF-16LE and FILETIME for Windows, bytes and nanoseconds for the
 * rest. */
#ifndef SIM_TEXT_H
#define SIM_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/guest_record.h"

/* Holds the texts of one record while it is made. */
struct text_pool {
    bool wide; /* texts become UTF-16LE */
    bool full; /* a text did not fit and was left out */
    size_t len;
    uint8_t bytes[GR_MAX_RECORD];
};

/* Empties the pool for a record of that driver. The texts given out before are gone. */
void text_pool_reset(struct text_pool *pool, uint16_t driver);

/* Puts a UTF-8 text (NULL: none) into the pool as the driver would write it; malformed UTF-8 becomes U+FFFD
 * for a Windows driver and stays as it is for others. Returns the text, or an empty one, with pool->full set,
 * if it does not fit or is longer than GR_MAX_TEXT. */
struct gr_text text_put(struct text_pool *pool, const char *utf8);

/* Unix nanoseconds as that driver's time; times before its epoch become 0. */
uint64_t driver_time(uint16_t driver, int64_t unix_ns);

/* That driver's time as Unix nanoseconds; clamped to what fits. */
int64_t driver_time_to_unix(uint16_t driver, uint64_t time);

#endif
