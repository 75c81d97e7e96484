/* Fuzzes whole guest sessions: the real sessions, route and VM logs over socket pairs, driven by a program of
 * steps; after each turn the contract is checked (session_world.h).
 *
 * The input is the program: four bytes of configuration, then steps of one byte and their arguments. Drivers
 * say HELLO, send events, lose some, are cut off and come back; SVMs come, stall, acknowledge, crash and go;
 * limits change; time passes. At the end all is delivered and must add up, and everything is torn down. */
#include "tests/fuzz/session_driver.h"
#include "tests/fuzz/session_world.h"

#define DRIVERS   4u
#define STEPS_MAX 300

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct driver drivers[DRIVERS];

/* ---- the program ---- */

static struct {
    const uint8_t *at;
    size_t left;
} program;

static uint8_t
u8(void)
{
    if (program.left == 0)
        return 0;
    program.left--;
    return *program.at++;
}

static uint64_t
u64(void)
{
    uint64_t value = 0;

    for (int i = 0; i < 8; i++)
        value = value << 8 | u8();
    return value;
}

/* Some bytes of the program as a text; or, after 255, a long one. */
static struct gr_text
text(void)
{
    static uint8_t many[40000];
    uint32_t len = u8();
    struct gr_text result = { program.at, len };

    if (len == 255) {
        memset(many, '/', sizeof(many));
        return (struct gr_text){ many, (uint32_t)u8() * 156 };
    }
    if (result.len > program.left)
        result.len = (uint32_t)program.left;
    program.at += result.len;
    program.left -= result.len;
    return result;
}

static struct driver *
a_driver(void)
{
    return &drivers[u8() % DRIVERS];
}

static struct svm *
an_svm(void)
{
    return &world.svms[u8() % SVMS];
}

/* ---- drivers ---- */

static void
step_connect(void)
{
    struct driver *driver = a_driver();
    uint8_t how = u8();
    struct guest_door door = { .name = "unix:door" };
    int pair[2];

    hang_up(driver);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
        abort();
    door.proved = how % 8 >= 4;
    vm_of(how, door.vm_uuid);
    door.vmx = how % 8 == 1;
    door.unknown = how >= 0xf8;
    door.cid = how % 8 == 2 ? 3 + how / 64 : 0;
    driver->fd = pair[0];
    driver->deaf = driver->welcomed = false;
    driver->out_len = driver->in_len = driver->last_record = 0;
    driver->kind = 0;
    guest_accept(world.guests, pair[1], &door);
}

/* gimuxd's side of the stream that the driver has said it is, or NULL. */
static const struct stream *
its_stream(const struct driver *driver)
{
    uint8_t uuid[GR_UUID_SIZE];
    uint8_t boot[GR_UUID_SIZE];
    const struct vm *vm;

    vm_of(driver->vm, uuid);
    memset(boot, driver->boot, sizeof(boot));
    vm = vm_find(world.route->table, uuid);
    return vm ? vm_stream_find(vm, driver->kind, boot) : NULL;
}

static void
step_hello(void)
{
    struct driver *driver = a_driver();
    struct gr_record record = { .type = GR_HELLO };
    struct gr_hello *hello = &record.body.hello;
    uint8_t who = u8();
    uint8_t from = u8();
    const struct stream *stream;

    driver->vm = who % 4;
    driver->boot = who / 4 % 4;
    driver->kind = GR_VSEPFLT + who / 16 % 6; /* one of them is none */
    stream = its_stream(driver);
    hello->magic = GR_MAGIC;
    hello->version_min = hello->version_max = GR_VERSION + (from == 255);
    hello->driver = driver->kind;
    vm_of(driver->vm, hello->vm_uuid);
    memset(hello->boot_id, driver->boot, GR_UUID_SIZE);
    hello->first_held = 1;
    if (from % 8 == 1 && stream)
        hello->first_held = stream->log.accepted + 1;
    else if (from % 8 == 2 && stream)
        hello->first_held = stream->log.last + 1;
    else if (from % 8 == 3)
        hello->first_held = (stream ? stream->log.last : 0) + 2 + from / 8;
    else if (from % 8 == 4)
        hello->first_held = u64();
    hello->build = text();
    hello->guest_os = text();
    driver->next = hello->first_held;
    say(driver, &record);
}

