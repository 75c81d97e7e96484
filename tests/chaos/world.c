/* The world of a scenario: one gimuxd, the drivers of some VMs, up to four SVMs, and the loop that runs them
 * all. */
#include "tests/chaos/world.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/chaos/chance.h"
#include "tests/chaos/settle.h"

#define POLLS_MAX (WORLD_DRIVERS_MAX + LEDGER_SVMS * (1 + RELAY_POLLS))

#define START_SECONDS 30

volatile bool world_interrupted;

/* ---- the loop ---- */

/* gimuxd must not end by itself. */
static void
watch_daemon(struct world *world)
{
    int status = 0;

    if (world->expect_end || world->daemon.pid == 0 || daemon_is_running(&world->daemon, &status))
        return;
    world->crashes++;
    tally_add(&world->tally, WRONG_UNACCOUNTED, 1, "gimuxd ended by itself: %s %d",
              WIFSIGNALED(status) ? "signal" : "status",
              WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    daemon_show_log(&world->daemon, 30);
    world->counts = false;
    daemon_start(&world->daemon);
}

static void
make_events(struct world *world, int64_t now)
{
    uint64_t due = (uint64_t)(now - world->made_at) * world->conf.rate / 1000;

    if (!world->makes || now - world->made_at > 200) { /* missed events are not made later */
        world->made_at = now;
        return;
    }
    if (due == 0)
        return;
    world->made_at = now;
    while (due > 0) { /* in bursts, as guests make them */
        struct driver *driver = world_any_driver(world);
        uint64_t burst = chance_between(1, due < 32 ? due : 32);

        due -= burst;
        while (burst-- > 0)
            world->made += driver_make(driver);
    }
}

void
world_turn(struct world *world, int wait)
{
    static struct pollfd polls[POLLS_MAX];
    unsigned count = world->driver_count;
    int64_t now;

    for (unsigned i = 0; i < world->driver_count; i++)
        polls[i] = driver_poll(&world->drivers[i]);
    for (unsigned i = 0; i < world->conf.svm_count; i++) {
        struct svm *svm = &world->svms[i];

        count += relay_poll(&svm->relay, &polls[count]);
        if (svm->client && !svm->stopped)
            polls[count++] = (struct pollfd){ .fd = gimux_client_fd(svm->client), .events = POLLIN };
    }
    if (poll(polls, count, wait) < 0 && errno != EINTR)
        abort();
    now = now_ms();
    make_events(world, now);
    for (unsigned i = 0; i < world->driver_count; i++)
        driver_turn(&world->drivers[i], polls[i].revents, now);
    for (unsigned i = 0; i < world->conf.svm_count; i++) {
        relay_turn(&world->svms[i].relay, now);
        svm_turn(&world->svms[i]);
    }
    watch_daemon(world);
}

void
world_run(struct world *world, int64_t ms)
{
    int64_t until = now_ms() + ms;
    int64_t left;

    while ((left = until - now_ms()) > 0 && !world_interrupted)
        world_turn(world, left < 2 ? (int)left : 2);
}

bool
world_wait(struct world *world, bool (*condition)(struct world *world), unsigned seconds)
{
    int64_t until = now_ms() + seconds * INT64_C(1000);

    while (!condition(world)) {
        if (now_ms() >= until || world_interrupted)
            return false;
        world_turn(world, 2);
    }
    return true;
}

void
world_kill(struct world *world, enum daemon_part part)
{
    world->expect_end = true;
    if (!daemon_kill(&world->daemon, part))
        tally_add(&world->tally, WRONG_UNACCOUNTED, 1, "a process of gimuxd was left over after a kill");
}

void
world_restart(struct world *world)
{
    world->counts = false;
    if (!daemon_start(&world->daemon))
        tally_add(&world->tally, WRONG_UNACCOUNTED, 1, "gimuxd cannot be started");
    world->expect_end = false;
}

struct driver *
world_any_driver(struct world *world)
{
    return &world->drivers[chance_below(world->driver_count)];
}

struct svm *
world_any_svm(struct world *world)
{
    return &world->svms[chance_below(world->conf.svm_count)];
}

void
world_forgets(struct world *world, bool full)
{
    for (unsigned i = 0; i < world->driver_count; i++)
        ledger_forgets(world->drivers[i].stream, full);
}

void
world_boot_a_vm(struct world *world)
{
    uint32_t vm = world_any_driver(world)->stream->vm;

    for (unsigned i = 0; i < world->driver_count; i++)
        if (world->drivers[i].stream->vm == vm)
            driver_boot(&world->drivers[i]);
}

bool
world_settle(struct world *world)
{
    bool settled;

    world->makes = false;
    settled = settle(world);
    world->makes = true;
    return settled;
}

/* ---- what the SVMs ask ---- */

struct stream *
world_find_stream(void *arg, uint32_t vm, uint32_t boot, uint16_t kind)
{
    struct world *world = arg;

    for (unsigned i = 0; i < world->driver_count; i++) {
        struct stream *stream = world->drivers[i].stream;

        if (stream->vm != vm || world->drivers[i].kind != kind)
            continue;
        while (stream && stream->boot != boot)
            stream = stream->former;
        return stream;
    }
    return NULL;
}

static void
for_each_stream(void *arg, void (*each)(struct stream *stream, const struct reader *reader),
                const struct reader *reader)
{
    struct world *world = arg;

    for (unsigned i = 0; i < world->driver_count; i++)
        for (struct stream *stream = world->drivers[i].stream; stream; stream = stream->former)
            each(stream, reader);
}

/* ---- the beginning ---- */

static void
write_solution(const struct world *world, const struct svm *svm, FILE *out)
{
    const struct svm_conf *conf = &svm->conf;

    fprintf(out,
            "solution \"%s\" {\n    altitude = %u\n    address = \"%s:%s:%u\"\n    policy = %s\n"
            "    durability = %s\n    heartbeat = 300ms\n    redial_max = 50ms\n",
            conf->name, 1000 - svm->reader.index, conf->tls ? "tls" : "tcp", relay_host(), svm->relay.port,
            conf->policy, conf->durability);
    if (conf->mutes)
        fprintf(out, "    mute = {\"" EVENT_MUTED_LINUX "\"}\n");
    if (conf->tls)
        fprintf(out,
                "    cert = \"%s/gimuxd.pem\"\n    key = \"%s/gimuxd.key\"\n    ca = \"%s/ca.pem\"\n"
                "    tls_name = \"localhost\"\n",
                world->daemon.dir, world->daemon.dir, world->daemon.dir);
    else
        fprintf(out, "    plain = true\n");
    fprintf(out, "}\n");
}

bool
world_write_conf(const struct world *world)
{
    const char *dir = world->daemon.dir;
    char path[DAEMON_PATH_MAX];
    FILE *out = fopen(daemon_path(&world->daemon, "gimuxd.conf", path), "we");

    if (!out)
        return false;
    fprintf(out,
            "pid_file = \"%s/gimuxd.pid\"\nadmin = \"unix:%s/admin.sock\"\n%s"
            "doors {\n    shared = \"unix:%s\"\n}\nlimits {\n%s}\n",
            dir, dir, world->conf.top ? world->conf.top : "", world->socket,
            world->conf.limits ? world->conf.limits : "");
    if (world->conf.preload && daemon_has_option(&world->daemon, "sandbox"))
        fprintf(out, "sandbox = false\n"); /* what is preloaded asks for more of the system */
    if (world->conf.storage)
        fprintf(out, "storage {\n    dir = \"%s/storage\"\n}\n", dir);
    for (unsigned i = 0; i < world->conf.svm_count; i++)
        write_solution(world, &world->svms[i], out);
    return fclose(out) == 0;
}

/* Every solution must have, or find in files as safe as it relies on, what its driver forgets. */
static void
on_acked(void *arg, struct stream *stream, uint64_t sequence, uint16_t level)
{
    struct world *world = arg;

    for (unsigned i = 0; i < world->conf.svm_count; i++)
        if (strcmp(world->svms[i].conf.policy, "drop") != 0) /* what it dropped, it is told later */
            ledger_acked(stream, &world->svms[i].reader, sequence, level);
}

static void
make_driver(struct world *world, uint32_t vm, uint16_t kind)
{
    struct driver *driver = &world->drivers[world->driver_count++];

    driver_init(driver, vm, kind, world->socket, &world->tally);
    driver->acked = on_acked;
    driver->arg = world;
}

static void
make_drivers(struct world *world)
{
    world->drivers = calloc(WORLD_DRIVERS_MAX, sizeof(struct driver));
    if (!world->drivers)
        abort();
    for (uint32_t vm = 0; vm < world->conf.vms; vm++) {
        if (vm % 2 == 0) {
            make_driver(world, vm, GR_LINUX);
            continue;
        }
        make_driver(world, vm, GR_VSEPFLT);
        make_driver(world, vm, GR_VNETWFP);
    }
}

static bool
make_svm(struct world *world, unsigned index)
{
    struct svm *svm = &world->svms[index];
    const struct svm_conf *conf = &world->conf.svms[index];
    unsigned reasons = world->conf.gap_reasons;

    if (strcmp(conf->policy, "drop") == 0)
        reasons |= 1u << GIMUX_GAP_OVERFLOW | 1u << GIMUX_GAP_RESTART | 1u << GIMUX_GAP_DRIVER;
    svm->conf = *conf;
    svm->reader = (struct reader){ .index = index,
                                   .name = conf->name,
                                   .mutes = conf->mutes,
                                   .gap_reasons = reasons,
                                   .accepts_at = !world->conf.storage                       ? 0
                                                 : strcmp(conf->durability, "process") == 0 ? GR_LEVEL_PROCESS
                                                 : strcmp(conf->durability, "disk") == 0    ? GR_LEVEL_DISK
                                                                                            : 0,
                                   .tally = &world->tally };
    svm->certificates = world->daemon.dir;
    svm->find = world_find_stream;
    svm->for_each = for_each_stream;
    svm->arg = world;
    return relay_open(&svm->relay);
}

static bool
make_directory(struct world *world)
{
    const char *tmp = getenv("TMPDIR");
    char path[DAEMON_PATH_MAX];

    snprintf(world->daemon.dir, sizeof(world->daemon.dir), "%s/gimux-chaos-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(world->daemon.dir)) {
        fprintf(stderr, "chaos: %s: %s\n", world->daemon.dir, strerror(errno));
        world->daemon.dir[0] = '\0';
        return false;
    }
    daemon_path(&world->daemon, "guests.sock", world->socket);
    return mkdir(daemon_path(&world->daemon, "storage", path), 0700) == 0;
}

bool
world_open(struct world *world, const struct world_conf *conf, const char *program)
{
    const char *names[LEDGER_SVMS];
    bool tls = false;

    memset(world, 0, sizeof(*world));
    world->conf = *conf;
    world->daemon.program = program;
    world->daemon.preload = conf->preload;
    world->makes = world->counts = true;
    for (unsigned i = 0; i < LEDGER_SVMS; i++)
        world->svms[i].relay.listener = -1;
    if (!make_directory(world))
        return false;
    make_drivers(world);
    for (unsigned i = 0; i < conf->svm_count; i++) {
        if (!make_svm(world, i))
            return false;
        tls = tls || conf->svms[i].tls;
        names[i] = conf->svms[i].name;
    }
    if (tls)
        world->pki = pki_new(world->daemon.dir, names, conf->svm_count);
    for (unsigned i = 0; i < conf->svm_count; i++)
        svm_start(&world->svms[i], false);
    if (world_write_conf(world) && daemon_start(&world->daemon) &&
        daemon_wait_up(&world->daemon, START_SECONDS))
        return true;
    fprintf(stderr, "chaos: gimuxd does not start\n");
    daemon_show_log(&world->daemon, 30);
    return false;
}

void
world_close(struct world *world, bool keep)
{
    char command[DAEMON_PATH_MAX + 16];

    world->expect_end = true;
    daemon_kill(&world->daemon, DAEMON_ALL);
    for (unsigned i = 0; i < world->conf.svm_count; i++) {
        svm_kill(&world->svms[i], false);
        relay_close(&world->svms[i].relay);
    }
    for (unsigned i = 0; i < world->driver_count; i++)
        driver_fini(&world->drivers[i]);
    free(world->drivers);
    pki_free(world->pki);
    if (world->daemon.dir[0] == '\0')
        return;
    if (keep) {
        fprintf(stderr, "  its files are in %s\n", world->daemon.dir);
        return;
    }
    snprintf(command, sizeof(command), "rm -rf '%s'", world->daemon.dir);
    if (system(command) != 0)
        fprintf(stderr, "chaos: cannot remove %s\n", world->daemon.dir);
}
