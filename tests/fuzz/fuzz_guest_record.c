/* Fuzzes the codec of guest records: whatever decodes must encode again to the same bytes. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/guest_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The bytes behind the last known text are of a newer version and are not encoded; all others are. */
static void
check_encode(const struct gr_record *record, const uint8_t *wire)
{
    uint8_t *again = malloc(record->size);
    size_t size;

    assert(again);
    size = gr_encode(record, again, record->size);
    assert(size >= GR_HEADER_SIZE && size <= record->size);
    assert(memcmp(again + 4, wire + 4, size - 4) == 0); /* the size itself stands in the first 4 bytes */
    assert(gr_encode(record, again, size - 1) == 0);
    free(again);
}

static void
check_volumes(const struct gr_volumes *volumes)
{
    struct gr_volume volume;
    size_t at = 0;
    uint32_t count = 0;

    while (gr_volume_next(volumes, &at, &volume)) {
        assert(volume.letter >= 'A' && volume.letter <= 'Z');
        assert(volume.device.data + volume.device.len <= volumes->entries.data + volumes->entries.len);
        count++;
    }
    assert(count == volumes->count);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gr_record record;
    char why[GR_WHY_MAX] = "";
    size_t at = 0;

    for (;;) {
        enum gr_result result = gr_decode(data + at, size - at, &record, why);

        if (result == GR_INVALID)
            assert(why[0] != '\0' && memchr(why, '\0', sizeof(why)));
        if (result == GR_INVALID || result == GR_MORE)
            return 0;
        assert(record.size >= GR_HEADER_SIZE && record.size <= size - at);
        if (result == GR_OK)
            check_encode(&record, data + at);
        if (result == GR_OK && record.type == GR_VOLUMES)
            check_volumes(&record.body.volumes);
        at += record.size;
    }
}
