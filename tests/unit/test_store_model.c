/* The store: a model with guests that keep what was not acknowledged, SVMs that keep what they have, and a
 * gimuxd that is killed in the middle of any call; does anything in any order, and counts.
 *
 * STORE_SEED=n runs it with that seed alone, STORE_SEEDS=n with the seeds 1 to n; STORE_FROM=n begins there.
 */
#include "tests/unit/store_world.h"

#include "mux/log.h"
#include "mux/route.h"
#include "proto/delimited.h"

#define SVMS    3u
#define DRIVERS 4u /* two VMs with two each */
#define ITEMS   4096u
#define STREAMS 256u
#define STEPS   600u
#define WIRE    ((size_t)8 * 1024 * 1024)

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
    struct sink sink;
    struct conf_solution *conf;
    bool up;
    bool woken;
    bool names;   /* its positions when it connects; else it drops what comes twice */
    bool dropped; /* its policy was drop once */
    bool late;    /* it has not been there from the beginning */
    unsigned count;
    struct memory memory[STREAMS];
    size_t wire_len;
    uint8_t wire[WIRE];
};

struct model {
    struct conf conf;
    struct route route;
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
        route_lost(&model->route, driver->stream, driver->items[i].last);
        return;
    }
    record.size = driver->items[i].len + 50;
    memset(model->path, 'x', driver->items[i].len);
    snprintf(model->path, 64, "/%c%c%u.%llu.", first % 5 == 0 ? 'm' : 'k', driver->vm, driver->kind,
             (unsigned long long)first);
    model->path[strlen(model->path)] = 'x';
    record.body.file.op = GR_FILE_OP_OPEN;
    record.body.file.path = (struct gr_text){ (const uint8_t *)model->path, driver->items[i].len };
    route_publish(&model->route, driver->stream, &record, NULL);
}

static void
on_accepted(void *guest)
{
    struct driver *driver = guest;

    assert_true(driver->stream->log.accepted <= driver->stream->log.last);
    if (driver->accepted < driver->stream->log.accepted)
        driver->accepted = driver->stream->log.accepted;
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
    if (route_open(&model->route, &hello, driver, &driver->stream, why, sizeof(why)) != 0)
        driver->stream = NULL;
    else
        on_accepted(driver); /* as a session does */
}

static void
driver_disconnect(struct driver *driver)
{
    route_close(&model->route, driver->stream, false, "reason");
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
    bool fair = model->lossy;

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
    size_t at = 0;

    while (frames-- > 0) {
        const uint8_t *body;
        size_t len;
        Gimux__V1__Frame *frame;

        if (delimited_next(svm->wire + at, svm->wire_len - at, DELIMITED_FRAME_MAX, &body, &len) !=
            DELIMITED_FRAME)
            break;
        frame = gimux__v1__frame__unpack(NULL, len, body);
        assert_non_null(frame);
        if (frame->body_case == GIMUX__V1__FRAME__BODY_STREAM_START)
            on_start(svm, frame->stream_start);
        else if (frame->body_case == GIMUX__V1__FRAME__BODY_EVENT)
            on_event(svm, frame->event);
        else if (frame->body_case == GIMUX__V1__FRAME__BODY_GAP)
            on_gap(svm, frame->gap);
        gimux__v1__frame__free_unpacked(frame, NULL);
        at = (size_t)(body + len - svm->wire);
    }
    memmove(svm->wire, svm->wire + at, svm->wire_len - at);
    svm->wire_len -= at;
}

static void
svm_take(struct svm *svm, const void *data, size_t len)
{
    assert_true(svm->wire_len + len <= WIRE);
    memcpy(svm->wire + svm->wire_len, data, len);
    svm->wire_len += len;
}

static void
on_tell(void *arg, const Gimux__V1__Frame *frame)
{
    uint8_t packed[1000];
    size_t body = gimux__v1__frame__get_packed_size(frame);
    size_t prefix = delimited_put_prefix(packed, body);

    assert_true(prefix + body <= sizeof(packed));
    gimux__v1__frame__pack(frame, packed + prefix);
    svm_take(arg, packed, prefix + body);
}

static void
on_wake(void *arg)
{
    ((struct svm *)arg)->woken = true;
}

static const struct sink_ops sink_ops = { .tell = on_tell, .wake = on_wake };

