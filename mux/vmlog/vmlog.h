/* The VM log: the queue of one VM, its encoded frames once, in order, in chunks, with a cursor for every
 * sink.
 *
 * Pure: no socket, no libevent. The theory and the invariants stand at the top of vmlog.c. */
#ifndef GIMUX_VMLOG_VMLOG_H
#define GIMUX_VMLOG_VMLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "mux/vmlog/chunk.h"
#include "proto/event_class.h"

#define VMLOG_SINKS 16u /* sinks are slots 0 .. VMLOG_SINKS-1 */

struct vmlog;        /* the queue of one VM */
struct vmlog_stream; /* what it keeps of a stream */

/* ---- streams ---- */

/* How far one sink is in one stream, to be read, not written. Sequences of the stream; 0 means none yet.
 *
 * It takes 112 bytes for each stream and sink: an idle VM with one driver and three solutions has six, 0.66
 * of its 5.3 KiB. Each number is there because nothing else tells it: settled, acked and sent are the three
 * ends of what is delivered, on its way and to come (a resend, an acknowledgement and the window need one
 * each); the gap is one range, and how much of it was told can be seen from sent; delivered, filtered and
 * gapped are the sum that an SVM and an operator check; reported and recorded save telling and writing what
 * has not changed; counted_before and uncounted keep that sum right over a restart. */
struct vmlog_progress {
    uint64_t settled;   /* up to here all is delivered, filtered or in a gap that the SVM acknowledged */
    uint64_t acked;     /* up to here the SVM has acknowledged */
    uint64_t sent;      /* up to here this connection has sent or told */
    uint64_t gap_first; /* the range that this sink will not get and has not acknowledged; gap_last 0: none */
    uint64_t gap_last;
    uint64_t reached;    /* up to here all was sent once, filtered, or given up */
    uint32_t gap_reason; /* of what was given up first: one range has one reason */
    uint32_t announced;  /* the connection (sink's count of them) on which the stream was announced */
    uint64_t delivered; /* counts, whole life of the stream; gapped counts sequences when they are given up */
    uint64_t filtered;
    uint64_t gapped;
    uint64_t reported; /* settled when progress was last told; UINT64_MAX: it must be told anew */
    uint64_t recorded; /* settled when that was last written to a file; UINT64_MAX: it must be written */
    uint64_t counted_before; /* up to here the gimuxd before a restart has counted */
    uint64_t uncounted;      /* sequences up to settled that are in no count: they came before the sink */
};

/* Valid until vm_table_make_slots makes more. */
const struct vmlog_progress *vmlog_progress(const struct vmlog_stream *stream, unsigned sink);

uint32_t vmlog_stream_id(const struct vmlog_stream *stream);
uint64_t vmlog_stream_last(const struct vmlog_stream *stream); /* appended, or before the first */
uint64_t vmlog_stream_accepted(
    const struct vmlog_stream *stream); /* up to here no sink holds the guest back */

/* Bytes of records, appended and not accepted. */
uint64_t vmlog_stream_unaccepted(const struct vmlog_stream *stream);

/* Whether `accepted` has grown since the last call. */
bool vmlog_stream_moved(struct vmlog_stream *stream);

/* For a stream that goes on where another process had it, or a file has it: how far it came, and how much of
 * that is accepted. */
void vmlog_stream_set_last(struct vmlog_stream *stream, uint64_t last);
void vmlog_stream_set_accepted(struct vmlog_stream *stream, uint64_t accepted);

/* The sink's progress is being told: reported is settled from now on, and the SVM may acknowledge so much. */
void vmlog_stream_reported(struct vmlog_stream *stream, unsigned sink);

/* It must be told anew: whether the last time reached the SVM nobody knows. */
void vmlog_stream_report_anew(struct vmlog_stream *stream, unsigned sink);

/* The sink's counts of the stream, which are 0, go on from these: another process counted so far. */
void vmlog_count_on(struct vmlog *log, unsigned sink, struct vmlog_stream *stream,
                    const struct vmlog_counts *counts);

/* The sink's progress was written to a file: it says `settled`. */
void vmlog_stream_recorded(struct vmlog_stream *stream, unsigned sink, uint64_t settled);

/* What a sink wants: all entries of class_mask, but of these, `wants` is asked about those of key_mask (0: it
 * may be NULL), with their key: the path of a file event, the VM of a power event (not NUL-terminated), or
 * none. */
