/* The ledger: of every stream what its driver made and was acknowledged, and what each SVM was told of it. */
#include "tests/chaos/ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOT  0x01 /* delivered */
#define GAP  0x02 /* in a gap */
#define LIFE 0x04 /* either, in this life of the client */
#define HURT 0x08 /* was damaged */

/* Reasons of gaps in what was damaged. */
#define HURT_REASONS (1u << GIMUX_GAP_STORAGE | 1u << GIMUX_GAP_RESTART | 1u << GIMUX_GAP_DRIVER)

#define WHO_MAX 96

static const char *
who(const struct stream *stream, const struct reader *reader, char buf[WHO_MAX])
{
    snprintf(buf, WHO_MAX, "vm %u %s boot %u, SVM %s", stream->vm, gr_driver_name(stream->driver),
             stream->boot, reader->name);
    return buf;
}

static struct event_id
id_of(const struct stream *stream, uint64_t sequence)
{
    return (struct event_id){ stream->vm, stream->boot, stream->driver, sequence };
}

static bool
is_wanted(const struct stream *stream, const struct reader *reader, uint64_t sequence)
{
    struct event_id id = id_of(stream, sequence);

    return !reader->mutes || !event_is_muted(&id);
}

struct stream *
ledger_stream_new(uint32_t vm, uint32_t boot, uint16_t driver, struct stream *former)
{
    struct stream *stream = calloc(1, sizeof(*stream));

    if (!stream)
        abort();
    stream->vm = vm;
    stream->boot = boot;
    stream->driver = driver;
    stream->former = former;
    return stream;
}

void
ledger_stream_free(struct stream *stream)
{
    while (stream) {
        struct stream *former = stream->former;

        for (int i = 0; i < LEDGER_SVMS; i++)
            free(stream->accounts[i].flags);
        free(stream);
        stream = former;
    }
}

void
ledger_made(struct stream *stream)
{
    uint64_t used = stream->made++ - stream->base;
    uint64_t room = stream->room ? stream->room * 2 : 1024;

    if (used < stream->room)
        return;
    for (int i = 0; i < LEDGER_SVMS; i++) {
        uint8_t *flags = realloc(stream->accounts[i].flags, room);

        if (!flags)
            abort();
        memset(flags + stream->room, 0, room - stream->room);
        stream->accounts[i].flags = flags;
    }
    stream->room = room;
}

/* The stream's sequence was told, in an event or a gap. Returns false if that was wrong. */
static bool
tell(struct stream *stream, struct reader *reader, uint64_t sequence, uint8_t flag)
{
    struct account *account = &stream->accounts[reader->index];
    uint8_t *flags = sequence > stream->base ? &account->flags[sequence - stream->base - 1] : NULL;
    bool before = account->life_first > 0 && sequence <= account->last;
    char buf[WHO_MAX];

    if (sequence == 0 || sequence > stream->made) {
        tally_add(reader->tally, WRONG_UNACCOUNTED, 1, "%s: sequence %llu of %llu that were made",
                  who(stream, reader, buf), (unsigned long long)sequence, (unsigned long long)stream->made);
        return false;
    }
    if (flags ? *flags & LIFE : before && sequence >= account->life_first) {
        tally_add(reader->tally, WRONG_DOUBLED, 1, "%s: sequence %llu, in %s", who(stream, reader, buf),
                  (unsigned long long)sequence, flag == GAP ? "a gap after it had come" : "two events");
        return false;
    }
    if (before)
        tally_add(reader->tally, WRONG_REORDERED, 1, "%s: sequence %llu behind %llu",
                  who(stream, reader, buf), (unsigned long long)sequence, (unsigned long long)account->last);
    else
        account->last = sequence;
    if (account->life_first == 0)
        account->life_first = sequence;
    if (flags)
        *flags |= (uint8_t)(flag | LIFE);
    return !before;
}

static bool
is_settled(const struct stream *stream, const struct reader *reader, uint64_t sequence)
{
    return stream->accounts[reader->index].flags[sequence - stream->base - 1] & (GOT | GAP) ||
           !is_wanted(stream, reader, sequence);
}

/* What is told next begins with `first`: what it passes over never comes, since everything comes in order. */
static void
find_hole(struct stream *stream, struct reader *reader, uint64_t first)
{
    const struct account *account = &stream->accounts[reader->index];
    uint64_t at = (account->last > stream->base ? account->last : stream->base) + 1;
    uint64_t hole = 0;
    char buf[WHO_MAX];

    for (; account->life_first > 0 && at < first && at <= stream->made; at++)
        if (!is_settled(stream, reader, at))
            hole++;
    tally_add(reader->tally, WRONG_UNACCOUNTED, hole, "%s: %llu comes after %llu", who(stream, reader, buf),
              (unsigned long long)first, (unsigned long long)account->last);
}

void
ledger_event(struct stream *stream, struct reader *reader, const struct gimux_event *event)
{
    struct event_id id = id_of(stream, event->sequence);
    char buf[WHO_MAX];
    const char *why;

    reader->events++;
    find_hole(stream, reader, event->sequence);
    if (!tell(stream, reader, event->sequence, GOT))
        return;
    why = event_check(&id, event);
    if (!why && !is_wanted(stream, reader, event->sequence))
        why = "the SVM mutes it";
    if (why)
        tally_add(reader->tally, WRONG_UNACCOUNTED, 1, "%s: event %llu: %s", who(stream, reader, buf),
                  (unsigned long long)event->sequence, why);
}

/* Whether the reader may be told that it will not get a sequence with these flags. What the driver still has
 * is never gone: if it is not in files it comes again. */
