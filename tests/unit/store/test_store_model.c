/* The store: a model with guests that keep what was not acknowledged, SVMs that keep what they have, and a
 * gimuxd that is killed in the middle of any call; does anything in any order, and counts.
 *
 * STORE_SEED=n runs it with that seed alone, STORE_SEEDS=n with the seeds 1 to n; STORE_FROM=n begins there.
 */
#include "tests/unit/store/store_model.h"

/* ---- gimuxd ---- */

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

/* What was accepted is there after a restart, if it could be written. */
static void
check_taken_up(const struct driver *driver)
{
    uint8_t uuid[GR_UUID_SIZE];
    uint8_t boot[GR_UUID_SIZE];
    const struct vm *vm;
    const struct stream *stream;

    memset(uuid, driver->vm, sizeof(uuid));
    memset(boot, '1', sizeof(boot));
    vm = vm_find(model->route->table, uuid);
    stream = vm ? vm_stream_find(vm, driver->kind, boot) : NULL;
    if (driver->filed > 0 && !model->lossy && !model->unbacked) {
        assert_non_null(stream);
        if (stream->log.last < driver->filed)
            fail_msg("lost: %c%u: accepted %llu, taken up %llu", driver->vm, driver->kind,
                     (unsigned long long)driver->filed, (unsigned long long)stream->log.last);
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
    assert_int_equal(count, storage().segments);
    assert_int_equal(bytes, storage().bytes);
}

static void
open_gimuxd(void)
{
    memset(&io, 0, sizeof(io));
    model->failing = false;
    model->route = route_new(&the_loop, &model->conf, &guest_ops);
    assert_non_null(model->route);
    assert_true(route_recover(model->route, false));
    for (unsigned i = 0; i < SVMS; i++)
        add_solution(&model->svms[i]);
    route_recovered(model->route);
    model->open = true;
    for (unsigned i = 0; i < DRIVERS; i++)
        check_taken_up(&model->drivers[i]);
    check_files();
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

    assert_true(model->route->pool.used <= model->route->pool.limit + model->route->pool.own + share + slack);
    assert_true(storage().bytes <= conf->storage.total + in_batch);
    for (const struct vm *vm = model->route->table->vms; vm; vm = vm->hh.next) {
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
    route_remove_sink(model->route, svm->sink);
    svm->late = true;
    svm->count = 0;
    add_solution(svm);
}

static void
rare_step(unsigned seed)
{
    struct svm *svm = &model->svms[pick(SVMS)];
    uint32_t what = pick(20);

    io.takes = pick(2) ? pick(10) : 0;
    if (what < 8) {
        io.die_in = 1 + pick(6);
        io.torn = pick(2) ? pick(200000) : pick(1000);
    } else if (what < 10) {
        restart(model->damaging);
    } else if (what == 10) {
        route_finish(model->route);
        check_files();
        restart(false);
    } else if (what == 11 && seed % 5 == 2) {
        change_sink(svm);
    } else if (what == 12) {
        configure();
        route_set_conf(model->route, &model->conf);
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
    if (what < 300 && driver->stream && !route_vm(driver->stream->about.vm)->paused)
        for (unsigned i = pick(pick(3) ? 4 : 60); i > 0 && !route_vm(driver->stream->about.vm)->paused; i--)
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
    if (what % 3 == 0)
        beat();
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
            if (driver->stream->log.sinks[model->svms[j].sink->slot].settled < last)
                return false;
    }
    return model->route->pool.used == 0 && STAILQ_EMPTY(&the_disk->jobs);
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
                          (unsigned long long)driver->stream->log.sinks[model->svms[j].sink->slot].settled,
                          (unsigned long long)driver->stream->log.sinks[model->svms[j].sink->slot].acked,
                          (unsigned long long)driver->stream->log.sinks[model->svms[j].sink->slot].gap_first,
                          (unsigned long long)driver->stream->log.sinks[model->svms[j].sink->slot].gap_last,
                          model->svms[j].sink->starving);
    }
    for (struct vm *vm = model->route->table->vms; vm; vm = vm->hh.next)
        for (unsigned j = 0; j < SVMS; j++) {
            const struct sink *sink = model->svms[j].sink;
            const struct vmlog_cursor *cursor = &vm->log.cursors[sink->slot];
            const struct vmlog_chunk *stub = vmlog_next_stub(&vm->log, sink->slot);

            print_message(
                "%c svm%u: ack %llu sent %llu of %llu; gap %llu, open %u, untold %u; span %zu of %llu; "
                "loaded %zu; stub %d loading %d; active %d starving %d\n",
                vm->uuid[0], j, (unsigned long long)cursor->ack.number,
                (unsigned long long)cursor->sent.number, (unsigned long long)vm->log.next_number,
                (unsigned long long)cursor->gap_number, cursor->gaps_open, cursor->gaps_untold, cursor->span,
                (unsigned long long)sink->window, model->route->pool.loaded[sink->slot], stub != NULL,
                stub && stub->loading, route_vm(vm)->turns[sink->slot].active,
                route_vm(vm)->turns[sink->slot].starving);
        }
    fail_msg("it does not come to rest: %zu bytes", model->route->pool.used);
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
        for (unsigned k = 0;
             k < 50 && driver->stream && !route_vm(driver->stream->about.vm)->paused && driver->count > 0 &&
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
        const struct vmlog_progress *progress = &stream->log.sinks[svm->sink->slot];

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
