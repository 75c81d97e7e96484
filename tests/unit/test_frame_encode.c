/* The one-pass encoder writes what protobuf-c writes: for every field that an event or a gap has, by its
 * descriptors, so that a field that is new in proto/gimux.proto and not in the encoder fails here; for random
 * events; and nothing outside a buffer that is too small. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mux/frame_encode.h"
#include "mux/normalize.h"

#define EVENTS 20000 /* random ones */

static uint8_t want[FRAME_ENCODED_MAX + 64];
static uint8_t large[FRAME_ENCODED_MAX + 64];

/* ---- comparing ---- */

static size_t
pack(const Gimux__V1__Frame *frame)
{
    size_t body = gimux__v1__frame__get_packed_size(frame);
    size_t prefix;

    assert_in_range(body, 0, DELIMITED_FRAME_MAX);
    prefix = delimited_put_prefix(want, body);
    assert_int_equal(gimux__v1__frame__pack(frame, want + prefix), body);
    return prefix + body;
}

/* A buffer of its own, so that the address sanitizer sees a byte too many. */
static bool
encode_into(const Gimux__V1__Frame *frame, const char *key, size_t cap, struct frame_encoded *out)
{
    uint8_t *buf = malloc(cap > 0 ? cap : 1);
    bool fits;

    assert_non_null(buf);
    fits = frame_encode(frame, key, buf, cap, out);
    if (fits) {
        assert_ptr_equal(out->data + out->len, buf + cap);
        memcpy(large, out->data, out->len);
    }
    free(buf);
    return fits;
}

static void
expect_same(const Gimux__V1__Frame *frame, const char *key)
{
    struct frame_encoded out = { .len = 77 };
    size_t len = pack(frame);

    for (size_t cap = len > 400 ? len - 1 : 0; cap < len; cap++) {
        assert_false(encode_into(frame, key, cap, &out));
        assert_int_equal(out.len, 77);
    }
    assert_true(encode_into(frame, key, len, &out));
    assert_int_equal(out.len, len);
    assert_memory_equal(large, want, len);
    assert_int_equal(out.key_len, key ? strlen(key) : 0);
    if (out.key_len > 0)
        assert_memory_equal(large + out.key, key, out.key_len);
}

/* ---- messages by their descriptors ---- */

static void *
make(const ProtobufCMessageDescriptor *descriptor)
{
    ProtobufCMessage *message = calloc(1, descriptor->sizeof_message);

    assert_non_null(message);
    descriptor->message_init(message);
    return message;
}

static char *
make_text(size_t len)
{
    char *text = malloc(len + 1);

    assert_non_null(text);
    for (size_t i = 0; i < len; i++)
        text[i] = (char)('a' + i % 26);
    text[len] = '\0';
    return text;
}

/* The bits of `value` as the field's type has them. */
static void
set_number(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, uint64_t value)
{
    uint8_t *member = (uint8_t *)message + field->offset;
    uint32_t low = (uint32_t)value;

    switch (field->type) {
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        memcpy(member, &value, sizeof(value));
        break;
    case PROTOBUF_C_TYPE_BOOL:
        low = value & 1;
        memcpy(member, &low, sizeof(low));
        break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_ENUM:
        memcpy(member, &low, sizeof(low));
        break;
    default:
        fail_msg("field %s: this test knows no type %d", field->name, (int)field->type);
    }
}

/* Puts a message, or NULL, into the field. */
static void
set_message(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, ProtobufCMessage *inner)
{
    uint8_t *base = (uint8_t *)message;
    uint32_t which = inner ? field->id : 0;

    memcpy(base + field->offset, &inner, sizeof(inner)); /* of a oneof too: its members are pointers */
    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        memcpy(base + field->quantifier_offset, &which, sizeof(which));
}

static void
set_texts(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, char **texts, size_t count)
{
    memcpy((uint8_t *)message + field->offset, &texts, sizeof(char **));
    memcpy((uint8_t *)message + field->quantifier_offset, &count, sizeof(count));
}

/* ---- each field alone ---- */

static const size_t lengths[] = { 0, 1, 2, 15, 127, 128, 129, 255, 16383, 16384, 65534, 65535, 65536 };
#define LENGTHS (sizeof(lengths) / sizeof(lengths[0]))