static bool
may_be_gone(const struct stream *stream, const struct reader *reader, uint64_t sequence, uint8_t flags,
            enum gimux_gap_reason reason)
{
    if (reason == GIMUX_GAP_DRIVER && sequence > stream->forgotten)
        return false;
    return reader->gap_reasons & 1u << reason || (flags & HURT && HURT_REASONS & 1u << reason) ||
           (flags & GOT && sequence <= stream->unwritten &&
            (reason == GIMUX_GAP_DRIVER || reason == GIMUX_GAP_RESTART));
}

void
ledger_gap(struct stream *stream, struct reader *reader, const struct gimux_gap *gap)
{
    const struct account *account = &stream->accounts[reader->index];
    char buf[WHO_MAX];
    uint64_t wanted = 0;
    uint64_t wrong = 0;
    uint64_t had = 0;

    if (gap->last > stream->made || gap->first == 0) {
        tally_add(reader->tally, WRONG_UNACCOUNTED, 1, "%s: gap %llu to %llu of %llu that were made",
                  who(stream, reader, buf), (unsigned long long)gap->first, (unsigned long long)gap->last,
                  (unsigned long long)stream->made);
        return;
    }
    find_hole(stream, reader, gap->first);
    for (uint64_t sequence = gap->first; sequence <= gap->last; sequence++) {
        uint8_t flags = sequence > stream->base ? account->flags[sequence - stream->base - 1] : GOT;

        tell(stream, reader, sequence, GAP);
        if (!is_wanted(stream, reader, sequence))
            continue;
        wanted++;
        if (may_be_gone(stream, reader, sequence, flags, gap->reason))
            continue;
        wrong++;
        had += (flags & GOT) != 0;
    }
    reader->gapped += wanted;
    tally_add(reader->tally, WRONG_UNACCOUNTED, wrong,
              "%s: gap %llu to %llu, reason %s; the SVM had %llu of them in a former life",
              who(stream, reader, buf), (unsigned long long)gap->first, (unsigned long long)gap->last,
              gimux_client_gap_name(gap->reason), (unsigned long long)had);
}

void
ledger_damaged(struct stream *stream, uint64_t first, uint64_t last)
{
    if (first <= stream->base)
        first = stream->base + 1;
    for (uint64_t sequence = first; sequence <= last && sequence <= stream->made; sequence++)
        for (int i = 0; i < LEDGER_SVMS; i++)
            stream->accounts[i].flags[sequence - stream->base - 1] |= HURT;
}

void
ledger_forgets(struct stream *stream, bool full)
{
    stream->forgets = true;
    if (full)
        stream->unwritten = stream->made;
}

void
ledger_hello(struct stream *stream)
{
    if (stream->forgets)
        stream->forgotten = stream->acked;
    stream->forgets = false;
}

/* Sequences above `after` may come again. */
static void
let_again(struct stream *stream, struct account *account, uint64_t after)
{
    if (after < stream->base)
        after = stream->base;
    for (uint64_t sequence = after + 1; sequence <= stream->made; sequence++)
        account->flags[sequence - stream->base - 1] &= (uint8_t)~LIFE;
}

void
ledger_new_life(struct stream *stream, const struct reader *reader)
{
    struct account *account = &stream->accounts[reader->index];

    let_again(stream, account, 0);
    account->last = account->life_first = 0;
}

void
ledger_again(struct stream *stream, const struct reader *reader, uint64_t acked)
{
    struct account *account = &stream->accounts[reader->index];

    let_again(stream, account, acked);
    if (account->last > acked)
        account->last = acked;
}

void
ledger_acked(struct stream *stream, const struct reader *reader, uint64_t last, unsigned level)
{
    const uint8_t *flags = stream->accounts[reader->index].flags;
    uint64_t first = (stream->acked > stream->base ? stream->acked : stream->base) + 1;
    uint64_t wrong = 0;
    char buf[WHO_MAX];

    if (reader->accepts_at > 0 && level >= reader->accepts_at)
        return;
    for (uint64_t sequence = first; sequence <= last; sequence++)
        wrong += !is_settled(stream, reader, sequence) && !(flags[sequence - stream->base - 1] & HURT);
    tally_add(reader->tally, WRONG_UNACCOUNTED, wrong,
              "%s: ACK of %llu, level %u, but of %llu to %llu the SVM has not got all",
              who(stream, reader, buf), (unsigned long long)last, level, (unsigned long long)first,
              (unsigned long long)last);
}

uint64_t
ledger_missing(struct stream *stream, const struct reader *reader)
{
    struct account *account = &stream->accounts[reader->index];
    uint64_t missing = 0;

    while (account->missing < stream->made && is_settled(stream, reader, account->missing + 1))
        account->missing++;
    for (uint64_t sequence = account->missing + 1; sequence <= stream->made; sequence++)
        missing += !is_settled(stream, reader, sequence);
    return missing;
}

void
ledger_compare(struct stream *stream, const struct reader *reader)
{
    char buf[WHO_MAX];

    if (ledger_missing(stream, reader) == 0)
        return;
    for (uint64_t sequence = stream->base + 1; sequence <= stream->made; sequence++)
        if (!is_settled(stream, reader, sequence))
            tally_add(reader->tally, sequence <= stream->acked ? WRONG_LOST : WRONG_UNACCOUNTED, 1,
                      "%s: sequence %llu never came; made %llu, acknowledged to the driver %llu",
                      who(stream, reader, buf), (unsigned long long)sequence,
                      (unsigned long long)stream->made, (unsigned long long)stream->acked);
}

void
ledger_close(struct stream *stream)
{
    for (int i = 0; i < LEDGER_SVMS; i++) {
        struct account *account = &stream->accounts[i];

        free(account->flags);
        account->flags = NULL;
        account->missing = stream->made;
    }
    stream->room = 0;
    stream->base = stream->made;
}
