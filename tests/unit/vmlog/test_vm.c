/* VMs and streams: whom the table forgets at its limits and whom it never may, and that what was counted of
 * them stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mux/vmlog/inner.h"

#define LIMIT 3u
#define SINK  2u

struct world {
    struct vmlog_pool pool;
    struct vm_table *table;
};

/* What the owner of the table has of each VM. */
struct part {
    uint64_t aligns;
    bool in_use;
    bool in_turn;
};

static struct part *
part(const struct vm *vm)
{
    return vm_part(vm, sizeof(struct part));
}

static bool
in_use(const struct vm *vm)
{
    return part(vm)->in_use || part(vm)->in_turn;
}

static bool
in_turn(const struct vm *vm)
{
    return part(vm)->in_turn;
}

static const struct vm_table_ops ops = { .part = sizeof(struct part), .in_use = in_use, .in_turn = in_turn };

static int
open_world(void **state)
{
    struct world *world = calloc(1, sizeof(*world));

    if (!world)
        return -1;
    world->pool.limit = 1 << 20;
    world->pool.own = 1 << 20;
    world->table = vm_table_new(&world->pool, &ops);
    assert_non_null(world->table);
    vm_table_set_limit(world->table, LIMIT);
    assert_true(vm_table_make_slots(world->table, SINK + 1));
    *state = world;
    return 0;
}

static int
close_world(void **state)
{
    struct world *world = *state;

    vm_table_free(world->table);
    assert_int_equal(world->pool.used + world->pool.spare, 0);
    free(world);
    return 0;
}

/* A UUID, or a boot id, of one letter. */
static const uint8_t *
id(char letter)
{
    static uint8_t ids[256][GR_UUID_SIZE];
    uint8_t *out = ids[(uint8_t)letter];

    memset(out, letter, GR_UUID_SIZE);
    return out;
}

static struct vm *
add_vm(struct world *world, char letter)
{
    struct vm *vm = vm_add(world->table, id(letter));

    if (vm)
        vmlog_join(&vm->log, SINK);
    return vm;
}

static struct stream *
add_stream(struct world *world, struct vm *vm, char boot)
{
    struct stream *stream = vm_stream_add(world->table, vm, GR_LINUX, id(boot), 1);

    if (stream)
        vmlog_join_stream(&stream->log, SINK);
    return stream;
}

static void
append(struct vm *vm, struct stream *stream)
{
    struct vmlog_entry entry = {
        .stream = &stream->log, .sequence = stream->log.last + 1, .count = 1, .end = 10, .cls = CLASS_FILE
    };

    assert_non_null(vmlog_reserve(&vm->log, 10, false));
    vmlog_commit(&vm->log, &entry);
}

/* Announces the stream, and sends all that is in the log if the mask says so, else passes over it. */
static enum vmlog_peek
send_all(struct vm *vm, struct stream *stream, uint32_t class_mask)
{
    struct vmlog_filter filter = { .class_mask = class_mask };
    struct iovec iov[4];
    struct iovec rest;
    struct vmlog_batch batch = { .iov = iov, .max = 4 };
    struct vmlog_stream *unknown;
    enum vmlog_peek result;

    vmlog_announce(&stream->log, SINK, 1);
    result = vmlog_peek(&vm->log, SINK, &filter, 1, &batch, 4096, &unknown);
    vmlog_sent(&vm->log, SINK, batch.bytes, &rest);
    return result;
}

/* ---- the table of VMs ---- */

static void
test_found_by_uuid(void **state)
{
    struct world *world = *state;
    struct vm *a = add_vm(world, 'a');
    struct vm *b = add_vm(world, 'b');

    assert_string_equal(a->uuid_text, "61616161-6161-6161-6161-616161616161");
    assert_ptr_equal(vm_find(world->table, id('a')), a);
    assert_ptr_equal(vm_find(world->table, id('b')), b);
    assert_null(vm_find(world->table, id('c')));
    assert_ptr_equal(vm_next(world->table, NULL), a);
    assert_ptr_equal(vm_next(world->table, a), b);
    assert_null(vm_next(world->table, b));
    assert_int_equal(vm_table_count(world->table), 2);
}

