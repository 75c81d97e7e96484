/* Fuzzes recovery: whatever stands in the directory, gimuxd takes up what it can and serves it, and every SVM
 * is told of every sequence of a stream once, from where it was: as an event or in a gap.
 *
 * The input is a program: who the solutions are, then segment files of one or two VMs, made of records whose
 * checksums are right and whose fields may lie, and damage; then what goes wrong while they are served.
 * RECOVER_LOG=1 in the environment shows what gimuxd logs. */
#include "tests/unit/store_world.h"

#include <assert.h>

#include "mux/log.h"
#include "mux/normalize.h"
#include "mux/route.h"
#include "proto/delimited.h"

#define SVMS    2u
#define VMS     2u
#define SOURCES 4u /* streams of one VM that files are about */
#define MEMORY  64u
#define ROOM    ((size_t)64 * 1024)
#define NAMES   3u
#define HIGHEST (UINT64_C(1) << 36) /* sequence that a file is about */

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One stream as files are made of it. */
struct source {
    uint16_t driver;
    uint8_t boot;
    uint32_t id;
    uint64_t next;
};

/* What an SVM was told of a stream on this connection. */
struct memory {
    uint32_t id;
    uint64_t next;
};

struct svm {
    struct sink sink;
    bool woken;
    bool picky; /* does not want one class */
    unsigned count;
    struct memory memory[MEMORY];
    size_t wire_len;
    uint8_t wire[4 * 1024 * 1024];
};

static const char *const names[NAMES] = { "one", "two", "three" };
static const uint16_t drivers[] = { GR_VSEPFLT, GR_LINUX, VM_DRIVER_GIMUXD, VM_DRIVER_GIMUXD };

static const uint8_t *input;
static size_t left;
static char dir[64];
static struct conf conf;
static struct route route;
static struct svm svms[SVMS];
static struct source sources[VMS][SOURCES];
static uint8_t file[ROOM];
static size_t len;

/* ---- what is not linked ---- */

struct normalized *__real_normalized_new(void);
struct normalized *__wrap_normalized_new(void);
void __wrap_normalized_free(struct normalized *event);

void
log_line(enum log_level level, const struct log_who *who, const char *format, ...)
{
    char text[1000];
    va_list args;

    (void)level;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (getenv("RECOVER_LOG"))
        fprintf(stderr, "%s %s\n", who && who->vm ? who->vm : "-", text);
}

/* 900 KiB that every run would zero. */
struct normalized *
__wrap_normalized_new(void)
{
    static struct normalized *event;

    if (!event)
        event = __real_normalized_new();
    return event;
}

void
__wrap_normalized_free(struct normalized *event)
{
    (void)event;
}

/* ---- the input ---- */

static uint8_t
u8(void)
{
    return left > 0 ? (left--, *input++) : 0;
}

static uint32_t
u16(void)
{
    uint32_t high = u8();

    return high << 8 | u8();
}

/* A number below HIGHEST, small more often than not. */
static uint64_t
number(void)
{
    uint64_t value = 0;

    for (uint8_t bytes = u8() % 6; bytes > 0; bytes--)
        value = value << 8 | u8();
    return value % HIGHEST;
}

/* ---- files ---- */

static void
put_event(struct segment_frame *frame, uint8_t *out, uint64_t first)
{
    Gimux__V1__Frame message = GIMUX__V1__FRAME__INIT;
    Gimux__V1__Event event = GIMUX__V1__EVENT__INIT;
    Gimux__V1__Gap gap = GIMUX__V1__GAP__INIT;
    size_t body;
    size_t prefix;

    event.stream = gap.stream = frame->id;
    event.sequence = gap.last_sequence = frame->sequence;
    gap.first_sequence = first;
    gap.reason = GIMUX__V1__GAP_REASON__GAP_REASON_DRIVER;
    message.body_case = frame->cls == VMLOG_GAP ? GIMUX__V1__FRAME__BODY_GAP : GIMUX__V1__FRAME__BODY_EVENT;
    if (frame->cls == VMLOG_GAP)
        message.gap = &gap;
    else
        message.event = &event;
    body = gimux__v1__frame__get_packed_size(&message);
    prefix = delimited_put_prefix(out, body);
    gimux__v1__frame__pack(&message, out + prefix);
    frame->data = out;
    frame->len = (uint32_t)(prefix + body);
}