static void
svm_pump(struct svm *svm, size_t max_bytes)
{
    struct iovec iov[64];
    struct vmlog_batch batch = { .iov = iov, .max = 1 + (int)pick(64) };
    struct iovec rest;
    size_t taken;
    size_t left;

    if (!svm->up || !svm->woken || svm->wire_len > WIRE / 2)
        return;
    sink_gather(&svm->sink, &batch, max_bytes);
    if (batch.count == 0) {
        svm->woken = false;
        return;
    }
    left = taken = pick(3) ? batch.bytes : pick((uint32_t)batch.bytes + 1);
    for (int i = 0; i < batch.count; i++) {
        size_t len = iov[i].iov_len < left ? iov[i].iov_len : left;

        svm_take(svm, iov[i].iov_base, len);
        left -= len;
    }
    sink_sent(&svm->sink, taken, &rest);
    if (rest.iov_len > 0)
        svm_take(svm, rest.iov_base, rest.iov_len);
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
        assert_true(route_ack(&model->route, &svm->sink, memory->id, sequence));
    }
}

static void
svm_disconnect(struct svm *svm)
{
    if (svm->up && model->open)
        route_sink_down(&model->route, &svm->sink);
    svm->up = svm->woken = false;
    svm->wire_len = 0;
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
    assert_null(route_sink_up(&model->route, &svm->sink, hello));
}

/* ---- gimuxd ---- */

static void
add_solution(struct svm *svm)
{
    assert_true(route_add_sink(&model->route, &svm->sink, svm->conf, &sink_ops, svm));
    svm->dropped |= svm->conf->policy == CONF_POLICY_DROP;
}

/* Policies and durabilities that a configuration may have. */
static void
configure(void)
{
    struct conf *conf = &model->conf;
    bool files = false;

    for (unsigned i = 0; i < SVMS; i++) {
        conf->solutions[i].durability = pick(3) ? CONF_PROCESS : pick(2) ? CONF_DISK : CONF_DELIVERED;
        conf->solutions[i].policy = pick(4)   ? CONF_POLICY_SPILL
                                    : pick(2) ? CONF_POLICY_PAUSE
                                              : CONF_POLICY_DROP;
        if (conf->solutions[i].durability == CONF_DELIVERED && conf->solutions[i].policy == CONF_POLICY_SPILL)
            conf->solutions[i].policy = CONF_POLICY_PAUSE;
        files |= conf->solutions[i].durability != CONF_DELIVERED;
        model->svms[i].dropped |= conf->solutions[i].policy == CONF_POLICY_DROP;
    }
    if (!files && pick(4) > 0)
        conf->solutions[0].durability = CONF_PROCESS;
    else if (!files)
        model->unbacked = true;
}

/* What was accepted is there after a restart. */
static void
check_taken_up(const struct driver *driver)
{
    uint8_t uuid[GR_UUID_SIZE];
    uint8_t boot[GR_UUID_SIZE];
    const struct vm *vm;
    const struct stream *stream;

    memset(uuid, driver->vm, sizeof(uuid));
    memset(boot, '1', sizeof(boot));
    vm = vm_find(&model->route.table, uuid);
    stream = vm ? vm_stream_find(vm, driver->kind, boot) : NULL;
    if (driver->accepted > 0 && !model->lossy && !model->unbacked) {
        assert_non_null(stream);
        if (stream->log.last < driver->accepted)
            fail_msg("lost: %c%u: accepted %llu, taken up %llu", driver->vm, driver->kind,
                     (unsigned long long)driver->accepted, (unsigned long long)stream->log.last);
    }
    if (stream && driver->count > 0)
        assert_true(stream->log.last <= driver->items[driver->count - 1].last);
}

static void
check_files(void)
{
    uint64_t bytes = 0;
    unsigned count = each_file(model->dir, add_size, &bytes);

    if (io.dead || model->lossy || model->failing || !STAILQ_EMPTY(&the_disk->jobs))
        return;
    assert_int_equal(count, store_segments(model->route.store));
    assert_int_equal(bytes, store_bytes(model->route.store));
}

static void
open_gimuxd(void)
{
    memset(&io, 0, sizeof(io));
    model->failing = false;
    route_init(&model->route, &the_loop, &model->conf, &guest_ops);
    assert_true(route_recover(&model->route));
    for (unsigned i = 0; i < SVMS; i++)
        add_solution(&model->svms[i]);
    route_recovered(&model->route);
    model->open = true;
    for (unsigned i = 0; i < DRIVERS; i++)
        check_taken_up(&model->drivers[i]);
    check_files();
}

