/* The VM log: a model that does anything in any order, and counts.
 *
 * VMLOG_SEED=n runs it with that seed alone, VMLOG_SEEDS=n with the seeds 1 to n. */
#include "tests/unit/vmlog/vmlog_link.h"

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
    uint32_t key_mask;
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
    struct head burst;
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
        if ((svm->filters[i].key_mask & 1u << event->cls) && !strchr(svm->filters[i].letters, event->letter))
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
    filter->key_mask = pick(m, 2) ? CLASS_MASK_ALL : pick(m, 8);
    for (const char *letter = "wxyz"; *letter; letter++)
        if (pick(m, 5))
            filter->letters[count++] = *letter;
    svm->link.filter =
        (struct vmlog_filter){ filter->class_mask, filter->key_mask, wants_letter, filter->letters };
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
    m->world.pool.counts[slot] = (struct vmlog_counts){ 0 }; /* a solution that is new in this slot */
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

    if (pick(m, 8) == 0)
        m->burst = (struct head){ .stream = (uint8_t)pick(m, m->world.count),
                                  .cls = (uint8_t)pick(m, CLASS_COUNT),
                                  .letter = (char)('w' + pick(m, 4)) };
    head.stream = m->burst.stream;
    head.cls = pick(m, 12) ? m->burst.cls : (uint8_t)pick(m, CLASS_COUNT);
    head.letter = pick(m, 12) ? m->burst.letter : (char)('w' + pick(m, 4));
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

/* What the pool has counted for each sink, live, is the sum over all streams: none is forgotten here. */
static void
check_totals(const struct model *m)
{
    for (unsigned i = 0; i < SVMS; i++) {
        unsigned sink = m->svms[i].link.sink;
        struct vmlog_counts sum = { 0 };

        for (unsigned j = 0; j < m->world.count; j++) {
            sum.delivered += m->world.streams[j].sinks[sink].delivered;
            sum.filtered += m->world.streams[j].sinks[sink].filtered;
            sum.gapped += m->world.streams[j].sinks[sink].gapped;
        }
        assert_memory_equal(&m->world.pool.counts[sink], &sum, sizeof(sum));
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
        check_totals(m);
        assert_int_equal(m->world.pool.used, m->world.log.bytes);
    }
    drain(m);
    check_totals(m);
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
    };

    return cmocka_run_group_tests_name("vmlog_model", tests, NULL, NULL);
}
