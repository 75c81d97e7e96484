/* The handover: what one gives the other takes, whole and in order, or not at all; and a connection that goes
 * on with what its former owner had read and not sent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "mux/net/conn.h"
#include "mux/net/loop.h"
#include "mux/process/handover.h"

#define FILES 600 /* three packets */

static int ends[2];

static int
make_socket(void **state)
{
    (void)state;
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
}

static int
close_socket(void **state)
{
    (void)state;
    if (ends[0] >= 0)
        close(ends[0]);
    if (ends[1] >= 0)
        close(ends[1]);
    return 0;
}

static void
make_parcel(struct parcel *parcel)
{
    static uint8_t input[300000];

    assert_true(parcel_begin(parcel));
    parcel->message->build = parcel_text(parcel, "gimuxd 0");
    for (int i = 0; i < 5; i++) {
        Gimux__Handover__V1__Guest *guest =
            PARCEL_ADD(parcel, parcel->message->guests, parcel->message->n_guests, guest);

        memset(input, i, sizeof(input));
        guest->input = parcel_bytes(parcel, input, sizeof(input));
    }
}

/* A file in memory that is as long as its number says. */
static int
numbered(unsigned number)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    assert_int_equal(ftruncate(fd, number), 0);
    return fd;
}

static off_t
number_of(int fd)
{
    struct stat info;

    assert_int_equal(fstat(fd, &info), 0);
    return info.st_size;
}

static void
all_of_it_arrives(void **state)
{
    struct parcel given;
    struct parcel taken;
    const Gimux__Handover__V1__Handover *got;
    char why[100];

    (void)state;
    make_parcel(&given);
    for (unsigned i = 1; i <= FILES; i++)
        assert_int_equal(parcel_file(&given, numbered(i)), i);
    assert_true(handover_give(ends[0], &given, 1000));
    assert_true(handover_take(ends[1], &taken, 1000, why, sizeof(why)));
    got = taken.message;
    assert_string_equal(got->build, "gimuxd 0");
    assert_int_equal(got->n_guests, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(got->guests[i]->input.len, 300000);
        assert_memory_equal(got->guests[i]->input.data, given.message->guests[i]->input.data, 300000);
    }
    for (unsigned i = 1; i <= FILES; i += 7) {
        int fd = descriptors_take(&taken.files, i);

        assert_int_equal(number_of(fd), i);
        close(fd);
        assert_int_equal(descriptors_take(&taken.files, i), -1);
    }
    assert_int_equal(descriptors_take(&taken.files, 0), -1);
    assert_int_equal(descriptors_take(&taken.files, FILES + 1), -1);
    parcel_fini(&taken, true);
    parcel_fini(&given, true);
}

static void
expect_nothing(const char *expected)
{
    struct parcel taken;
    char why[100] = "";

    assert_false(handover_take(ends[1], &taken, 50, why, sizeof(why)));
    assert_non_null(strstr(why, expected));
    assert_null(taken.files.fds);
}

static void
a_refusal_says_why(void **state)
{
    (void)state;
    assert_true(handover_say(ends[0], HANDOVER_NOT, "7 events wait"));
    expect_nothing("7 events wait");
}

static void
who_says_nothing_is_not_waited_for_for_ever(void **state)
{
    (void)state;
    expect_nothing("timed out");
    assert_int_equal(handover_hear(ends[1], 1, NULL, 0), 0);
    close(ends[0]);
    ends[0] = -1;
    expect_nothing("has ended");
    assert_int_equal(handover_hear(ends[1], 1, NULL, 0), -1);
    assert_false(handover_say(ends[1], HANDOVER_READY, NULL));
}

/* The first packet promises more than comes. */
static void
descriptors_are_missing(void **state)
{
    struct parcel given;
    int fd = numbered(1);
    char packet[3000];
    struct {
        char word;
        uint32_t files;
    } head = { HANDOVER_DATA, 3 };

    (void)state;
    make_parcel(&given);
    assert_int_equal(parcel_file(&given, fd), 1);
    assert_true(handover_give(ends[0], &given, 1000));
    assert_int_equal(recv(ends[1], packet, sizeof(packet), 0), 8); /* its head is thrown away */
    assert_int_equal(send(ends[0], &head, sizeof(head), 0), sizeof(head));
    expect_nothing("no handover"); /* not the head: the descriptors */
    expect_nothing("descriptors are missing");
    parcel_fini(&given, true);
}