static void
fill_event(struct gr_record *record, uint8_t op)
{
    switch (record->type) {
    case GR_FILE:
        record->body.file.op = 1 + op % 7;
        record->body.file.path = text();
        record->body.file.target = text();
        break;
    case GR_NET:
        record->body.net.op = 1 + op % 5;
        record->body.net.family = op % 2 ? 4 : 6;
        record->body.net.process = text();
        break;
    case GR_DNS:
        record->body.dns.op = 1 + op % 2;
        record->body.dns.name = text();
        record->body.dns.answers = text();
        break;
    case GR_PROCESS:
        record->body.process.op = 1 + op % 2;
        record->body.process.image = text();
        record->body.process.command_line = text();
        break;
    case GR_LOGON:
        record->body.logon.op = 1 + op % 2;
        record->body.logon.user_name = text();
        break;
    default:
        record->body.power.op = 1 + op % 5;
        vm_of(op, record->body.power.vm_uuid);
        record->body.power.vm_name = text();
        break;
    }
}

/* Some events; `off` lets the sequence be wrong. */
static void
step_events(void)
{
    struct driver *driver = a_driver();
    uint8_t what = u8();
    unsigned count = 1 + u8() % 64;
    int8_t off = (int8_t)(what >= 0xc0 ? u8() : 0);
    struct gr_record record = { .flags = what % 2, .time = UINT64_C(133500000000000000) };

    record.type = driver->kind == GR_VMX ? GR_POWER : GR_FILE + what % 6;
    fill_event(&record, what / 6);
    for (unsigned i = 0; i < count; i++) {
        record.sequence = driver->next + (uint64_t)(int64_t)off;
        if (!say(driver, &record))
            return;
        driver->next += off == 0;
    }
}

static void
step_lost(void)
{
    struct driver *driver = a_driver();
    uint8_t what = u8();
    struct gr_record record = { .type = GR_LOST, .sequence = driver->next };

    record.body.lost.last = what == 255 ? u64() : driver->next + what % 64;
    record.body.lost.reason = what / 64;
    if (what >= 0xf0 && what < 255)
        record.sequence -= 3;
    if (say(driver, &record))
        driver->next = record.body.lost.last + 1;
}

static void
step_control(void)
{
    struct driver *driver = a_driver();
    uint8_t what = u8();
    struct gr_record record = { .type = what % 16 };

    switch (record.type) {
    case GR_PING:
    case GR_PONG:
        record.body.ping.token = what;
        break;
    case GR_BYE:
        record.body.bye.reason = text();
        break;
    case GR_FILE_DATA:
        record.body.file_data.data = text();
        break;
    case GR_REJECT:
        record.body.reject.reason = text();
        break;
    case GR_HELLO:
    case GR_LOST:
    case GR_VOLUMES:
        return; /* have steps of their own */
    default:
        break;
    }
    say(driver, &record);
}

static void
step_volumes(void)
{
    static uint8_t entries[4096];
    struct driver *driver = a_driver();
    struct gr_record record = { .type = GR_VOLUMES };
    size_t len = 0;

    for (uint8_t count = u8() % 32; count > 0; count--) {
        struct gr_volume volume = { .letter = 'A' + u8() % 26 };

        volume.device = text();
        if (gr_volume_put(entries, sizeof(entries), &len, &volume))
            record.body.volumes.count++;
    }
    record.body.volumes.entries = (struct gr_text){ entries, (uint32_t)len };
    say(driver, &record);
}

static void
step_raw(void)
{
    struct driver *driver = a_driver();
    struct gr_text bytes = text();

    if (driver->fd < 0 || OUT_MAX - driver->out_len < bytes.len)
        return;
    memcpy(driver->out + driver->out_len, bytes.data, bytes.len);
    driver->out_len += bytes.len;
}

/* Changes a byte of the last record that has not gone out. */
static void
step_corrupt(void)
{
    struct driver *driver = a_driver();
    size_t at = driver->last_record + u8();
    uint8_t bits = u8();

    if (at < driver->out_len)
        driver->out[at] ^= bits;
}

static void
step_flush(void)
{
    struct driver *driver = a_driver();

    driver_flush(driver, (size_t)u8() * 8 + 1);
}

static void
step_cut(void)
{
    struct driver *driver = a_driver();
    uint8_t how = u8();

    if (how == 0)
        driver->deaf = !driver->deaf;
    else if (how == 1 && driver->fd >= 0)
        shutdown(driver->fd, SHUT_WR);
    else
        hang_up(driver);
}

