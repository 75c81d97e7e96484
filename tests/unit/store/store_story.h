/* A story of the store: one gimuxd with few drivers and SVMs, told step by step. Include it in one file of a
 * test. */
#ifndef GIMUX_TESTS_STORE_STORY_H
#define GIMUX_TESTS_STORE_STORY_H

#include "tests/unit/store/store_model.h"

#define KIB   1024u
#define SMALL 500u    /* bytes of a path: many events in a chunk */
#define LARGE 230000u /* a chunk of its own */

/* ---- a story ---- */

static inline int
story_begin(void **state)
{
    struct conf *conf;

    (void)state;
    log_setup(false, LOG_LEVEL_ERROR);
    model = calloc(1, sizeof(*model));
    assert_non_null(model);
    model->random = 1;
    make_dir(model->dir);
    conf = &model->conf;
    snprintf(conf->storage.dir, sizeof(conf->storage.dir), "%s", model->dir);
    conf->storage.vm = conf->storage.total = (uint64_t)64 << 20;
    conf->limits.memory = (uint64_t)48 << 20;
    conf->limits.vm_log = 256 * KIB;
    conf->limits.vm_window = 4096 * KIB;
    conf->limits.vms = 4;
    conf->limits.connections = 10;
    for (unsigned i = 0; i < DRIVERS; i++) {
        model->drivers[i].vm = i < 2 ? 'a' : 'b';
        model->drivers[i].kind = i % 2 ? GR_LINUX : GR_VMX;
    }
    return 0;
}

static inline int
story_end(void **state)
{
    (void)state;
    close_gimuxd();
    remove_dir(model->dir);
    free(model);
    return 0;
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, story_begin, story_end)

/* One more solution; its durability is `process`. Returns its SVM, which is away. */
static inline struct svm *
solution(enum conf_policy policy)
{
    struct svm *svm = &model->svms[model->conf.solution_count];

    svm->conf = &model->conf.solutions[model->conf.solution_count++];
    svm->conf->durability = CONF_PROCESS;
    svm->conf->policy = policy;
    svm->conf->class_mask = CLASS_MASK_ALL;
    snprintf(svm->conf->name, sizeof(svm->conf->name), "svm%u", model->conf.solution_count);
    return svm;
}

static inline void
start_held(bool held)
{
    memset(&io, 0, sizeof(io));
    model->route = route_new(&the_loop, &model->conf, &guest_ops);
    assert_non_null(model->route);
    assert_true(route_recover(model->route, held));
    for (unsigned i = 0; i < model->conf.solution_count; i++)
        add_solution(&model->svms[i]);
    route_recovered(model->route);
    model->open = true;
}

static inline void
start(void)
{
    start_held(false);
}

static inline void
kill_and_start(void)
{
    close_gimuxd();
    start();
}

/* The loop and the disk, until nothing is left but what is tried again and again. */
static inline void
rest(void)
{
    for (unsigned i = 0; i < 20; i++) {
        do
            loop_flush(&the_loop);
        while (disk_do_one());
        tick();
    }
}

/* Of what is in the logs now: until then it waits whether all SVMs acknowledge it. */
static inline void
begin_writing(void)
{
    loop_flush(&the_loop);
    assert_true(beat());
    assert_true(beat());
}

static inline struct driver *
driver(unsigned index)
{
    if (!model->drivers[index].stream)
        driver_connect(&model->drivers[index]);
    assert_non_null(model->drivers[index].stream);
    return &model->drivers[index];
}

/* The driver makes so many events, and sends all that it has. */
static inline void
make(struct driver *driver, unsigned count, uint32_t len)
{
    for (; count > 0; count--, driver->count++)
        driver->items[driver->count] = (struct item){ .last = first_of(driver, driver->count), .len = len };
    while (!route_vm(driver->stream->about.vm)->paused &&
           driver->stream->log.last < driver->items[driver->count - 1].last)
        driver_offer(driver);
}

/* What the route has for the SVM goes to it, and is read; files are not. */
static inline void
pump(struct svm *svm)
{
    for (unsigned i = 0; i < 100; i++) {
        loop_flush(&the_loop);
        svm_pump(svm, SIZE_MAX / 2);
        svm_read(svm, UINT32_MAX);
    }
}

/* The SVM gets all that there is, and acknowledges it. */
static inline void
drain(struct svm *svm)
{
    for (unsigned i = 0; i < 200; i++) {
        pump(svm);
        svm_ack(svm, true);
        loop_flush(&the_loop);
        if (!disk_do_one() && !tick())
            return;
    }
}

static inline uint64_t
had(const struct svm *svm, const struct driver *driver)
{
    for (unsigned i = 0; i < svm->count; i++)
        if (driver_of(&svm->memory[i]) == driver)
            return svm->memory[i].position;
    return 0;
}

static inline size_t *
loaded(const struct svm *svm)
{
    return &model->route->pool.loaded[svm->sink->slot];
}

static inline unsigned
stubs(const struct driver *driver)
{
    unsigned count = 0;

    for (const struct vmlog_chunk *chunk = driver->stream->about.vm->log.first; chunk; chunk = chunk->next)
        count += chunk->stub;
    return count;
}

/* The driver makes events until some chunks of them are in files alone. */
static inline void
spill(struct driver *driver)
{
    for (unsigned i = 0; i < 10; i++) {
        make(driver, 100, SMALL);
        rest();
    }
    assert_true(stubs(driver) > 2);
    assert_int_equal(driver->accepted, driver->count);
}

#endif
