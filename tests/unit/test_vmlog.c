/* The VM log: its stories one by one, then a model that does anything in any order and counts.
 *
 * In the stories what went over a link is written as words: A1 announces stream a from sequence 1 on, a2 is
 * an event, a3~5 a gap that the driver told of, a6-9 a gap of this sink. VMLOG_SEED=n runs the model with
 * that seed alone, VMLOG_SEEDS=n with the seeds 1 to n. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mux/vmlog.h"
#include "proto/delimited.h"

#define STREAMS  6u
#define PIECES   16
#define REASON   1u
#define BIG      (VMLOG_LARGE_CHUNK + 1000u) /* bytes: longer than a chunk */
#define MASK_ALL (CLASS_MASK_ALL | 1u << VMLOG_GAP)

enum kind { EVENT, DRIVER_GAP, ANNOUNCE, GAP };

/* How a frame begins here; filler follows, up to len. */
struct head {
    uint32_t len;
    uint8_t kind;
    uint8_t cls;
    uint8_t stream;
    char letter; /* the key that filters look at */
    uint64_t first;
    uint64_t last;
};

/* One VM. */
struct world {
    struct vmlog_pool pool;
    struct vmlog log;
    struct vmlog_stream streams[STREAMS];
    unsigned count; /* streams */
};

/* The near end of a link, as route drives it, and the bytes that went over it. */
struct link {
    struct world *world;
    unsigned sink;
    struct vmlog_filter filter;
    uint32_t connection;
    uint8_t *rest;
    size_t rest_len;
    uint8_t *wire;
    size_t wire_len;
    size_t wire_room;
    size_t read; /* up to here the far end has read */
    char words[400];
};

/* ---- the driver's side ---- */

static void
world_open(struct world *world, size_t limit, unsigned streams)
{
    memset(world, 0, sizeof(*world));
    world->pool.limit = limit;
    world->pool.own = 256 * VMLOG_SMALL_CHUNK;
    world->count = streams;
    for (unsigned i = 0; i < STREAMS; i++)
        world->streams[i].id = i;
    vmlog_init(&world->log, &world->pool);
}

static void
world_close(struct world *world)
{
    vmlog_check(&world->log);
    vmlog_fini(&world->log);
    assert_int_equal(world->pool.used, 0);
    vmlog_pool_fini(&world->pool);
    assert_int_equal(world->pool.spare, 0);
}

static bool
append_entry(struct world *world, const struct head *head, uint32_t count, bool beyond)
{
    struct vmlog_stream *stream = &world->streams[head->stream];
    uint8_t *room = vmlog_reserve(&world->log, head->len, beyond);
    struct vmlog_entry entry = { .stream = stream,
                                 .sequence = stream->last + count,
                                 .count = count,
                                 .end = head->len,
                                 .record_bytes = head->len / 2,
                                 .cls = head->cls,
                                 .key = offsetof(struct head, letter),
                                 .key_len = 1 };
    struct head written = *head;

    if (!room)
        return false;
    written.kind = head->cls == VMLOG_GAP ? DRIVER_GAP : EVENT;
    written.first = stream->last + 1;
    written.last = entry.sequence;
    memcpy(room, &written, sizeof(written));
    memset(room + sizeof(written), (int)(written.last & 0xff), head->len - sizeof(written));
    vmlog_commit(&world->log, &entry);
    vmlog_check(&world->log);
    return true;
}

/* Appends one small file event to stream 'a', 'b', ...; its key is 'x'. */
static void
append(struct world *world, char stream)
{
    struct head head = { .len = 40, .cls = CLASS_FILE, .stream = (uint8_t)(stream - 'a'), .letter = 'x' };

    assert_true(append_entry(world, &head, 1, false));
}

static void
append_many(struct world *world, char stream, unsigned count, uint32_t len)
{
    struct head head = { .len = len, .cls = CLASS_FILE, .stream = (uint8_t)(stream - 'a'), .letter = 'x' };

    while (count-- > 0)
        assert_true(append_entry(world, &head, 1, false));
}

static void
append_gap(struct world *world, char stream, uint32_t count)
{
    struct head head = { .len = 30, .cls = VMLOG_GAP, .stream = (uint8_t)(stream - 'a') };

    assert_true(append_entry(world, &head, count, false));
}

/* ---- the link ---- */

static void
link_put(struct link *link, const void *data, size_t len)
{
    if (len == 0)
        return;
    if (link->wire_len + len > link->wire_room) {
        link->wire_room = 2 * (link->wire_len + len);
        link->wire = realloc(link->wire, link->wire_room);
        assert_non_null(link->wire);
    }
    memcpy(link->wire + link->wire_len, data, len);
    link->wire_len += len;
}

static void
link_announce(struct link *link, struct vmlog_stream *stream)
{
    struct vmlog_progress *progress = &stream->sinks[link->sink];
    struct head head = { .len = sizeof(head), .kind = ANNOUNCE, .stream = (uint8_t)stream->id };

    if (progress->announced == link->connection)
        return;
    vmlog_announce(stream, link->sink, link->connection);
    head.first = progress->sent + 1;
    link_put(link, &head, sizeof(head));
}

static void
link_tell_gaps(struct link *link)
{
    for (unsigned i = 0; i < link->world->count; i++) {
        struct vmlog_stream *stream = &link->world->streams[i];
        struct head head = { .len = sizeof(head), .kind = GAP, .stream = (uint8_t)i };

        if (stream->sinks[link->sink].gap_last == 0)
            continue;
        link_announce(link, stream);
        if (vmlog_gap_next(&link->world->log, link->sink, stream, &head.first, &head.last))
            link_put(link, &head, sizeof(head));
        assert_false(vmlog_gap_next(&link->world->log, link->sink, stream, &head.first, &head.last));
    }
}

/* Writes the batch and the rest that it leaves, as far as the kernel takes it. Returns what it takes more. */
static size_t
link_write(struct link *link, const struct vmlog_batch *batch, size_t budget)
{
    size_t taken = batch->bytes < budget ? batch->bytes : budget;
    size_t left = taken;
    struct iovec rest;

    for (int i = 0; i < batch->count; i++) {
        size_t len = batch->iov[i].iov_len < left ? batch->iov[i].iov_len : left;

        link_put(link, batch->iov[i].iov_base, len);
        left -= len;
    }
    vmlog_sent(&link->world->log, link->sink, taken, &rest);
    if (rest.iov_len > 0) {
        free(link->rest);
        link->rest = malloc(rest.iov_len);
        assert_non_null(link->rest);
        memcpy(link->rest, rest.iov_base, rest.iov_len);
        link->rest_len = rest.iov_len;
    }
    vmlog_check(&link->world->log);
    return budget - taken;
}