struct vmlog_filter {
    uint32_t class_mask; /* 1u << class */
    uint32_t key_mask;
    bool (*wants)(void *arg, enum event_class cls, const char *key, size_t len);
    void *arg;
};

/* Whether a backed log is being written. STALLED: it cannot be, because the disk or a bound is full, or
 * fails; what all sinks have settled is accepted nonetheless, but what a sink gave up, and what was sent to
 * it, must be acknowledged first: after a restart nobody else would know of it. BROKEN: a sync failed, and it
 * has no files until it is empty; what is given up waits for nobody. */
enum vmlog_stall { VMLOG_FLOWING, VMLOG_STALLED, VMLOG_BROKEN };

/* ---- the log ---- */

/* What holds a guest back for a sink's sake: until the SVM has acknowledged, or until it is in a file. */
enum vmlog_durability { VMLOG_DELIVERED, VMLOG_RECORDED };

/* Bytes of its chunks in memory, stubs left out. */
size_t vmlog_bytes(const struct vmlog *log);

/* Entries ever appended, and how far, as such a number: no sink holds a guest back; all is in a file, or
 * settled for all and that is in a file. */
uint64_t vmlog_end_number(const struct vmlog *log);
uint64_t vmlog_accept_number(const struct vmlog *log);
uint64_t vmlog_recorded_number(const struct vmlog *log);

bool vmlog_is_backed(
    const struct vmlog *log); /* written to files: nothing is accepted that is not recorded */
enum vmlog_stall vmlog_stall(const struct vmlog *log);

/* Its chunks and stubs, the oldest first, by way of their next and prev. NULL: it is empty. */
struct vmlog_chunk *vmlog_first_chunk(const struct vmlog *log);
struct vmlog_chunk *vmlog_last_chunk(const struct vmlog *log);

/* The first sink from `sink` on that has joined, or VMLOG_SINKS. */
unsigned vmlog_next_joined(const struct vmlog *log, unsigned sink);

#define VMLOG_EACH_JOINED(log, sink)                                                                         \
    for (unsigned sink = vmlog_next_joined((log), 0); (sink) < VMLOG_SINKS;                                  \
         (sink) = vmlog_next_joined((log), (sink) + 1))

/* Room for a frame of `len` bytes at the end of the log, or NULL if the pool's limit would be passed (or
 * memory is out). At most DELIMITED_PREFIX_MAX + DELIMITED_FRAME_MAX bytes. `beyond`: a small frame of
 * gimuxd's own, which may pass the limit. No entry is there until vmlog_commit; the room is valid until the
 * next call for this log, and may be left unused. */
uint8_t *vmlog_reserve(struct vmlog *log, size_t len, bool beyond);

/* Makes the reserved bytes the log's next entry. entry->end is the frame's length (at most what was
 * reserved), entry->record_bytes the record's; filtered and done are ignored. Sequences of a stream must come
 * without holes: sequence == stream->last + count. */
void vmlog_commit(struct vmlog *log, const struct vmlog_entry *entry);

/* A sink begins to take part: it gets what is appended from now on. vmlog_join_stream must follow for every
 * stream that the log has already. */
void vmlog_join(struct vmlog *log, unsigned sink);
void vmlog_join_stream(struct vmlog_stream *stream, unsigned sink);

/* It no longer takes part: what only it still held is released. */
void vmlog_leave(struct vmlog *log, unsigned sink);

/* How far the sink is, as numbers of entries: all before it is sent on this connection, filtered, or done;
 * all before it is settled, or was given up. */
uint64_t vmlog_sent_number(const struct vmlog *log, unsigned sink);
uint64_t vmlog_passed_number(const struct vmlog *log, unsigned sink);

/* Bytes of the log from what is settled for the sink to what it was sent; what was given up does not count.
 */
size_t vmlog_span(const struct vmlog *log, unsigned sink);

/* Bytes of memory that this span, and `more` bytes that were gathered, hold: in whole chunks. */
size_t vmlog_held(const struct vmlog *log, unsigned sink, size_t more);

/* The stream is announced on the sink's connection (a number of the caller's, not 0, new for every
 * connection). Call it before anything of the stream, a gap too, is sent; a second call does nothing. The
 * first sequence to tell the SVM of is then `sent` + 1 of its progress. */
