/* Damage to the files of VM logs, and which events it hits. */
#ifndef GIMUX_CHAOS_DAMAGE_H
#define GIMUX_CHAOS_DAMAGE_H

#include <stdint.h>

/* Sequences of one stream that a damaged file held. */
struct damage_hit {
    uint8_t vm_uuid[16];
    uint8_t boot_id[16];
    uint16_t driver;
    uint64_t first;
    uint64_t last;
};

/* Changes bytes at random offsets of one to three random files (*.vmlog) of the directory: flips bits,
 * zeroes, overwrites, or cuts off the tail. gimuxd must be dead. Gives every event whose record was hit to
 * hit(arg, ...); damage to other records hits none. Where records are synced, that is all that
 * segment_believable allows to be cut: behind the last mark of a VM's last segment everything from the first
 * damaged record on. Returns how many places were damaged. */
unsigned damage_some(const char *dir, void (*hit)(void *arg, const struct damage_hit *hit), void *arg);

#endif