/* It was killed. What is done here reaches no file. */
static void
close_gimuxd(void)
{
    io.dead = true;
    model->open = false;
    disk_finish(the_disk);
    route_fini(&model->route);
    for (unsigned i = 0; i < SVMS; i++) {
        svm_disconnect(&model->svms[i]);
        sink_fini(&model->svms[i].sink);
    }
    for (unsigned i = 0; i < DRIVERS; i++)
        model->drivers[i].stream = NULL;
}

static void
flip_bits(void *arg, const char *path, const struct stat *info)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;

    (void)arg;
    assert_true(fd >= 0);
    for (unsigned i = pick(4); i > 0 && info->st_size > 0; i--) {
        off_t at = (off_t)pick((uint32_t)info->st_size);

        assert_int_equal(syscall(SYS_pread64, fd, &byte, 1, at), 1);
        byte ^= (uint8_t)(1u << pick(8));
        assert_int_equal(syscall(SYS_pwrite64, fd, &byte, 1, at), 1);
    }
    if (pick(8) == 0)
        assert_int_equal(ftruncate(fd, (off_t)pick((uint32_t)info->st_size + 1)), 0);
    close(fd);
    if (pick(16) == 0)
        remove(path);
}

static void
restart(bool damaging)
{
    model->kills++;
    close_gimuxd();
    if (damaging && pick(3) == 0) {
        each_file(model->dir, flip_bits, NULL);
        model->lossy = true;
    }
    if (pick(3) == 0)
        configure();
    open_gimuxd();
}

/* ---- the model ---- */

static void
check_bounds(void)
{
    const struct conf *conf = &model->conf;
    size_t share = conf->solution_count * store_load_share(conf);
    size_t slack = conf->solution_count * (DELIMITED_FRAME_MAX + VMLOG_LARGE_CHUNK);
    size_t in_batch = (size_t)2 * SEGMENT_SIZE;

    assert_true(model->route.pool.used <= model->route.pool.limit + model->route.pool.own + share + slack);
    assert_true(store_bytes(model->route.store) <= conf->storage.total + in_batch);
    for (const struct vm *vm = model->route.table.vms; vm; vm = vm->hh.next) {
        vmlog_check(&vm->log);
        assert_true(store_vm_bytes(vm) <= conf->storage.vm + in_batch);
    }
}

static void
fail_disk(void)
{
    static const int errors[] = { ENOSPC, EIO };

    model->failing = true;
    model->lossy |= pick(4) == 0;
    if (!model->lossy) { /* but for reading, and a full disk, all will be well */
        io.write_error = EIO;
        io.room = pick(30000);
    } else if (pick(3) == 0) {
        io.sync_error = EIO;
    } else if (pick(2)) {
        io.write_error = errors[pick(2)];
        io.room = pick(30000);
    } else {
        io.read_error = EIO;
    }
}

static void
change_sink(struct svm *svm)
{
    svm_disconnect(svm);
    route_remove_sink(&model->route, &svm->sink);
    svm->late = true;
    svm->count = 0;
    add_solution(svm);
}

static void
rare_step(unsigned seed)
{
    struct svm *svm = &model->svms[pick(SVMS)];
    uint32_t what = pick(20);

    if (what < 8) {
        io.die_in = 1 + pick(6);
        io.torn = pick(2) ? pick(200000) : pick(1000);
    } else if (what < 10) {
        restart(model->damaging);
    } else if (what == 10) {
        route_finish(&model->route);
        check_files();
        restart(false);
    } else if (what == 11 && seed % 5 == 2) {
        change_sink(svm);
    } else if (what == 12) {
        configure();
        route_set_conf(&model->route, &model->conf);
    } else if (what < 15 && model->damaging) {
        fail_disk();
    } else if (what < 18) {
        io.write_error = io.read_error = io.sync_error = 0;
    }
}

static void
model_step(unsigned seed)
{
    struct svm *svm = &model->svms[pick(SVMS)];
    struct driver *driver = &model->drivers[pick(DRIVERS)];
    uint32_t what = pick(1000);

    if (pick(60) == 0)
        model->phase = pick(5);
    if ((model->phase == 1 && what >= 720 && what < 830) || (model->phase == 2 && what >= 360 && what < 720))
        what = pick(300);
    if (what < 300 && driver->stream && !driver->stream->vm->paused)
        for (unsigned i = pick(pick(3) ? 4 : 60); i > 0 && !driver->stream->vm->paused; i--)
            driver_offer(driver);
    else if (what < 340)
        driver->stream ? pick(8) ? (void)0 : driver_disconnect(driver) : driver_connect(driver);
    else if (what < 360)
        svm->up ? pick(4) ? (void)0 : svm_disconnect(svm) : svm_connect(svm);
    else if (what < 560)
        svm_pump(svm, 1 + pick(300000));
    else if (what < 650)
        svm_read(svm, pick(200));
    else if (what < 720 && svm->up)
        svm_ack(svm, false);
    else if (what < 830)
        disk_do_one();
    else if (what < 940)
        loop_flush(&the_loop);
    else if (what < 970)
        tick();
    else if (what < 985)
        rare_step(seed);
    if (io.dead)
        restart(model->damaging);
    check_bounds();
}

