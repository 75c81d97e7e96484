/* What an SVM of the tests was sent and has not read: bytes with frames, as they come from a connection. */
#ifndef GIMUX_TESTS_SVM_WIRE_H
#define GIMUX_TESTS_SVM_WIRE_H

#include "tests/unit/store/store_world.h"

#include "mux/route/sink.h"
#include "proto/delimited.h"
#include "proto/gimux.pb-c.h"

#define WIRE ((size_t)8 * 1024 * 1024)

struct svm_wire {
    bool woken; /* the sink has something more for it */
    size_t len;
    uint8_t bytes[WIRE];
};

static inline void
wire_put(struct svm_wire *wire, const void *data, size_t len)
{
    assert_true(wire->len + len <= WIRE);
    memcpy(wire->bytes + wire->len, data, len);
    wire->len += len;
}

/* The frame at *at, which is moved behind it; the caller frees it. NULL: there is no whole one more. */
static inline Gimux__V1__Frame *
wire_frame(const struct svm_wire *wire, size_t *at)
{
    Gimux__V1__Frame *frame;
    const uint8_t *body;
    size_t len;

    if (delimited_next(wire->bytes + *at, wire->len - *at, DELIMITED_FRAME_MAX, &body, &len) !=
        DELIMITED_FRAME)
        return NULL;
    frame = gimux__v1__frame__unpack(NULL, len, body);
    assert_non_null(frame);
    *at = (size_t)(body + len - wire->bytes);
    return frame;
}

/* What comes before `at` was read. */
static inline void
wire_drop(struct svm_wire *wire, size_t at)
{
    memmove(wire->bytes, wire->bytes + at, wire->len - at);
    wire->len -= at;
}

/* ---- what a sink asks of its owner, which begins with a struct svm_wire ---- */

static inline void
wire_tell(void *owner, const Gimux__V1__Frame *frame)
{
    uint8_t packed[1000];
    size_t body = gimux__v1__frame__get_packed_size(frame);
    size_t prefix = delimited_put_prefix(packed, body);

    assert_true(prefix + body <= sizeof(packed));
    gimux__v1__frame__pack(frame, packed + prefix);
    wire_put(owner, packed, prefix + body);
}

static inline void
wire_wake(void *owner)
{
    ((struct svm_wire *)owner)->woken = true;
}

static const struct sink_ops sink_ops = { .tell = wire_tell, .wake = wire_wake };

#endif
