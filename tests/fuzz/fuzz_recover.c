/* Fuzzes recovery: whatever stands in the directory, gimuxd takes up what it can and serves it, and every SVM
 * is told of every sequence of a stream once, from where it was: as an event or in a gap.
 *
 * The input is a program: who the solutions are, then segment files of one or two VMs, made of records whose
 * checksums are right and whose fields may lie, and damage; then what goes wrong while they are served.
 * RECOVER_LOG=1 in the environment shows what gimuxd logs. */
#include "tests/fuzz/recover_files.h"

#include "mux/base/log.h"
#include "mux/route/inner.h"
#include "mux/vmlog/inner.h"
#include "tests/fuzz/one_normalizer.h"
#include "tests/fuzz/pool_comes_back.h"
#include "tests/unit/store/svm_wire.h"

#define SVMS   2u
#define MEMORY 64u

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What an SVM was told of a stream on this connection. */
struct memory {
    uint32_t id;
    uint64_t next;
};

struct svm {
    struct svm_wire wire;
    struct sink *sink;
    bool picky; /* does not want one class */
    unsigned count;
    struct memory memory[MEMORY];
};

static struct conf conf;
static struct route *route;
static struct svm svms[SVMS];

/* ---- what is not linked ---- */

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
    Gimux__V1__Frame *frame;
    size_t at = 0;

    while ((frame = wire_frame(&svm->wire, &at))) {
        if (frame->body_case == GIMUX__V1__FRAME__BODY_STREAM_START)
            on_start(svm, frame->stream_start);
        else if (frame->body_case == GIMUX__V1__FRAME__BODY_EVENT)
            learn(svm, frame->event->stream, frame->event->sequence, frame->event->sequence);
        else if (frame->body_case == GIMUX__V1__FRAME__BODY_GAP)
            on_gap(svm, frame->gap);
        gimux__v1__frame__free_unpacked(frame, NULL);
    }
    wire_drop(&svm->wire, at);
}

static void
check_logs(void)
{
    for (const struct vm *vm = route->table->vms; vm; vm = vm->hh.next)
        vmlog_check(&vm->log);
}

static void
svm_pump(struct svm *svm)
{
    struct iovec iov[16];
    struct vmlog_batch batch = { .iov = iov, .max = 16 };
    struct iovec rest;

    if (!svm->wire.woken)
        return;
    sink_gather(svm->sink, &batch, 4096);
    if (batch.count == 0)
        svm->wire.woken = false;
    for (int i = 0; i < batch.count; i++)
        wire_put(&svm->wire, iov[i].iov_base, iov[i].iov_len);
    if (batch.count > 0)
        sink_sent(svm->sink, batch.bytes, &rest);
    svm_read(svm);
    check_logs();
}

static void
svm_ack(struct svm *svm)
{
    for (unsigned i = 0; i < svm->count; i++)
        assert(route_ack(route, svm->sink, svm->memory[i].id, svm->memory[i].next - 1));
    check_logs();
}

static void
svm_connect(struct svm *svm)
{
    Gimux__V1__SvmHello *hello = gimux__v1__svm_hello__unpack(NULL, 0, (const uint8_t *)"");

    assert(hello);
    svm->count = 0;
    svm->wire.len = 0;
    assert(!route_sink_up(route, svm->sink, hello));
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
    route = route_new(&the_loop, &conf, &guest_ops);
    assert(route);
    assert(route_recover(route, false));
    check_logs();
    for (unsigned i = 0; i < SVMS; i++) {
        svms[i].wire.woken = false;
        svms[i].sink = route_add_sink(route, &conf.solutions[i], &sink_ops, &svms[i]);
        assert(svms[i].sink);
        check_logs();
    }
    route_recovered(route);
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
        store_finish(route->store);
    disk_finish(the_disk);
    route_free(route);
    for (unsigned i = 0; i < SVMS; i++) {
        sink_clear_hello(svms[i].sink);
        free(svms[i].sink);
    }
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
    for (const struct vm *vm = route->table->vms; vm; vm = vm->hh.next)
        for (unsigned i = 0; i < SVMS; i++)
            if (vmlog_unsettled(&vm->log, svms[i].sink->slot) > 0 ||
                vm->log.cursors[svms[i].sink->slot].gaps_open > 0)
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

    for (const struct vm *vm = route->table->vms; vm; vm = vm->hh.next)
        LIST_FOREACH (stream, &vm->streams, of_vm)
            for (unsigned i = 0; i < SVMS; i++) {
                const struct vmlog_progress *progress = &stream->log.sinks[svms[i].sink->slot];

                log_debug(NULL,
                          "stream %u of %llu: %s: base %llu, %llu delivered, %llu filtered, %llu gapped",
                          stream->log.id, (unsigned long long)stream->log.last, conf.solutions[i].name,
                          (unsigned long long)progress->uncounted, (unsigned long long)progress->delivered,
                          (unsigned long long)progress->filtered, (unsigned long long)progress->gapped);
                assert(progress->settled == stream->log.last);
                assert(progress->uncounted + progress->delivered + progress->filtered + progress->gapped ==
                       progress->settled);
                assert(stream->log.unaccepted_bytes == 0 && stream->log.accepted == stream->log.last);
                for (unsigned k = 0; k < svms[i].count && !svms[i].picky; k++)
                    if (svms[i].memory[k].id == stream->log.id)
                        assert(svms[i].memory[k].next > stream->log.last ||
                               progress->acked >= stream->log.last);
            }
    assert(route->pool.used == 0 && route->pool.stubs == 0);
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
