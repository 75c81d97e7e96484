/* Parcels: what is put in comes out at the other end; and when memory runs out, at whichever allocation, the
 * parcel has failed, and nothing else has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include "mux/base/parcel.h"

#define COUNTERS 9 /* one more than a power of two */

/* ---- memory that runs out ---- */

static int left = -1; /* allocations until memory is out; -1: it never is */
static bool once;     /* out for one allocation only */
static int made;

static bool
is_out(void)
{
    if (left == 0) {
        left = once ? -1 : 0;
        return true;
    }
    if (left > 0)
        left--;
    made++;
    return false;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);

void *
__wrap_malloc(size_t size)
{
    return is_out() ? NULL : __real_malloc(size);
}

void *
__wrap_realloc(void *old, size_t size)
{
    return is_out() ? NULL : __real_realloc(old, size);
}

char *
__wrap_strdup(const char *text)
{
    return is_out() ? NULL : __real_strdup(text);
}

/* ---- a parcel with some of everything ---- */

static const uint8_t uuid[16] = { 1, 2, 3, 0, 255 };
static const struct address address = { .kind = ADDRESS_UNIX, .path = "/run/a.sock" };

static void
put_vm(struct parcel *parcel)
{
    Gimux__Handover__V1__Vm *vm = PARCEL_ADD(parcel, parcel->message->vms, parcel->message->n_vms, vm);

    vm->uuid = parcel_bytes(parcel, uuid, sizeof(uuid));
    for (uint32_t i = 0; i < 3; i++) {
        Gimux__Handover__V1__Stream *stream = PARCEL_ADD(parcel, vm->streams, vm->n_streams, stream);
        Gimux__Handover__V1__Progress *progress;

        stream->driver = i;
        stream->build = parcel_text(parcel, "build");
        progress = PARCEL_ADD(parcel, stream->progress, stream->n_progress, progress);
        progress->solution = parcel_text(parcel, "av");
        progress->delivered = 10 + i;
    }
    vm->events = 77;
}

static void
put_guest(struct parcel *parcel)
{
    Gimux__Handover__V1__Guest *guest =
        PARCEL_ADD(parcel, parcel->message->guests, parcel->message->n_guests, guest);
    Gimux__Handover__V1__Door *door = PARCEL_SET(parcel, guest->door, door);

    door->name = parcel_text(parcel, "unix:/shared");
    door->cid = 5;
    guest->input = parcel_bytes(parcel, "\0in", 3);
    guest->output = parcel_bytes(parcel, NULL, 0);
    guest->descriptor = parcel_file(parcel, STDERR_FILENO);
}

static void
fill(struct parcel *parcel)
{
    char name[20];

    parcel->message->build = parcel_text(parcel, "gimuxd 1");
    for (uint64_t i = 0; i < COUNTERS; i++) {
        Gimux__Handover__V1__Counter *counter =
            PARCEL_ADD(parcel, parcel->message->counters, parcel->message->n_counters, counter);

        snprintf(name, sizeof(name), "counter%u", (unsigned)i);
        counter->name = parcel_text(parcel, name);
        counter->value = i;
    }
    put_vm(parcel);
    put_guest(parcel);
    parcel_add_socket(parcel, &address, STDOUT_FILENO);
}

/* ---- what comes out ---- */

static void
test_what_is_put_in_comes_out(void **state)
{
    struct parcel parcel;
    Gimux__Handover__V1__Handover *got;
    uint8_t packed[4096];
    char name[20];
    size_t len;

    (void)state;
    assert_true(parcel_begin(&parcel));
    fill(&parcel);
    assert_false(parcel.failed);
    assert_int_equal(parcel.files.count, 2);
    len = gimux__handover__v1__handover__get_packed_size(parcel.message);
    assert_in_range(len, 1, sizeof(packed));
    gimux__handover__v1__handover__pack(parcel.message, packed);
    assert_int_equal(parcel.files.fds[0], STDERR_FILENO);
    assert_int_equal(parcel.files.fds[1], STDOUT_FILENO);
    parcel_fini(&parcel, false);

    got = gimux__handover__v1__handover__unpack(NULL, len, packed);
    assert_non_null(got);
    assert_string_equal(got->build, "gimuxd 1");
    assert_int_equal(got->n_counters, COUNTERS);
    for (size_t i = 0; i < COUNTERS; i++) {
        snprintf(name, sizeof(name), "counter%u", (unsigned)i);
        assert_string_equal(got->counters[i]->name, name);
        assert_int_equal(got->counters[i]->value, i);
    }
    assert_int_equal(got->n_vms, 1);
    assert_int_equal(got->vms[0]->events, 77);
    assert_int_equal(got->vms[0]->uuid.len, sizeof(uuid));
    assert_memory_equal(got->vms[0]->uuid.data, uuid, sizeof(uuid));
    assert_int_equal(got->vms[0]->n_streams, 3);
    for (size_t i = 0; i < 3; i++) {
        const Gimux__Handover__V1__Stream *stream = got->vms[0]->streams[i];

        assert_int_equal(stream->driver, i);
        assert_string_equal(stream->build, "build");
        assert_int_equal(stream->n_progress, 1);
        assert_string_equal(stream->progress[0]->solution, "av");
        assert_int_equal(stream->progress[0]->delivered, 10 + i);
    }
    assert_int_equal(got->n_guests, 1);
    assert_string_equal(got->guests[0]->door->name, "unix:/shared");
    assert_int_equal(got->guests[0]->door->cid, 5);
    assert_int_equal(got->guests[0]->input.len, 3);
    assert_memory_equal(got->guests[0]->input.data, "\0in", 3);
    assert_int_equal(got->guests[0]->output.len, 0);
    assert_int_equal(got->guests[0]->descriptor, 1);
    assert_int_equal(got->n_sockets, 1);
    assert_string_equal(got->sockets[0]->address, "unix:/run/a.sock");
    assert_int_equal(got->sockets[0]->descriptor, 2);
    gimux__handover__v1__handover__free_unpacked(got, NULL);
}

