/* Saved positions: how far solutions were in streams, as files say when they are taken up, until all
 * solutions have joined. */
#include "mux/store/inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct saved *
find(const struct store_vm *of, const struct stream *stream, const char *solution)
{
    struct saved *saved = of->saved;

    while (saved && ((stream && saved->stream != stream) || strcmp(saved->solution, solution) != 0))
        saved = saved->next;
    return saved;
}

struct saved *
store_saved_for(struct store_vm *of, struct stream *stream, const char *solution)
{
    struct saved *saved = find(of, stream, solution);

    if (saved)
        return saved;
    saved = calloc(1, sizeof(*saved));
    if (!saved)
        return NULL;
    snprintf(saved->solution, sizeof(saved->solution), "%s", solution);
    saved->stream = stream;
    saved->next = of->saved;
    of->saved = saved;
    return saved;
}

const struct vmlog_saved *
store_saved(const struct vm *vm, const struct stream *stream, const char *solution)
{
    const struct store_vm *of = vm_files(vm);
    const struct saved *saved = of ? find(of, stream, solution) : NULL;

    return saved ? &saved->at : NULL;
}

void
store_clear_saved(struct vm *vm)
{
    struct store_vm *of = vm_files(vm);

    while (of && of->saved) {
        struct saved *next = of->saved->next;

        free(of->saved);
        of->saved = next;
    }
}
