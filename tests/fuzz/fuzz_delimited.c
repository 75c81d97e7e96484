/* Fuzzes what either end of an SVM connection does with bytes: cut them into frames and unpack those. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "proto/delimited.h"
#include "proto/gimux.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was unpacked can be packed, into as many bytes as announced. (Not always to be unpacked once more:
 * protobuf-c keeps unknown fields of number 0, and refuses them in another guise.) */
static void
check_frame(const Gimux__V1__Frame *frame)
{
    size_t size = gimux__v1__frame__get_packed_size(frame);
    uint8_t *buf = malloc(size + 1);

    assert(buf);
    assert(gimux__v1__frame__pack(frame, buf) == size);
    free(buf);
}

static void
check_prefix(const uint8_t *body, size_t len)
{
    uint8_t prefix[DELIMITED_PREFIX_MAX];
    const uint8_t *end = body + len;
    size_t size = delimited_put_prefix(prefix, len);
    size_t body_len;

    assert(size == delimited_prefix_size(len));
    assert(len == 0 || delimited_next(prefix, size, DELIMITED_FRAME_MAX, &end, &body_len) == DELIMITED_MORE);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = data + size;
    const uint8_t *body;
    size_t len;

    while (delimited_next(data, (size_t)(end - data), DELIMITED_FRAME_MAX, &body, &len) == DELIMITED_FRAME) {
        Gimux__V1__Frame *frame;

        assert(body > data && body <= end && len <= (size_t)(end - body));
        check_prefix(body, len);
        frame = gimux__v1__frame__unpack(NULL, len, body);
        if (frame) {
            check_frame(frame);
            gimux__v1__frame__free_unpacked(frame, NULL);
        }
        data = body + len;
    }
    return 0;
}
