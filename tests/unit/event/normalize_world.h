/* A normalizer for tests, and its events as an SVM gets them. */
#ifndef GIMUX_NORMALIZE_WORLD_H
#define GIMUX_NORMALIZE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mux/event/normalize.h"
#include "proto/delimited.h"
#include "proto/gimux.pb-c.h"

static struct normalizer *normalizer;
static struct normalized normalized;
static Gimux__V1__Frame *unpacked;

static int
setup(void **state)
{
    (void)state;
    normalizer = normalizer_new();
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    normalizer_free(normalizer);
    if (unpacked)
        gimux__v1__frame__free_unpacked(unpacked, NULL);
    return 0;
}

/* The event as an SVM gets it; lives until the next call. The bytes must be those that protobuf-c makes of
 * it. */
static const Gimux__V1__Event *
unpack(void)
{
    const uint8_t *body;
    uint8_t *again;
    size_t size;

    assert_int_equal(delimited_next(normalized.data, normalized.len, DELIMITED_FRAME_MAX, &body, &size),
                     DELIMITED_FRAME);
    assert_ptr_equal(body + size, normalized.data + normalized.len);
    assert_int_equal(body - normalized.data, delimited_prefix_size(size));
    if (unpacked)
        gimux__v1__frame__free_unpacked(unpacked, NULL);
    unpacked = gimux__v1__frame__unpack(NULL, size, body);
    assert_non_null(unpacked);
    assert_int_equal(unpacked->body_case, GIMUX__V1__FRAME__BODY_EVENT);
    assert_int_equal(gimux__v1__frame__get_packed_size(unpacked), size);
    again = malloc(size);
    assert_non_null(again);
    assert_int_equal(gimux__v1__frame__pack(unpacked, again), size);
    assert_memory_equal(again, body, size);
    free(again);
    assert_int_equal(unpacked->event->class_uid, event_class_uid(normalized.cls));
    return unpacked->event;
}

static const Gimux__V1__Event *
normalize(const struct gr_record *record, uint16_t driver, const struct volume_map *volumes)
{
    normalize_record(normalizer, record, driver, volumes, 5, &normalized);
    return unpack();
}

#define W(literal) ((struct gr_text){ (const uint8_t *)(u"" literal), sizeof(u"" literal) - 2 })
#define B(literal) ((struct gr_text){ (const uint8_t *)(literal), sizeof(literal) - 1 })

#define FFFD "\xef\xbf\xbd"

/* The text of the event that filters look at; "": it has none. */
static inline void
expect_key(const char *key)
{
    assert_int_equal(normalized.key_len, strlen(key));
    assert_true(normalized.key + normalized.key_len <= normalized.len);
    assert_memory_equal(normalized.data + normalized.key, key, strlen(key));
}

static inline void
expect(const Gimux__V1__Event *event, uint32_t class_uid, uint32_t activity_id, Gimux__V1__StatusId status)
{
    assert_int_equal(event->class_uid, class_uid);
    assert_int_equal(event->activity_id, activity_id);
    assert_int_equal(event->status_id, status);
}

#define UNKNOWN GIMUX__V1__STATUS_ID__STATUS_UNKNOWN
#define SUCCESS GIMUX__V1__STATUS_ID__STATUS_SUCCESS
#define FAILURE GIMUX__V1__STATUS_ID__STATUS_FAILURE

static inline struct volume_map
some_volumes(void)
{
    return (struct volume_map){
        .count = 2,
        .volumes = { { 'C', "\\Device\\HarddiskVolume2", 23 }, { 'E', "\\Device\\HarddiskVolume20", 24 } },
    };
}

#endif
