/* The store: how it ends, leaves for an upgrade, and goes on after a disk that failed. */
#include "tests/unit/store/store_story.h"

#include "mux/store/inner.h"

/* The loop stood still while a disk was slow: what is asked again and again may wait for nothing. */
static void
test_leaving_waits_for_nothing(void **state)
{
    struct vmlog *log;

    (void)state;
    solution(CONF_POLICY_PAUSE);
    start();
    make(driver(0), 10, SMALL);
    log = &driver(0)->stream->about.vm->log;
    loop_flush(&the_loop);
    store_begin_leave(model->route->store); /* without a beat */
    assert_int_equal(log->recorded, 0);
    assert_false(store_try_to_leave(model->route->store));
    make(driver(0), 10, SMALL); /* comes while it leaves */
    loop_flush(&the_loop);
    for (unsigned i = 0; !store_try_to_leave(model->route->store); i++) {
        assert_true(i < 10);
        disk_do_one();
    }
    assert_int_equal(log->recorded, log->next_number);
    assert_true(STAILQ_EMPTY(&the_disk->jobs));
    kill_and_start();
    assert_int_equal(driver(0)->stream->log.last, 20);
}

/* A disk that fails must not keep an upgrade waiting: the caller sees that not all is in files. */
static void
test_leaving_gives_up_on_a_disk_that_fails(void **state)
{
    struct vmlog *log;

    (void)state;
    solution(CONF_POLICY_PAUSE);
    start();
    make(driver(0), 10, SMALL);
    log = &driver(0)->stream->about.vm->log;
    loop_flush(&the_loop);
    io.write_error = EIO;
    store_begin_leave(model->route->store);
    assert_false(store_try_to_leave(model->route->store));
    assert_true(disk_do_one());
    assert_true(store_try_to_leave(model->route->store));
    assert_true(log->recorded < log->next_number);
    assert_true(storage().failing);
    io.write_error = 0;
    store_stay(model->route->store);
    rest();
    assert_int_equal(driver(0)->accepted, 10);
    assert_false(storage().failing);
}

/* What failed waits for the tick; who leaves has no time for that. */
static void
test_leaving_tries_again_what_failed(void **state)
{
    const struct vmlog *log;

    (void)state;
    solution(CONF_POLICY_PAUSE);
    start();
    make(driver(0), 10, SMALL);
    log = &driver(0)->stream->about.vm->log;
    begin_writing();
    io.write_error = EIO;
    assert_true(disk_do_one());
    io.write_error = 0;
    store_begin_leave(model->route->store);
    assert_true(disk_do_one());
    assert_int_equal(log->recorded, log->next_number);
}

/* After staying, entries wait for their beats again. */
static void
test_staying_is_as_before(void **state)
{
    (void)state;
    solution(CONF_POLICY_PAUSE);
    start();
    store_begin_leave(model->route->store);
    assert_true(store_try_to_leave(model->route->store));
    store_freeze(model->route->store);
    store_stay(model->route->store);
    make(driver(0), 10, SMALL);
    loop_flush(&the_loop);
    beat();
    assert_false(disk_do_one());
    assert_true(beat());
    assert_true(disk_do_one());
    loop_flush(&the_loop);
    assert_int_equal(driver(0)->accepted, 10);
}

static off_t
size_of_files(void)
{
    DIR *dir = opendir(model->dir);
    const struct dirent *entry;
    struct stat info;
    off_t size = 0;

    assert_non_null(dir);
    /* cppcheck-suppress readdirCalled ; a stream of our own */
    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.' && fstatat(dirfd(dir), entry->d_name, &info, 0) == 0)
            size += info.st_size;
    closedir(dir);
    return size;
}

/* What looks torn may be what the gimuxd is writing that is to be relieved, and that goes on after all. */
static void
test_recovery_for_an_upgrade_only_reads(void **state)
{
    off_t torn;

    (void)state;
    solution(CONF_POLICY_PAUSE);
    start();
    make(driver(0), 10, SMALL);
    rest();
    make(driver(0), 10, SMALL);
    for (unsigned i = 0; STAILQ_EMPTY(&the_disk->jobs); i++) {
        assert_true(i < 10);
        loop_flush(&the_loop);
        beat();
    }
    io.die_in = 1;
    io.torn = 3000; /* five records and a half */
    disk_do_one();
    close_gimuxd();
    torn = size_of_files();
    start_held(true);
    rest();
    assert_int_equal(size_of_files(), torn);
    close_gimuxd(); /* the other one goes on */
    assert_int_equal(size_of_files(), torn);
    start_held(true);
    route_stay(model->route); /* the other one has let go */
    assert_true(size_of_files() < torn);
    torn = size_of_files();
    kill_and_start();
    assert_int_equal(size_of_files(), torn);
    assert_int_equal(driver(0)->stream->log.last, 15);
}