/* ---- turns ---- */

static void
turn(void)
{
    event_base_loop(loop_base(world.loop), EVLOOP_NONBLOCK | EVLOOP_ONCE);
    loop_flush(world.loop);
    check_world();
}

static void
step_turn(void)
{
    unsigned turns = 1 + u8() % 6;

    for (unsigned i = 0; i < DRIVERS; i++)
        driver_flush(&drivers[i], SIZE_MAX);
    while (turns-- > 0)
        turn();
    for (unsigned i = 0; i < DRIVERS; i++)
        driver_read(&drivers[i]);
}

static void
step_time(void)
{
    static const uint32_t spans[] = { 1, 499, 1000, 2000, 3500, 60000 };
    struct loop_timer *timer;
    struct loop_timer *next;

    world_now += spans[u8() % (sizeof(spans) / sizeof(spans[0]))];
    for (timer = LIST_FIRST(&world_timers); timer; timer = next) {
        next = LIST_NEXT(timer, in_list);
        if (timer->due == 0 || timer->due > world_now)
            continue;
        timer->due = 0;
        timer->fn(timer->arg); /* none frees another one */
    }
    turn();
}

/* ---- SVMs ---- */

static void
step_svm_up(void)
{
    struct svm *svm = an_svm();
    uint8_t how = u8();

    svm_up(svm, how & 1, how & 2 ? u8() : 0);
}

/* From a former gimuxd, it says, it has something of a stream that is not here yet, or not so far. */
static void
step_svm_guess(void)
{
    struct svm *svm = an_svm();
    uint8_t who = u8();
    uint8_t uuid[GR_UUID_SIZE];
    char texts[2][GR_UUID_TEXT];
    Gimux__V1__SvmHello hello = GIMUX__V1__SVM_HELLO__INIT;
    Gimux__V1__StreamPosition position = GIMUX__V1__STREAM_POSITION__INIT;
    Gimux__V1__StreamPosition *positions[] = { &position };
    uint8_t packed[256];
    size_t len;

    if (!svm->sink || svm->sink->up)
        return;
    vm_of(who, uuid);
    position.vm_uuid = (char *)gr_uuid_format(uuid, texts[0]);
    memset(uuid, who / 4 % 4, sizeof(uuid));
    position.boot_id = (char *)gr_uuid_format(uuid, texts[1]);
    position.driver = (Gimux__V1__Driver)(1 + who / 16 % 6);
    position.last_sequence = who >= 0xf0 ? u64() : u8();
    hello.positions = positions;
    hello.n_positions = 1;
    len = gimux__v1__svm_hello__pack(&hello, packed);
    svm->guessing = true;
    svm->whole = false;
    svm->credit = SIZE_MAX;
    route_sink_up(world.route, svm->sink, gimux__v1__svm_hello__unpack(NULL, len, packed));
}

/* Its socket takes nothing, so many bytes, or everything. */
static void
step_svm_credit(void)
{
    struct svm *svm = an_svm();
    uint8_t bytes = u8();

    if (!is_up(svm))
        return;
    svm->credit = bytes == 255 ? SIZE_MAX : (size_t)bytes * bytes;
    pump(svm);
}

static void
step_svm_ack(void)
{
    struct svm *svm = an_svm();
    uint8_t part = u8();

    if (part < 0xc0)
        svm_ack_all(svm, 1 + part % 4, 4);
    else if (part < 0xe0)
        svm_ack(svm, part % 32, u8());
    else
        svm_ack(svm, part % 32, u64());
}

static void
step_svm_down(void)
{
    struct svm *svm = an_svm();

    svm_down(svm, u8() % 2);
}

static void
step_svm_progress(void)
{
    struct svm *svm = an_svm();

    if (is_up(svm))
        route_tell_progress(world.route, svm->sink);
}

static void
step_svm_comes_or_goes(void)
{
    struct svm *svm = an_svm();
    uint8_t what = u8();

    if (svm->sink) {
        svm_remove(svm);
        return;
    }
    svm_configure(svm, what);
    svm_add(svm);
}

/* ---- the whole ---- */

static void
set_limits(uint8_t how)
{
    world.conf.limits.memory = (uint64_t)(192 << 10) << how % 4;
    world.conf.limits.vm_log = (uint64_t)(64 << 10) << how / 4 % 4;
    world.conf.limits.vm_window = (uint64_t)(4 << 10) << how / 16 % 8;
    world.conf.limits.vms = 2 + how / 128 * 2;
    world.conf.limits.connections = 3 + how / 64;
}

