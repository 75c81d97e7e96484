/* The people of test_store and test_store_model: guests that keep what was not acknowledged, and SVMs that
 * keep what they have and fail the test when the contract is broken.
 */
#ifndef GIMUX_TESTS_STORE_MODEL_H
#define GIMUX_TESTS_STORE_MODEL_H

#include "tests/unit/store/svm_wire.h"

#include "mux/base/log.h"
#include "mux/route/inner.h"
#include "mux/store/store.h"
#include "mux/vmlog/inner.h"

#define SVMS    3u
#define DRIVERS 4u /* two VMs with two each */
#define ITEMS   4096u
#define STREAMS 256u
#define STEPS   600u

/* One record of a driver. */
struct item {
    uint64_t last;
    uint32_t len; /* of the path; 0: the driver has lost these */
};

struct driver {
    struct stream *stream; /* NULL: not connected */
    char vm;
    uint16_t kind;
    unsigned count;
    uint64_t accepted;
    uint64_t filed;   /* of that, while files could be written: else all SVMs have it, and that is enough */
    uint64_t unfiled; /* accepted at a kill, and perhaps in no file: it may be told as a gap to who has it */
    struct item items[ITEMS];
};

/* What an SVM knows of a stream. */
struct memory {
    char vm[GR_UUID_TEXT];
    char boot[GR_UUID_TEXT];
    uint32_t driver;
    uint32_t id;       /* on this connection; 0: not announced */
    uint64_t next;     /* what comes next on it */
    uint64_t position; /* up to here it has all */
    uint64_t half;     /* a former position */
    uint64_t durable;  /* what it has acknowledged */
};

struct svm {
    struct svm_wire wire;
    struct sink *sink;
    struct conf_solution *conf;
    bool up;
    bool names;   /* its positions when it connects; else it drops what comes twice */
    bool dropped; /* its policy was drop once */
    bool late;    /* it has not been there from the beginning */
    unsigned count;
    struct memory memory[STREAMS];
};

struct model {
    struct conf conf;
    struct route *route;
    char dir[64];
    struct driver drivers[DRIVERS];
    struct svm svms[SVMS];
    bool open;      /* a gimuxd runs */
    bool damaging;  /* files may be damaged, disks may fail */
    bool lossy;     /* that was done */
    unsigned phase; /* what happens seldom for a while */
    bool unbacked;  /* not all was written once */
    bool failing;   /* writes fail */
    unsigned kills;
    char path[DELIMITED_FRAME_MAX];
    uint64_t random;
};

static struct model *model;

static uint32_t
pick(uint32_t below)
{
    model->random = model->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(model->random >> 33) % below;
}

static struct storage_snapshot
storage(void)
{
    struct storage_snapshot now;

    store_snapshot(model->route->store, &now);
    return now;
}

/* ---- drivers ---- */

static uint64_t
first_of(const struct driver *driver, unsigned i)
{
    return i > 0 ? driver->items[i - 1].last + 1 : 1;
}

