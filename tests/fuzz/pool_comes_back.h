/* A pool that ends has every chunk back (--wrap): the route frees its pool with itself, out of the fuzzer's
 * sight. */
#ifndef GIMUX_FUZZ_POOL_COMES_BACK_H
#define GIMUX_FUZZ_POOL_COMES_BACK_H

#include <assert.h>

#include "mux/vmlog/chunk.h"

void __real_vmlog_pool_fini(struct vmlog_pool *pool);
void __wrap_vmlog_pool_fini(struct vmlog_pool *pool);

void
__wrap_vmlog_pool_fini(struct vmlog_pool *pool)
{
    assert(pool->used == 0 && pool->stubs == 0);
    __real_vmlog_pool_fini(pool);
    assert(pool->spare == 0);
}

#endif