/* Sends what there is, at most `budget` bytes of frames, in batches of `pieces` and `batch_bytes`. */
static void
link_flush(struct link *link, size_t budget, int pieces, size_t batch_bytes)
{
    for (;;) {
        struct iovec iov[PIECES];
        struct vmlog_batch batch = { .iov = iov, .max = pieces };
        struct vmlog_stream *stream = NULL;
        enum vmlog_peek peek;
        size_t len = link->rest_len < budget ? link->rest_len : budget;

        link_put(link, link->rest, len);
        link->rest_len -= len;
        if (link->rest_len > 0) {
            memmove(link->rest, link->rest + len, link->rest_len);
            return;
        }
        budget -= len;
        peek = vmlog_peek(&link->world->log, link->sink, &link->filter, link->connection, &batch, batch_bytes,
                          &stream);
        assert_true(peek == VMLOG_FRAMES || batch.bytes == 0);
        budget = link_write(link, &batch, budget);
        if (peek == VMLOG_ANNOUNCE)
            link_announce(link, stream);
        else if (peek == VMLOG_TELL_GAP)
            link_tell_gaps(link);
        else if (batch.bytes == 0 || budget == 0)
            return;
    }
}

/* The next whole frame that went over the link, or false. */
static bool
link_read(struct link *link, struct head *head)
{
    if (link->wire_len - link->read < sizeof(*head))
        return false;
    memcpy(head, link->wire + link->read, sizeof(*head));
    assert_true(head->len >= sizeof(*head) && head->stream < STREAMS && head->kind <= GAP);
    if (link->wire_len - link->read < head->len)
        return false;
    for (uint32_t i = sizeof(*head); i < head->len; i++)
        assert_int_equal(link->wire[link->read + i], head->last & 0xff);
    link->read += head->len;
    return true;
}

/* A new connection; the old one's bytes are gone. */
static void
link_connect(struct link *link)
{
    link->rest_len = link->wire_len = link->read = 0;
    link->connection++;
}

static void
link_open(struct link *link, struct world *world, unsigned sink)
{
    *link = (struct link){ .world = world, .sink = sink, .filter.class_mask = MASK_ALL };
    vmlog_join(&world->log, sink);
    for (unsigned i = 0; i < world->count; i++)
        vmlog_join_stream(&world->streams[i], sink);
    link_connect(link);
}

static void
link_close(struct link *link)
{
    free(link->wire);
    free(link->rest);
}

/* The frames that went out since the last call, in words. */
static const char *
words(struct link *link)
{
    struct head head;
    size_t len = 0;

    link->words[0] = '\0';
    while (link_read(link, &head)) {
        char name = (char)((head.kind == ANNOUNCE ? 'A' : 'a') + head.stream);
        char *out = link->words + len;
        size_t room = sizeof(link->words) - len;

        if (head.kind == DRIVER_GAP || head.kind == GAP)
            snprintf(out, room, " %c%d%c%d", name, (int)head.first, head.kind == GAP ? '-' : '~',
                     (int)head.last);
        else
            snprintf(out, room, " %c%d", name, (int)head.first);
        len += strlen(out);
    }
    return link->words[0] ? link->words + 1 : "";
}

static const char *
flush(struct link *link)
{
    link_flush(link, SIZE_MAX, PIECES, 100000);
    assert_false(vmlog_has_more(&link->world->log, link->sink));
    return words(link);
}

static void
ack(struct link *link, char stream, uint64_t sequence)
{
    assert_true(vmlog_ack(&link->world->log, link->sink, &link->world->streams[stream - 'a'], sequence));
    vmlog_check(&link->world->log);
}

static void
reconnect(struct link *link)
{
    vmlog_rewind(&link->world->log, link->sink);
    vmlog_check(&link->world->log);
    link_connect(link);
}

static void
resume(struct link *link, char stream, uint64_t sequence)
{
    vmlog_resume(&link->world->log, link->sink, &link->world->streams[stream - 'a'], sequence);
    vmlog_check(&link->world->log);
}

static uint64_t
give_up(struct link *link)
{
    uint64_t skipped = vmlog_skip(&link->world->log, link->sink, REASON);

    vmlog_check(&link->world->log);
    return skipped;
}

static void
assert_counts(const struct link *link, char stream, uint64_t delivered, uint64_t filtered, uint64_t gapped)
{
    const struct vmlog_progress *progress = &link->world->streams[stream - 'a'].sinks[link->sink];

    assert_int_equal(progress->delivered, delivered);
    assert_int_equal(progress->filtered, filtered);
    assert_int_equal(progress->gapped, gapped);
}

/* Everything was settled: nothing is kept. */
static void
assert_empty(const struct world *world)
{
    assert_int_equal(world->pool.used, 0);
    assert_int_equal(world->log.bytes, 0);
    for (unsigned i = 0; i < world->count; i++) {
        assert_int_equal(world->streams[i].accepted, world->streams[i].last);
        assert_int_equal(world->streams[i].unaccepted_bytes, 0);
    }
}

/* Most stories have one world, two streams and one or two links. */
struct story {
    struct world world;
    struct link link;
    struct link other; /* not open unless the story opens it */
};

static int
story_begin(void **state)
{
    struct story *story = calloc(1, sizeof(*story));

    world_open(&story->world, 1 << 20, 2);
    link_open(&story->link, &story->world, 3);
    *state = story;
    return 0;
}

static int
story_end(void **state)
{
    struct story *story = *state;

    link_close(&story->link);
    link_close(&story->other);
    world_close(&story->world);
    free(story);
    return 0;
}

/* ---- sending and settling ---- */

static void
test_sent_acked_accepted_freed(void **state)
{
    struct story *s = *state;

    append(&s->world, 'a');
    append(&s->world, 'a');
    append(&s->world, 'b');
    assert_int_equal(s->world.streams[0].unaccepted_bytes, 40);
    assert_string_equal(flush(&s->link), "A1 a1 a2 B1 b1");
    assert_int_equal(s->world.log.cursors[3].inflight, 120);
    ack(&s->link, 'b', 1); /* out of the log's order: waits for a */
    assert_int_equal(s->world.streams[1].accepted, 0);
    ack(&s->link, 'a', 1);
    assert_int_equal(s->world.streams[0].accepted, 1);
    assert_true(s->world.streams[0].moved);
    assert_false(vmlog_ack(&s->world.log, 3, &s->world.streams[0], 3)); /* never sent */
    assert_int_equal(vmlog_unsettled(&s->world.log, 3), 2);
    ack(&s->link, 'a', 2);
    assert_int_equal(s->world.log.cursors[3].inflight, 0);
    assert_counts(&s->link, 'a', 2, 0, 0);
    assert_empty(&s->world);
    append(&s->world, 'a');
    assert_string_equal(flush(&s->link), "a3");
}

static void
test_no_sink_keeps_nothing(void **state)
{
    struct story *s = *state;

    vmlog_leave(&s->world.log, 3);
    append(&s->world, 'a');
    assert_empty(&s->world);
}