static unsigned compared; /* fields */

static void
compare_numbers(const Gimux__V1__Frame *frame, ProtobufCMessage *message,
                const ProtobufCFieldDescriptor *field)
{
    for (unsigned bits = 0; bits < 64; bits++) {
        const uint64_t power = UINT64_C(1) << bits;
        const uint64_t values[] = { power - 1, power, power + 1, -power, ~power, UINT64_MAX - power };

        for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
            set_number(message, field, values[i]);
            expect_same(frame, NULL);
        }
    }
    set_number(message, field, 0);
}

static void
compare_texts(const Gimux__V1__Frame *frame, ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    uint8_t *member = (uint8_t *)message + field->offset;
    char *none = NULL;
    char *text;

    memcpy(member, &none, sizeof(none));
    expect_same(frame, NULL);
    for (size_t i = 0; i < LENGTHS; i++) {
        text = make_text(lengths[i]);
        memcpy(member, &text, sizeof(text));
        expect_same(frame, NULL);
        expect_same(frame, text);
        free(text);
    }
    text = (char *)protobuf_c_empty_string;
    memcpy(member, &text, sizeof(text));
}

static void
compare_text_lists(const Gimux__V1__Frame *frame, ProtobufCMessage *message,
                   const ProtobufCFieldDescriptor *field)
{
    char *texts[LENGTHS];

    for (size_t i = 0; i < LENGTHS; i++)
        texts[i] = make_text(lengths[i]);
    for (size_t count = 0; count <= LENGTHS; count++) {
        set_texts(message, field, texts, count); /* the first one is empty */
        expect_same(frame, NULL);
    }
    set_texts(message, field, NULL, 0);
    for (size_t i = 0; i < LENGTHS; i++)
        free(texts[i]);
}

static void
compare_bytes(const Gimux__V1__Frame *frame, ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    ProtobufCBinaryData bytes;

    for (size_t i = 0; i < LENGTHS; i++) {
        bytes = (ProtobufCBinaryData){ lengths[i], malloc(lengths[i] + 1) };
        assert_non_null(bytes.data);
        memset(bytes.data, (int)(0xfe - i), bytes.len);
        memcpy((uint8_t *)message + field->offset, &bytes, sizeof(bytes));
        expect_same(frame, NULL);
        free(bytes.data);
    }
    bytes = (ProtobufCBinaryData){ 0, NULL };
    memcpy((uint8_t *)message + field->offset, &bytes, sizeof(bytes));
}

/* Every field of the message, which is somewhere in the frame, and of the messages that it can hold. */
static void
compare_fields(const Gimux__V1__Frame *frame, ProtobufCMessage *message)
{
    expect_same(frame, NULL);
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];

        compared++;
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            assert_int_equal(field->type, PROTOBUF_C_TYPE_STRING);
            compare_text_lists(frame, message, field);
        } else if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
            ProtobufCMessage *inner = make(field->descriptor);

            set_message(message, field, inner);
            compare_fields(frame, inner);
            set_message(message, field, NULL);
            free(inner);
        } else {
            assert_int_equal(field->label, PROTOBUF_C_LABEL_NONE); /* proto3, and not "optional" */
            if (field->type == PROTOBUF_C_TYPE_STRING)
                compare_texts(frame, message, field);
            else if (field->type == PROTOBUF_C_TYPE_BYTES)
                compare_bytes(frame, message, field);
            else
                compare_numbers(frame, message, field);
        }
    }
}

static void
test_each_field_of_an_event(void **state)
{
    Gimux__V1__Frame frame = GIMUX__V1__FRAME__INIT;
    Gimux__V1__Event event = GIMUX__V1__EVENT__INIT;

    (void)state;
    frame.body_case = GIMUX__V1__FRAME__BODY_EVENT;
    frame.event = &event;
    compared = 0;
    compare_fields(&frame, &event.base);
    assert_in_range(compared, 68, 1000); /* as many as there were when this was written */
}

