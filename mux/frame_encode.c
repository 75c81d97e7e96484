/* Frames with an event or a gap, encoded in one pass: the very bytes of protobuf-c, several times faster.
 *
 * A message inside a message is preceded by its length. Whoever writes from the front must know that length
 * first, which is why protobuf-c goes through everything twice or, for what is nested, more often. Here all
 * is written from the end of the buffer to its front: the last field first, a message before its length, a
 * length before its tag.
 *
 * `at` is how many bytes are free in front of what is written. Every function returns the new one, or -1 if
 * there was no room; then all that follow return -1 too, so that only the last result is looked at.
 *
 * The functions from put_gap on are the messages of proto/gimux.proto, read from the bottom up. A field that
 * is missing here is found by test_frame_encode, which walks protobuf-c's descriptors. */
#include "mux/frame_encode.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

enum wire { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_LENGTH = 2 };

struct encoder {
    uint8_t *buf;
    const char *key;
    size_t key_at; /* in buf */
    size_t key_len;
};

/* ---- fields; one that has its default value is not written ---- */

static ptrdiff_t
put_long_varint(const struct encoder *to, ptrdiff_t at, uint64_t value)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll(value);
    unsigned size = bits * 9 / 64 + 1; /* 7 bits a byte, without a division by 7 */
    uint8_t *out;

    if (at < (ptrdiff_t)size)
        return -1;
    at -= (ptrdiff_t)size;
    for (out = to->buf + at; value >= 0x80; value >>= 7)
        *out++ = (uint8_t)(value | 0x80);
    *out = (uint8_t)value;
    return at;
}

static inline ptrdiff_t
put_varint(const struct encoder *to, ptrdiff_t at, uint64_t value)
{
    if (value >= 0x80)
        return put_long_varint(to, at, value);
    if (at < 1)
        return -1;
    to->buf[--at] = (uint8_t)value;
    return at;
}

static inline ptrdiff_t
put_tag(const struct encoder *to, ptrdiff_t at, unsigned field, enum wire wire)
{
    return put_varint(to, at, field << 3 | wire);
}

static inline ptrdiff_t
put_number(const struct encoder *to, ptrdiff_t at, unsigned field, uint64_t value)
{
    if (value == 0)
        return at;
    return put_tag(to, put_varint(to, at, value), field, WIRE_VARINT);
}

/* An enum is as wide as an int64 on the wire. */
static inline ptrdiff_t
put_enum(const struct encoder *to, ptrdiff_t at, unsigned field, int value)
{
    return put_number(to, at, field, (uint64_t)(int64_t)value);
}

static inline ptrdiff_t
put_bool(const struct encoder *to, ptrdiff_t at, unsigned field, protobuf_c_boolean value)
{
    return put_number(to, at, field, value != 0);
}

static inline ptrdiff_t
put_sint32(const struct encoder *to, ptrdiff_t at, unsigned field, int32_t value)
{
    return put_number(to, at, field, (uint32_t)value << 1 ^ (value < 0 ? UINT32_MAX : 0));
}

static inline ptrdiff_t
put_fixed64(const struct encoder *to, ptrdiff_t at, unsigned field, uint64_t value)
{
    uint64_t little = htole64(value);

    if (value == 0)
        return at;
    if (at < (ptrdiff_t)sizeof(little))
        return -1;
    at -= (ptrdiff_t)sizeof(little);
    memcpy(to->buf + at, &little, sizeof(little));
    return put_tag(to, at, field, WIRE_FIXED64);
}

static ptrdiff_t
put_block(const struct encoder *to, ptrdiff_t at, unsigned field, const void *data, size_t len)
{
    if (at < (ptrdiff_t)len)
        return -1;
    at -= (ptrdiff_t)len;
    memcpy(to->buf + at, data, len);
    return put_tag(to, put_varint(to, at, len), field, WIRE_LENGTH);
}

static ptrdiff_t
put_bytes(const struct encoder *to, ptrdiff_t at, unsigned field, const ProtobufCBinaryData *bytes)
{
    return bytes->len > 0 ? put_block(to, at, field, bytes->data, bytes->len) : at;
}