/* At the limit the oldest VM makes room that nobody misses; never one that its owner uses or that has
 * something queued. */
static void
test_limit_forgets_the_idle(void **state)
{
    struct world *world = *state;
    struct vm *vms[LIMIT];

    for (unsigned i = 0; i < LIMIT; i++)
        vms[i] = add_vm(world, (char)('a' + i));
    part(vms[0])->in_use = true;
    append(vms[1], add_stream(world, vms[1], '1'));
    assert_non_null(add_vm(world, 'd'));
    assert_null(vm_find(world->table, id('c')));
    assert_non_null(vm_find(world->table, id('a')));
    assert_non_null(vm_find(world->table, id('b')));
}

static void
test_limit_spares_the_busy(void **state)
{
    struct world *world = *state;
    struct vm *a = add_vm(world, 'a');
    struct vm *b = add_vm(world, 'b');
    struct vm *c = add_vm(world, 'c');

    part(a)->in_use = part(b)->in_use = part(c)->in_use = true;
    assert_null(add_vm(world, 'd'));
    part(c)->in_use = false;
    part(c)->in_turn = true;
    assert_null(add_vm(world, 'd'));
    assert_non_null(vm_find(world->table, id('c')));
    part(c)->in_turn = false;
    assert_non_null(add_vm(world, 'd'));
    assert_null(vm_find(world->table, id('c')));
}

/* A log may be empty while a gap in it was not told yet, or not acknowledged: to forget the VM then would
 * lose events without a word. */
static void
test_a_gap_is_not_forgotten(void **state)
{
    struct world *world = *state;
    struct vm *a = add_vm(world, 'a');
    struct stream *stream = vm_stream_add(world->table, a, GR_LINUX, id('1'), 10);
    uint64_t first;
    uint64_t last;

    vmlog_join_stream(&stream->log, SINK);
    assert_true(vmlog_gap_before(&a->log, SINK, &stream->log, 3, 9, 1));
    assert_null(a->log.first);
    part(add_vm(world, 'b'))->in_use = true;
    part(add_vm(world, 'c'))->in_use = true;
    assert_null(add_vm(world, 'd'));
    assert_int_equal(send_all(a, stream, 0), VMLOG_TELL_GAP);
    assert_true(vmlog_gap_next(&a->log, SINK, &stream->log, &first, &last));
    assert_null(add_vm(world, 'd'));
    assert_true(vmlog_ack(&a->log, SINK, &stream->log, 9));
    assert_non_null(add_vm(world, 'd'));
    assert_null(vm_find(world->table, id('a')));
}

/* Nor is it kept for a sink that takes part no more. */
static void
test_a_gap_leaves_with_its_sink(void **state)
{
    struct world *world = *state;
    struct vm *a = add_vm(world, 'a');
    struct stream *stream = vm_stream_add(world->table, a, GR_LINUX, id('1'), 10);

    vmlog_join_stream(&stream->log, SINK);
    assert_true(vmlog_gap_before(&a->log, SINK, &stream->log, 3, 9, 1));
    vmlog_leave(&a->log, SINK);
    part(add_vm(world, 'b'))->in_use = true;
    part(add_vm(world, 'c'))->in_use = true;
    assert_non_null(add_vm(world, 'd'));
}

/* ---- streams ---- */