void vmlog_announce(struct vmlog_stream *stream, unsigned sink, uint32_t connection);

/* The SVM may forget it: should the stream go on, it is announced again. */
void vmlog_unannounce(struct vmlog_stream *stream, unsigned sink);

enum vmlog_peek {
    VMLOG_FRAMES,   /* frames to send were gathered; or none is left to send */
    VMLOG_ANNOUNCE, /* *stream must be announced on this connection first */
    VMLOG_TELL_GAP, /* gaps must be told first: vmlog_gap_next for every stream of the log */
    VMLOG_LOAD,     /* what comes next is in a file alone: vmlog_next_stub says where */
};

/* Frames gathered for one sendmsg or for SSL_write. */
struct vmlog_batch {
    struct iovec *iov; /* room for max pieces, the caller's */
    int max;
    int count;
    size_t bytes; /* in all pieces */
};

/* Adds frames that the sink wants, from its sent position on, to the batch: until that is full, or
 * `max_bytes` more are in it, or as many were passed over as not wanted; at least one frame. Stops before a
 * stream that is not announced on `connection`, before a gap and before a stub; if nothing was gathered, says
 * which. vmlog_sent must follow even then: it passes over what the sink does not want. */
enum vmlog_peek vmlog_peek(struct vmlog *log, unsigned sink, const struct vmlog_filter *filter,
                           uint32_t connection, struct vmlog_batch *batch, size_t max_bytes,
                           struct vmlog_stream **stream);

/* Of the bytes that the last peek gave for this log, `taken` went out. If that ends inside a frame, *rest is
 * what remains of it, which the caller must send before anything else; else rest->iov_len is 0. *rest points
 * into the log and is valid until the next call for it: the frame counts as sent, so an SVM that acknowledges
 * it already would free it. Copy it. */
void vmlog_sent(struct vmlog *log, unsigned sink, size_t taken, struct iovec *rest);

/* Whether there is something to send or to tell. A gap that was told and waits for its acknowledgement is
 * not. */
bool vmlog_has_more(const struct vmlog *log, unsigned sink);

/* The SVM acknowledges the stream up to `sequence`. Returns false, changing nothing, if this connection has
 * not sent or told so much. */
bool vmlog_ack(struct vmlog *log, unsigned sink, struct vmlog_stream *stream, uint64_t sequence);

/* The SVM says that it has the stream up to `sequence`, before anything of the stream is announced, sent or
 * told on this connection: that much is not sent again, nor told as a gap. Any number is taken, also one
 * beyond what the stream has come to by now; one that is no more than was acknowledged changes nothing. */
void vmlog_resume(struct vmlog *log, unsigned sink, struct vmlog_stream *stream, uint64_t sequence);

/* The connection is gone: what was sent and is not settled will be sent again on the next one. */
void vmlog_rewind(struct vmlog *log, unsigned sink);

/* The sink gives up what was not sent yet: it becomes a gap (`reason`: Gimux__V1__GapReason). From now on
 * nothing that is in the log holds back a guest for this sink's sake; what was sent and not acknowledged
 * stays for a resend. Returns the number of sequences given up. */
uint64_t vmlog_skip(struct vmlog *log, unsigned sink, uint32_t reason);

/* Sequences first .. last of the stream never came to this log, which has it from last + 1 on; the SVM has it
 * up to first - 1, which is settled from now on. The sink is told of the gap before anything else of the
 * stream. If the sink has given up the stream's beginning and was not told of that, it becomes one gap with
 * this, whose reason stays. Returns false, changing nothing, if anything of the stream was ever sent to the
 * sink, filtered or told, or if the range is empty or begins with 0. */
bool vmlog_gap_before(struct vmlog *log, unsigned sink, struct vmlog_stream *stream, uint64_t first,
                      uint64_t last, uint32_t reason);

/* After VMLOG_TELL_GAP, for a stream that is announced if it has a gap: if any of that was not told on this
 * connection, returns true, sets the range and marks it told. The reason is gap_reason of its progress. */
bool vmlog_gap_next(struct vmlog *log, unsigned sink, struct vmlog_stream *stream, uint64_t *first,
                    uint64_t *last);

/* ---- files ---- */

/* Whether the log is written to files: then nothing is accepted that is not recorded. And whether a sink
 * holds a guest back until its SVM has acknowledged or, in a log that is backed, no longer than until it is
 * in a file. */
