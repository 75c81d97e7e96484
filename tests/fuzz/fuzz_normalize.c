/* Fuzzes the normalizer: the event of any record must fit a frame, be in the bytes that protobuf-c makes of
 * it, and hold only valid UTF-8. The first byte of the input is the driver, the rest are records; VOLUMES
 * records set the map. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mux/event/normalize.h"
#include "proto/delimited.h"
#include "proto/gimux.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A second opinion on UTF-8, by decoding and range checks. */
static void
check_utf8(const char *text)
{
    const uint8_t *at = (const uint8_t *)text;

    while (*at) {
        static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };
        int more = *at < 0x80 ? 0 : *at < 0xe0 ? 1 : *at < 0xf0 ? 2 : 3;
        uint32_t c = more == 0 ? *at : *at & (0x3fu >> more);

        assert(*at < 0x80 || (*at >= 0xc0 && *at < 0xf8));
        at++;
        for (int i = 0; i < more; i++, at++) {
            assert((*at & 0xc0) == 0x80);
            c = c << 6 | (*at & 0x3fu);
        }
        assert(c >= least[more] && c <= 0x10ffff && !(c >= 0xd800 && c <= 0xdfff));
    }
}

/* All strings of a message and of the messages in it. */
static void
check_strings(const ProtobufCMessage *message)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        const uint8_t *base = (const uint8_t *)message;
        const void *const *member = (const void *const *)(base + field->offset);
        size_t count = 1;

        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            count = *(const size_t *)(base + field->quantifier_offset);
            member = *member;
        } else if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF &&
                   *(const uint32_t *)(base + field->quantifier_offset) != field->id) {
            continue;
        }
        for (size_t j = 0; j < count; j++) {
            if (field->type == PROTOBUF_C_TYPE_STRING)
                check_utf8(member[j]);
            else if (field->type == PROTOBUF_C_TYPE_MESSAGE && member[j])
                check_strings(member[j]);
        }
    }
}

/* The bytes are what protobuf-c makes of what it reads in them. */
static void
check_bytes(const Gimux__V1__Frame *frame, const uint8_t *body, size_t size)
{
    uint8_t *again = malloc(size);

    assert(again && gimux__v1__frame__get_packed_size(frame) == size);
    gimux__v1__frame__pack(frame, again);
    assert(memcmp(again, body, size) == 0);
    free(again);
}

static void
check_key(const struct normalized *event, const char *key)
{
    assert(event->key_len == strlen(key) && event->key + event->key_len <= event->len);
    assert(memcmp(event->data + event->key, key, event->key_len) == 0);
}

static void
check_event(const struct normalized *event, const struct gr_record *record)
{
    Gimux__V1__Frame *frame;
    const uint8_t *body;
    size_t size;

    assert(delimited_next(event->data, event->len, DELIMITED_FRAME_MAX, &body, &size) == DELIMITED_FRAME);
    assert(body + size == event->data + event->len);
    frame = gimux__v1__frame__unpack(NULL, size, body);
    assert(frame && frame->body_case == GIMUX__V1__FRAME__BODY_EVENT);
    assert(frame->event->sequence == record->sequence);
    assert(frame->event->class_uid == event_class_uid(event->cls));
    check_bytes(frame, body, size);
    check_strings(&frame->base);
    check_key(event, record->type == GR_FILE    ? frame->event->file->path
                     : record->type == GR_POWER ? frame->event->power->vm_uuid
                                                : "");
    gimux__v1__frame__free_unpacked(frame, NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct normalizer *normalizer;
    struct volume_map volumes = { 0 };
    struct gr_record record;
    char why[GR_WHY_MAX];
    uint16_t driver;

    if (!normalizer)
        normalizer = normalizer_new();
    if (size == 0)
        return 0;
    driver = *data++;
    size--;
    for (;;) {
        enum gr_result result = gr_decode(data, size, &record, why);

        if (result == GR_INVALID || result == GR_MORE)
            return 0;
        if (result == GR_OK && record.type == GR_VOLUMES)
            volume_map_set(&volumes, &record.body.volumes);
        if (result == GR_OK && gr_type_is_event(record.type)) {
            struct normalized event;

            normalize_record(normalizer, &record, driver, &volumes, 1, &event);
            check_event(&event, &record);
        }
        data += record.size;
        size -= record.size;
    }
}