static void
test_streams_found(void **state)
{
    struct world *world = *state;
    struct vm *a = add_vm(world, 'a');
    struct stream *first = add_stream(world, a, '1');
    struct stream *second = add_stream(world, a, '2');
    struct stream *other = vm_stream_add(world->table, a, GR_VMX, id('1'), 100);

    assert_int_equal(other->log.last, 99);
    assert_int_equal(other->log.accepted, 99);
    assert_int_equal(other->about.start, 100);
    assert_ptr_equal(vm_stream_find(a, GR_LINUX, id('1')), first);
    assert_ptr_equal(vm_stream_find(a, GR_LINUX, id('2')), second);
    assert_ptr_equal(vm_stream_find(a, GR_VMX, id('1')), other);
    assert_null(vm_stream_find(a, GR_VMX, id('2')));
    assert_ptr_equal(vm_stream_by_id(world->table, first->log.id), first);
    assert_null(vm_stream_by_id(world->table, 0));
    assert_null(vm_stream_by_id(world->table, other->log.id + 1));
    assert_string_equal(first->about.boot_text, "31313131-3131-3131-3131-313131313131");
}

static void
test_stream_limit(void **state)
{
    struct world *world = *state;
    struct vm *a = add_vm(world, 'a');
    struct stream *streams[VM_STREAMS_MAX];

    for (unsigned i = 0; i < VM_STREAMS_MAX; i++)
        assert_non_null(streams[i] = add_stream(world, a, (char)('A' + i)));
    assert_null(add_stream(world, a, 'z'));

    /* ended, but somebody waits for what it brought */
    streams[3]->about.ended = true;
    append(a, streams[5]);
    assert_null(add_stream(world, a, 'z'));
    send_all(a, streams[5], 0);
    assert_null(a->log.first);

    /* ended, and taken up again by a guest */
    streams[3]->guest = world;
    assert_null(add_stream(world, a, 'z'));
    streams[3]->guest = NULL;
    assert_non_null(add_stream(world, a, 'z'));
    assert_int_equal(a->stream_count, VM_STREAMS_MAX);
    assert_null(vm_stream_find(a, GR_LINUX, id('D')));
    assert_non_null(add_vm(world, 'b'));
    assert_non_null(add_stream(world, vm_find(world->table, id('b')), 'A')); /* the limit is one VM's */
}

/* A stream that ended stays until the SVM has acknowledged its gap. */
static void
test_a_stream_with_a_gap_stays(void **state)
{
    struct world *world = *state;
    struct vm *a = add_vm(world, 'a');
    struct stream *stream = vm_stream_add(world->table, a, GR_LINUX, id('1'), 10);
    uint64_t first;
    uint64_t last;

    vmlog_join_stream(&stream->log, SINK);
    assert_true(vmlog_gap_before(&a->log, SINK, &stream->log, 3, 9, 1));
    stream->about.ended = true;
    assert_non_null(add_stream(world, a, '2'));
    assert_ptr_equal(vm_stream_find(a, GR_LINUX, id('1')), stream);
    assert_int_equal(send_all(a, stream, 0), VMLOG_TELL_GAP);
    assert_true(vmlog_gap_next(&a->log, SINK, &stream->log, &first, &last));
    assert_true(vmlog_ack(&a->log, SINK, &stream->log, 9));
    assert_non_null(add_stream(world, a, '3'));
    assert_null(vm_stream_find(a, GR_LINUX, id('1')));
}

/* Numbers are not used again: an acknowledgement that comes late must not meet another stream. */
static void
test_numbers_grow(void **state)
{
    struct world *world = *state;
    struct vm *a = add_vm(world, 'a');
    struct stream *stream = add_stream(world, a, '1');
    uint32_t number = stream->log.id;

    stream->about.ended = true;
    stream = add_stream(world, a, '2');
    assert_null(vm_stream_by_id(world->table, number));
    assert_int_equal(stream->log.id, number + 1);
}

/* The streams of a VM of which a sink is in the middle stay, though they have ended and nothing is queued. */
static void
test_streams_stay_in_turn(void **state)
{
    struct world *world = *state;
    struct vm *a = add_vm(world, 'a');

    add_stream(world, a, '1')->about.ended = true;
    part(a)->in_turn = true;
    assert_non_null(add_stream(world, a, '2'));
    assert_non_null(vm_stream_find(a, GR_LINUX, id('1')));
    part(a)->in_turn = false;
    assert_non_null(add_stream(world, a, '3'));
    assert_null(vm_stream_find(a, GR_LINUX, id('1')));
}

