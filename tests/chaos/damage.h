/* Damage to the files of VM logs, and which records it hits. */
#ifndef GIMUX_CHAOS_DAMAGE_H
#define GIMUX_CHAOS_DAMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A record of an event in a segment, as found in an undamaged file. */
struct damage_record {
    uint8_t vm_uuid[16];
    uint8_t boot_id[16];
    uint16_t driver;
    uint64_t first; /* sequences that are lost with it */
    uint64_t last;
};

/* Finds the records of the segment `path`, not yet damaged, of which a byte lies in [offset, offset + len).
 * Gives each to found(arg, record). Damage to what is no record (a header, say) hits all that is lost with
 * it. */
void damage_find_records(const char *path, uint64_t offset, uint64_t len,
                         void (*found)(void *arg, const struct damage_record *record), void *arg);

/* Whether damage_find_records knows the format of segments. */
bool damage_is_known(void);

/* Changes 1 to 64 bytes at random offsets of random files of the directory (*.vmlog): flips bits, zeroes,
 * overwrites, or cuts off the tail. */
void damage_some(const char *dir);

#endif