static void
test_partial_write_leaves_a_rest(void **state)
{
    struct story *s = *state;

    append_many(&s->world, 'a', 3, 40);
    link_flush(&s->link, 50, PIECES, 1000);
    assert_int_equal(s->link.rest_len, 30);
    assert_int_equal(s->world.log.cursors[3].inflight, 80);
    assert_string_equal(words(&s->link), "A1 a1");
    assert_false(vmlog_ack(&s->world.log, 3, &s->world.streams[0], 3));
    assert_string_equal(flush(&s->link), "a2 a3");
    link_flush(&s->link, 0, PIECES, 1000);
    ack(&s->link, 'a', 3);
    assert_empty(&s->world);
}

/* One piece and few bytes at a time is slow, not wrong. */
static void
test_small_batches(void **state)
{
    struct story *s = *state;
    struct iovec iov[2];
    struct vmlog_batch batch = { .iov = iov, .max = 2 };
    struct vmlog_stream *stream;
    struct iovec rest;

    append_many(&s->world, 'a', 6, 40);
    vmlog_announce(&s->world.streams[0], 3, 1);
    assert_int_equal(vmlog_peek(&s->world.log, 3, &s->link.filter, 1, &batch, 41, &stream), VMLOG_FRAMES);
    assert_int_equal(batch.count, 1); /* two frames that follow each other */
    assert_int_equal(batch.bytes, 80);
    vmlog_sent(&s->world.log, 3, 80, &rest);
    assert_int_equal(rest.iov_len, 0);
    assert_int_equal(vmlog_peek(&s->world.log, 3, &s->link.filter, 1, &batch, 1, &stream), VMLOG_FRAMES);
    assert_int_equal(batch.count, 2); /* what was there before stays; one frame at least */
    assert_int_equal(batch.bytes, 120);
    vmlog_sent(&s->world.log, 3, 0, &rest);     /* the socket was full */
    vmlog_announce(&s->world.streams[0], 3, 1); /* again is nothing */
    link_flush(&s->link, SIZE_MAX, 1, 1);
    assert_string_equal(words(&s->link), "a3 a4 a5 a6");
    ack(&s->link, 'a', 6);
    assert_empty(&s->world);
}

static bool
wants_letter(void *arg, enum event_class cls, const char *key, size_t len)
{
    (void)cls;
    assert_int_equal(len, 1);
    return strchr(arg, *key) != NULL;
}

static void
test_filters(void **state)
{
    struct story *s = *state;
    struct head head = { .len = 40, .cls = CLASS_DNS, .letter = 'y' };
    char letters[] = "yz";

    s->link.filter.class_mask = 1u << CLASS_DNS | 1u << VMLOG_GAP;
    append(&s->world, 'a');
    assert_true(append_entry(&s->world, &head, 1, false));
    append_gap(&s->world, 'a', 3);
    append(&s->world, 'b');
    assert_string_equal(flush(&s->link), "A2 a2 a3~5"); /* b is not even announced */
    s->link.filter = (struct vmlog_filter){ MASK_ALL, wants_letter, letters };
    append(&s->world, 'b');
    assert_true(append_entry(&s->world, &head, 1, false));
    assert_string_equal(flush(&s->link), "a6");
    ack(&s->link, 'a', 6);
    assert_counts(&s->link, 'a', 2, 1, 3);
    assert_counts(&s->link, 'b', 0, 2, 0);
    assert_int_equal(s->world.streams[1].sinks[3].settled, 2);
    assert_empty(&s->world);
}

static void
test_slow_sink_holds_the_log_not_the_other(void **state)
{
    struct story *s = *state;

    link_open(&s->other, &s->world, 15);
    append_many(&s->world, 'a', 3, 40000);
    assert_string_equal(flush(&s->link), "A1 a1 a2 a3");
    ack(&s->link, 'a', 3);
    assert_int_equal(s->world.streams[0].accepted, 0);
    assert_string_equal(flush(&s->other), "A1 a1 a2 a3");
    ack(&s->other, 'a', 2);
    assert_int_equal(s->world.streams[0].accepted, 2);
    assert_int_equal(s->world.log.bytes, VMLOG_LARGE_CHUNK); /* of a3; the others were given back */
    ack(&s->other, 'a', 3);
    assert_empty(&s->world);
}

static void
test_oversize_frames(void **state)
{
    struct story *s = *state;

    append(&s->world, 'a');
    append_many(&s->world, 'a', 1, BIG);
    append_many(&s->world, 'a', 1, VMLOG_LARGE_CHUNK - 80); /* just fits, header and entry included */
    assert_int_equal(s->world.log.bytes % 8, 0);
    append_many(&s->world, 'a', 1, DELIMITED_PREFIX_MAX / 3 + 100003);
    link_flush(&s->link, BIG / 2, PIECES, SIZE_MAX);
    assert_string_equal(words(&s->link), "A1 a1");
    assert_string_equal(flush(&s->link), "a2 a3 a4");
    ack(&s->link, 'a', 4);
    assert_empty(&s->world);
}

static void
test_pool_limit(void **state)
{
    struct story *s = *state;
    struct head head = { .len = 3000, .cls = CLASS_FILE };

    s->world.pool.limit = VMLOG_SMALL_CHUNK + VMLOG_LARGE_CHUNK;
    append_many(&s->world, 'a', 1, 3000);
    append_many(&s->world, 'a', 1, 60000);
    assert_false(append_entry(&s->world, &(struct head){ .len = 6000 }, 1, false));
    assert_false(append_entry(&s->world, &(struct head){ .len = 6000 }, 1, true)); /* that is not small */
    assert_int_equal(s->world.pool.used, s->world.pool.limit);
    assert_int_equal(s->world.streams[0].last, 2);
    append_many(&s->world, 'a', 1, 3000);
    assert_true(append_entry(&s->world, &head, 1, true));
    assert_int_equal(s->world.pool.used, s->world.pool.limit + VMLOG_SMALL_CHUNK);
    assert_string_equal(flush(&s->link), "A1 a1 a2 a3 a4");
    ack(&s->link, 'a', 4);
    assert_empty(&s->world);
    assert_true(s->world.pool.spare > 0 && s->world.pool.spare <= s->world.pool.limit);
    append_many(&s->world, 'a', 1, 3000); /* from a spare chunk */
    assert_true(s->world.pool.used + s->world.pool.spare <= s->world.pool.limit);
}

