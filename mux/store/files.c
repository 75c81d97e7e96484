/* What the store has of one VM: its segments, and where it is on its way into them. The theory stands at the
 * top of store.c. */
#include "mux/store/inner.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "mux/base/log.h"

/* ---- states ---- */

static struct store_vms *
list_of(struct store *store, enum store_state state)
{
    switch (state) {
    case STORE_DIRTY:
        return &store->dirty;
    case STORE_DUE:
        return &store->due;
    case STORE_LATER:
        return &store->later;
    default:
        return NULL;
    }
}

void
store_set_state(struct store_vm *of, enum store_state state)
{
    struct store *store = of->store;
    struct store_vms *from = list_of(store, of->state);
    struct store_vms *to = list_of(store, state);

    if (of->state == state)
        return;
    if (from)
        TAILQ_REMOVE(from, of, in_list);
    of->state = state;
    if (!to)
        return;
    if (TAILQ_EMPTY(to) && state == STORE_DIRTY)
        loop_timer_start(store->beat, STORE_BEAT_MS);
    else if (TAILQ_EMPTY(to) && state == STORE_LATER)
        loop_timer_start(store->tick, STORE_TICK_MS);
    TAILQ_INSERT_TAIL(to, of, in_list);
}

/* Whether its files may be used again: the log is empty, and with it goes what was wrong. */
static bool
mend(struct store_vm *of)
{
    if (!of->vm)
        return true; /* they are removed */
    if (vmlog_first_chunk(vm_log(of->vm)))
        return false;
    log_info((&(struct log_who){ .vm = vm_uuid_text(of->vm) }), "storage: its files are used again");
    of->error = 0;
    of->current = NULL;
    return true;
}

void
store_touch_vm(struct store_vm *of)
{
    if (of->store->frozen)
        return;
    switch (of->state) {
    case STORE_DIRTY:
    case STORE_DUE:
    case STORE_AGAIN:
        return;
    case STORE_WRITING:
        store_set_state(of, STORE_AGAIN);
        return;
    case STORE_BROKEN:
        if (!mend(of))
            return;
        break;
    case STORE_IDLE:
    case STORE_LATER:
        break;
    }
    of->waited = of->state == STORE_LATER;
    store_set_state(of, STORE_DIRTY);
}

void
store_later(struct store_vm *of)
{
    if (of->state == STORE_IDLE && !of->store->frozen)
        store_set_state(of, STORE_LATER);
}

void
store_end_writing(struct store_vm *of, enum store_state next)
{
    bool again = of->state == STORE_AGAIN;

    assert(store_vm_is_writing(of));
    of->waited = false;
    store_set_state(of, again && next == STORE_LATER ? STORE_DIRTY : next);
    if (again && next == STORE_BROKEN)
        store_touch_vm(of);
}

/* ---- segments ---- */

static struct vmlog_segment *
add_segment(struct store_vm *of, const struct segment_name *name)
{
    struct vmlog_segment *segment = calloc(1, sizeof(*segment));

    if (!segment)
        return NULL;
    segment->of = of;
    segment->name = *name;
    segment->fd = -1;
    LIST_INSERT_HEAD(&of->segments, segment, in_vm);
    of->store->segments++;
    if (of->next_number <= name->number)
        of->next_number = name->number + 1;
    return segment;
}

void
store_free_segment(struct vmlog_segment *segment)
{
    struct store_vm *of = segment->of;

    of->bytes -= segment->end;
    of->store->bytes -= segment->end;
    of->store->segments--;
    if (of->current == segment)
        of->current = NULL;
    if (segment->fd >= 0)
        close(segment->fd);
    LIST_REMOVE(segment, in_vm);
    if (segment->torn)
        LIST_REMOVE(segment, in_torn);
    free(segment);
}