/* The item in which the sequence is. */
static unsigned
item_at(const struct driver *driver, uint64_t sequence)
{
    unsigned from = 0;
    unsigned to = driver->count;

    while (from < to) {
        unsigned middle = (from + to) / 2;

        if (driver->items[middle].last < sequence)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

static bool
is_muted(const struct svm *svm, const struct driver *driver, uint64_t sequence)
{
    return svm->conf->mute.count > 0 && sequence % 5 == 0 && driver->items[item_at(driver, sequence)].len > 0;
}

static void
driver_offer(struct driver *driver)
{
    uint64_t first = driver->stream->log.last + 1;
    unsigned i = item_at(driver, first);
    struct gr_record record = { .type = GR_FILE, .sequence = first };

    if (i == driver->count) {
        struct item *item = &driver->items[i];

        if (driver->count == ITEMS)
            return;
        *item = (struct item){ .last = first, .len = 20 + pick(pick(8) ? 300 : pick(20) ? 8000 : 230000) };
        if (pick(30) == 0) {
            item->len = 0;
            item->last += pick(2) || model->damaging ? pick(20) : UINT32_MAX - 1 - pick(3);
        }
        driver->count++;
    }
    if (driver->items[i].len == 0) {
        route_lost(model->route, driver->stream, driver->items[i].last);
        return;
    }
    record.size = driver->items[i].len + 50;
    memset(model->path, 'x', driver->items[i].len);
    snprintf(model->path, 64, "/%c%c%u.%llu.", first % 5 == 0 ? 'm' : 'k', driver->vm, driver->kind,
             (unsigned long long)first);
    model->path[strlen(model->path)] = 'x';
    record.body.file.op = GR_FILE_OP_OPEN;
    record.body.file.path = (struct gr_text){ (const uint8_t *)model->path, driver->items[i].len };
    route_publish(model->route, driver->stream, &record, NULL);
}

static void
on_accepted(void *guest)
{
    struct driver *driver = guest;

    assert_true(driver->stream->log.accepted <= driver->stream->log.last);
    if (driver->accepted < driver->stream->log.accepted)
        driver->accepted = driver->stream->log.accepted;
    if (driver->stream->about.vm->log.accept.number <= driver->stream->about.vm->log.recorded)
        driver->filed = driver->accepted;
}

static void
driver_connect(struct driver *driver)
{
    struct gr_hello said = { .driver = driver->kind, .first_held = driver->accepted + 1 };
    struct route_hello hello = {
        .hello = &said, .build = "build", .guest_os = "os", .door = "door", .proved = true
    };
    char why[200];

    memset(said.vm_uuid, driver->vm, GR_UUID_SIZE);
    memset(said.boot_id, '1', GR_UUID_SIZE);
    if (route_open(model->route, &hello, driver, &driver->stream, why, sizeof(why)) != 0)
        driver->stream = NULL;
    else
        on_accepted(driver); /* as a session does */
}

static inline void
driver_disconnect(struct driver *driver)
{
    route_close(model->route, driver->stream, false, "reason");
    driver->stream = NULL;
}

static void
on_guest(void *guest)
{
    (void)guest;
}

static void
on_interest(void *guest, uint64_t kinds)
{
    (void)guest;
    (void)kinds;
}

static void
on_replaced(void *guest, const char *why)
{
    (void)guest;
    (void)why;
    fail();
}

static const struct route_guest_ops guest_ops = { .pause = on_guest,
                                                  .resume = on_guest,
                                                  .accepted = on_accepted,
                                                  .interest = on_interest,
                                                  .replaced = on_replaced };

/* ---- SVMs ---- */

static struct driver *
driver_of(const struct memory *memory)
{
    uint8_t uuid[GR_UUID_SIZE];

    assert_true(gr_uuid_parse(memory->vm, uuid));
    for (unsigned i = 0; i < DRIVERS; i++)
        if (model->drivers[i].vm == (char)uuid[0] && model->drivers[i].kind == memory->driver)
            return &model->drivers[i];
    return NULL; /* gimuxd's own events */
}

static struct memory *
memory_by_id(struct svm *svm, uint32_t id)
{
    for (unsigned i = 0; i < svm->count; i++)
        if (svm->memory[i].id == id)
            return &svm->memory[i];
    fail_msg("stream %u was not announced", id);
    return NULL;
}

static void
on_start(struct svm *svm, const Gimux__V1__StreamStart *start)
{
    struct memory *memory = svm->memory;

    while (memory < svm->memory + svm->count &&
           (strcmp(memory->vm, start->vm_uuid) != 0 || strcmp(memory->boot, start->boot_id) != 0 ||
            memory->driver != (uint32_t)start->driver))
        memory++;
    if (memory == svm->memory + svm->count) {
        assert_true(svm->count < STREAMS);
        memset(memory, 0, sizeof(*memory));
        snprintf(memory->vm, sizeof(memory->vm), "%s", start->vm_uuid);
        snprintf(memory->boot, sizeof(memory->boot), "%s", start->boot_id);
        memory->driver = (uint32_t)start->driver;
        if (svm->late || model->unbacked || memory->driver == VM_DRIVER_GIMUXD)
            memory->position = memory->durable = start->first_sequence - 1;
        svm->count++;
    }
    memory->id = start->stream;
    memory->next = start->first_sequence;
}

/* The SVM has now heard of everything up to `last`. */
static void
learn(struct svm *svm, struct memory *memory, uint64_t first, uint64_t last)
{
    const struct driver *driver = driver_of(memory);

    if (memory->next == 0 || first < memory->next || last < first)
        fail_msg("order: %s driver %u: %llu-%llu, expected %llu", svm->conf->name, memory->driver,
                 (unsigned long long)first, (unsigned long long)last, (unsigned long long)memory->next);
    for (uint64_t sequence = memory->next; sequence < first; sequence++)
        if (sequence > memory->position) {
            if (!driver || !is_muted(svm, driver, sequence))
                fail_msg("silent: %s driver %u: %llu is missing before %llu (has %llu)", svm->conf->name,
                         memory->driver, (unsigned long long)sequence, (unsigned long long)first,
                         (unsigned long long)memory->position);
        }
    if (svm->names && last <= memory->position)
        fail_msg("twice: %s driver %u: %llu-%llu, has %llu", svm->conf->name, memory->driver,
                 (unsigned long long)first, (unsigned long long)last, (unsigned long long)memory->position);
    memory->next = last + 1;
    if (memory->position < last) {
        if (pick(3) == 0)
            memory->half = memory->position;
        memory->position = last;
    }
}

static void
on_event(struct svm *svm, const Gimux__V1__Event *event)
{
    struct memory *memory = memory_by_id(svm, event->stream);
    const struct driver *driver = driver_of(memory);
    char expected[64];

    learn(svm, memory, event->sequence, event->sequence);
    if (!driver)
        return;
    snprintf(expected, sizeof(expected), "/%c%c%u.%llu.", event->sequence % 5 == 0 ? 'm' : 'k', driver->vm,
             driver->kind, (unsigned long long)event->sequence);
    assert_int_equal(event->detail_case, GIMUX__V1__EVENT__DETAIL_FILE);
    assert_memory_equal(event->file->path, expected,
                        strlen(expected) < driver->items[item_at(driver, event->sequence)].len
                            ? strlen(expected)
                            : driver->items[item_at(driver, event->sequence)].len);
    assert_int_equal(strlen(event->file->path), driver->items[item_at(driver, event->sequence)].len);
}

static bool
is_lost(const struct driver *driver, uint64_t first, uint64_t last)
{
    for (unsigned i = item_at(driver, first); i < driver->count && first_of(driver, i) <= last; i++)
        if (driver->items[i].len > 0)
            return false;
    return true;
}

static void
on_gap(struct svm *svm, const Gimux__V1__Gap *gap)
{
    struct memory *memory = memory_by_id(svm, gap->stream);
    const struct driver *driver = driver_of(memory);
    bool fair = model->lossy ||
                (driver && gap->last_sequence <= driver->unfiled && gap->last_sequence <= memory->position);

    if (gap->reason == GIMUX__V1__GAP_REASON__GAP_REASON_OVERFLOW)
        fair = fair || svm->dropped;
    else if (gap->reason == GIMUX__V1__GAP_REASON__GAP_REASON_DRIVER)
        fair =
            fair || model->unbacked || (driver && is_lost(driver, gap->first_sequence, gap->last_sequence));
    else
        fair = fair || svm->late || svm->dropped || model->unbacked || !driver;
    if (!fair)
        fail_msg("gap: %s driver %u: %llu-%llu reason %d (has %llu)", svm->conf->name, memory->driver,
                 (unsigned long long)gap->first_sequence, (unsigned long long)gap->last_sequence,
                 (int)gap->reason, (unsigned long long)memory->position);
    /* What is missing in a file is one gap for all, which an SVM may have the beginning of. */
    learn(svm, memory,
          model->lossy && gap->first_sequence < memory->next ? memory->next : gap->first_sequence,
          gap->last_sequence);
}

static void
svm_read(struct svm *svm, unsigned frames)
{
    Gimux__V1__Frame *frame;
    size_t at = 0;

    while (frames-- > 0 && (frame = wire_frame(&svm->wire, &at))) {
        if (frame->body_case == GIMUX__V1__FRAME__BODY_STREAM_START)
            on_start(svm, frame->stream_start);
        else if (frame->body_case == GIMUX__V1__FRAME__BODY_EVENT)
            on_event(svm, frame->event);
        else if (frame->body_case == GIMUX__V1__FRAME__BODY_GAP)
            on_gap(svm, frame->gap);
        gimux__v1__frame__free_unpacked(frame, NULL);
    }
    wire_drop(&svm->wire, at);
}

static void
svm_pump(struct svm *svm, size_t max_bytes)
{
    struct iovec iov[64];
    struct vmlog_batch batch = { .iov = iov, .max = 1 + (int)pick(64) };
    struct iovec rest;
    size_t taken;
    size_t left;

    if (!svm->up || !svm->wire.woken || svm->wire.len > WIRE / 2)
        return;
    sink_gather(svm->sink, &batch, max_bytes);
    if (batch.count == 0) {
        svm->wire.woken = false;
        return;
    }
    left = taken = pick(3) ? batch.bytes : pick((uint32_t)batch.bytes + 1);
    for (int i = 0; i < batch.count; i++) {
        size_t len = iov[i].iov_len < left ? iov[i].iov_len : left;

        wire_put(&svm->wire, iov[i].iov_base, len);
        left -= len;
    }
    sink_sent(svm->sink, taken, &rest);
    if (rest.iov_len > 0)
        wire_put(&svm->wire, rest.iov_base, rest.iov_len);
}

static void
svm_ack(struct svm *svm, bool all)
{
    for (unsigned i = 0; i < svm->count; i++) {
        struct memory *memory = &svm->memory[i];
        uint64_t sequence =
            all || pick(2) || memory->half <= memory->durable ? memory->position : memory->half;

        if (memory->id == 0 || memory->next == 0 || (!all && pick(3) == 0))
            continue;
        if (memory->durable < sequence)
            memory->durable = sequence;
        sequence = memory->durable < memory->next ? memory->durable : memory->next - 1;
        assert_true(route_ack(model->route, svm->sink, memory->id, sequence));
    }
}

static void
svm_disconnect(struct svm *svm)
{
    if (svm->up && model->open)
        route_sink_down(model->route, svm->sink);
    svm->up = svm->wire.woken = false;
    svm->wire.len = 0;
    for (unsigned i = 0; i < svm->count; i++) {
        struct memory *memory = &svm->memory[i];

        memory->id = 0;
        memory->next = 0;
    }
    if (pick(4) > 0)
        return;
    for (unsigned i = 0; i < svm->count; i++) /* it has crashed */
        svm->memory[i].position = svm->memory[i].durable;
}

static void
svm_connect(struct svm *svm)
{
    Gimux__V1__SvmHello *hello = gimux__v1__svm_hello__unpack(NULL, 0, (const uint8_t *)"");

    assert_non_null(hello);
    if (svm->names && svm->count > 0) {
        hello->positions = calloc(svm->count, sizeof(*hello->positions));
        for (unsigned i = 0; i < svm->count; i++) {
            Gimux__V1__StreamPosition *position = malloc(sizeof(*position));

            assert_true(hello->positions && position);
            gimux__v1__stream_position__init(position);
            svm->memory[i].durable = svm->memory[i].position;
            position->vm_uuid = strdup(svm->memory[i].vm);
            position->boot_id = strdup(svm->memory[i].boot);
            position->driver = (Gimux__V1__Driver)svm->memory[i].driver;
            position->last_sequence = svm->memory[i].position;
            hello->positions[hello->n_positions++] = position;
        }
    }
    svm->up = true;
    assert_null(route_sink_up(model->route, svm->sink, hello));
}

/* ---- gimuxd ---- */

static void
add_solution(struct svm *svm)
{
    assert_non_null(svm->sink = route_add_sink(model->route, svm->conf, &sink_ops, svm));
    svm->dropped |= svm->conf->policy == CONF_POLICY_DROP;
}

/* It was killed. What is done here reaches no file. */
static void
close_gimuxd(void)
{
    io.dead = true;
    model->open = false;
    disk_finish(the_disk);
    route_free(model->route);
    for (unsigned i = 0; i < model->conf.solution_count; i++) {
        svm_disconnect(&model->svms[i]);
        sink_clear_hello(model->svms[i].sink);
        free(model->svms[i].sink);
    }
    for (unsigned i = 0; i < DRIVERS; i++) {
        struct driver *driver = &model->drivers[i];

        driver->stream = NULL;
        if (driver->filed < driver->accepted)
            driver->unfiled = driver->accepted;
    }
}

#endif
