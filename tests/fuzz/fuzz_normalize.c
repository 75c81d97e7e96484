/* Fuzzes the normalizer: the event of any record must fit a frame, encode to what protobuf-c makes of it,
 * unpack, and hold only valid UTF-8. The first byte of the input is the driver, the rest are records; VOLUMES
 * records set the map. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mux/frame_encode.h"
#include "mux/normalize.h"
#include "proto/delimited.h"

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

/* The daemon's own encoder against protobuf-c, and where it says that the key is. */
static void
check_encoder(const struct normalized *normalized, const uint8_t *body, size_t size)
{
    static uint8_t buf[FRAME_ENCODED_MAX];
    const char *key = normalized_key(normalized);
    uint8_t prefix[DELIMITED_PREFIX_MAX];
    size_t prefix_len = delimited_put_prefix(prefix, size);
    struct frame_encoded encoded;

    assert(frame_encode(normalized_frame(normalized), key, buf, sizeof(buf), &encoded));
    assert(encoded.len == prefix_len + size && encoded.data + encoded.len == buf + sizeof(buf));
    assert(memcmp(encoded.data, prefix, prefix_len) == 0);
    assert(memcmp(encoded.data + prefix_len, body, size) == 0);
    assert(encoded.key_len == (key ? strlen(key) : 0));
    assert(!key || memcmp(encoded.data + encoded.key, key, encoded.key_len) == 0);
}

static void
check_event(const struct normalized *normalized, const struct gr_record *record)
{
    const Gimux__V1__Frame *frame = normalized_frame(normalized);
    size_t size = gimux__v1__frame__get_packed_size(frame);
    uint8_t *buf = malloc(size);
    Gimux__V1__Frame *out;
    const char *key;

    assert(buf && size <= DELIMITED_FRAME_MAX);
    assert(gimux__v1__frame__pack(frame, buf) == size);
    check_encoder(normalized, buf, size);
    out = gimux__v1__frame__unpack(NULL, size, buf);
    assert(out && out->body_case == GIMUX__V1__FRAME__BODY_EVENT);
    assert(out->event->sequence == record->sequence);
    assert(out->event->class_uid == event_class_uid(normalized_class(normalized)));
    check_strings(&out->base);
    key = normalized_key(normalized);
    if (record->type == GR_FILE || record->type == GR_POWER)
        assert(strcmp(key ? key : "",
                      record->type == GR_FILE ? out->event->file->path : out->event->power->vm_uuid) == 0);
    else
        assert(!key);
    gimux__v1__frame__free_unpacked(out, NULL);
    free(buf);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct normalized *normalized;
    struct volume_map volumes = { 0 };
    struct gr_record record;
    char why[GR_WHY_MAX];
    uint16_t driver;

    if (!normalized)
        normalized = normalized_new();
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
            normalize_record(normalized, &record, driver, &volumes, 1);
            check_event(normalized, &record);
        }
        data += record.size;
        size -= record.size;
    }
}