static ptrdiff_t
put_text(struct encoder *to, ptrdiff_t at, unsigned field, const char *text)
{
    size_t len;

    if (!text || *text == '\0')
        return at;
    len = strlen(text);
    if (text == to->key) {
        to->key_at = (size_t)at - len;
        to->key_len = len;
    }
    return put_block(to, at, field, text, len);
}

static ptrdiff_t
put_texts(const struct encoder *to, ptrdiff_t at, unsigned field, char *const *texts, size_t count)
{
    while (count-- > 0) /* an empty one counts too */
        at = put_block(to, at, field, texts[count], strlen(texts[count]));
    return at;
}

/* A message has been written: all that is before `end`. */
static inline ptrdiff_t
put_message(const struct encoder *to, ptrdiff_t at, unsigned field, ptrdiff_t end)
{
    return put_tag(to, put_varint(to, at, (uint64_t)(end - at)), field, WIRE_LENGTH);
}

/* ---- messages ---- */

static ptrdiff_t
put_gap(struct encoder *to, ptrdiff_t at, const Gimux__V1__Gap *gap)
{
    at = put_enum(to, at, 4, (int)gap->reason);
    at = put_number(to, at, 3, gap->last_sequence);
    at = put_number(to, at, 2, gap->first_sequence);
    return put_number(to, at, 1, gap->stream);
}

static ptrdiff_t
put_actor(struct encoder *to, ptrdiff_t at, const Gimux__V1__Actor *actor)
{
    at = put_text(to, at, 5, actor->user_uid);
    at = put_text(to, at, 4, actor->user_name);
    at = put_text(to, at, 3, actor->process_path);
    at = put_number(to, at, 2, actor->tid);
    return put_number(to, at, 1, actor->pid);
}

static ptrdiff_t
put_file(struct encoder *to, ptrdiff_t at, const Gimux__V1__File *file)
{
    at = put_bool(to, at, 12, file->delete_on_close);
    at = put_number(to, at, 11, file->create_mask);
    at = put_number(to, at, 10, file->access_mask);
    at = put_number(to, at, 9, file->attributes);
    at = put_number(to, at, 8, file->size);
    at = put_number(to, at, 7, file->file_id);
    at = put_bytes(to, at, 6, &file->target_path_raw);
    at = put_bytes(to, at, 5, &file->path_raw);
    at = put_text(to, at, 4, file->target_stream_name);
    at = put_text(to, at, 3, file->target_path);
    at = put_text(to, at, 2, file->stream_name);
    return put_text(to, at, 1, file->path);
}

static ptrdiff_t
put_network(struct encoder *to, ptrdiff_t at, const Gimux__V1__Network *network)
{
    at = put_number(to, at, 10, network->bytes_out);
    at = put_number(to, at, 9, network->bytes_in);
    at = put_number(to, at, 8, network->flow_id);
    at = put_number(to, at, 7, network->dst_port);
    at = put_bytes(to, at, 6, &network->dst_ip);
    at = put_number(to, at, 5, network->src_port);
    at = put_bytes(to, at, 4, &network->src_ip);
    at = put_number(to, at, 3, network->protocol_num);
    at = put_enum(to, at, 2, (int)network->direction);
    return put_enum(to, at, 1, (int)network->step);
}

static ptrdiff_t
put_dns(struct encoder *to, ptrdiff_t at, const Gimux__V1__Dns *dns)
{
    at = put_texts(to, at, 5, dns->answers, dns->n_answers);
    at = put_number(to, at, 4, dns->rcode);
    at = put_number(to, at, 3, dns->transaction_id);
    at = put_number(to, at, 2, dns->type);
    return put_text(to, at, 1, dns->hostname);
}

static ptrdiff_t
put_process(struct encoder *to, ptrdiff_t at, const Gimux__V1__Process *process)
{
    at = put_sint32(to, at, 7, process->exit_code);
    at = put_bytes(to, at, 6, &process->path_raw);
    at = put_text(to, at, 5, process->parent_path);
    at = put_text(to, at, 4, process->cmd_line);
    at = put_text(to, at, 3, process->path);
    at = put_number(to, at, 2, process->parent_pid);
    return put_number(to, at, 1, process->pid);
}