/* Where a bound was met and the disk is synced, each round wrote a mark, took that for progress, and the end
 * never came. */
static void
test_the_end_comes_though_a_bound_is_met(void **state)
{
    unsigned writes = 0;

    (void)state;
    solution(CONF_POLICY_PAUSE)->conf->durability = CONF_DISK;
    model->conf.storage.vm = 8 * KIB;
    start();
    make(driver(0), 40, SMALL);
    rest();
    assert_true(storage().full);
    store_begin_leave(model->route->store); /* store_finish does the same in one go */
    while (!store_try_to_leave(model->route->store)) {
        assert_true(++writes < 10);
        disk_do_one();
    }
    store_finish(model->route->store);
    assert_true(storage().full);
}

/* What cannot be read is not torn: it is left alone, and is there when it can be read again. */
static void
test_a_read_error_cuts_nothing(void **state)
{
    struct svm *svm = solution(CONF_POLICY_PAUSE);
    off_t before;

    (void)state;
    start();
    make(driver(0), 10, SMALL);
    rest();
    close_gimuxd();
    before = size_of_files();
    model->route = route_new(&the_loop, &model->conf, &guest_ops);
    assert_non_null(model->route);
    io.dead = false;
    io.read_error = EIO;
    io.readable = before / 2;
    assert_true(route_recover(model->route, false));
    assert_int_equal(size_of_files(), before);
    add_solution(svm);
    model->open = true;
    kill_and_start();
    assert_int_equal(driver(0)->stream->log.last, 10);
}

/* A file that no gimuxd has written, with more streams than there is room for in a batch. */
static void
test_streams_of_a_file_are_bounded(void **state)
{
    static uint8_t bytes[512 * KIB];
    struct segment_name name = { .seed = 1 };
    char file[SEGMENT_NAME_MAX];
    char path[sizeof(model->dir) + SEGMENT_NAME_MAX + 1];
    size_t len;
    FILE *out;

    (void)state;
    solution(CONF_POLICY_PAUSE);
    memset(name.vm_uuid, 'a', sizeof(name.vm_uuid));
    len = segment_put_header(bytes, &name);
    for (uint32_t i = 1; i <= 1500; i++) {
        struct segment_stream stream = { .driver = GR_LINUX, .id = i, .start = 1 };

        memcpy(stream.boot_id, &i, sizeof(i));
        len += segment_put_stream(bytes + len, name.seed, len, &stream);
    }
    assert_true(len <= sizeof(bytes));
    snprintf(path, sizeof(path), "%s/%s", model->dir, segment_name_format(&name, file));
    out = fopen(path, "w");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, len, out), len);
    fclose(out);
    start();
    assert_int_equal(vm_stream_count(vm_next(model->route->table, NULL)), STORE_STREAMS_MAX);
    make(driver(2), 10, SMALL); /* of another VM */
    rest();
    assert_int_equal(driver(2)->accepted, 10);
}

/* What a failed sync has left nobody knows: nothing is written until the log is empty, and then to a new
 * file. */
static void
test_a_failed_sync_is_mended_when_the_log_is_empty(void **state)
{
    struct svm *svm = solution(CONF_POLICY_PAUSE);
    uint64_t before;

    (void)state;
    svm->conf->durability = CONF_DISK;
    start();
    make(driver(0), 10, SMALL);
    begin_writing();
    io.sync_error = EIO;
    assert_true(disk_do_one());
    before = storage().bytes;
    make(driver(0), 10, SMALL);
    rest();
    assert_int_equal(storage().bytes, before);
    assert_int_equal(driver(0)->accepted, 0);
    svm_connect(svm);
    drain(svm);
    assert_int_equal(had(svm, driver(0)), 20);
    svm_disconnect(svm);
    make(driver(0), 10, SMALL);
    rest();
    assert_int_equal(driver(0)->accepted, 30); /* recorded: nobody has acknowledged it */
    assert_false(storage().failing);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(test_leaving_waits_for_nothing),
        STORY(test_leaving_gives_up_on_a_disk_that_fails),
        STORY(test_leaving_tries_again_what_failed),
        STORY(test_staying_is_as_before),
        STORY(test_recovery_for_an_upgrade_only_reads),
        STORY(test_the_end_comes_though_a_bound_is_met),
        STORY(test_a_read_error_cuts_nothing),
        STORY(test_streams_of_a_file_are_bounded),
        STORY(test_a_failed_sync_is_mended_when_the_log_is_empty),
    };

    return cmocka_run_group_tests_name("store_end", tests, NULL, NULL);
}
