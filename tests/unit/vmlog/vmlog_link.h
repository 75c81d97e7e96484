/* What the tests of the VM log stand on: one VM with its log, and the two ends of a link that reads it.
 *
 * What went over a link is written as words: A1 announces stream a from sequence 1 on, a2 is an event, a3~5 a
 * gap that the driver told of, a6-9 a gap of this sink. */
#ifndef GIMUX_TESTS_VMLOG_LINK_H
#define GIMUX_TESTS_VMLOG_LINK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mux/vmlog/inner.h"

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

static inline void
world_open(struct world *world, size_t limit, unsigned streams)
{
    memset(world, 0, sizeof(*world));
    world->pool.limit = limit;
    world->pool.own = 256 * VMLOG_SMALL_CHUNK;
    world->count = streams;
    vmlog_init(&world->log, &world->pool);
    assert_true(vmlog_make_slots(&world->log, VMLOG_SINKS));
    for (unsigned i = 0; i < STREAMS; i++) {
        world->streams[i].id = i;
        assert_true(vmlog_stream_make_slots(&world->streams[i], VMLOG_SINKS));
    }
}

static inline void
world_close(struct world *world)
{
    vmlog_check(&world->log);
    vmlog_fini(&world->log);
    for (unsigned i = 0; i < STREAMS; i++)
        vmlog_stream_fini(&world->streams[i]);
    assert_int_equal(world->pool.used, 0);
    vmlog_pool_fini(&world->pool);
    assert_int_equal(world->pool.spare, 0);
}

static inline bool
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
static inline void
append(struct world *world, char stream)
{
    struct head head = { .len = 40, .cls = CLASS_FILE, .stream = (uint8_t)(stream - 'a'), .letter = 'x' };

    assert_true(append_entry(world, &head, 1, false));
}

static inline void
append_many(struct world *world, char stream, unsigned count, uint32_t len)
{
    struct head head = { .len = len, .cls = CLASS_FILE, .stream = (uint8_t)(stream - 'a'), .letter = 'x' };

    while (count-- > 0)
        assert_true(append_entry(world, &head, 1, false));
}

static inline void
append_gap(struct world *world, char stream, uint32_t count)
{
    struct head head = { .len = 30, .cls = VMLOG_GAP, .stream = (uint8_t)(stream - 'a') };

    assert_true(append_entry(world, &head, count, false));
}

/* ---- the link ---- */

static inline void
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

static inline void
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

static inline void
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
static inline size_t
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
static inline void
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
static inline bool
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
static inline void
link_connect(struct link *link)
{
    link->rest_len = link->wire_len = link->read = 0;
    link->connection++;
}

static inline void
link_open(struct link *link, struct world *world, unsigned sink)
{
    *link = (struct link){ .world = world, .sink = sink, .filter.class_mask = MASK_ALL };
    vmlog_join(&world->log, sink);
    for (unsigned i = 0; i < world->count; i++)
        vmlog_join_stream(&world->streams[i], sink);
    link_connect(link);
}

static inline void
link_close(struct link *link)
{
    free(link->wire);
    free(link->rest);
}

/* The frames that went out since the last call, in words. */
static inline const char *
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

static inline const char *
flush(struct link *link)
{
    link_flush(link, SIZE_MAX, PIECES, 100000);
    assert_false(vmlog_has_more(&link->world->log, link->sink));
    return words(link);
}

static inline void
ack(struct link *link, char stream, uint64_t sequence)
{
    assert_true(vmlog_ack(&link->world->log, link->sink, &link->world->streams[stream - 'a'], sequence));
    vmlog_check(&link->world->log);
}

static inline void
reconnect(struct link *link)
{
    vmlog_rewind(&link->world->log, link->sink);
    vmlog_check(&link->world->log);
    link_connect(link);
}

static inline void
resume(struct link *link, char stream, uint64_t sequence)
{
    vmlog_resume(&link->world->log, link->sink, &link->world->streams[stream - 'a'], sequence);
    vmlog_check(&link->world->log);
}

static inline uint64_t
give_up(struct link *link)
{
    uint64_t skipped = vmlog_skip(&link->world->log, link->sink, REASON);

    vmlog_check(&link->world->log);
    return skipped;
}

static inline void
assert_counts(const struct link *link, char stream, uint64_t delivered, uint64_t filtered, uint64_t gapped)
{
    const struct vmlog_progress *progress = &link->world->streams[stream - 'a'].sinks[link->sink];

    assert_int_equal(progress->delivered, delivered);
    assert_int_equal(progress->filtered, filtered);
    assert_int_equal(progress->gapped, gapped);
}

/* Everything was settled: nothing is kept. */
static inline void
assert_empty(const struct world *world)
{
    assert_int_equal(world->pool.used, 0);
    assert_int_equal(world->log.bytes, 0);
    for (unsigned i = 0; i < world->count; i++) {
        assert_int_equal(world->streams[i].accepted, world->streams[i].last);
        assert_int_equal(world->streams[i].unaccepted_bytes, 0);
    }
}

/* A filter by the first letter of the key; arg is the letters it wants. */
static inline bool
wants_letter(void *arg, enum event_class cls, const char *key, size_t len)
{
    (void)cls;
    assert_int_equal(len, 1);
    return strchr(arg, *key) != NULL;
}

/* ---- a story ---- */

/* Most stories have one world, two streams and one or two links. */
struct story {
    struct world world;
    struct link link;
    struct link other; /* not open unless the story opens it */
};

static inline int
story_begin(void **state)
{
    struct story *story = calloc(1, sizeof(*story));

    world_open(&story->world, 1 << 20, 2);
    link_open(&story->link, &story->world, 3);
    *state = story;
    return 0;
}

static inline int
story_end(void **state)
{
    struct story *story = *state;

    link_close(&story->link);
    link_close(&story->other);
    world_close(&story->world);
    free(story);
    return 0;
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, story_begin, story_end)

#endif