void vmlog_set_backed(struct vmlog *log, bool backed);
void vmlog_set_durability(struct vmlog *log, unsigned sink, enum vmlog_durability durability);

/* Whether writing fails at the time. */
void vmlog_set_stall(struct vmlog *log, enum vmlog_stall stall);

/* How far the sink lets guests forget, as a number of entries. */
uint64_t vmlog_accepted_by(const struct vmlog *log, unsigned sink);

/* All before entry `number` is in a file now, or was settled for everybody, which is in a file. */
void vmlog_recorded(struct vmlog *log, uint64_t number);

/* The next frame begins a new chunk, if anything of the last one is in a segment. */
void vmlog_seal(struct vmlog *log);

/* Up to here all sinks have settled everything. */
uint64_t vmlog_settled_number(const struct vmlog *log);

/* Whether all that is accepted of the stream was settled by every sink: it is delivered. */
bool vmlog_is_delivered(const struct vmlog *log, const struct vmlog_stream *stream);

/* Turns the oldest chunks that are recorded, that a sink of `sinks` (bits) still waits for and that no sink
 * has begun with into stubs, until at most `target` bytes are in memory. */
void vmlog_spill(struct vmlog *log, uint16_t sinks, size_t target);

/* After VMLOG_LOAD: the stub that the sink has to go on with; or NULL if it does not wait for one. */
struct vmlog_chunk *vmlog_next_stub(const struct vmlog *log, unsigned sink);

/* Loading: begin makes a chunk with room for `bytes` of frames and for `entries` (NULL if out of memory; the
 * caller keeps to a bound of pool->loaded), add puts entries into it (as vmlog_commit does), and end puts it
 * in the place of the stub, which is freed. */
struct vmlog_chunk *vmlog_load_begin(struct vmlog *log, unsigned sink, const struct vmlog_chunk *stub,
                                     size_t bytes, uint32_t entries);
void vmlog_load_add(struct vmlog_chunk *chunk, const struct vmlog_entry *entry, const uint8_t *frame);
void vmlog_load_end(struct vmlog *log, struct vmlog_chunk *stub, struct vmlog_chunk *chunk);

/* Taking up a log from files, before any sink joins: the next stub of it, which is recorded, and whose ranges
 * are not accepted. Sets stub->first_number. */
void vmlog_add_stub(struct vmlog *log, struct vmlog_chunk *stub);

/* After the last stub: the stream had come to `last`, further than stubs have it. What is missing at its end
 * belongs to the last stub that has anything of it; false if none has: then sinks find it missing when they
 * join. */
bool vmlog_add_missing(struct vmlog *log, struct vmlog_stream *stream, uint64_t last);

/* How far a sink was in a stream, from a file. */
struct vmlog_saved {
    uint64_t settled;
    uint64_t acked;
    uint64_t delivered;
    uint64_t filtered;
    uint64_t gapped;
};

/* Instead of vmlog_join_stream, for a sink whose position in the stream was in a file; then vmlog_join_saved
 * instead of vmlog_join, and then vmlog_gap_saved for each stream: sequences
 * that the sink has not settled and that come before the first stub of the stream become a gap. */
void vmlog_join_stream_saved(struct vmlog *log, unsigned sink, struct vmlog_stream *stream,
                             const struct vmlog_saved *saved);
void vmlog_join_saved(struct vmlog *log, unsigned sink);
void vmlog_gap_saved(struct vmlog *log, unsigned sink, struct vmlog_stream *stream, uint32_t reason);

/* What is to be written to a file of the sink's progress; of what the file does not have, behind `last`, it
 * says only that the SVM has acknowledged it. */
struct vmlog_saved vmlog_save(const struct vmlog_stream *stream, unsigned sink, uint64_t last);

/* Lowers it, so that it says at most that the sink has settled up to `last`; what the SVM has acknowledged
 * stays. */
void vmlog_saved_limit(struct vmlog_saved *saved, uint64_t last);

/* Entries that are not settled, sent or not, for status and metrics. What was given up counts too while the
 * cursor stands before it. */
uint64_t vmlog_unsettled(const struct vmlog *log, unsigned sink);

/* The invariants; aborts if one is broken. For tests and debug builds: walks the whole log. */
void vmlog_check(const struct vmlog *log);

#endif