static void
test_each_field_of_a_gap(void **state)
{
    Gimux__V1__Frame frame = GIMUX__V1__FRAME__INIT;
    Gimux__V1__Gap gap = GIMUX__V1__GAP__INIT;

    (void)state;
    frame.body_case = GIMUX__V1__FRAME__BODY_GAP;
    frame.gap = &gap;
    compared = 0;
    compare_fields(&frame, &gap.base);
    assert_in_range(compared, 4, 1000);
}

/* ---- all fields at random ---- */

static uint64_t random_state;

static uint64_t
number(void)
{
    random_state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    uint64_t z = random_state;

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static char *
random_text(void)
{
    size_t at_most = number() % 100 == 0 ? 70000 : 200;

    return make_text(number() % 3 == 0 ? 0 : number() % at_most);
}

/* What a random message has allocated. */
static void *allocated[1000];
static size_t allocations;

static void *
keep(void *memory)
{
    assert_true(allocations < sizeof(allocated) / sizeof(allocated[0]));
    return allocated[allocations++] = memory;
}

static void fill(ProtobufCMessage *message, const char **key);

static void
fill_texts(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    size_t count = number() % 65;
    char **texts = keep(calloc(65, sizeof(char *)));

    for (size_t i = 0; i < count; i++)
        texts[i] = keep(random_text());
    set_texts(message, field, texts, count);
}

static void
fill_field(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, const char **key)
{
    uint8_t *member = (uint8_t *)message + field->offset;
    ProtobufCBinaryData bytes;
    ProtobufCMessage *inner;
    char *text;

    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            fill_texts(message, field);
            break;
        }
        text = keep(random_text());
        memcpy(member, &text, sizeof(text));
        if (number() % 4 == 0)
            *key = text;
        break;
    case PROTOBUF_C_TYPE_BYTES:
        bytes.data = keep(random_text());
        bytes.len = strlen((char *)bytes.data);
        memcpy(member, &bytes, sizeof(bytes));
        break;
    case PROTOBUF_C_TYPE_MESSAGE:
        inner = keep(make(field->descriptor));
        set_message(message, field, inner);
        fill(inner, key);
        break;
    default:
        set_number(message, field, number() >> number() % 64);
    }
}

/* About half of the fields; of a oneof, one. */
static void
fill(ProtobufCMessage *message, const char **key)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    const ProtobufCFieldDescriptor *one = NULL;
    unsigned seen = 0;

    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];

        if (!(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)) {
            if (number() % 2 == 0)
                fill_field(message, field, key);
        } else if (number() % ++seen == 0) {
            one = field;
        }
    }
    if (one)
        fill_field(message, one, key);
}

static void
test_random_events(void **state)
{
    const char *seed = getenv("FRAME_ENCODE_SEED");
    unsigned keys = 0;

    (void)state;
    random_state = seed ? strtoull(seed, NULL, 10) : 1;
    for (unsigned i = 0; i < EVENTS; i++) {
        Gimux__V1__Frame frame = GIMUX__V1__FRAME__INIT;
        Gimux__V1__Event event = GIMUX__V1__EVENT__INIT;
        const char *key = NULL;

        frame.body_case = GIMUX__V1__FRAME__BODY_EVENT;
        frame.event = &event;
        fill(&event.base, &key);
        expect_same(&frame, key);
        keys += key && *key;
        while (allocations > 0)
            free(allocated[--allocations]);
    }
    assert_in_range(keys, EVENTS / 10, EVENTS);
}

/* ---- the key, and the bounds ---- */