static void
write_frame(uint64_t seed, struct source *source)
{
    struct segment_frame frame = { .driver = source->driver, .id = source->id, .count = 1 };
    uint8_t packed[128];
    uint8_t how = u8();

    memset(frame.boot_id, source->boot, sizeof(frame.boot_id));
    frame.cls = how % CLASS_COUNT;
    if (how >= 224) {
        frame.cls = VMLOG_GAP;
        frame.count = 1 + (uint32_t)number();
        if (frame.count == 0)
            frame.count = 1;
    } else if (how >= 208) {
        source->next = 1 + number(); /* something is missing, or comes twice */
    } else if (how >= 200) {
        frame.id = 1 + u8() % 16;
    }
    frame.record_bytes = u8() * 100u;
    frame.sequence = source->next + frame.count - 1;
    put_event(&frame, packed, source->next);
    source->next = frame.sequence < HIGHEST ? frame.sequence + 1 : 1;
    len += segment_put_frame(file + len, seed, len, &frame);
}

static void
write_stream(uint64_t seed, const struct source *source)
{
    struct segment_stream stream = { .driver = source->driver, .id = source->id, .start = 1 };
    uint8_t how = u8();

    memset(stream.boot_id, source->boot, sizeof(stream.boot_id));
    stream.last = source->next - 1;
    stream.ended = how & 1;
    if (how >= 128)
        stream.start = how >= 192 ? 1 + number() : source->next;
    if (how % 8 == 7)
        stream.last = stream.start - 1 + number();
    if (stream.last < stream.start - 1)
        stream.last = stream.start - 1;
    if (how % 64 == 5)
        stream.id = 1 + u8() % 16;
    len += segment_put_stream(file + len, seed, len, &stream);
}

static void
write_position(uint64_t seed, const struct source *source)
{
    struct segment_position position = { .driver = source->driver };
    uint8_t how = u8();

    memset(position.boot_id, source->boot, sizeof(position.boot_id));
    snprintf(position.solution, sizeof(position.solution), "%s", names[how % NAMES]);
    position.settled = number();
    if (how < 192 && position.settled >= source->next)
        position.settled = source->next - 1;
    position.acked = position.settled + (how & 16 ? number() : 0);
    position.delivered = position.settled;
    if (how & 32) {
        position.delivered = number();
        position.filtered = number();
        position.gapped = number();
    }
    len += segment_put_position(file + len, seed, len, &position);
}

static void
write_records(uint64_t seed, unsigned vm)
{
    while (left > 0 && len + 1024 < ROOM) {
        uint8_t what = u8();
        struct source *source = &sources[vm][what / 8 % SOURCES];

        switch (what % 8) {
        case 0:
            return;
        case 1:
            write_stream(seed, source);
            break;
        case 2:
            write_position(seed, source);
            break;
        case 3:
            len += segment_put_mark(file + len, seed, len);
            break;
        case 4:
            if (what >= 128) { /* another life of gimuxd's, or of the guest */
                source->boot = what / 32;
                source->id = 1 + u8() % 16;
                source->next = 1;
            }
            break;
        default:
            for (unsigned i = 1 + what / 64 * 5; i > 0 && len + 1024 < ROOM; i--)
                write_frame(seed, source);
            break;
        }
    }
}

static void
damage_bytes(uint8_t how)
{
    size_t at = u16() % len;
    size_t to = at + u16() % 512;

    switch (how % 4) {
    case 0:
        file[at] ^= (uint8_t)(1 + how / 4);
        break;
    case 1:
        len = at;
        break;
    case 2:
        for (; at < to && at < len; at++)
            file[at] = 0;
        break;
    default:
        for (; at < to && at < ROOM; at++)
            file[at] = u8();
        if (len < at)
            len = at;
        break;
    }
}