static bool
is_settled(void)
{
    for (unsigned i = 0; i < DRIVERS; i++) {
        const struct driver *driver = &model->drivers[i];
        uint64_t last = driver->count > 0 ? driver->items[driver->count - 1].last : 0;

        if (driver->stream->log.last < last || driver->accepted < last)
            return false;
        for (unsigned j = 0; j < SVMS; j++)
            if (driver->stream->log.sinks[model->svms[j].sink.slot].settled < last)
                return false;
    }
    return model->route.pool.used == 0 && STAILQ_EMPTY(&the_disk->jobs);
}

static void
say_stuck(void)
{
    for (unsigned i = 0; i < DRIVERS; i++) {
        const struct driver *driver = &model->drivers[i];

        print_message("%c%u: %llu made, %llu accepted, %llu last of %u\n", driver->vm, driver->kind,
                      (unsigned long long)(driver->count ? driver->items[driver->count - 1].last : 0),
                      (unsigned long long)driver->accepted, (unsigned long long)driver->stream->log.last,
                      driver->stream->log.id);
        for (unsigned j = 0; j < SVMS; j++)
            print_message("  svm%u policy %d: settled %llu acked %llu, gap %llu-%llu; starving %d\n", j,
                          model->svms[j].conf->policy,
                          (unsigned long long)driver->stream->log.sinks[model->svms[j].sink.slot].settled,
                          (unsigned long long)driver->stream->log.sinks[model->svms[j].sink.slot].acked,
                          (unsigned long long)driver->stream->log.sinks[model->svms[j].sink.slot].gap_first,
                          (unsigned long long)driver->stream->log.sinks[model->svms[j].sink.slot].gap_last,
                          model->svms[j].sink.starving);
    }
    for (struct vm *vm = model->route.table.vms; vm; vm = vm->hh.next)
        for (unsigned j = 0; j < SVMS; j++) {
            const struct sink *sink = &model->svms[j].sink;
            const struct vmlog_cursor *cursor = &vm->log.cursors[sink->slot];
            const struct vmlog_chunk *stub = vmlog_next_stub(&vm->log, sink->slot);

            print_message(
                "%c svm%u: ack %llu sent %llu of %llu; gap %llu, open %u, untold %u; span %zu of %llu; "
                "loaded %zu; stub %d loading %d; active %d starving %d\n",
                vm->uuid[0], j, (unsigned long long)cursor->ack.number,
                (unsigned long long)cursor->sent.number, (unsigned long long)vm->log.next_number,
                (unsigned long long)cursor->gap_number, cursor->gaps_open, cursor->gaps_untold, cursor->span,
                (unsigned long long)sink->window, model->route.pool.loaded[sink->slot], stub != NULL,
                stub && stub->loading, vm->turns[sink->slot].active, vm->turns[sink->slot].starving);
        }
    fail_msg("it does not come to rest: %zu bytes", model->route.pool.used);
}

/* All is well again, and everybody does what is to be done. */
static void
drain(void)
{
    unsigned rounds = 0;

    memset(&io, 0, sizeof(io));
    for (unsigned i = 0; i < DRIVERS || !is_settled(); i++) {
        struct driver *driver = &model->drivers[i % DRIVERS];
        struct svm *svm = &model->svms[i % SVMS];

        if (++rounds == 200000)
            say_stuck();
        if (!driver->stream)
            driver_connect(driver);
        for (unsigned k = 0; k < 50 && driver->stream && !driver->stream->vm->paused && driver->count > 0 &&
                             driver->stream->log.last < driver->items[driver->count - 1].last;
             k++)
            driver_offer(driver);
        if (!svm->up)
            svm_connect(svm);
        svm_pump(svm, SIZE_MAX / 2);
        svm_read(svm, UINT32_MAX);
        svm_ack(svm, true);
        loop_flush(&the_loop);
        if (!disk_do_one())
            tick();
        check_bounds();
    }
    while (tick() || disk_do_one() || the_loop.tasks)
        loop_flush(&the_loop);
}

