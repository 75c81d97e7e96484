/* The ledger: of every stream what its driver made and was acknowledged, and what each SVM was told of it.
 *
 * A sequence is settled for an SVM once it was delivered, or is in a gap, or is one that the SVM mutes. Up to
 * `base` everything is settled and compared; only what is above it is kept, one byte a sequence and SVM.
 *
 * A client library that is started anew knows nothing and may be told again what the former one was: what
 * comes twice is wrong only within one life of the client. What an SVM does not acknowledge comes again on
 * its next connection, too: ledger_again says so. */
#ifndef GIMUX_CHAOS_LEDGER_H
#define GIMUX_CHAOS_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/chaos/event.h"
#include "tests/chaos/tally.h"

#define LEDGER_SVMS 4

/* What one SVM was told of one stream. */
struct account {
    uint8_t *flags;      /* of base + 1, ...: see ledger.c */
    uint64_t missing;    /* everything up to here is settled */
    uint64_t last;       /* in this life of the client */
    uint64_t life_first; /* the first in this life; 0: none yet */
};

struct stream {
    uint32_t vm;
    uint32_t boot;
    uint16_t driver; /* enum gr_driver */
    uint64_t made;
    uint64_t sent;  /* the highest that was ever sent */
    uint64_t acked; /* to the driver */
    uint64_t base;
    uint64_t forgotten; /* up to here gimuxd may have forgotten what it acknowledged: see ledger_forgets */
    bool forgets;       /* the next HELLO says how far that is */
    uint64_t unwritten; /* up to here, of what SVMs had no file may tell */
    uint64_t room;      /* sequences that the flags have room for */
    struct account accounts[LEDGER_SVMS];
    struct stream *former; /* the same driver's in the boot before */
};

/* An SVM as the ledger sees it. */
struct reader {
    unsigned index; /* in stream.accounts */
    const char *name;
    bool mutes;           /* the two prefixes of event.h */
    unsigned gap_reasons; /* bits 1 << enum gimux_gap_reason that its policy allows for what it wants */
    unsigned accepts_at;  /* enum gr_level that an ACK of what it has not got must have; 0: it never may */
    uint64_t events;      /* that it was delivered */
    uint64_t gapped;      /* sequences that it wanted, in gaps */
    struct tally *tally;
};

struct stream *ledger_stream_new(uint32_t vm, uint32_t boot, uint16_t driver, struct stream *former);
void ledger_stream_free(struct stream *stream); /* and the former ones */

/* One more event was made. */
void ledger_made(struct stream *stream);

void ledger_event(struct stream *stream, struct reader *reader, const struct gimux_event *event);
void ledger_gap(struct stream *stream, struct reader *reader, const struct gimux_gap *gap);

/* What stood in files of these events was damaged: they may come or be in a gap. */
void ledger_damaged(struct stream *stream, uint64_t first, uint64_t last);

/* gimuxd ended, and what it had written was damaged, or it could not write since the disk was `full`. Of what
 * it had acknowledged to the driver, and no more, there may be gaps with reason DRIVER: of what was damaged;
 * of what a solution gave up by its policy; and with a full disk of what a solution has, since no file must
 * say so. Nor need a file say then that it has it: if its SVM has forgotten, too, the reason may be RESTART.
 */
void ledger_forgets(struct stream *stream, bool full);

/* The driver is about to say HELLO. */
void ledger_hello(struct stream *stream);

/* The driver is about to be acknowledged all up to `last`, as safe as `level` says. */
void ledger_acked(struct stream *stream, const struct reader *reader, uint64_t last, unsigned level);

/* The SVM's client was started anew, and knows of nothing. */
void ledger_new_life(struct stream *stream, const struct reader *reader);

/* A new connection brings the stream to a client that acknowledged up to `acked` only. */
void ledger_again(struct stream *stream, const struct reader *reader, uint64_t acked);

/* How many sequences of the stream are not settled for the reader. */
uint64_t ledger_missing(struct stream *stream, const struct reader *reader);

/* Nothing more will come: counts what is missing. */
void ledger_compare(struct stream *stream, const struct reader *reader);

/* Everything made so far was compared: it is forgotten. */
void ledger_close(struct stream *stream);

#endif