static void
write_file(const char *name)
{
    char path[64 + 1 + SEGMENT_NAME_MAX];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert(fd >= 0);
    assert(write(fd, file, len) == (ssize_t)len);
    close(fd);
}

static void
make_file(unsigned i)
{
    unsigned what = u8();
    unsigned vm = what / 8 % VMS;
    struct segment_name name = { .number = 1 + i, .seed = 1 + what / 16 };
    char text[SEGMENT_NAME_MAX];

    memset(name.vm_uuid, (int)('a' + vm), GR_UUID_SIZE);
    memset(file, 0, sizeof(file));
    len = segment_put_header(file, &name);
    write_records(name.seed, vm);
    for (unsigned damages = what % 4 == 3 ? 1 + u8() % 4 : 0; damages > 0 && len > 0; damages--)
        damage_bytes(u8());
    if (what % 32 == 4)
        name.seed++;
    if (what % 32 == 5)
        memset(name.vm_uuid, 'a' + u8() % 2, GR_UUID_SIZE);
    if (what % 32 == 6)
        name.number = u8() % 8;
    write_file(segment_name_format(&name, text));
    if (what % 32 == 20) {
        name.number += u8() % 2;
        name.seed += u8() % 2;
        write_file(segment_name_format(&name, text));
    }
    if (what % 32 == 21)
        write_file("something.else");
}

static void
make_files(void)
{
    for (unsigned vm = 0; vm < VMS; vm++)
        for (unsigned i = 0; i < SOURCES; i++)
            sources[vm][i] = (struct source){
                .driver = drivers[i], .boot = (uint8_t)(1 + i), .id = 1 + vm * SOURCES + i, .next = 1
            };
    each_file(dir, remove_file, NULL);
    for (unsigned i = 0, count = 1 + u8() % 4; i < count; i++)
        make_file(i);
}

/* ---- SVMs ---- */

static void
on_start(struct svm *svm, const Gimux__V1__StreamStart *start)
{
    assert(svm->count < MEMORY && start->stream > 0 && start->first_sequence > 0);
    for (unsigned i = 0; i < svm->count; i++)
        assert(svm->memory[i].id != start->stream);
    svm->memory[svm->count++] = (struct memory){ start->stream, start->first_sequence };
}

static void
learn(struct svm *svm, uint32_t id, uint64_t first, uint64_t last)
{
    unsigned i = 0;

    while (i < svm->count && svm->memory[i].id != id)
        i++;
    assert(i < svm->count && first <= last);
    assert(first == svm->memory[i].next || (svm->picky && first > svm->memory[i].next));
    svm->memory[i].next = last + 1;
}

/* What is missing in a file is one gap for all, which an SVM may have the beginning of. */
static void
on_gap(struct svm *svm, const Gimux__V1__Gap *gap)
{
    uint64_t first = gap->first_sequence;

    for (unsigned i = 0; i < svm->count; i++)
        if (svm->memory[i].id == gap->stream && first < svm->memory[i].next)
            first = svm->memory[i].next;
    learn(svm, gap->stream, first, gap->last_sequence);
}

static void
svm_read(struct svm *svm)
{
    const uint8_t *body;
    size_t at = 0;
    size_t size;

    while (delimited_next(svm->wire + at, svm->wire_len - at, DELIMITED_FRAME_MAX, &body, &size) ==
           DELIMITED_FRAME) {
        Gimux__V1__Frame *frame = gimux__v1__frame__unpack(NULL, size, body);

        assert(frame);
        if (frame->body_case == GIMUX__V1__FRAME__BODY_STREAM_START)
            on_start(svm, frame->stream_start);
        else if (frame->body_case == GIMUX__V1__FRAME__BODY_EVENT)
            learn(svm, frame->event->stream, frame->event->sequence, frame->event->sequence);
        else if (frame->body_case == GIMUX__V1__FRAME__BODY_GAP)
            on_gap(svm, frame->gap);
        gimux__v1__frame__free_unpacked(frame, NULL);
        at = (size_t)(body + size - svm->wire);
    }
    memmove(svm->wire, svm->wire + at, svm->wire_len - at);
    svm->wire_len -= at;
}