static void
step_reload(void)
{
    set_limits(u8());
    world.shrunk = true;
    route_set_conf(world.route, &world.conf);
}

typedef void step_fn(void);

/* What happens more often stands here more often. */
static step_fn *const steps[] = {
    step_connect,      step_hello,
    step_events,       step_events,
    step_lost,         step_control,
    step_volumes,      step_raw,
    step_corrupt,      step_flush,
    step_cut,          step_turn,
    step_turn,         step_time,
    step_svm_up,       step_svm_guess,
    step_svm_down,     step_svm_credit,
    step_svm_ack,      step_svm_ack,
    step_svm_progress, step_svm_comes_or_goes,
    step_reload,       step_events,
};

static void
begin(void)
{
    static const struct conf clean = { .heartbeat = 1000, .silence = 3000 };
    struct loop *loop = world.loop ? world.loop : loop_new();

    assert(loop);
    memset(&world, 0, sizeof(world));
    world.loop = loop;
    world.conf = clean;
    world.conf.vm_count = 1;
    world.conf.vms = &world.vm;
    world.conf.solution_count = SVMS;
    vm_of(3, world.vm.uuid);
    set_limits(u8());
    world.route = route_new(world.loop, &world.conf, &guest_route_ops);
    world.guests = world.route ? guest_list_new(world.loop, world.route, &world.conf) : NULL;
    if (!world.guests)
        abort();
    for (unsigned i = 0; i < DRIVERS; i++)
        drivers[i].fd = -1;
    for (unsigned i = 0; i < SVMS; i++) {
        uint8_t what = u8();

        svm_configure(&world.svms[i], what);
        snprintf(world.svms[i].conf.name, sizeof(world.svms[i].conf.name), "svm%u", i);
        if (what < 0xf0)
            svm_add(&world.svms[i]);
        if (what < 0x80)
            svm_up(&world.svms[i], false, 0);
    }
}

/* Every SVM is there, reads and acknowledges until nothing more comes: all must be settled then. */
static void
settle(void)
{
    unsigned rounds = 0;
    bool busy = true;

    while (busy) {
        uint64_t before = world.route->table->next_stream;

        assert(rounds < 2000); /* else somebody waits for what does not come */
        rounds++;
        for (unsigned i = 0; i < SVMS; i++) {
            svm_up(&world.svms[i], true, 0);
            world.svms[i].credit = SIZE_MAX;
            if (is_up(&world.svms[i]))
                pump(&world.svms[i]);
        }
        for (unsigned i = 0; i < DRIVERS; i++) {
            driver_flush(&drivers[i], SIZE_MAX);
            driver_read(&drivers[i]);
        }
        turn();
        for (unsigned i = 0; i < SVMS; i++)
            svm_ack_all(&world.svms[i], 1, 1);
        turn();
        busy = before != world.route->table->next_stream || route_pending(world.route, NULL) > 0;
        for (unsigned i = 0; i < DRIVERS; i++)
            busy = busy || (drivers[i].fd >= 0 && drivers[i].out_len > 0);
    }
}

static void
end(void)
{
    for (unsigned i = 0; i < DRIVERS; i++)
        hang_up(&drivers[i]);
    guest_list_close(world.guests, "the run is over");
    loop_flush(world.loop);
    assert(guest_list_count(world.guests) == 0);
    guest_list_free(world.guests);
    check_world();
    for (unsigned i = 0; i < SVMS; i++)
        svm_remove(&world.svms[i]);
    loop_flush(world.loop);
    for (const struct vm *vm = world.route->table->vms; vm; vm = vm->hh.next)
        assert(!vm->log.first && !route_vm(vm)->paused);
    route_free(world.route);
    assert(LIST_EMPTY(&world_timers));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool settles = size % 4 != 0;

    program.at = data;
    program.left = size;
    begin();
    for (unsigned i = 0; i < STEPS_MAX && program.left > 0; i++) {
        steps[u8() % (sizeof(steps) / sizeof(steps[0]))]();
        if (world.route->table->next_stream > STREAMS - 64)
            break;
    }
    step_turn();
    if (settles) {
        for (unsigned i = 0; i < DRIVERS; i++)
            drivers[i].deaf = false;
        settle();
        check_settled();
    }
    end();
    return 0;
}
