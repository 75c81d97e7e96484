/* A tape: the events of one driver as a system expects them on its wire, ready to be written again and again;
 * only sequence, time and producer are put into them before each write. */
#ifndef GIMUX_BENCH_TAPE_H
#define GIMUX_BENCH_TAPE_H

#include <stdint.h>
#include <string.h>

#include "tests/bench/mix.h"

#define TAPE_TAG 4 /* bytes that name the producer outside of the record */

struct tape {
    uint16_t driver;
    bool filetime;
    uint8_t *bytes;
    uint32_t at[MIX_EVENTS + 1];
    uint32_t head[MIX_EVENTS]; /* where the record begins */
    uint32_t tag[MIX_EVENTS];  /* where TAPE_TAG bytes name the producer; 0: nowhere */
};

/* Writes what a system puts in front of a record, the record, and what it puts behind. *head and *tag are
 * offsets from out. Returns the size of all. */
typedef size_t tape_wrap(const uint8_t *record, size_t len, uint8_t *out, uint32_t *head, uint32_t *tag);

/* A tape of the mix. `filetime`: the time of Windows records is in their own unit, else in nanoseconds. Free
 * it with tape_free. */
struct tape *tape_new(const struct mix *mix, tape_wrap *wrap, bool filetime);
void tape_free(struct tape *tape);

/* Bytes of the first `count` events of a producer. */
static inline uint64_t
tape_bytes(const struct tape *tape, uint64_t count)
{
    return count / MIX_EVENTS * tape->at[MIX_EVENTS] + tape->at[count % MIX_EVENTS];
}

/* Makes event number `index` of the tape the one with that sequence. The producer's number goes into flags
 * that no driver uses and everybody ignores. */
static inline void
tape_put(const struct tape *tape, uint32_t index, uint32_t producer, const char *tag, uint64_t sequence,
         uint64_t now)
{
    uint8_t *head = tape->bytes + tape->head[index];
    uint16_t flags = (uint16_t)(producer << 1);

    if (tape->filetime)
        now = now / 100 + UINT64_C(116444736000000000);
    memcpy(head + 6, &flags, sizeof(flags));
    memcpy(head + 8, &sequence, sizeof(sequence));
    memcpy(head + 16, &now, sizeof(now));
    if (tape->tag[index])
        memcpy(tape->bytes + tape->tag[index], tag, TAPE_TAG);
}

#endif