/* Room that is not used costs nothing, and leaves no chunk behind. */
static void
test_reserve_without_commit(void **state)
{
    struct story *s = *state;

    assert_non_null(vmlog_reserve(&s->world.log, 100, false));
    assert_non_null(vmlog_reserve(&s->world.log, 5000, false));
    assert_non_null(vmlog_reserve(&s->world.log, BIG, false));
    vmlog_check(&s->world.log);
    assert_false(vmlog_has_more(&s->world.log, 3));
    assert_string_equal(flush(&s->link), "");
    append_many(&s->world, 'a', 1, 2 * BIG);
    append_many(&s->world, 'a', 3, 40000);
    assert_string_equal(flush(&s->link), "A1 a1 a2 a3 a4");
    ack(&s->link, 'a', 3);
    assert_int_equal(s->world.log.bytes, VMLOG_LARGE_CHUNK);
    ack(&s->link, 'a', 4);
    assert_empty(&s->world);
}

/* ---- breaks ---- */

static void
test_rewind_sends_again(void **state)
{
    struct story *s = *state;

    append_many(&s->world, 'a', 3, 40);
    append(&s->world, 'b');
    flush(&s->link);
    ack(&s->link, 'a', 1);
    reconnect(&s->link);
    assert_int_equal(s->world.log.cursors[3].inflight, 0);
    assert_string_equal(flush(&s->link), "A2 a2 a3 B1 b1");
    assert_int_equal(s->world.log.cursors[3].inflight, 120);
    reconnect(&s->link);
    link_flush(&s->link, 50, PIECES, 1000);
    reconnect(&s->link); /* in the middle of a frame */
    assert_string_equal(flush(&s->link), "A2 a2 a3 B1 b1");
    ack(&s->link, 'a', 3);
    ack(&s->link, 'b', 1);
    assert_counts(&s->link, 'a', 3, 0, 0);
    assert_empty(&s->world);
}

/* What the SVM says that it has is not sent again, also behind something that it has not. */
static void
test_resume_with_positions(void **state)
{
    struct story *s = *state;

    append(&s->world, 'a');
    append(&s->world, 'b');
    append(&s->world, 'a');
    append(&s->world, 'b');
    flush(&s->link);
    reconnect(&s->link);
    resume(&s->link, 'b', 1);
    s->link.filter.class_mask = 1u << VMLOG_GAP; /* b1 was delivered all the same */
    assert_string_equal(flush(&s->link), "");
    assert_counts(&s->link, 'b', 1, 1, 0);
    assert_counts(&s->link, 'a', 0, 2, 0);
    assert_empty(&s->world);
    s->link.filter.class_mask = MASK_ALL;
    append(&s->world, 'a');
    append(&s->world, 'b');
    append(&s->world, 'b');
    flush(&s->link);
    reconnect(&s->link);
    resume(&s->link, 'b', 3);
    resume(&s->link, 'b', 2); /* less than what it said: nothing */
    assert_string_equal(flush(&s->link), "A3 a3 B4 b4");
    assert_int_equal(s->world.log.cursors[3].inflight, 80);
    ack(&s->link, 'a', 3);
    ack(&s->link, 'b', 4);
    assert_counts(&s->link, 'b', 3, 1, 0);
    assert_empty(&s->world);
}

/* gimuxd was restarted and the driver sends again what the SVM has: it is not sent, and not given up. */
static void
test_resume_ahead_of_the_log(void **state)
{
    struct story *s = *state;

    resume(&s->link, 'a', 3);
    append_many(&s->world, 'a', 2, 40);
    append(&s->world, 'b');
    append_many(&s->world, 'a', 3, 40);
    link_flush(&s->link, 0, PIECES, 1000); /* a1 and a2 are passed over, the socket is full before b1 */
    assert_int_equal(give_up(&s->link), 3);
    assert_string_equal(flush(&s->link), "B1 A4 a4-5 b1-1");
    ack(&s->link, 'a', 5);
    ack(&s->link, 'b', 1);
    assert_counts(&s->link, 'a', 3, 0, 2);
    reconnect(&s->link);
    resume(&s->link, 'a', 7);
    append_many(&s->world, 'a', 3, 40);
    assert_int_equal(give_up(&s->link), 1);
    assert_string_equal(flush(&s->link), "A8 a8-8");
    ack(&s->link, 'a', 8);
    assert_counts(&s->link, 'a', 5, 0, 3);
    flush(&s->link);
    assert_empty(&s->world);
}

static void
test_leave_and_rejoin(void **state)
{
    struct story *s = *state;

    link_open(&s->other, &s->world, 0);
    append_many(&s->world, 'a', 2, 40000);
    flush(&s->link);
    ack(&s->link, 'a', 1);
    vmlog_leave(&s->world.log, 0); /* it held everything */
    assert_int_equal(s->world.streams[0].accepted, 1);
    assert_int_equal(s->world.log.bytes, VMLOG_LARGE_CHUNK);
    link_close(&s->other);
    link_open(&s->other, &s->world, 0);
    append(&s->world, 'a');
    assert_string_equal(flush(&s->other), "A3 a3");
    assert_string_equal(flush(&s->link), "a3");
    ack(&s->other, 'a', 3);
    vmlog_leave(&s->world.log, 3);
    assert_counts(&s->other, 'a', 1, 0, 0);
    assert_empty(&s->world);
}

/* ---- gaps ---- */

static void
test_skip_tell_acknowledge(void **state)
{
    struct story *s = *state;

    append(&s->world, 'a');
    flush(&s->link);
    append_many(&s->world, 'a', 2, 40);
    append(&s->world, 'b');
    append_gap(&s->world, 'b', 4);
    assert_int_equal(give_up(&s->link), 7);
    assert_int_equal(give_up(&s->link), 0);
    assert_int_equal(s->world.streams[0].accepted, 3);
    assert_int_equal(s->world.streams[1].accepted, 5);
    assert_true(vmlog_has_more(&s->world.log, 3));
    append(&s->world, 'a'); /* waits until both gaps are acknowledged */
    assert_string_equal(flush(&s->link), "a2-3 B1 b1-5");
    ack(&s->link, 'a', 3);
    assert_string_equal(flush(&s->link), "");
    ack(&s->link, 'b', 3); /* a part */
    assert_string_equal(flush(&s->link), "");
    ack(&s->link, 'b', 5);
    assert_string_equal(flush(&s->link), "a4");
    ack(&s->link, 'a', 4);
    assert_counts(&s->link, 'a', 2, 0, 2);
    assert_counts(&s->link, 'b', 0, 0, 5);
    assert_empty(&s->world);
}

/* A gap that grows: before it was told, after, and after a part was acknowledged. */
static void
test_gap_is_extended(void **state)
{
    struct story *s = *state;

    append(&s->world, 'a');
    give_up(&s->link);
    append(&s->world, 'a');
    give_up(&s->link);
    assert_string_equal(flush(&s->link), "A1 a1-2");
    append(&s->world, 'a');
    give_up(&s->link);
    assert_true(vmlog_has_more(&s->world.log, 3));
    assert_false(vmlog_ack(&s->world.log, 3, &s->world.streams[0], 3)); /* not told so far */
    ack(&s->link, 'a', 2);
    append(&s->world, 'a');
    give_up(&s->link);
    assert_string_equal(flush(&s->link), "a3-4");
    append_many(&s->world, 'a', 2, 40);
    give_up(&s->link);
    assert_string_equal(flush(&s->link), "a5-6");
    ack(&s->link, 'a', 6);
    append(&s->world, 'a');
    assert_string_equal(flush(&s->link), "a7");
    ack(&s->link, 'a', 7);
    assert_counts(&s->link, 'a', 1, 0, 6);
    assert_empty(&s->world);
}