/* What a newer version says beside what this one knows. */
static void
unknown_fields_are_skipped(void **state)
{
    static const uint8_t more[] = { 0x0a, 2, 'x', 'y', 0xfa, 0x3e, 3, 1, 2, 3 }; /* build; field 1007 */
    struct {
        char word;
        uint32_t files;
    } head = { HANDOVER_DATA, 0 };
    union {
        char buf[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } space = { .buf = { 0 } };
    struct iovec iov = { &head, sizeof(head) };
    struct msghdr packet = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space.buf, .msg_controllen = sizeof(space.buf)
    };
    struct cmsghdr *header = CMSG_FIRSTHDR(&packet);
    struct parcel taken;
    int fd = memfd_create("test", MFD_CLOEXEC);
    char why[100];

    (void)state;
    assert_int_equal(write(fd, more, sizeof(more)), sizeof(more));
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    assert_int_equal(sendmsg(ends[0], &packet, 0), sizeof(head));
    close(fd);
    assert_true(handover_take(ends[1], &taken, 1000, why, sizeof(why)));
    assert_string_equal(taken.message->build, "xy");
    parcel_fini(&taken, true);
}

/* ---- a connection ---- */

struct owner {
    struct loop *loop;
    char in[16];
    bool closed;
};

static void
nothing(void *arg)
{
    (void)arg;
}

static size_t
on_data(void *arg, const uint8_t *buf, size_t len)
{
    struct owner *owner = arg;

    if (len < 8)
        return 0;
    memcpy(owner->in, buf, len);
    loop_stop(owner->loop);
    return len;
}

static void
on_closed(void *arg, const char *why)
{
    (void)why;
    ((struct owner *)arg)->closed = true;
}

static const struct conn_ops ops = {
    .open = nothing, .data = on_data, .writable = nothing, .closed = on_closed
};

static void
a_connection_goes_on(void **state)
{
    const struct conn_limits limits = { .in = 16, .out = 16 };
    const struct conn_rest rest = { (const uint8_t *)"half", 4, (const uint8_t *)"unsent", 6 };
    const struct conn_rest too_much = { NULL, 0, (const uint8_t *)"unsent and too long", 19 };
    struct conn_rest again;
    struct owner owner = { .loop = loop_new() };
    struct conn *conn;
    char sent[16] = "";
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    conn = conn_new(owner.loop, pair[0], &limits, &ops, &owner);
    assert_false(conn_import(conn, &too_much));
    assert_true(conn_import(conn, &rest));
    assert_true(conn_export(conn, &again));
    assert_int_equal(again.in_len, 4);
    assert_memory_equal(again.in, "half", 4);
    assert_int_equal(again.out_len, 6);
    assert_memory_equal(again.out, "unsent", 6);
    assert_int_equal(write(pair[1], "done", 4), 4);
    loop_run(owner.loop);
    assert_string_equal(owner.in, "halfdone");
    assert_int_equal(read(pair[1], sent, sizeof(sent)), 6);
    assert_string_equal(sent, "unsent");
    conn_close(conn, "the end");
    assert_false(conn_export(conn, &again));
    loop_flush(owner.loop);
    assert_true(owner.closed);
    loop_free(owner.loop);
    close(pair[1]);
}

int
main(void)
{
#define WITH_SOCKET(test) cmocka_unit_test_setup_teardown(test, make_socket, close_socket)
    const struct CMUnitTest tests[] = {
        WITH_SOCKET(all_of_it_arrives),
        WITH_SOCKET(a_refusal_says_why),
        WITH_SOCKET(who_says_nothing_is_not_waited_for_for_ever),
        WITH_SOCKET(descriptors_are_missing),
        WITH_SOCKET(unknown_fields_are_skipped),
        cmocka_unit_test(a_connection_goes_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
