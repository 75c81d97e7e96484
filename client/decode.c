/* From the bytes of a frame to the plain structs of gimux_client.h. */
#include "client/decode.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

static void *
take(void *decoder_, size_t size)
{
    struct decoder *decoder = decoder_;
    size_t align = alignof(max_align_t);
    void *taken = decoder->memory + decoder->used;

    if (size > DECODE_MEMORY - decoder->used)
        return NULL;
    decoder->used += (size + align - 1) / align * align;
    if (decoder->used > DECODE_MEMORY)
        decoder->used = DECODE_MEMORY;
    return taken;
}

/* Pieces are not freed one by one: the next frame uses all of the memory again. */
static void
give(void *decoder, void *piece)
{
    (void)decoder;
    (void)piece;
}

bool
gimux_decoder_init(struct decoder *decoder)
{
    decoder->memory = malloc(DECODE_MEMORY);
    decoder->used = 0;
    return decoder->memory != NULL;
}

void
gimux_decoder_free(struct decoder *decoder)
{
    free(decoder->memory);
    decoder->memory = NULL;
}

const Gimux__V1__Frame *
gimux_decode_frame(struct decoder *decoder, const uint8_t *body, size_t len)
{
    ProtobufCAllocator allocator = { .alloc = take, .free = give, .allocator_data = decoder };

    decoder->used = 0;
    return gimux__v1__frame__unpack(&allocator, len, body);
}

static struct gimux_bytes
bytes(ProtobufCBinaryData from)
{
    return (struct gimux_bytes){ .data = from.len ? from.data : NULL, .len = from.len };
}

static void
decode_file(const Gimux__V1__File *from, struct gimux_file *out)
{
    *out = (struct gimux_file){
        .path = from->path,
        .stream_name = from->stream_name,
        .target_path = from->target_path,
        .target_stream_name = from->target_stream_name,
        .path_raw = bytes(from->path_raw),
        .target_path_raw = bytes(from->target_path_raw),
        .file_id = from->file_id,
        .size = from->size,
        .attributes = from->attributes,
        .access_mask = from->access_mask,
        .create_mask = from->create_mask,
        .delete_on_close = from->delete_on_close,
    };
}

static void
decode_network(const Gimux__V1__Network *from, struct gimux_network *out)
{
    *out = (struct gimux_network){
        .step = (uint32_t)from->step,
        .direction = (uint32_t)from->direction,
        .protocol_num = from->protocol_num,
        .src_port = from->src_port,
        .dst_port = from->dst_port,
        .flow_id = from->flow_id,
        .bytes_in = from->bytes_in,
        .bytes_out = from->bytes_out,
    };
    /* An address of any other length is left out. */
    if (from->src_ip.len == 4 || from->src_ip.len == 16)
        out->src_ip = bytes(from->src_ip);
    if (from->dst_ip.len == 4 || from->dst_ip.len == 16)
        out->dst_ip = bytes(from->dst_ip);
}

static void
decode_dns(const Gimux__V1__Dns *from, struct gimux_dns *out)
{
    *out = (struct gimux_dns){
        .hostname = from->hostname,
        .type = from->type,
        .transaction_id = from->transaction_id,
        .rcode = from->rcode,
        .answers = (const char *const *)from->answers,
        .answer_count = from->n_answers,
    };
}

static void
decode_process(const Gimux__V1__Process *from, struct gimux_process *out)
{
    *out = (struct gimux_process){
        .pid = from->pid,
        .parent_pid = from->parent_pid,
        .path = from->path,
        .cmd_line = from->cmd_line,
        .parent_path = from->parent_path,
        .path_raw = bytes(from->path_raw),
        .exit_code = from->exit_code,
    };
}

static void
decode_authentication(const Gimux__V1__Authentication *from, struct gimux_authentication *out)
{
    *out = (struct gimux_authentication){
        .logon_type_id = from->logon_type_id,
        .session_uid = from->session_uid,
        .user_name = from->user_name,
        .user_uid = from->user_uid,
        .src = from->src,
    };
}

static void
decode_power(const Gimux__V1__Power *from, struct gimux_power *out)
{
    *out = (struct gimux_power){
        .vm_uuid = from->vm_uuid,
        .vm_name = from->vm_name,
        .target_host = from->target_host,
    };
}

static void
decode_lifecycle(const Gimux__V1__Lifecycle *from, struct gimux_lifecycle *out)
{
    *out = (struct gimux_lifecycle){
        .driver = (uint32_t)from->driver,
        .boot_id = from->boot_id,
        .reason = from->reason,
        .door = from->door,
    };
}

static void
decode_detail(const Gimux__V1__Event *from, struct decoded_event *out)
{
    switch (from->detail_case) {
    case GIMUX__V1__EVENT__DETAIL_FILE:
        decode_file(from->file, &out->detail.file);
        out->event.file = &out->detail.file;
        break;
    case GIMUX__V1__EVENT__DETAIL_NETWORK:
        decode_network(from->network, &out->detail.network);
        out->event.network = &out->detail.network;
        break;
    case GIMUX__V1__EVENT__DETAIL_DNS:
        decode_dns(from->dns, &out->detail.dns);
        out->event.dns = &out->detail.dns;
        break;
    case GIMUX__V1__EVENT__DETAIL_PROCESS:
        decode_process(from->process, &out->detail.process);
        out->event.process = &out->detail.process;
        break;
    case GIMUX__V1__EVENT__DETAIL_AUTHENTICATION:
        decode_authentication(from->authentication, &out->detail.authentication);
        out->event.authentication = &out->detail.authentication;
        break;
    case GIMUX__V1__EVENT__DETAIL_POWER:
        decode_power(from->power, &out->detail.power);
        out->event.power = &out->detail.power;
        break;
    case GIMUX__V1__EVENT__DETAIL_LIFECYCLE:
        decode_lifecycle(from->lifecycle, &out->detail.lifecycle);
        out->event.lifecycle = &out->detail.lifecycle;
        break;
    default:
        break;
    }
}

void
gimux_decode_event(const Gimux__V1__Event *from, struct decoded_event *out)
{
    memset(out, 0, sizeof(*out));
    out->event.sequence = from->sequence;
    out->event.time_ns = from->time;
    out->event.class_uid = from->class_uid;
    out->event.activity_id = from->activity_id;
    out->event.status_id = (uint32_t)from->status_id;
    out->event.status_code = from->status_code;
    out->event.lossy = from->lossy;
    out->event.waits = from->waits;
    if (from->actor) {
        out->actor = (struct gimux_actor){
            .pid = from->actor->pid,
            .tid = from->actor->tid,
            .process_path = from->actor->process_path,
            .user_name = from->actor->user_name,
            .user_uid = from->actor->user_uid,
        };
        out->event.actor = &out->actor;
    }
    decode_detail(from, out);
}