static void
test_its_files_are_closed_if_that_is_asked(void **state)
{
    struct parcel parcel;
    int fds[] = { dup(STDERR_FILENO), dup(STDERR_FILENO) };

    (void)state;
    for (int closes = 0; closes < 2; closes++) {
        assert_true(parcel_begin(&parcel));
        assert_int_equal(parcel_file(&parcel, fds[0]), 1);
        assert_int_equal(parcel_file(&parcel, fds[1]), 2);
        assert_int_equal(descriptors_take(&parcel.files, 2), fds[1]);
        parcel_fini(&parcel, closes);
        assert_int_equal(fcntl(fds[0], F_GETFD) >= 0, !closes);
        assert_true(fcntl(fds[1], F_GETFD) >= 0);
    }
    close(fds[1]);
}

/* ---- memory runs out ---- */

/* Whatever is asked of a parcel that has failed is answered with something that can be written to, and
 * changes nothing. It also overwrites what earlier calls have left in that place, so that no leak hides
 * there. */
static void
use_failed(struct parcel *parcel)
{
    size_t counters = parcel->message->n_counters;
    Gimux__Handover__V1__Guest *guest =
        PARCEL_ADD(parcel, parcel->message->guests, parcel->message->n_guests, guest);

    memset(&guest->input, 0xff, sizeof(guest->input));
    guest = PARCEL_ADD(parcel, parcel->message->guests, parcel->message->n_guests, guest);
    assert_null(guest->input.data); /* the next one finds it empty */
    assert_string_equal(parcel_text(parcel, "text"), "");
    assert_null(parcel_bytes(parcel, "bytes", 5).data);
    assert_non_null(PARCEL_ADD(parcel, parcel->message->counters, parcel->message->n_counters, counter));
    assert_int_equal(parcel->message->n_counters, counters);
    assert_non_null(PARCEL_SET(parcel, guest->door, door));
    assert_true(parcel->failed);
}

/* Fills a parcel, while memory is out after n allocations; `needed` are enough. */
static void
run_out_after(int n, int needed)
{
    struct parcel parcel;
    bool begun;

    left = n;
    begun = parcel_begin(&parcel);
    assert_int_equal(begun, n > 0);
    if (begun) {
        fill(&parcel);
        left = -1; /* it stays failed, though there is memory again */
        assert_int_equal(parcel.failed, n < needed);
        if (parcel.failed)
            use_failed(&parcel);
    }
    left = -1;
    parcel_fini(&parcel, false);
#ifdef __SANITIZE_ADDRESS__
    assert_int_equal(__lsan_do_recoverable_leak_check(), 0);
#endif
}

static void
test_memory_runs_out_anywhere(void **state)
{
    struct parcel parcel;
    int needed;

    (void)state;
    made = 0;
    assert_true(parcel_begin(&parcel));
    fill(&parcel);
    parcel_fini(&parcel, false);
    needed = made;
    assert_in_range(needed, 40, 200);
    for (int n = 0; n <= needed; n++) {
        once = false;
        run_out_after(n, needed);
        once = true; /* and so what failed, and nothing after it, must have said so */
        run_out_after(n, needed);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_put_in_comes_out),
        cmocka_unit_test(test_its_files_are_closed_if_that_is_asked),
        cmocka_unit_test(test_memory_runs_out_anywhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
