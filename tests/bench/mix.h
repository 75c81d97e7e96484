/* The events of the benchmark: records with the kinds and the text lengths of real guests (mix_rows.h), made
 * once, before anything is measured. */
#ifndef GIMUX_BENCH_MIX_H
#define GIMUX_BENCH_MIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/guest_record.h"

#define MIX_ROWS       64  /* of each driver in mix_rows.h */
#define MIX_EVENTS     128 /* records of a mix; then it begins anew */
#define MIX_TEXTS      5   /* of a record at most */
#define MIX_RECORD_MAX 16384u

/* One event of a trace, without its content. */
struct mix_row {
    uint16_t type; /* enum gr_type */
    uint16_t op;
    uint16_t detail;         /* result of a FILE, family of a NET */
    bool device;             /* the first text is a path that begins with \Device\HarddiskVolumeN */
    uint16_t len[MIX_TEXTS]; /* of its texts, in characters */
};

/* Records of one driver, sequence and time 0. */
struct mix {
    uint16_t driver; /* enum gr_driver */
    uint32_t at[MIX_EVENTS + 1];
    uint8_t *bytes;
};

/* Which drivers there are, and which of them producer number `id` is. */
enum mix_drivers { MIX_ALL, MIX_WINDOWS, MIX_LINUX };
uint16_t mix_driver(enum mix_drivers drivers, uint32_t id);

/* The events of a driver. If `size` is not 0, the first text of each is made shorter or longer so that the
 * record has that many bytes, as far as possible. Free it with mix_free. Aborts without memory. */
struct mix *mix_new(uint16_t driver, uint32_t size);
void mix_free(struct mix *mix);

/* The texts of an event record, in the order of the record. Returns how many. */
unsigned mix_texts(struct gr_record *record, struct gr_text *texts[MIX_TEXTS]);

/* The operation of an event record; all have one, as their first field. */
uint16_t *mix_op(struct gr_record *record);

#endif