/* What was in flight when the sink gave up is sent again first, and the gap told again after it. */
static void
test_rewind_with_open_gaps(void **state)
{
    struct story *s = *state;

    append_many(&s->world, 'a', 2, 40);
    flush(&s->link);
    append(&s->world, 'a');
    append(&s->world, 'b');
    give_up(&s->link);
    reconnect(&s->link); /* before the gaps were told */
    append(&s->world, 'a');
    give_up(&s->link);
    assert_string_equal(flush(&s->link), "A1 a1 a2 a3-4 B1 b1-1");
    reconnect(&s->link); /* after */
    append(&s->world, 'b');
    give_up(&s->link); /* while down */
    resume(&s->link, 'a', 1);
    assert_string_equal(flush(&s->link), "A2 a2 a3-4 B1 b1-2");
    ack(&s->link, 'b', 2); /* one is acknowledged */
    reconnect(&s->link);
    append(&s->world, 'b');
    assert_string_equal(flush(&s->link), "A2 a2 a3-4");
    reconnect(&s->link);
    resume(&s->link, 'a', 3); /* the SVM has a part of the gap */
    assert_string_equal(flush(&s->link), "A4 a4-4");
    reconnect(&s->link);
    resume(&s->link, 'a', 4); /* and all of it */
    assert_string_equal(flush(&s->link), "B3 b3");
    ack(&s->link, 'b', 3);
    assert_counts(&s->link, 'a', 2, 0, 2);
    assert_counts(&s->link, 'b', 1, 0, 2);
    assert_empty(&s->world);
}

/* A sink with policy drop that hangs holds neither a guest nor memory, however often it skips: only what was
 * sent to it stays. */
static void
test_hung_sink_costs_little(void **state)
{
    struct story *s = *state;

    append_many(&s->world, 'a', 2, 40);
    flush(&s->link);
    assert_int_equal(give_up(&s->link), 0); /* nothing to give up, but the driver may forget what was sent */
    assert_int_equal(s->world.streams[0].accepted, 2);
    for (int i = 0; i < 2000; i++) {
        append_many(&s->world, 'a', 1, 3000);
        give_up(&s->link);
        if (i == 1000)
            reconnect(&s->link);
        assert_true(s->world.log.bytes <= VMLOG_SMALL_CHUNK + 2 * VMLOG_LARGE_CHUNK);
    }
    assert_int_equal(s->world.streams[0].accepted, 2002);
    assert_string_equal(flush(&s->link), "A1 a1 a2 a3-2002");
    ack(&s->link, 'a', 2002);
    assert_string_equal(flush(&s->link), ""); /* passes over the last of what was given up */
    assert_empty(&s->world);
}

/* Chunks in the middle are let go although the sink is down in the first one. */
static void
test_skipped_chunks_leave_from_the_middle(void **state)
{
    struct story *s = *state;

    link_open(&s->other, &s->world, 4);
    append(&s->world, 'a');
    flush(&s->link);
    append_many(&s->world, 'a', 10, 40000);
    flush(&s->other);
    ack(&s->other, 'a', 11);
    assert_true(s->world.log.bytes > 10 * VMLOG_LARGE_CHUNK);
    give_up(&s->link);
    assert_true(s->world.log.bytes <= VMLOG_SMALL_CHUNK + VMLOG_LARGE_CHUNK);
    assert_non_null(vmlog_reserve(&s->world.log, 50000, false)); /* an empty chunk at the end */
    reconnect(&s->link);
    resume(&s->link, 'a', 11);
    assert_string_equal(flush(&s->link), "");
    append(&s->world, 'a');
    assert_string_equal(flush(&s->link), "A12 a12");
    assert_string_equal(flush(&s->other), "a12");
    ack(&s->link, 'a', 12);
    ack(&s->other, 'a', 12);
    assert_counts(&s->link, 'a', 2, 0, 10);
    assert_empty(&s->world);
}

/* A batch that ends just before chunks that were let go does not pass over what comes behind them. */
static void
test_batch_ends_before_skipped_chunks(void **state)
{
    struct story *s = *state;

    append(&s->world, 'b');
    flush(&s->link);
    append_many(&s->world, 'a', 10, 60000);
    assert_non_null(vmlog_reserve(&s->world.log, 60000, false)); /* what follows the skip begins a chunk */
    assert_int_equal(give_up(&s->link), 10);
    append(&s->world, 'a');
    reconnect(&s->link);
    resume(&s->link, 'a', 10);
    link_flush(&s->link, 40, PIECES, 1);
    assert_string_equal(words(&s->link), "B1 b1");
    ack(&s->link, 'b', 1); /* nor does the acknowledgement */
    assert_string_equal(flush(&s->link), "A11 a11");
    ack(&s->link, 'a', 11);
    assert_counts(&s->link, 'a', 1, 0, 10);
    assert_empty(&s->world);
}

static bool
gap_before(struct link *link, char stream, uint64_t first, uint64_t last)
{
    bool done = vmlog_gap_before(&link->world->log, link->sink, &link->world->streams[stream - 'a'], first,
                                 last, REASON);

    vmlog_check(&link->world->log);
    return done;
}

/* A stream goes on at 101 after a restart of gimuxd; the SVM has it up to 90. */
static void
go_on_at_101(struct story *s, char stream)
{
    s->world.streams[stream - 'a'].last = 100;
    vmlog_join_stream(&s->world.streams[stream - 'a'], s->link.sink);
}

static void
test_gap_before_on_an_empty_log(void **state)
{
    struct story *s = *state;

    go_on_at_101(s, 'a');
    assert_false(gap_before(&s->link, 'a', 101, 100));
    assert_false(gap_before(&s->link, 'a', 0, 100)); /* a position of UINT64_MAX, and one more */
    assert_true(gap_before(&s->link, 'a', 91, 100));
    assert_false(gap_before(&s->link, 'a', 91, 100)); /* once is enough */
    assert_true(vmlog_has_more(&s->world.log, 3));
    assert_string_equal(flush(&s->link), "A91 a91-100");
    append(&s->world, 'a');
    assert_string_equal(flush(&s->link), "");
    ack(&s->link, 'a', 100);
    assert_false(gap_before(&s->link, 'a', 91, 100));
    assert_string_equal(flush(&s->link), "a101");
    ack(&s->link, 'a', 101);
    assert_counts(&s->link, 'a', 1, 0, 10);
    assert_int_equal(s->world.pool.used, 0);
}