/* Files hold streams in any order, and any numbers. */
static void
test_streams_from_files(void **state)
{
    struct world *world = *state;
    struct vm *vm = add_vm(world, 'a');
    const uint32_t ids[] = { 9, 3, 7, UINT32_MAX };
    struct stream *stream = NULL;
    uint32_t before = 0;

    for (unsigned i = 0; i < 4; i++)
        assert_non_null(vm_stream_restore(world->table, vm, GR_LINUX, id((char)('1' + i)), 1, ids[i]));
    vm_table_sort_streams(world->table);
    while ((stream = vm_table_next_stream(world->table, stream))) {
        assert_true(stream_id(stream) > before);
        before = stream_id(stream);
    }
    assert_true(before == UINT32_MAX);
    assert_null(vm_stream_add(world->table, vm, GR_LINUX, id('9'), 1)); /* its number would be 0 */
}

/* ---- counts ---- */

/* What the pool has counted for the sink is the sum over the streams that there are, and so much of forgotten
 * ones. */
static void
assert_totals(const struct world *world, uint64_t delivered, uint64_t filtered)
{
    const struct vmlog_counts *all = &world->pool.counts[SINK];
    struct vmlog_counts forgotten = vm_table_forgotten(world->table, SINK);
    struct stream *stream = NULL;

    assert_int_equal(forgotten.delivered, delivered);
    assert_int_equal(forgotten.filtered, filtered);
    assert_int_equal(forgotten.gapped, 0);
    while ((stream = vm_table_next_stream(world->table, stream))) {
        delivered += stream_progress(stream, SINK)->delivered;
        filtered += stream_progress(stream, SINK)->filtered;
    }
    assert_int_equal(all->delivered, delivered);
    assert_int_equal(all->filtered, filtered);
    assert_int_equal(all->gapped, 0);
}

static void
test_counts_survive(void **state)
{
    struct world *world = *state;
    struct vm *a = add_vm(world, 'a');
    struct stream *stream = add_stream(world, a, '1');
    const struct vmlog_progress *progress = stream_progress(stream, SINK);

    append(a, stream);
    append(a, stream);
    send_all(a, stream, CLASS_MASK_ALL);
    assert_true(vmlog_ack(&a->log, SINK, &stream->log, 2));
    append(a, stream);
    send_all(a, stream, 0);
    assert_int_equal(progress->delivered, 2);
    assert_int_equal(progress->filtered, 1);
    assert_int_equal(progress->gapped, 0);
    assert_totals(world, 0, 0);

    stream->about.ended = true; /* first the stream is forgotten, then the VM */
    add_stream(world, a, '2');
    assert_null(vm_stream_find(a, GR_LINUX, id('1')));
    assert_totals(world, 2, 1);
    stream = vm_stream_find(a, GR_LINUX, id('2'));
    append(a, stream);
    send_all(a, stream, 0);
    assert_totals(world, 2, 1);
    for (char letter = 'b'; letter <= 'd'; letter++)
        assert_non_null(add_vm(world, letter));
    assert_null(vm_find(world->table, id('a')));
    assert_totals(world, 2, 2);
    assert_int_equal(world->pool.counts[SINK + 1].delivered, 0); /* sinks are kept apart */
    assert_int_equal(vm_table_forgotten(world->table, SINK + 1).delivered, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_found_by_uuid, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_limit_forgets_the_idle, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_limit_spares_the_busy, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_a_gap_is_not_forgotten, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_a_gap_leaves_with_its_sink, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_streams_found, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_stream_limit, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_a_stream_with_a_gap_stays, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_numbers_grow, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_streams_stay_in_turn, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_streams_from_files, open_world, close_world),
        cmocka_unit_test_setup_teardown(test_counts_survive, open_world, close_world),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
