/* Descriptors that are passed over a socket, and lists of them: each end of what can go wrong on the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mux/base/descriptors.h"

#define WAIT_MS 20u

static int ends[2];
static size_t open_before;
static bool no_memory; /* realloc fails */

void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *
__wrap_realloc(void *old, size_t size)
{
    return no_memory ? NULL : __real_realloc(old, size);
}

/* ---- small things ---- */

static size_t
count_open(void)
{
    size_t count = 0;

    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static bool
is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static bool
same_file(int a, int b)
{
    struct stat of_a;
    struct stat of_b;

    assert_int_equal(fstat(a, &of_a), 0);
    assert_int_equal(fstat(b, &of_b), 0);
    return of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino;
}

static int
setup(void **state)
{
    (void)state;
    no_memory = false;
    open_before = count_open();
    return socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends);
}

/* Whatever a test did, no descriptor is left open. */
static int
teardown(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        if (ends[i] >= 0)
            close(ends[i]);
    assert_int_equal(count_open(), open_before);
    return 0;
}

/* ---- lists ---- */

static void
test_numbers_begin_at_one_and_stay(void **state)
{
    struct descriptors list = { 0 };

    (void)state;
    for (int i = 0; i < 200; i++) /* the list grows twice */
        assert_int_equal(descriptors_add(&list, 1000 + i), i + 1);
    assert_int_equal(list.count, 200);
    assert_int_equal(descriptors_take(&list, 0), -1);
    assert_int_equal(descriptors_take(&list, 201), -1);
    assert_int_equal(descriptors_take(&list, UINT32_MAX), -1);
    for (int i = 199; i >= 0; i--) {
        assert_int_equal(descriptors_take(&list, (uint32_t)i + 1), 1000 + i);
        assert_int_equal(descriptors_take(&list, (uint32_t)i + 1), -1); /* once */
    }
    descriptors_fini(&list, true);
    assert_int_equal(list.count, 0);
    assert_int_equal(descriptors_take(&list, 1), -1);
}

static void
test_only_what_is_still_in_it_is_closed(void **state)
{
    struct descriptors list = { 0 };
    int kept = dup(ends[0]);
    int taken = dup(ends[0]);

    (void)state;
    descriptors_add(&list, kept);
    descriptors_add(&list, taken);
    assert_int_equal(descriptors_take(&list, 2), taken);
    descriptors_fini(&list, true);
    assert_false(is_open(kept));
    assert_true(is_open(taken));
    descriptors_add(&list, taken);
    descriptors_fini(&list, false);
    assert_true(is_open(taken));
    close(taken);
}

static void
test_a_list_without_memory_is_as_before(void **state)
{
    struct descriptors list = { 0 };

    (void)state;
    no_memory = true;
    assert_int_equal(descriptors_add(&list, 5), 0);
    assert_int_equal(list.count, 0);
    no_memory = false;
    for (int i = 0; i < 64; i++)
        assert_int_equal(descriptors_add(&list, i), i + 1);
    no_memory = true;
    assert_int_equal(descriptors_add(&list, 64), 0);
    assert_int_equal(list.count, 64);
    assert_int_equal(descriptors_take(&list, 64), 63);
    descriptors_fini(&list, false);
}

/* ---- packets ---- */

static void
test_a_packet_brings_bytes_and_files(void **state)
{
    struct descriptors list = { 0 };
    int fds[] = { open("/dev/null", O_RDONLY), open("/dev/zero", O_RDONLY) };
    char data[16] = { 0 };

    (void)state;
    descriptors_add(&list, -1); /* what comes is added behind what is there */
    assert_true(descriptors_send(ends[0], "hello", 5, fds, 2, WAIT_MS));
    assert_int_equal(descriptors_receive(ends[1], data, sizeof(data), &list, WAIT_MS), 5);
    assert_memory_equal(data, "hello", 5);
    assert_int_equal(list.count, 3);
    for (int i = 0; i < 2; i++) {
        assert_int_not_equal(list.fds[i + 1], fds[i]);
        assert_true(same_file(list.fds[i + 1], fds[i]));
        assert_int_equal(fcntl(list.fds[i + 1], F_GETFD), FD_CLOEXEC);
        assert_true(is_open(fds[i])); /* the sender's stay open */
        close(fds[i]);
    }
    descriptors_fini(&list, true);
}

static void
test_a_packet_without_files(void **state)
{
    struct descriptors list = { 0 };
    char data[4] = { 0 };

    (void)state;
    assert_true(descriptors_send(ends[0], "four bytes", 10, NULL, 0, WAIT_MS));
    assert_true(descriptors_send(ends[0], "x", 1, NULL, 0, WAIT_MS));
    assert_int_equal(descriptors_receive(ends[1], data, sizeof(data), &list, WAIT_MS), 4); /* is cut */
    assert_memory_equal(data, "four", 4);
    assert_int_equal(descriptors_receive(ends[1], data, sizeof(data), &list, WAIT_MS), 1);
    assert_int_equal(data[0], 'x');
    assert_int_equal(list.count, 0);
    assert_null(list.fds);
}

static void
test_as_many_as_one_packet_takes(void **state)
{
    struct descriptors list = { 0 };
    int fds[DESCRIPTORS_AT_ONCE];
    char byte = 0;

    (void)state;
    for (size_t i = 0; i < DESCRIPTORS_AT_ONCE; i++)
        fds[i] = ends[0];
    assert_true(descriptors_send(ends[0], "x", 1, fds, DESCRIPTORS_AT_ONCE, WAIT_MS));
    assert_int_equal(descriptors_receive(ends[1], &byte, 1, &list, WAIT_MS), 1);
    assert_int_equal(list.count, DESCRIPTORS_AT_ONCE);
    for (size_t i = 0; i < DESCRIPTORS_AT_ONCE; i++)
        assert_true(same_file(list.fds[i], ends[0]));
    descriptors_fini(&list, true);
}