struct vmlog_segment *
store_begin_segment(struct store_vm *of)
{
    struct segment_name name = { .number = of->next_number };

    memcpy(name.vm_uuid, vm_uuid(of->vm), GR_UUID_SIZE);
    if (name.number > SEGMENT_NUMBER_MAX || getrandom(&name.seed, sizeof(name.seed), 0) != sizeof(name.seed))
        return NULL;
    if (of->current && of->current->fd >= 0) {
        close(of->current->fd);
        of->current->fd = -1;
    }
    of->current = add_segment(of, &name);
    of->all_positions = true;
    vmlog_seal(vm_log(of->vm));
    return of->current;
}

struct vmlog_segment *
store_take_segment(struct store *store, struct vm *vm, const struct segment_name *name, uint64_t bytes)
{
    struct store_vm *of = store_files_of(store, vm);
    struct vmlog_segment *segment = of ? add_segment(of, name) : NULL;

    if (!segment)
        return NULL;
    segment->end = bytes;
    of->bytes += bytes;
    store->bytes += bytes;
    store_touch_vm(of);
    return segment;
}

void
store_cut_segment(struct vmlog_segment *segment, uint64_t bytes)
{
    struct store *store = segment->of->store;

    segment->of->bytes -= segment->end - bytes;
    store->bytes -= segment->end - bytes;
    segment->end = bytes;
    segment->torn = true;
    LIST_INSERT_HEAD(&store->torn, segment, in_torn);
}

void
store_hold(struct vmlog_segment *segment, struct vmlog_chunk *chunk)
{
    chunk->segment = segment;
    segment->chunks++;
}

void
store_released(struct vmlog_segment *segment)
{
    assert(segment->chunks > 0);
    if (--segment->chunks == 0)
        store_touch_vm(segment->of);
}

/* ---- VMs ---- */

struct store_vm *
store_files_of(struct store *store, struct vm *vm)
{
    struct store_vm *of = vm_files(vm);

    if (of)
        return of;
    of = calloc(1, sizeof(*of));
    if (!of)
        return NULL;
    of->store = store;
    of->vm = vm;
    of->next_number = 1;
    LIST_INIT(&of->segments);
    vm_set_files(vm, of);
    return of;
}

void
store_touch(struct store *store, struct vm *vm)
{
    struct store_vm *of = vm_files(vm);

    if (!of && vmlog_is_backed(vm_log(vm)))
        of = store_files_of(store, vm);
    if (!of || store_vm_is_writing(of))
        return; /* it is looked at again when it is written */
    if (of->state != STORE_BROKEN && (of->error || of->full))
        store_later(of);
    else
        store_touch_vm(of);
}

void
store_release_vm(struct store_vm *of)
{
    if (!of->vm && of->full) {
        of->full = false;
        of->store->full--;
    }
    if (of->vm || store_vm_is_writing(of) || of->loads > 0 || !LIST_EMPTY(&of->segments))
        return;
    store_set_state(of, STORE_IDLE);
    free(of);
}

void
store_forget(struct vm *vm)
{
    struct store_vm *of = vm_files(vm);

    if (!of)
        return;
    store_clear_saved(vm);
    of->vm = NULL;
    of->current = NULL;
    vm_set_files(vm, NULL);
    store_touch_vm(of);
    store_release_vm(of);
}

void
store_leave(struct vm *vm)
{
    struct store_vm *of = vm_files(vm);

    if (!of)
        return;
    store_clear_saved(vm);
    for (struct vmlog_segment *segment = LIST_FIRST(&of->segments), *next; segment; segment = next) {
        next = LIST_NEXT(segment, in_vm);
        store_free_segment(segment);
    }
    of->vm = NULL;
    vm_set_files(vm, NULL);
    store_release_vm(of);
}

bool
store_was_damaged(const struct vm *vm)
{
    return vm_files(vm) && vm_files(vm)->damaged;
}

uint64_t
store_vm_bytes(const struct vm *vm)
{
    return vm_files(vm) ? vm_files(vm)->bytes : 0;
}
