/* One gimux.v1.Frame at a time: gimuxd's own small ones packed for the wire, the SVMs' unpacked in bounded
 * memory. */
#include "mux/frame.h"

#include <stdlib.h>

size_t
frame_pack(const Gimux__V1__Frame *frame, uint8_t *buf, size_t cap)
{
    size_t body = gimux__v1__frame__get_packed_size(frame);
    size_t prefix;

    if (body > DELIMITED_FRAME_MAX || delimited_prefix_size(body) + body > cap)
        return 0;
    prefix = delimited_put_prefix(buf, body);
    return prefix + gimux__v1__frame__pack(frame, buf + prefix);
}

/* protobuf-c allocates for every message and text inside a frame; this is what one frame gets. */
static void *
allocate(void *budget, size_t size)
{
    size_t *left = budget;

    if (size > *left)
        return NULL;
    *left -= size;
    return malloc(size);
}

static void
release(void *budget, void *memory)
{
    (void)budget;
    free(memory);
}

Gimux__V1__Frame *
frame_unpack(const uint8_t *body, size_t len)
{
    size_t budget = FRAME_UNPACKED_MAX;
    ProtobufCAllocator allocator = { allocate, release, &budget };

    return gimux__v1__frame__unpack(&allocator, len, body);
}