static void
svm_take(struct svm *svm, const void *data, size_t size)
{
    assert(svm->wire_len + size <= sizeof(svm->wire));
    memcpy(svm->wire + svm->wire_len, data, size);
    svm->wire_len += size;
}

static void
on_tell(void *arg, const Gimux__V1__Frame *frame)
{
    uint8_t packed[1000];
    size_t body = gimux__v1__frame__get_packed_size(frame);
    size_t prefix = delimited_put_prefix(packed, body);

    assert(prefix + body <= sizeof(packed));
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
check_logs(void)
{
    for (const struct vm *vm = route.table.vms; vm; vm = vm->hh.next)
        vmlog_check(&vm->log);
}

static void
svm_pump(struct svm *svm)
{
    struct iovec iov[16];
    struct vmlog_batch batch = { .iov = iov, .max = 16 };
    struct iovec rest;

    if (!svm->woken)
        return;
    sink_gather(&svm->sink, &batch, 4096);
    if (batch.count == 0)
        svm->woken = false;
    for (int i = 0; i < batch.count; i++)
        svm_take(svm, iov[i].iov_base, iov[i].iov_len);
    if (batch.count > 0)
        sink_sent(&svm->sink, batch.bytes, &rest);
    svm_read(svm);
    check_logs();
}

static void
svm_ack(struct svm *svm)
{
    for (unsigned i = 0; i < svm->count; i++)
        assert(route_ack(&route, &svm->sink, svm->memory[i].id, svm->memory[i].next - 1));
    check_logs();
}

static void
svm_connect(struct svm *svm)
{
    Gimux__V1__SvmHello *hello = gimux__v1__svm_hello__unpack(NULL, 0, (const uint8_t *)"");

    assert(hello);
    svm->count = 0;
    svm->wire_len = 0;
    assert(!route_sink_up(&route, &svm->sink, hello));
}

/* ---- gimuxd ---- */

static void
configure(void)
{
    uint8_t what = u8();

    for (unsigned i = 0; i < SVMS; i++, what /= 16) {
        struct conf_solution *solution = &conf.solutions[i];

        snprintf(solution->name, sizeof(solution->name), "%s", names[(i + what / 4) % NAMES]);
        solution->class_mask = CLASS_MASK_ALL;
        svms[i].picky = what & 2;
        if (svms[i].picky)
            solution->class_mask &= ~1u;
        solution->durability = i == 0 ? CONF_PROCESS : what & 1 ? CONF_DISK : CONF_DELIVERED;
        solution->policy = i == 0 ? CONF_POLICY_SPILL : CONF_POLICY_PAUSE;
    }
    if (strcmp(conf.solutions[0].name, conf.solutions[1].name) == 0)
        snprintf(conf.solutions[1].name, sizeof(conf.solutions[1].name), "new");
    conf.limits.vms = 1 + u8() % 3;
}

static void
open_gimuxd(void)
{
    static const struct route_guest_ops guest_ops = { 0 };

    memset(&io, 0, sizeof(io));
    route_init(&route, &the_loop, &conf, &guest_ops);
    assert(route_recover(&route));
    check_logs();
    for (unsigned i = 0; i < SVMS; i++) {
        svms[i].woken = false;
        assert(route_add_sink(&route, &svms[i].sink, &conf.solutions[i], &sink_ops, &svms[i]));
        check_logs();
    }
    route_recovered(&route);
    check_logs();
    for (unsigned i = 0; i < SVMS; i++)
        svm_connect(&svms[i]);
}

/* It was killed. */
static void
close_gimuxd(void)
{
    io.dead = true;
    if (conf.limits.vms < VMS) /* a VM may be forgotten and its files not removed yet */
        store_finish(route.store);
    disk_finish(the_disk);
    route_fini(&route);
    for (unsigned i = 0; i < SVMS; i++)
        sink_fini(&svms[i].sink);
    assert(route.pool.used == 0 && route.pool.stubs == 0);
}

static void
damage_file(void *arg, const char *path, const struct stat *info)
{
    uint8_t how = u8();
    int fd = open(path, O_RDWR);

    (void)arg;
    if (how % 4 == 0)
        remove(path);
    else if (how % 4 == 1)
        assert(ftruncate(fd, (off_t)(u16() % ((size_t)info->st_size + 1))) == 0);
    else if (how % 4 == 2 && info->st_size > 0)
        syscall(SYS_pwrite64, fd, "damage", 6, (off_t)(u16() % (size_t)info->st_size));
    close(fd);
}

static bool
is_settled(void)
{
    for (const struct vm *vm = route.table.vms; vm; vm = vm->hh.next)
        for (unsigned i = 0; i < SVMS; i++)
            if (vmlog_unsettled(&vm->log, svms[i].sink.slot) > 0 ||
                vm->log.cursors[svms[i].sink.slot].gaps_open > 0)
                return false;
    return STAILQ_EMPTY(&the_disk->jobs) && !the_loop.tasks;
}

static void
serve(unsigned rounds)
{
    while (rounds-- > 0 && !is_settled()) {
        for (unsigned i = 0; i < SVMS; i++) {
            svm_pump(&svms[i]);
            svm_ack(&svms[i]);
        }
        loop_flush(&the_loop);
        check_logs();
        if (!disk_do_one())
            tick();
        check_logs();
    }
}

/* Every SVM has all, and the counts say so. */
static void
check_streams(void)
{
    const struct stream *stream;

    for (const struct vm *vm = route.table.vms; vm; vm = vm->hh.next)
        LIST_FOREACH (stream, &vm->streams, of_vm)
            for (unsigned i = 0; i < SVMS; i++) {
                const struct vmlog_progress *progress = &stream->log.sinks[svms[i].sink.slot];

                log_debug(NULL,
                          "stream %u of %llu: %s: base %llu, %llu delivered, %llu filtered, %llu gapped",
                          stream->log.id, (unsigned long long)stream->log.last, conf.solutions[i].name,
                          (unsigned long long)progress->base, (unsigned long long)progress->delivered,
                          (unsigned long long)progress->filtered, (unsigned long long)progress->gapped);
                assert(progress->settled == stream->log.last);
                assert(progress->base + progress->delivered + progress->filtered + progress->gapped ==
                       progress->settled);
                assert(stream->log.unaccepted_bytes == 0 && stream->log.accepted == stream->log.last);
                for (unsigned k = 0; k < svms[i].count && !svms[i].picky; k++)
                    if (svms[i].memory[k].id == stream->log.id)
                        assert(svms[i].memory[k].next > stream->log.last ||
                               progress->acked >= stream->log.last);
            }
    assert(route.pool.used == 0 && route.pool.stubs == 0);
}

/* ---- */

static void
clean_up(void)
{
    remove_dir(dir);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    make_dir(dir);
    atexit(clean_up);
    snprintf(conf.storage.dir, sizeof(conf.storage.dir), "%s", dir);
    conf.storage.vm = (uint64_t)64 << 20;
    conf.storage.total = (uint64_t)1 << 30;
    conf.limits.memory = (uint64_t)16 << 20;
    conf.limits.vm_log = (uint64_t)256 << 10;
    conf.limits.vm_window = (uint64_t)64 << 10;
    conf.limits.connections = 10;
    conf.solution_count = SVMS;
    return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input = data;
    left = size;
    configure();
    make_files();
    open_gimuxd();
    for (unsigned lives = u8() % 4; lives > 0; lives--) {
        serve(u8() % 32);
        close_gimuxd();
        open_gimuxd();
    }
    if (u8() % 4 == 1)
        each_file(dir, damage_file, NULL);
    serve(20000);
    assert(is_settled()); /* else it never comes to rest */
    check_streams();
    close_gimuxd();
    return 0;
}