static ptrdiff_t
put_authentication(struct encoder *to, ptrdiff_t at, const Gimux__V1__Authentication *authentication)
{
    at = put_text(to, at, 5, authentication->src);
    at = put_text(to, at, 4, authentication->user_uid);
    at = put_text(to, at, 3, authentication->user_name);
    at = put_number(to, at, 2, authentication->session_uid);
    return put_number(to, at, 1, authentication->logon_type_id);
}

static ptrdiff_t
put_power(struct encoder *to, ptrdiff_t at, const Gimux__V1__Power *power)
{
    at = put_text(to, at, 3, power->target_host);
    at = put_text(to, at, 2, power->vm_name);
    return put_text(to, at, 1, power->vm_uuid);
}

static ptrdiff_t
put_lifecycle(struct encoder *to, ptrdiff_t at, const Gimux__V1__Lifecycle *lifecycle)
{
    at = put_text(to, at, 4, lifecycle->door);
    at = put_text(to, at, 3, lifecycle->reason);
    at = put_text(to, at, 2, lifecycle->boot_id);
    return put_enum(to, at, 1, (int)lifecycle->driver);
}

static ptrdiff_t
put_detail(struct encoder *to, ptrdiff_t end, const Gimux__V1__Event *event)
{
    switch (event->detail_case) {
    case GIMUX__V1__EVENT__DETAIL_FILE:
        return put_message(to, put_file(to, end, event->file), 16, end);
    case GIMUX__V1__EVENT__DETAIL_NETWORK:
        return put_message(to, put_network(to, end, event->network), 17, end);
    case GIMUX__V1__EVENT__DETAIL_DNS:
        return put_message(to, put_dns(to, end, event->dns), 18, end);
    case GIMUX__V1__EVENT__DETAIL_PROCESS:
        return put_message(to, put_process(to, end, event->process), 19, end);
    case GIMUX__V1__EVENT__DETAIL_AUTHENTICATION:
        return put_message(to, put_authentication(to, end, event->authentication), 20, end);
    case GIMUX__V1__EVENT__DETAIL_POWER:
        return put_message(to, put_power(to, end, event->power), 21, end);
    case GIMUX__V1__EVENT__DETAIL_LIFECYCLE:
        return put_message(to, put_lifecycle(to, end, event->lifecycle), 22, end);
    default:
        return end;
    }
}

static ptrdiff_t
put_event(struct encoder *to, ptrdiff_t at, const Gimux__V1__Event *event)
{
    at = put_detail(to, at, event);
    at = put_bool(to, at, 10, event->waits);
    at = put_bool(to, at, 9, event->lossy);
    if (event->actor)
        at = put_message(to, put_actor(to, at, event->actor), 8, at);
    at = put_number(to, at, 7, event->status_code);
    at = put_enum(to, at, 6, (int)event->status_id);
    at = put_number(to, at, 5, event->activity_id);
    at = put_number(to, at, 4, event->class_uid);
    at = put_fixed64(to, at, 3, (uint64_t)event->time);
    at = put_number(to, at, 2, event->sequence);
    return put_number(to, at, 1, event->stream);
}

bool
frame_encode(const Gimux__V1__Frame *frame, const char *key, uint8_t *buf, size_t cap,
             struct frame_encoded *out)
{
    struct encoder to = { .buf = buf, .key = key };
    ptrdiff_t end = (ptrdiff_t)cap;
    ptrdiff_t at;

    assert(frame->body_case == GIMUX__V1__FRAME__BODY_EVENT ||
           frame->body_case == GIMUX__V1__FRAME__BODY_GAP);
    if (frame->body_case == GIMUX__V1__FRAME__BODY_EVENT)
        at = put_message(&to, put_event(&to, end, frame->event), 5, end);
    else
        at = put_message(&to, put_gap(&to, end, frame->gap), 6, end);
    if (at < 0 || end - at > (ptrdiff_t)DELIMITED_FRAME_MAX)
        return false;
    at = put_varint(&to, at, (uint64_t)(end - at));
    if (at < 0)
        return false;
    *out = (struct frame_encoded){
        .data = buf + at, .len = (size_t)(end - at), .key = to.key_at - (size_t)at, .key_len = to.key_len
    };
    return true;
}
