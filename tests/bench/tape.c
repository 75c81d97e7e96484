/* A tape: the events of one driver as a system expects them on its wire, ready to be written repeatedly. */
#include "tests/bench/tape.h"

#include <stdlib.h>

#define WRAP_MAX 256 /* bytes around a record */

struct tape *
tape_new(const struct mix *mix, tape_wrap *wrap, bool filetime)
{
    struct tape *tape = calloc(1, sizeof(*tape));
    uint32_t used = 0;

    if (!tape || !(tape->bytes = malloc(mix->at[MIX_EVENTS] + (size_t)MIX_EVENTS * WRAP_MAX)))
        abort();
    tape->driver = mix->driver;
    tape->filetime = filetime && gr_driver_is_windows(mix->driver);
    for (uint32_t i = 0; i < MIX_EVENTS; i++) {
        uint32_t head = 0, tag = 0;
        size_t size =
            wrap(mix->bytes + mix->at[i], mix->at[i + 1] - mix->at[i], tape->bytes + used, &head, &tag);

        tape->head[i] = used + head;
        tape->tag[i] = tag ? used + tag : 0;
        used += (uint32_t)size;
        tape->at[i + 1] = used;
    }
    return tape;
}

void
tape_free(struct tape *tape)
{
    if (!tape)
        return;
    free(tape->bytes);
    free(tape);
}
