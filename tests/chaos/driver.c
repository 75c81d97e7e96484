/* A driver of one VM: numbers its events, keeps them until they are acknowledged, and sends them again after
 * a break, as docs/guest-protocol.md wants it. */
#include "tests/chaos/driver.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/chaos/chance.h"

#define PING_MS    2000 /* gimuxd asks for a sign of life every 5 seconds */
#define RETRY_MS   10   /* at most */
#define LIMITED_MS 100  /* after REJECT */

void
driver_init(struct driver *driver, uint32_t vm, uint16_t kind, const char *path, struct tally *tally)
{
    memset(driver, 0, sizeof(*driver));
    driver->stream = ledger_stream_new(vm, 1, kind, NULL);
    driver->kind = kind;
    driver->path = path;
    driver->tally = tally;
    driver->fd = -1;
    driver->cut_out = driver->cut_in = -1;
    driver->out = malloc(DRIVER_OUT_MAX);
    if (!driver->out)
        abort();
}

void
driver_fini(struct driver *driver)
{
    if (driver->fd >= 0)
        close(driver->fd);
    ledger_stream_free(driver->stream);
    free(driver->out);
}

static void
drop_connection(struct driver *driver, int64_t wait)
{
    if (driver->fd >= 0)
        close(driver->fd);
    driver->fd = -1;
    driver->state = DRIVER_DOWN;
    driver->out_at = driver->out_end = driver->in_len = 0;
    driver->cut_out = driver->cut_in = -1;
    driver->retry_at = now_ms() + wait;
}

static void
lose_connection(struct driver *driver)
{
    driver->breaks += driver->state == DRIVER_OPEN;
    drop_connection(driver, (int64_t)chance_below(RETRY_MS));
}

void
driver_cut(struct driver *driver)
{
    driver->cuts++;
    drop_connection(driver, (int64_t)chance_below(RETRY_MS));
}

bool
driver_make(struct driver *driver)
{
    if (driver->stream->made - driver->stream->acked >= DRIVER_HELD_MAX)
        return false;
    ledger_made(driver->stream);
    return true;
}

bool
driver_is_done(const struct driver *driver)
{
    return driver->stream->acked == driver->stream->made;
}

static void
queue_record(struct driver *driver, const struct gr_record *record)
{
    driver->out_end += gr_encode(record, driver->out + driver->out_end, DRIVER_OUT_MAX - driver->out_end);
}

