/* Chunks of VM logs: a run of frames with the entries that describe them, and the pool that chunks come from.
 */
#include "mux/vmlog/chunk.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static struct vmlog_chunk **
spare_list(struct vmlog_pool *pool, uint32_t size)
{
    if (size == VMLOG_SMALL_CHUNK)
        return &pool->spare_small;
    return size == VMLOG_LARGE_CHUNK ? &pool->spare_large : NULL;
}

static void
drop_spares(struct vmlog_pool *pool, struct vmlog_chunk **list, size_t keep)
{
    while (*list && pool->spare > keep) {
        struct vmlog_chunk *chunk = *list;

        *list = chunk->next;
        pool->spare -= chunk->size;
        free(chunk);
    }
}

struct vmlog_chunk *
vmlog_chunk_take(struct vmlog_pool *pool, uint32_t size)
{
    struct vmlog_chunk **list = spare_list(pool, size);
    struct vmlog_chunk *chunk = list ? *list : NULL;

    assert(pool);
    if (chunk) {
        *list = chunk->next;
        pool->spare -= size;
    } else {
        /* Spare chunks of the other size must not add to what the limit allows. */
        size_t keep = pool->limit > pool->used + size ? pool->limit - pool->used - size : 0;

        drop_spares(pool, &pool->spare_small, keep);
        drop_spares(pool, &pool->spare_large, keep);
        chunk = malloc(size);
        if (!chunk)
            return NULL;
    }
    pool->used += size;
    if (pool->peak < pool->used)
        pool->peak = pool->used;
    memset(chunk, 0, sizeof(*chunk));
    chunk->size = size;
    chunk->room = size - (uint32_t)sizeof(*chunk);
    return chunk;
}

/* What comes and goes with every turn of the loop is not given back to the system each time. */
void
vmlog_chunk_give(struct vmlog_pool *pool, struct vmlog_chunk *chunk)
{
    struct vmlog_chunk **list = spare_list(pool, chunk->size);

    if (chunk->segment && pool->released)
        pool->released(chunk->segment);
    if (chunk->stub) {
        pool->stubs -= chunk->size;
        free(chunk);
        return;
    }
    if (chunk->loaded_for)
        pool->loaded[chunk->loaded_for - 1] -= chunk->size;
    pool->used -= chunk->size;
    if (list && pool->used + pool->spare + chunk->size <= pool->peak &&
        pool->used + pool->spare + chunk->size <= pool->limit) {
        chunk->next = *list;
        *list = chunk;
        pool->spare += chunk->size;
    } else {
        free(chunk);
    }
}

void
vmlog_pool_trim(struct vmlog_pool *pool)
{
    pool->peak = pool->used > pool->peak / 2 ? pool->used : pool->peak / 2;
    drop_spares(pool, &pool->spare_large, pool->peak - pool->used);
    drop_spares(pool, &pool->spare_small, pool->peak - pool->used);
}

void
vmlog_pool_fini(struct vmlog_pool *pool)
{
    drop_spares(pool, &pool->spare_small, 0);
    drop_spares(pool, &pool->spare_large, 0);
}

struct vmlog_chunk *
vmlog_stub_take(struct vmlog_pool *pool, uint32_t ranges)
{
    size_t size = sizeof(struct vmlog_chunk) + ranges * sizeof(struct vmlog_range);
    struct vmlog_chunk *stub = calloc(1, size);

    if (!stub)
        return NULL;
    stub->size = (uint32_t)size;
    stub->used = ranges;
    stub->stub = stub->sealed = true;
    pool->stubs += size;
    return stub;
}
