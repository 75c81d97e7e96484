/* The far end of guest connections in fuzz_guest_session: what a driver says goes out through a buffer, in
 * parts if the program wants; what it hears must be what docs/guest-protocol.md lets gimuxd say. */
#ifndef GIMUX_TESTS_SESSION_DRIVER_H
#define GIMUX_TESTS_SESSION_DRIVER_H

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/guest_record.h"

#define OUT_MAX ((size_t)128 * 1024)

/* The far end of one connection. */
struct driver {
    int fd; /* -1: none */
    bool deaf;
    uint16_t kind;
    uint8_t vm;
    uint8_t boot;
    bool welcomed;
    uint64_t next;      /* sequence of its next event */
    uint64_t acked;     /* since the last WELCOME */
    size_t last_record; /* in out */
    size_t out_len;     /* what it has not written yet */
    size_t in_len;      /* of a record that has not come to its end */
    uint8_t in[2048];
    uint8_t out[OUT_MAX];
};

/* ---- drivers: what they hear ---- */

static void
hear_record(struct driver *driver, const struct gr_record *record)
{
    switch (record->type) {
    case GR_WELCOME:
        driver->welcomed = true;
        driver->acked = 0;
        if (driver->next < record->body.welcome.next_wanted)
            driver->next = record->body.welcome.next_wanted;
        break;
    case GR_ACK:
        assert(driver->welcomed && record->body.ack.sequence > driver->acked);
        driver->acked = record->body.ack.sequence;
        break;
    case GR_PING:
    case GR_PONG:
    case GR_REJECT:
    case GR_INTEREST:
    case GR_BYE:
        break;
    default:
        abort();
    }
}

static void
hang_up(struct driver *driver)
{
    if (driver->fd >= 0)
        close(driver->fd);
    driver->fd = -1;
}

static void
driver_read(struct driver *driver)
{
    while (driver->fd >= 0 && !driver->deaf) {
        ssize_t got =
            recv(driver->fd, driver->in + driver->in_len, sizeof(driver->in) - driver->in_len, MSG_DONTWAIT);
        size_t used = 0;

        if (got < 0)
            return;
        if (got == 0) {
            hang_up(driver);
            return;
        }
        driver->in_len += (size_t)got;
        for (;;) {
            struct gr_record record;
            char why[GR_WHY_MAX];
            enum gr_result result = gr_decode(driver->in + used, driver->in_len - used, &record, why);

            if (result == GR_MORE)
                break;
            assert(result == GR_OK);
            hear_record(driver, &record);
            used += record.size;
        }
        driver->in_len -= used;
        memmove(driver->in, driver->in + used, driver->in_len);
    }
}

/* ---- drivers: what they say ---- */

static void
driver_flush(struct driver *driver, size_t max)
{
    size_t len = driver->out_len < max ? driver->out_len : max;
    ssize_t sent;

    if (driver->fd < 0 || len == 0)
        return;
    sent = send(driver->fd, driver->out, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent <= 0)
        return;
    driver->out_len -= (size_t)sent;
    memmove(driver->out, driver->out + sent, driver->out_len);
    driver->last_record -= (size_t)sent < driver->last_record ? (size_t)sent : driver->last_record;
}

static bool
say(struct driver *driver, const struct gr_record *record)
{
    size_t len = gr_encode(record, driver->out + driver->out_len, OUT_MAX - driver->out_len);

    if (len == 0 || driver->fd < 0)
        return false;
    driver->last_record = driver->out_len;
    driver->out_len += len;
    return true;
}

#endif