/* The process may open three more: the packet comes all the same, with these. */
static void
test_more_than_the_process_has_room_for(void **state)
{
    struct descriptors list = { 0 };
    int fds[] = { ends[0], ends[0], ends[0], ends[0], ends[0] };
    struct rlimit limit;
    struct rlimit low;
    int next = dup(ends[0]);
    ssize_t len;
    char byte = 0;

    (void)state;
    close(next); /* the lowest that is free */
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low = (struct rlimit){ .rlim_cur = (rlim_t)next + 3, .rlim_max = limit.rlim_max };
    assert_true(descriptors_send(ends[0], "x", 1, fds, 5, WAIT_MS));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    len = descriptors_receive(ends[1], &byte, 1, &list, WAIT_MS);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(len, 1);
    assert_int_equal(byte, 'x');
    assert_int_equal(list.count, 3);
    assert_int_equal(descriptors_take(&list, 4), -1);
    descriptors_fini(&list, true);
}

/* The list's memory is out: what it cannot hold is closed. */
static void
test_more_than_there_is_memory_for(void **state)
{
    struct descriptors list = { 0 };
    int fds[70];
    char byte = 0;

    (void)state;
    for (size_t i = 0; i < 70; i++)
        fds[i] = ends[0];
    for (int i = 0; i < 60; i++)
        descriptors_add(&list, -1);
    assert_true(descriptors_send(ends[0], "x", 1, fds, 70, WAIT_MS));
    no_memory = true;
    assert_int_equal(descriptors_receive(ends[1], &byte, 1, &list, WAIT_MS), 1);
    assert_int_equal(list.count, 64);
    assert_int_equal(count_open(), open_before + 2 + 4);
    descriptors_fini(&list, true);
}

/* A packet of no bytes looks like the end; its descriptors must not stay open for ever. */
static void
test_an_empty_packet_leaves_nothing_open(void **state)
{
    struct descriptors list = { 0 };
    union {
        char buf[CMSG_SPACE(sizeof(int))];
        struct cmsghdr header;
    } rights = { .header = {
                     .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) } };
    struct iovec nothing = { NULL, 0 }; /* QEMU's user mode sends nothing without one */
    struct msghdr message = {
        .msg_iov = &nothing, .msg_iovlen = 1, .msg_control = rights.buf, .msg_controllen = sizeof(rights.buf)
    };
    char byte = 0;

    (void)state;
    memcpy(CMSG_DATA(&rights.header), &ends[0], sizeof(int));
    assert_int_equal(sendmsg(ends[0], &message, 0), 0);
    assert_int_equal(descriptors_receive(ends[1], &byte, 1, &list, WAIT_MS), 0);
    descriptors_fini(&list, true);
}

static void
test_the_end(void **state)
{
    struct descriptors list = { 0 };
    char byte = 0;

    (void)state;
    assert_true(descriptors_send(ends[0], "x", 1, NULL, 0, WAIT_MS));
    close(ends[0]);
    ends[0] = -1;
    assert_int_equal(descriptors_receive(ends[1], &byte, 1, &list, WAIT_MS), 1); /* what was sent before */
    assert_int_equal(descriptors_receive(ends[1], &byte, 1, &list, WAIT_MS), 0);
    assert_int_equal(descriptors_receive(ends[1], &byte, 1, &list, WAIT_MS), 0);
    errno = 0;
    assert_false(descriptors_send(ends[1], "x", 1, NULL, 0, WAIT_MS));
    assert_int_equal(errno, EPIPE);
}

static uint64_t
now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void
test_nothing_comes_in_time(void **state)
{
    struct descriptors list = { 0 };
    uint64_t began = now_ms();
    char byte = 0;

    (void)state;
    errno = 0;
    assert_int_equal(descriptors_receive(ends[1], &byte, 1, &list, WAIT_MS), -1);
    assert_int_equal(errno, ETIMEDOUT);
    assert_true(now_ms() - began >= WAIT_MS - 1); /* the clocks of poll and of this test differ by one */
}

/* Nobody reads: sending fails when the socket is full, and goes on when there is room again. */
static void
test_nobody_reads_in_time(void **state)
{
    static const char packet[1000];
    struct descriptors list = { 0 };
    char data[sizeof(packet)] = { 0 };
    size_t sent = 0;

    (void)state;
    while (descriptors_send(ends[0], packet, sizeof(packet), &ends[0], 1, WAIT_MS))
        sent++;
    assert_int_equal(errno, ETIMEDOUT);
    assert_true(sent > 0);
    for (size_t i = 0; i < sent; i++)
        assert_int_equal(descriptors_receive(ends[1], data, sizeof(data), &list, WAIT_MS), sizeof(data));
    assert_int_equal(list.count, sent); /* the packet that failed did not come */
    assert_true(descriptors_send(ends[0], "x", 1, NULL, 0, WAIT_MS));
    descriptors_fini(&list, true);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_numbers_begin_at_one_and_stay),
        TEST(test_only_what_is_still_in_it_is_closed),
        TEST(test_a_list_without_memory_is_as_before),
        TEST(test_a_packet_brings_bytes_and_files),
        TEST(test_a_packet_without_files),
        TEST(test_as_many_as_one_packet_takes),
        TEST(test_more_than_the_process_has_room_for),
        TEST(test_more_than_there_is_memory_for),
        TEST(test_an_empty_packet_leaves_nothing_open),
        TEST(test_the_end),
        TEST(test_nothing_comes_in_time),
        TEST(test_nobody_reads_in_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