/* Too late: the sink has passed over the stream's beginning. */
static void
test_gap_before_comes_first_or_not_at_all(void **state)
{
    struct story *s = *state;

    go_on_at_101(s, 'a');
    append(&s->world, 'b');
    append(&s->world, 'a');
    link_flush(&s->link, 40, PIECES, 1000); /* only b1 goes out */
    s->link.filter.class_mask = 0;
    assert_string_equal(flush(&s->link), "B1 b1"); /* a101 is filtered, but b1 holds it */
    assert_false(gap_before(&s->link, 'a', 91, 100));
    ack(&s->link, 'b', 1);
    assert_counts(&s->link, 'a', 0, 1, 0);
    assert_int_equal(s->world.pool.used, 0);
}

static void
test_gap_before_unsent_and_skipped(void **state)
{
    struct story *s = *state;

    append(&s->world, 'b');
    flush(&s->link);
    vmlog_rewind(&s->world.log, 3);
    go_on_at_101(s, 'a');
    append(&s->world, 'a');
    give_up(&s->link);
    append_many(&s->world, 'a', 2, 40);
    link_connect(&s->link);
    assert_true(gap_before(&s->link, 'a', 91, 100));
    assert_string_equal(flush(&s->link), "B1 b1 A91 a91-101");
    ack(&s->link, 'a', 101);
    assert_string_equal(flush(&s->link), "a102 a103");
    assert_false(gap_before(&s->link, 'a', 91, 100));
    ack(&s->link, 'a', 103);
    ack(&s->link, 'b', 1);
    assert_counts(&s->link, 'a', 2, 0, 11);
    assert_int_equal(s->world.pool.used, 0);
}

/* The gap before one stream must not let the gap of another be told before what is sent again. */
static void
test_gap_before_waits_for_what_is_sent_again(void **state)
{
    struct story *s = *state;

    append_many(&s->world, 'a', 2, 40);
    flush(&s->link);
    append(&s->world, 'a');
    give_up(&s->link);
    vmlog_rewind(&s->world.log, 3);
    go_on_at_101(s, 'b');
    append(&s->world, 'b');
    link_connect(&s->link);
    assert_true(gap_before(&s->link, 'b', 91, 100));
    assert_string_equal(flush(&s->link), "A1 a1 a2 a3-3 B91 b91-100");
    ack(&s->link, 'a', 3);
    ack(&s->link, 'b', 100);
    assert_string_equal(flush(&s->link), "b101");
    ack(&s->link, 'b', 101);
    assert_counts(&s->link, 'a', 2, 0, 1);
    assert_int_equal(s->world.pool.used, 0);
}

/* ---- the model ---- */

#define SVMS      4u
#define SEQUENCES 16384u /* of a stream, at most */
#define FILTERS   64u    /* that one SVM has one after the other, at most */
#define WINDOW    30000u /* bytes in flight, at most one frame more */

enum fate { UNKNOWN, DELIVERED, GAPPED };

/* What one SVM knows of one stream. */
struct memory {
    uint64_t base;     /* it takes part from base + 1 on */
    uint64_t position; /* up to here it has all that was sent to it */
    uint64_t durable;  /* up to here also after a crash; what it acknowledges */
    uint64_t next;     /* nothing below this comes on this connection any more; 0: not announced */
    uint64_t gap_from; /* not 0: gap_from .. gap_to is to be told when it connects, see new_stream */
    uint64_t gap_to;
    uint8_t fate[SEQUENCES];
    uint8_t filter[SEQUENCES]; /* the one in force when the sequence was appended */
};

struct model_filter {
    uint32_t class_mask;
    char letters[5];
};

struct svm {
    struct link link;
    bool joined;
    bool up;
    bool drops; /* its policy; else pause */
    bool names; /* its positions when it connects; else it has one filter, and drops what comes twice */
    uint64_t given_up;
    unsigned filter; /* in force */
    struct model_filter filters[FILTERS];
    struct memory memory[STREAMS];
};

/* What was appended as this sequence. */
struct event {
    uint8_t cls;
    char letter;
    uint16_t end; /* last sequence of its entry */
};

struct model {
    struct world world;
    uint64_t accepted[STREAMS];
    struct event events[STREAMS][SEQUENCES];
    struct svm svms[SVMS];
    uint64_t random;
};

static uint32_t
pick(struct model *m, uint32_t below)
{
    m->random = m->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(m->random >> 33) % below;
}

/* Whether one of the filters that were in force since the sequence was appended leaves it out. */
static bool
may_be_filtered(const struct model *m, const struct svm *svm, unsigned stream, uint64_t sequence)
{
    for (unsigned i = svm->memory[stream].filter[sequence]; i <= svm->filter; i++) {
        const struct event *event = &m->events[stream][sequence];

        if (!(svm->filters[i].class_mask & 1u << event->cls))
            return true;
        if (event->cls != VMLOG_GAP && !strchr(svm->filters[i].letters, event->letter))
            return true;
    }
    return false;
}

static void
new_filter(struct model *m, struct svm *svm)
{
    struct model_filter *filter;
    unsigned count = 0;

    if (svm->filter + 1 == FILTERS)
        return;
    filter = &svm->filters[++svm->filter];
    memset(filter, 0, sizeof(*filter));
    filter->class_mask = pick(m, 3) ? MASK_ALL : pick(m, 10) ? MASK_ALL & ~pick(m, 8) : pick(m, 8);
    for (const char *letter = "wxyz"; *letter; letter++)
        if (pick(m, 5))
            filter->letters[count++] = *letter;
    svm->link.filter = (struct vmlog_filter){ filter->class_mask, wants_letter, filter->letters };
}

/* The SVM has now heard of everything up to `last`: from `first` on it has this fate. */
static void
learn(struct svm *svm, unsigned stream, uint64_t first, uint64_t last, enum fate fate)
{
    struct memory *memory = &svm->memory[stream];

    assert_true(memory->next > 0 && last >= memory->next); /* announced, and in order */
    memory->next = last + 1;
    if (svm->names)
        assert_true(last > memory->position); /* nothing comes twice, not even without deduplication */
    if (first <= memory->position)
        first = memory->position + 1;
    for (uint64_t sequence = first; sequence <= last; sequence++) {
        assert_int_equal(memory->fate[sequence], UNKNOWN);
        memory->fate[sequence] = (uint8_t)fate;
    }
    if (memory->position < last)
        memory->position = last;
}

static void
svm_read(struct svm *svm, unsigned frames)
{
    struct head head;

    while (frames-- > 0 && link_read(&svm->link, &head)) {
        struct memory *memory = &svm->memory[head.stream];

        if (head.kind == ANNOUNCE) {
            assert_int_equal(memory->next, 0); /* once a connection */
            memory->next = head.first;
            continue;
        }
        if (head.kind == GAP) {
            assert_true(svm->drops || head.last <= memory->gap_to);
            assert_true(!svm->names || head.first > memory->position); /* each part in one gap */
        }
        learn(svm, head.stream, head.first, head.last, head.kind == EVENT ? DELIVERED : GAPPED);
    }
}

