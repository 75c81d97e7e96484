/* One gimux.v1.Frame at a time: gimuxd's own small ones packed for the wire, the SVMs' unpacked in bounded
 * memory. */
#include "mux/event/frame.h"

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

const Gimux__V1__Frame *
frame_make_gap(struct frame_gap *out, uint32_t stream, uint64_t first, uint64_t last, uint32_t reason)
{
    gimux__v1__frame__init(&out->frame);
    gimux__v1__gap__init(&out->gap);
    out->gap.stream = stream;
    out->gap.first_sequence = first;
    out->gap.last_sequence = last;
    out->gap.reason = (Gimux__V1__GapReason)reason;
    out->frame.body_case = GIMUX__V1__FRAME__BODY_GAP;
    out->frame.gap = &out->gap;
    return &out->frame;
}

size_t
frame_gap(uint8_t buf[FRAME_OWN_MAX], uint32_t stream, uint64_t first, uint64_t last, uint32_t reason)
{
    struct frame_gap gap;

    return frame_pack(frame_make_gap(&gap, stream, first, last, reason), buf, FRAME_OWN_MAX);
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

/* ---- acknowledgements ---- */

enum {
    TAG_ACK = 0x42,     /* Frame.ack = 8, by length */
    TAG_STREAMS = 0x0a, /* Ack.streams = 1, by length */
    TAG_STREAM = 0x08,  /* StreamAck.stream = 1, varint */
    TAG_SEQUENCE = 0x10 /* StreamAck.sequence = 2, varint */
};

static bool
take_varint(const uint8_t **at, const uint8_t *end, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; *at < end && shift < 64; shift += 7) {
        uint8_t byte = *(*at)++;

        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* A field by length: *end is where it ends. */
static bool
take_length(const uint8_t **at, const uint8_t *limit, uint8_t tag, const uint8_t **end)
{
    uint64_t len;

    if (*at == limit || *(*at)++ != tag || !take_varint(at, limit, &len) || len > (uint64_t)(limit - *at))
        return false;
    *end = *at + len;
    return true;
}

/* A number, which is 0 if it is not there. */
static bool
take_number(const uint8_t **at, const uint8_t *end, uint8_t tag, uint64_t *value)
{
    *value = 0;
    if (*at == end || **at != tag)
        return true;
    (*at)++;
    return take_varint(at, end, value);
}

bool
frame_acks_next(struct frame_acks *acks, uint32_t *stream, uint64_t *sequence)
{
    const uint8_t *end;
    uint64_t number;

    if (!take_length(&acks->at, acks->end, TAG_STREAMS, &end) ||
        !take_number(&acks->at, end, TAG_STREAM, &number) || number > UINT32_MAX ||
        !take_number(&acks->at, end, TAG_SEQUENCE, sequence) || acks->at != end)
        return false;
    *stream = (uint32_t)number;
    return true;
}

bool
frame_acks_begin(struct frame_acks *acks, const uint8_t *body, size_t len)
{
    const uint8_t *at = body;
    const uint8_t *end;
    struct frame_acks all;
    uint32_t stream;
    uint64_t sequence;

    if (!take_length(&at, body + len, TAG_ACK, &end) || end != body + len)
        return false;
    *acks = all = (struct frame_acks){ at, end };
    while (all.at < end)
        if (!frame_acks_next(&all, &stream, &sequence))
            return false;
    return true;
}