/* Sum of the parts equals the whole. */
static void
check_sums(const struct svm *svm)
{
    for (unsigned i = 0; i < svm->count; i++) {
        const struct memory *memory = &svm->memory[i];
        const struct driver *driver = driver_of(memory);

        if (!driver)
            continue;
        for (uint64_t sequence = memory->position + 1; sequence <= driver->stream->log.last; sequence++)
            assert_true(is_muted(svm, driver, sequence));
    }
    for (unsigned i = 0; i < DRIVERS && !svm->late && !model->lossy && !model->unbacked; i++) {
        const struct stream *stream = model->drivers[i].stream;
        const struct vmlog_progress *progress = &stream->log.sinks[svm->sink.slot];

        if (progress->delivered + progress->filtered + progress->gapped != stream->log.last)
            fail_msg("sum: %s %c%u: %llu delivered, %llu filtered, %llu gapped of %llu", svm->conf->name,
                     model->drivers[i].vm, model->drivers[i].kind, (unsigned long long)progress->delivered,
                     (unsigned long long)progress->filtered, (unsigned long long)progress->gapped,
                     (unsigned long long)stream->log.last);
    }
}

static void
check_small(void *arg, const char *path, const struct stat *info)
{
    (void)arg;
    if (info->st_size > (off_t)SEGMENT_SIZE / 2)
        fail_msg("%s: %ld bytes, and nobody needs them", path, (long)info->st_size);
}

static void
begin(unsigned seed)
{
    static char mute[] = "/m";
    struct conf *conf = &model->conf;

    memset(model, 0, sizeof(*model));
    model->random = seed * UINT64_C(2654435761);
    model->damaging = seed % 4 >= 2;
    make_dir(model->dir);
    snprintf(conf->storage.dir, sizeof(conf->storage.dir), "%s", model->dir);
    conf->storage.vm = pick(2) ? (uint64_t)64 << 20 : (uint64_t)(4 + pick(4)) << 20;
    conf->storage.total = pick(2) ? (uint64_t)1 << 30 : (uint64_t)(6 + pick(4)) << 20;
    conf->limits.memory = (uint64_t)(pick(2) ? 16 : 48) << 20;
    conf->limits.vm_log = (uint64_t)(pick(2) ? 256 : 2048) << 10;
    conf->limits.vm_window = (uint64_t)(pick(2) ? 64 : 4096) << 10;
    conf->limits.vms = 4;
    conf->limits.connections = 10;
    conf->solution_count = SVMS;
    for (unsigned i = 0; i < SVMS; i++) {
        model->svms[i].conf = &conf->solutions[i];
        model->svms[i].names = pick(2);
        conf->solutions[i].class_mask = CLASS_MASK_ALL;
        snprintf(conf->solutions[i].name, sizeof(conf->solutions[i].name), "svm%u", i);
    }
    if (pick(2)) {
        conf->solutions[1].mute.count = 1;
        conf->solutions[1].mute.texts[0] = mute;
    }
    for (unsigned i = 0; i < DRIVERS; i++) {
        model->drivers[i].vm = i < 2 ? 'a' : 'b';
        model->drivers[i].kind = i % 2 ? GR_LINUX : GR_VMX;
    }
    configure();
    open_gimuxd();
}

static void
run_model(unsigned seed)
{
    print_message("model: seed %u\n", seed);
    begin(seed);
    for (unsigned step = 0; step < STEPS; step++)
        model_step(seed);
    drain();
    for (unsigned i = 0; i < SVMS; i++)
        check_sums(&model->svms[i]);
    check_files();
    assert_true(each_file(model->dir, check_small, NULL) <= 2);
    close_gimuxd();
    remove_dir(model->dir);
}

static void
test_model(void **state)
{
    const char *one = getenv("STORE_SEED");
    const char *many = getenv("STORE_SEEDS");
    const char *from = getenv("STORE_FROM");
    unsigned first = one ? (unsigned)strtoul(one, NULL, 10) : from ? (unsigned)strtoul(from, NULL, 10) : 1;
    unsigned last = one ? first : many ? (unsigned)strtoul(many, NULL, 10) : 19;

    (void)state;
    model = malloc(sizeof(*model));
    assert_non_null(model);
    log_setup(false, getenv("STORE_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
    for (unsigned seed = first; seed <= last; seed++)
        run_model(seed);
    free(model);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
    };

    return cmocka_run_group_tests_name("store_model", tests, NULL, NULL);
}