void
driver_boot(struct driver *driver)
{
    struct gr_record bye = { .type = GR_BYE };

    bye.body.bye.code = 1;
    if (driver->state == DRIVER_OPEN && driver->out_at == driver->out_end) {
        driver->out_at = driver->out_end = 0;
        queue_record(driver, &bye);
        if (send(driver->fd, driver->out, driver->out_end, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            driver->breaks++;
    }
    drop_connection(driver, 0);
    driver->stream =
        ledger_stream_new(driver->stream->vm, driver->stream->boot + 1, driver->kind, driver->stream);
}

/* ---- connecting ---- */

static void
say_hello(struct driver *driver)
{
    struct gr_record record = { .type = GR_HELLO };
    struct gr_hello *hello = &record.body.hello;

    hello->magic = GR_MAGIC;
    hello->version_min = hello->version_max = GR_VERSION;
    hello->driver = driver->kind;
    event_vm_uuid(driver->stream->vm, hello->vm_uuid);
    event_boot_id(driver->stream->vm, driver->stream->boot, hello->boot_id);
    hello->first_held = driver->stream->acked + 1;
    ledger_hello(driver->stream);
    queue_record(driver, &record);
    driver->hellos++;
    driver->state = DRIVER_GREETING;
}

static void
dial(struct driver *driver, int64_t now)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    driver->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", driver->path);
    if (driver->fd < 0 || connect(driver->fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        lose_connection(driver);
        return;
    }
    driver->spoke_at = now;
    say_hello(driver);
}

/* ---- records from gimuxd ---- */

static uint32_t *
size_of(struct driver *driver, uint64_t sequence)
{
    return &driver->sizes[sequence % DRIVER_HELD_MAX];
}

static void
on_welcome(struct driver *driver, const struct gr_welcome *welcome)
{
    struct stream *stream = driver->stream;

    driver->state = DRIVER_OPEN;
    driver->window = welcome->window;
    driver->next = welcome->next_wanted;
    if (driver->next < stream->acked + 1 || driver->next > stream->sent + 1) {
        tally_add(driver->tally, WRONG_UNACCOUNTED, 1,
                  "vm %u %s: WELCOME asks for %llu; %llu were sent, %llu acknowledged", stream->vm,
                  gr_driver_name(driver->kind), (unsigned long long)driver->next,
                  (unsigned long long)stream->sent, (unsigned long long)stream->acked);
        driver->next = stream->acked + 1;
    }
    driver->flight = 0;
    driver->waits = false;
    for (uint64_t sequence = stream->acked + 1; sequence < driver->next; sequence++)
        driver->flight += *size_of(driver, sequence);
    if (gr_driver_is_windows(driver->kind))
        driver->out_end +=
            event_write_volumes(driver->out + driver->out_end, DRIVER_OUT_MAX - driver->out_end);
}

static void
on_ack(struct driver *driver, const struct gr_ack *ack)
{
    struct stream *stream = driver->stream;

    if (ack->sequence > stream->sent) {
        tally_add(driver->tally, WRONG_UNACCOUNTED, 1, "vm %u %s: ACK of %llu, %llu were sent", stream->vm,
                  gr_driver_name(driver->kind), (unsigned long long)ack->sequence,
                  (unsigned long long)stream->sent);
        return;
    }
    driver->acked(driver->arg, stream, ack->sequence, ack->level);
    driver->waits = false;
    for (; stream->acked < ack->sequence; stream->acked++)
        if (stream->acked + 1 < driver->next)
            driver->flight -= *size_of(driver, stream->acked + 1);
    if (driver->next <= stream->acked)
        driver->next = stream->acked + 1;
}

static void
on_record(struct driver *driver, const struct gr_record *record)
{
    struct gr_record pong = { .type = GR_PONG };

    switch (record->type) {
    case GR_WELCOME:
        on_welcome(driver, &record->body.welcome);
        break;
    case GR_REJECT:
        drop_connection(driver, LIMITED_MS);
        break;
    case GR_ACK:
        on_ack(driver, &record->body.ack);
        break;
    case GR_PING:
        pong.body.ping = record->body.ping;
        queue_record(driver, &pong);
        break;
    case GR_BYE:
        lose_connection(driver);
        break;
    default:
        break;
    }
}

static void
take_records(struct driver *driver)
{
    size_t used = 0;

    while (driver->fd >= 0 && used < driver->in_len) {
        struct gr_record record;
        char why[GR_WHY_MAX];
        enum gr_result result = gr_decode(driver->in + used, driver->in_len - used, &record, why);

        if (result == GR_MORE)
            break;
        if (result == GR_INVALID) {
            tally_add(driver->tally, WRONG_UNACCOUNTED, 1, "vm %u %s: gimuxd sent: %s", driver->stream->vm,
                      gr_driver_name(driver->kind), why);
            lose_connection(driver);
            return;
        }
        used += record.size;
        if (result == GR_OK)
            on_record(driver, &record);
    }
    if (driver->fd < 0)
        return;
    memmove(driver->in, driver->in + used, driver->in_len - used);
    driver->in_len -= used;
}

static void
receive(struct driver *driver)
{
    size_t room = sizeof(driver->in) - driver->in_len;
    ssize_t got;

    if (driver->cut_in >= 0 && room > (size_t)driver->cut_in)
        room = (size_t)driver->cut_in;
    if (room == 0 && driver->cut_in == 0) {
        driver_cut(driver);
        return;
    }
    got = recv(driver->fd, driver->in + driver->in_len, room, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        lose_connection(driver);
    } else if (got > 0) {
        driver->in_len += (size_t)got;
        if (driver->cut_in >= 0)
            driver->cut_in -= got;
        take_records(driver);
    }
}

/* ---- records to gimuxd ---- */

static void
queue_events(struct driver *driver)
{
    struct stream *stream = driver->stream;

    if (driver->out_at == driver->out_end)
        driver->out_at = driver->out_end = 0;
    while (driver->next <= stream->made && DRIVER_OUT_MAX - driver->out_end >= EVENT_RECORD_MAX) {
        struct event_id id = { stream->vm, stream->boot, driver->kind, driver->next };
        size_t size = event_write(&id, driver->out + driver->out_end, DRIVER_OUT_MAX - driver->out_end);

        if (size == 0)
            abort();
        if (driver->flight > 0 && driver->flight + size > driver->window) {
            driver->waits = true;
            return;
        }
        driver->out_end += size;
        driver->flight += size;
        *size_of(driver, driver->next) = (uint32_t)size;
        if (driver->next > stream->sent)
            stream->sent = driver->next;
        driver->next++;
    }
}

static void
flush(struct driver *driver)
{
    size_t len = driver->out_end - driver->out_at;
    ssize_t put;

    if (driver->cut_out >= 0 && len > (size_t)driver->cut_out)
        len = (size_t)driver->cut_out;
    put = len > 0 ? send(driver->fd, driver->out + driver->out_at, len, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
    if (put < 0 && errno != EAGAIN && errno != EINTR) {
        lose_connection(driver);
        return;
    }
    if (put > 0) {
        driver->out_at += (size_t)put;
        driver->spoke_at = now_ms();
        if (driver->cut_out >= 0)
            driver->cut_out -= put;
    }
    if (driver->cut_out == 0)
        driver_cut(driver);
}

struct pollfd
driver_poll(const struct driver *driver)
{
    struct pollfd poll = { .fd = driver->fd, .events = POLLIN };

    if (driver->out_at < driver->out_end)
        poll.events |= POLLOUT;
    return poll;
}

void
driver_turn(struct driver *driver, short revents, int64_t now)
{
    struct gr_record ping = { .type = GR_PING };

    if (driver->fd < 0 && now >= driver->retry_at)
        dial(driver, now);
    if (driver->fd >= 0 && revents)
        receive(driver);
    if (driver->fd >= 0 && driver->state == DRIVER_OPEN) {
        if (!driver->waits)
            queue_events(driver);
        if (now - driver->spoke_at >= PING_MS && driver->out_at == driver->out_end) {
            driver->out_at = driver->out_end = 0;
            queue_record(driver, &ping);
        }
    }
    if (driver->fd >= 0)
        flush(driver);
}