/* Acknowledges something, perhaps less than it could, perhaps again what it did. */
static void
svm_ack(struct model *m, struct svm *svm, bool all)
{
    for (unsigned i = 0; i < m->world.count; i++) {
        struct vmlog_stream *stream = &m->world.streams[i];
        struct memory *memory = &svm->memory[i];
        uint64_t sequence =
            memory->position - (all ? 0 : pick(m, 4) * (memory->position - memory->durable) / 4);
        struct vmlog_progress before;

        /* A driver's gap is one frame: the SVM has all of it or nothing. */
        if (sequence < memory->position && m->events[i][sequence].cls == VMLOG_GAP)
            sequence = m->events[i][sequence].end;
        memory->durable = sequence > memory->durable ? sequence : memory->durable;
        if (memory->next == 0 || (!all && pick(m, 3) == 0))
            continue;
        sequence = memory->durable < memory->next ? memory->durable : memory->next - 1;
        assert_true(vmlog_ack(&m->world.log, svm->link.sink, stream, sequence));
        before = stream->sinks[svm->link.sink];
        assert_false(vmlog_ack(&m->world.log, svm->link.sink, stream, before.sent + 1 + pick(m, 9)));
        assert_memory_equal(&before, &stream->sinks[svm->link.sink], sizeof(before));
    }
}

/* After a crash it knows only what was durable. */
static void
svm_crash(struct model *m, struct svm *svm)
{
    for (unsigned i = 0; i < m->world.count; i++) {
        struct memory *memory = &svm->memory[i];

        for (uint64_t sequence = memory->durable + 1; sequence <= memory->position; sequence++)
            memory->fate[sequence] = UNKNOWN;
        memory->position = memory->durable;
    }
}

static void
svm_disconnect(struct model *m, struct svm *svm)
{
    svm->up = false;
    vmlog_rewind(&m->world.log, svm->link.sink);
    link_connect(&svm->link);
    for (unsigned i = 0; i < STREAMS; i++)
        svm->memory[i].next = 0;
    if (pick(m, 4) == 0)
        svm_crash(m, svm);
}

static void
tell_gap_before(struct model *m, struct svm *svm, unsigned stream)
{
    struct memory *memory = &svm->memory[stream];

    if (memory->gap_from == 0)
        return;
    assert_true(vmlog_gap_before(&m->world.log, svm->link.sink, &m->world.streams[stream], memory->gap_from,
                                 memory->gap_to, REASON));
    svm->given_up += memory->gap_to - memory->gap_from + 1;
    memory->gap_from = 0;
}

static void
svm_connect(struct model *m, struct svm *svm)
{
    svm->up = true;
    if (svm->names && pick(m, 2))
        new_filter(m, svm);
    for (unsigned i = 0; i < m->world.count; i++) {
        tell_gap_before(m, svm, i);
        if (!svm->names)
            continue;
        svm->memory[i].durable = svm->memory[i].position;
        vmlog_resume(&m->world.log, svm->link.sink, &m->world.streams[i], svm->memory[i].position);
    }
}

static void
svm_join(struct model *m, struct svm *svm)
{
    unsigned slot = svm->link.sink;

    link_close(&svm->link);
    memset(svm, 0, sizeof(*svm));
    link_open(&svm->link, &m->world, slot);
    svm->joined = true;
    svm->drops = pick(m, 2);
    svm->names = pick(m, 3);
    new_filter(m, svm);
    for (unsigned i = 0; i < m->world.count; i++)
        svm->memory[i].base = svm->memory[i].position = svm->memory[i].durable = m->world.streams[i].last;
}

/* A stream begins at 1, or goes on somewhere after a restart of gimuxd: then each SVM may be behind. */
static void
new_stream(struct model *m)
{
    unsigned i = m->world.count;
    uint64_t last = pick(m, 2) ? 20 + pick(m, 50) : 0;

    if (i == STREAMS)
        return;
    m->world.count++;
    m->world.streams[i].last = m->world.streams[i].accepted = m->accepted[i] = last;
    for (unsigned j = 0; j < SVMS; j++) {
        struct svm *svm = &m->svms[j];
        struct memory *memory = &svm->memory[i];
        uint64_t behind = last > 0 && pick(m, 2) ? pick(m, 20) : 0;

        memory->base = memory->position = memory->durable = last - behind;
        if (!svm->joined || last == 0)
            continue;
        vmlog_join_stream(&m->world.streams[i], svm->link.sink);
        if (behind > 0) {
            memory->gap_from = last - behind + 1;
            memory->gap_to = last;
            memset(memory->filter + memory->gap_from, (int)svm->filter, behind);
        }
        if (svm->up)
            tell_gap_before(m, svm, i);
    }
}

static void
model_skip(struct model *m, struct svm *svm)
{
    if (svm->joined && svm->drops)
        svm->given_up += vmlog_skip(&m->world.log, svm->link.sink, REASON);
}

static bool
model_append(struct model *m, const struct head *head, uint32_t count, bool beyond)
{
    uint64_t last = m->world.streams[head->stream].last;

    assert_true(last + count < SEQUENCES);
    for (uint64_t sequence = last + 1; sequence <= last + count; sequence++) {
        m->events[head->stream][sequence] =
            (struct event){ head->cls, head->letter, (uint16_t)(last + count) };
        for (unsigned i = 0; i < SVMS; i++)
            m->svms[i].memory[head->stream].filter[sequence] = (uint8_t)m->svms[i].filter;
    }
    return append_entry(&m->world, head, count, beyond);
}

static void
model_append_any(struct model *m)
{
    struct head head = { .len = sizeof(head) + pick(m, pick(m, 4) ? 300 : pick(m, 30) ? 6000 : BIG) };
    uint32_t count = 1;

    head.stream = (uint8_t)pick(m, m->world.count);
    head.cls = (uint8_t)pick(m, CLASS_COUNT);
    head.letter = (char)('w' + pick(m, 4));
    if (pick(m, 20) == 0) {
        head.cls = VMLOG_GAP;
        count += pick(m, 20);
    }
    if (!model_append(m, &head, count, pick(m, 10) == 0))
        for (unsigned i = 0; i < SVMS; i++)
            model_skip(m, &m->svms[i]);
}

/* An SVM with policy pause has all that is settled and all that a guest was told is safe, but for what it
 * filtered. */