/* It is the pointer that counts, wherever the same text stands besides. */
static void
test_where_the_key_is(void **state)
{
    Gimux__V1__Frame frame = GIMUX__V1__FRAME__INIT;
    Gimux__V1__Event event = GIMUX__V1__EVENT__INIT;
    Gimux__V1__Actor actor = GIMUX__V1__ACTOR__INIT;
    Gimux__V1__File file = GIMUX__V1__FILE__INIT;
    char same[] = "/bin/sh";
    char path[] = "/bin/sh";
    char empty[] = "";
    struct frame_encoded out;

    (void)state;
    frame.body_case = GIMUX__V1__FRAME__BODY_EVENT;
    frame.event = &event;
    event.actor = &actor;
    event.detail_case = GIMUX__V1__EVENT__DETAIL_FILE;
    event.file = &file;
    actor.process_path = same;
    file.path = path;
    file.size = 1;
    /* the frame's length and tag, 2 each; actor's, 2; process_path 2 + 7; file's 3; path's 2 */
    assert_true(encode_into(&frame, path, FRAME_ENCODED_MAX, &out));
    assert_int_equal(out.key, 1 + 2 + 2 + 9 + 3 + 2);
    assert_int_equal(out.key_len, 7);
    assert_true(encode_into(&frame, same, FRAME_ENCODED_MAX, &out));
    assert_int_equal(out.key, 1 + 2 + 2 + 2);
    assert_int_equal(out.key_len, 7);
    assert_true(encode_into(&frame, "/bin/sh", FRAME_ENCODED_MAX, &out)); /* not in the event */
    assert_int_equal(out.key_len, 0);
    assert_true(encode_into(&frame, NULL, FRAME_ENCODED_MAX, &out));
    assert_int_equal(out.key_len, 0);
    file.path = empty;
    assert_true(encode_into(&frame, empty, FRAME_ENCODED_MAX, &out));
    assert_int_equal(out.key_len, 0);
}

static void
test_the_largest_frame(void **state)
{
    Gimux__V1__Frame frame = GIMUX__V1__FRAME__INIT;
    Gimux__V1__Event event = GIMUX__V1__EVENT__INIT;
    Gimux__V1__File file = GIMUX__V1__FILE__INIT;
    size_t around = 4 + 5 + 4; /* tags and lengths of event, file and path */
    struct frame_encoded out;

    (void)state;
    frame.body_case = GIMUX__V1__FRAME__BODY_EVENT;
    frame.event = &event;
    event.detail_case = GIMUX__V1__EVENT__DETAIL_FILE;
    event.file = &file;
    file.path = make_text(DELIMITED_FRAME_MAX - around);
    assert_int_equal(pack(&frame), FRAME_ENCODED_MAX);
    expect_same(&frame, file.path);
    free(file.path);
    file.path = make_text(DELIMITED_FRAME_MAX - around + 1);
    assert_int_equal(gimux__v1__frame__get_packed_size(&frame), DELIMITED_FRAME_MAX + 1);
    assert_false(encode_into(&frame, NULL, 2 * FRAME_ENCODED_MAX, &out));
    free(file.path);
}

/* What the route relies on. A parent's path stands in the event twice, and so do the bytes of a bad path. */
static void
test_the_largest_process_fits(void **state)
{
    static uint8_t bad[GR_MAX_TEXT];
    static uint8_t record_bytes[GR_MAX_RECORD];
    const struct gr_text whole = { bad, GR_MAX_TEXT };
    struct normalized *normalized = normalized_new();
    struct gr_process process = { .op = GR_PROCESS_OP_START, .image = whole, .parent_image = whole };
    struct gr_record record = { .type = GR_PROCESS, .flags = GR_FLAG_WAITS, .sequence = UINT64_MAX };
    uint32_t rest;

    (void)state;
    memset(bad, 0xff, sizeof(bad));
    record.time = INT64_MAX;
    process.pid = process.parent_pid = UINT32_MAX;
    process.exit_code = 0x80000000;
    process.command_line = whole;
    record.body.process = process;
    rest = GR_MAX_RECORD - (uint32_t)gr_encode(&record, record_bytes, sizeof(record_bytes));
    assert_in_range(rest, 1, GR_MAX_TEXT);
    record.body.process.user_name = (struct gr_text){ bad, rest };
    assert_int_equal(gr_encode(&record, record_bytes, sizeof(record_bytes)), GR_MAX_RECORD);
    normalize_record(normalized, &record, GR_LINUX, NULL, UINT32_MAX);
    expect_same(normalized_frame(normalized), NULL);
    normalized_free(normalized);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_field_of_an_event), cmocka_unit_test(test_each_field_of_a_gap),
        cmocka_unit_test(test_random_events),          cmocka_unit_test(test_where_the_key_is),
        cmocka_unit_test(test_the_largest_frame),      cmocka_unit_test(test_the_largest_process_fits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
