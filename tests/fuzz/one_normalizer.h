/* One normalizer for all runs of a fuzzer (--wrap): 1.3 MiB that every run would zero. */
#ifndef GIMUX_FUZZ_ONE_NORMALIZER_H
#define GIMUX_FUZZ_ONE_NORMALIZER_H

#include "mux/event/normalize.h"

struct normalizer *__real_normalizer_new(void);
struct normalizer *__wrap_normalizer_new(void);
void __wrap_normalizer_free(struct normalizer *normalizer);

struct normalizer *
__wrap_normalizer_new(void)
{
    static struct normalizer *normalizer;

    if (!normalizer)
        normalizer = __real_normalizer_new();
    return normalizer;
}

void
__wrap_normalizer_free(struct normalizer *normalizer)
{
    (void)normalizer;
}

#endif