static void
check_accepted(struct model *m)
{
    for (unsigned i = 0; i < m->world.count; i++) {
        struct vmlog_stream *stream = &m->world.streams[i];

        assert_true(stream->accepted >= m->accepted[i] && stream->accepted <= stream->last);
        for (unsigned j = 0; j < SVMS; j++) {
            const struct svm *svm = &m->svms[j];
            const struct memory *memory = &svm->memory[i];

            assert_true(stream->sinks[svm->link.sink].settled <= stream->last);
            for (uint64_t sequence = m->accepted[i] + 1; sequence <= stream->accepted; sequence++)
                if (svm->joined && !svm->drops && sequence > memory->base && sequence > memory->durable)
                    assert_true(may_be_filtered(m, svm, i, sequence));
        }
        m->accepted[i] = stream->accepted;
    }
}

static void
model_link(struct model *m, struct svm *svm)
{
    if (!svm->joined)
        svm_join(m, svm);
    else if (pick(m, 8) == 0) {
        vmlog_leave(&m->world.log, svm->link.sink);
        svm->joined = svm->up = false;
    } else if (svm->up)
        svm_disconnect(m, svm);
    else
        svm_connect(m, svm);
}

static void
model_step(struct model *m)
{
    struct svm *svm = &m->svms[pick(m, SVMS)];
    uint32_t what = pick(m, 1000);

    if (what < 450)
        model_append_any(m);
    else if (what < 455)
        vmlog_reserve(&m->world.log, pick(m, 5000), false);
    else if (what < 460)
        new_stream(m);
    else if (what < 490 && (!svm->up || pick(m, 4) == 0))
        model_link(m, svm);
    else if (what < 500)
        model_skip(m, svm);
    else if (!svm->up)
        return;
    else if (what < 510 && svm->names)
        new_filter(m, svm);
    else if (what < 750 && m->world.log.cursors[svm->link.sink].inflight < WINDOW)
        link_flush(&svm->link, pick(m, 10) ? pick(m, 5000) : pick(m, WINDOW), 1 + (int)pick(m, PIECES),
                   1 + pick(m, 8000));
    else if (what < 900)
        svm_read(svm, pick(m, 40));
    else
        svm_ack(m, svm, false);
}

static void
drain(struct model *m)
{
    struct head head = { .len = 40, .letter = 'w' }; /* takes room that was reserved and not used */

    assert_true(model_append(m, &head, 1, true));
    for (unsigned i = 0; i < SVMS; i++)
        if (m->svms[i].joined && !m->svms[i].up)
            svm_connect(m, &m->svms[i]);
    /* What is in flight; the gaps; what was stopped by them. */
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < SVMS; i++) {
            struct svm *svm = &m->svms[i];

            if (!svm->joined)
                continue;
            link_flush(&svm->link, SIZE_MAX, PIECES, SIZE_MAX);
            assert_false(vmlog_has_more(&m->world.log, svm->link.sink));
            svm_read(svm, UINT32_MAX);
            svm_ack(m, svm, true);
            vmlog_check(&m->world.log);
        }
    }
    check_accepted(m);
}

/* Sum of the parts equals the whole, and the log's counters are the SVM's. */
static void
check_sums(const struct model *m, const struct svm *svm)
{
    uint64_t gapped = 0;
    uint64_t by_driver = 0;

    for (unsigned i = 0; i < m->world.count; i++) {
        const struct vmlog_progress *progress = &m->world.streams[i].sinks[svm->link.sink];
        const struct memory *memory = &svm->memory[i];
        uint64_t counts[GAPPED + 1] = { 0 };

        for (uint64_t sequence = memory->base + 1; sequence <= m->world.streams[i].last; sequence++) {
            counts[memory->fate[sequence]]++;
            if (memory->fate[sequence] == UNKNOWN)
                assert_true(may_be_filtered(m, svm, i, sequence));
            else if (m->events[i][sequence].cls == VMLOG_GAP)
                by_driver++; /* perhaps given up */
        }
        assert_int_equal(progress->delivered, counts[DELIVERED]);
        assert_int_equal(progress->gapped, counts[GAPPED]);
        assert_int_equal(progress->filtered, counts[UNKNOWN]);
        assert_int_equal(progress->gap_last, 0);
        gapped += counts[GAPPED];
    }
    assert_true(svm->given_up <= gapped && gapped <= svm->given_up + by_driver);
}

static void
run_model(struct model *m, unsigned seed, unsigned steps)
{
    static const unsigned slots[SVMS] = { 0, 3, 7, VMLOG_SINKS - 1 };

    print_message("model: seed %u\n", seed);
    memset(m, 0, sizeof(*m));
    m->random = seed;
    world_open(&m->world, VMLOG_LARGE_CHUNK * (3 + pick(m, 8)), 1);
    for (unsigned i = 0; i < SVMS; i++)
        m->svms[i].link.sink = slots[i];
    for (unsigned step = 0; step < steps; step++) {
        model_step(m);
        vmlog_check(&m->world.log);
        check_accepted(m);
        assert_int_equal(m->world.pool.used, m->world.log.bytes);
    }
    drain(m);
    assert_empty(&m->world);
    for (unsigned i = 0; i < SVMS; i++) {
        if (m->svms[i].joined)
            check_sums(m, &m->svms[i]);
        link_close(&m->svms[i].link);
    }
    world_close(&m->world);
}

static void
test_model(void **state)
{
    const char *seed = getenv("VMLOG_SEED");
    const char *seeds = getenv("VMLOG_SEEDS");
    unsigned count = seeds ? (unsigned)strtoul(seeds, NULL, 10) : 12;
    struct model *m = malloc(sizeof(*m));

    (void)state;
    assert_non_null(m);
    if (seed)
        run_model(m, (unsigned)strtoul(seed, NULL, 10), 6000);
    else
        for (unsigned i = 1; i <= count; i++)
            run_model(m, i, 6000);
    free(m);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, story_begin, story_end)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(test_sent_acked_accepted_freed),
        STORY(test_no_sink_keeps_nothing),
        STORY(test_partial_write_leaves_a_rest),
        STORY(test_small_batches),
        STORY(test_filters),
        STORY(test_slow_sink_holds_the_log_not_the_other),
        STORY(test_oversize_frames),
        STORY(test_pool_limit),
        STORY(test_reserve_without_commit),
        STORY(test_rewind_sends_again),
        STORY(test_resume_with_positions),
        STORY(test_resume_ahead_of_the_log),
        STORY(test_leave_and_rejoin),
        STORY(test_skip_tell_acknowledge),
        STORY(test_gap_is_extended),
        STORY(test_rewind_with_open_gaps),
        STORY(test_hung_sink_costs_little),
        STORY(test_skipped_chunks_leave_from_the_middle),
        STORY(test_gap_before_on_an_empty_log),
        STORY(test_batch_ends_before_skipped_chunks),
        STORY(test_gap_before_comes_first_or_not_at_all),
        STORY(test_gap_before_unsent_and_skipped),
        STORY(test_gap_before_waits_for_what_is_sent_again),
        cmocka_unit_test(test_model),
    };

    return cmocka_run_group_tests_name("vmlog", tests, NULL, NULL);
}
