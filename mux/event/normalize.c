/* Normalization: a driver's record becomes a frame with a gimux.v1.Event in OCSF's words. Pure: no socket, no
 * allocation per event. docs/events.md has the table of what becomes of what.
 *
 * The frame is written straight from the record, from its end to its front (field.h): so each function
 * below reads its message of proto/gimux.proto from the bottom up. A field that is missing here is found by
 * test_normalize_frames, which walks protobuf-c's descriptors.
 *
 * A text is copied to its place at once, since nearly all are ASCII; another one is made in `scratch` first.
 * That a text could not be said is told behind it: the event is then written once more (`lossy`). */
#include "mux/event/normalize.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mux/event/field.h"
#include "mux/event/text.h"
#include "proto/delimited.h"
#include "proto/gimux.pb-c.h"

/* Room for the event of any record. Its texts lie in the record without overlap, so their sum is within its
 * size; a parent's path is said twice, and of two paths the raw bytes, too. */
#define TEXTS_MAX  (TEXT_ROOM(GR_MAX_RECORD) + TEXT_ROOM(GR_MAX_TEXT) + 2 * (size_t)GR_MAX_TEXT)
#define OTHERS_MAX ((size_t)4096) /* numbers, tags and lengths, of at most 64 answers, too */

#define ANSWER_MAX 64 /* of a DNS response; the last one holds the rest */

enum { ACTIVITY_OTHER = 99 };
enum {
    FILE_CREATE = 1,
    FILE_READ,
    FILE_UPDATE,
    FILE_DELETE,
    FILE_RENAME,
    FILE_SET_ATTRIBUTES,
    FILE_OPEN = 14
};
enum { NET_OPEN = 1, NET_CLOSE = 2, NET_REFUSE = 5, NET_LISTEN = 7 };
enum { POWER_ON = 1, POWER_OFF = 2, POWER_SLEEP = 3, POWER_WAKE = 6 };
enum { LIFECYCLE_START = 3, LIFECYCLE_STOP = 4 };

struct normalizer {
    bool windows; /* how the record at hand is to be read */
    const struct volume_map *volumes;
    bool lossy;         /* something in the event could not be said */
    const uint8_t *key; /* in frame */
    size_t key_len;
    char scratch[TEXT_ROOM(GR_MAX_TEXT)];
    uint8_t frame[TEXTS_MAX + OTHERS_MAX];
};

/* What all classes have, as far as it comes from the class's own record. */
struct common {
    enum event_class cls;
    uint32_t activity_id;
    Gimux__V1__StatusId status_id;
    uint32_t status_code;
    uint32_t pid; /* the actor's */
    uint32_t tid;
    const struct gr_text *process;
    const struct gr_text *user_name;
    const struct gr_text *user_id;
};

static const struct gr_text none;

struct normalizer *
normalizer_new(void)
{
    struct normalizer *n = calloc(1, sizeof(*n));

    if (!n) {
        fprintf(stderr, "out of memory: %zu bytes for the event being normalized\n", sizeof(*n));
        abort();
    }
    return n;
}

void
normalizer_free(struct normalizer *normalizer)
{
    free(normalizer);
}

/* ---- texts ---- */

/* The text as UTF-8 in n->scratch, with a NUL. Returns its bytes; *lossy: something could not be said. */
static size_t
say_in_scratch(struct normalizer *n, const struct gr_text *text, bool *lossy)
{
    assert(text->len <= GR_MAX_TEXT);
    if (n->windows)
        return text_from_utf16le(text->data, text->len, n->scratch, lossy);
    return text_from_utf8(text->data, text->len, n->scratch, lossy);
}

/* The text as UTF-8 in front of `at`. Returns where it begins. */
static uint8_t *
say(struct normalizer *n, uint8_t *at, const struct gr_text *text)
{
    size_t len = n->windows ? text->len / 2 : text->len;
    char *to = (char *)at - len;

    if (n->windows ? text_copy_utf16le(text->data, text->len, to) : text_copy_utf8(text->data, text->len, to))
        return (uint8_t *)to;
    len = say_in_scratch(n, text, &n->lossy);
    return memcpy(at - len, n->scratch, len);
}

static uint8_t *
put_text(struct normalizer *n, uint8_t *at, unsigned field, const struct gr_text *text)
{
    return text->len == 0 ? at : put_length(say(n, at, text), field, at);
}

/* A path in the form that people write. */
static uint8_t *
put_path(struct normalizer *n, uint8_t *at, unsigned field, const struct gr_text *text)
{
    uint8_t *start;

    if (text->len == 0)
        return at;
    start = say(n, at, text);
    if (n->windows)
        start = (uint8_t *)ntpath_simplify((char *)start, (char *)at, n->volumes);
    return put_length(start, field, at);
}

/* If the path from *start up to `at` names a stream, that becomes a field behind it, and the path moves.
 * Returns where it ends now. */
static uint8_t *
put_stream(struct normalizer *n, uint8_t **start, uint8_t *at, unsigned field)
{
    char *path = (char *)*start;
    char *end = (char *)at;
    size_t stream_len = 0;
    const char *stream = ntpath_cut_stream(path, &end, &stream_len);
    size_t len = (size_t)(end - path);

    if (end == (char *)at)
        return at; /* nearly always */
    memcpy(n->scratch, path, (size_t)((char *)at - path));
    if (stream)
        at = put_bytes(at, field, n->scratch + (stream - path), stream_len);
    *start = memcpy(at - len, n->scratch, len);
    return at;
}

/* The path of a file; its stream is the field that follows. */
static uint8_t *
put_file_path(struct normalizer *n, uint8_t *at, unsigned field, const struct gr_text *text)
{
    uint8_t *start;

    n->key_len = 0;
    if (text->len == 0)
        return at;
    start = say(n, at, text);
    if (n->windows) {
        start = (uint8_t *)ntpath_simplify((char *)start, (char *)at, n->volumes);
        at = put_stream(n, &start, at, field + 1);
    }
    n->key = start;
    n->key_len = (size_t)(at - start);
    return n->key_len == 0 ? at : put_length(start, field, at);
}

/* The driver's own bytes of a path in which something cannot be said. */
static uint8_t *
put_raw(struct normalizer *n, uint8_t *at, unsigned field, const struct gr_text *text)
{
    bool lossy = false;

    if (!n->lossy) /* not known yet, or nothing is */
        return at;
    say_in_scratch(n, text, &lossy);
    return lossy ? put_bytes(at, field, text->data, text->len) : at;
}

/* ---- what all classes have ---- */

static int64_t
unix_time(uint64_t time, bool windows)
{
    const int64_t epoch = INT64_C(116444736000000000); /* 1970-01-01 as FILETIME: 100 ns since 1601 */
    int64_t ticks;

    if (!windows)
        return time > INT64_MAX ? INT64_MAX : (int64_t)time;
    if (time == 0 || time == UINT64_MAX) /* not set */
        return 0;
    if (time > INT64_MAX)
        return INT64_MAX;
    ticks = (int64_t)time - epoch;
    if (ticks > INT64_MAX / 100)
        return INT64_MAX;
    if (ticks < INT64_MIN / 100)
        return INT64_MIN;
    return ticks * 100;
}

/* What a status code says: NTSTATUS by its severity (warnings are successes), errno by being 0. */
static Gimux__V1__StatusId
status_id(uint32_t code, bool windows)
{
    const uint32_t pending = 0x103; /* STATUS_PENDING */
    const uint32_t first_error = 0xc0000000;

    if (windows && code == pending)
        return GIMUX__V1__STATUS_ID__STATUS_UNKNOWN;
    if (windows ? code >= first_error : code != 0)
        return GIMUX__V1__STATUS_ID__STATUS_FAILURE;
    return GIMUX__V1__STATUS_ID__STATUS_SUCCESS;
}

/* Who did it. When nothing is known the event has no actor. */
static uint8_t *
put_actor(struct normalizer *n, uint8_t *at, unsigned field, const struct common *common)
{
    const uint8_t *end = at;

    if (common->pid == 0 && common->tid == 0 && common->process->len == 0 && common->user_name->len == 0 &&
        common->user_id->len == 0)
        return at;
    at = put_text(n, at, 5, common->user_id);
    at = put_text(n, at, 4, common->user_name);
    at = put_path(n, at, 3, common->process);
    at = put_number(at, 2, common->tid);
    at = put_number(at, 1, common->pid);
    return put_length(at, field, end);
}

/* ---- one function for each class ---- */

/* An open says by its result what it did to the file, unless it failed: then there is no result. */
static uint32_t
open_activity(const struct gr_file *file, Gimux__V1__StatusId status)
{
    if (status == GIMUX__V1__STATUS_ID__STATUS_FAILURE)
        return FILE_OPEN;
    switch (file->result) {
    case GR_CREATED:
        return FILE_CREATE;
    case GR_SUPERSEDED:
    case GR_OVERWRITTEN:
        return FILE_UPDATE;
    case GR_OPENED:
    case GR_EXISTS:
    case GR_DOES_NOT_EXIST:
        return FILE_OPEN;
    default:
        return ACTIVITY_OTHER;
    }
}

static uint32_t
file_activity(const struct gr_file *file, Gimux__V1__StatusId status)
{
    switch (file->op) {
    case GR_FILE_OP_OPEN:
        return open_activity(file, status);
    case GR_FILE_OP_READ:
        return FILE_READ;
    case GR_FILE_OP_WRITE:
    case GR_FILE_OP_CLOSE:
        return FILE_UPDATE;
    case GR_FILE_OP_RENAME:
        return FILE_RENAME;
    case GR_FILE_OP_DELETE:
        return FILE_DELETE;
    case GR_FILE_OP_SET_ATTR:
        return FILE_SET_ATTRIBUTES;
    default:
        return ACTIVITY_OTHER;
    }
}

static uint8_t *
put_file(struct normalizer *n, uint8_t *at, const struct gr_file *in, struct common *common)
{
    common->status_code = in->status;
    common->status_id = status_id(in->status, n->windows);
    common->activity_id = file_activity(in, common->status_id);
    common->pid = in->pid;
    common->tid = in->tid;
    common->process = &in->process;
    common->user_name = &in->user_name;
    common->user_id = &in->user_id;
    at = put_number(at, 12, (in->create_mask & GR_CREATE_DELETE_ON_CLOSE) != 0); /* delete_on_close */
    at = put_number(at, 11, in->create_mask);
    at = put_number(at, 10, in->access_mask);
    at = put_number(at, 9, in->attributes);
    at = put_number(at, 8, in->size);
    at = put_number(at, 7, in->file_id);
    at = put_raw(n, at, 6, &in->target);
    at = put_raw(n, at, 5, &in->path);
    at = put_file_path(n, at, 3, &in->target);
    return put_file_path(n, at, 1, &in->path);
}

static void
net_activity(const struct gr_net *in, bool windows, struct common *common)
{
    common->status_id = status_id(in->status, windows);
    switch (in->op) {
    case GR_NET_OP_PRECONNECT:
        common->activity_id = NET_OPEN;
        common->status_id = GIMUX__V1__STATUS_ID__STATUS_UNKNOWN;
        break;
    case GR_NET_OP_ESTABLISHED:
        common->activity_id = NET_OPEN;
        common->status_id = GIMUX__V1__STATUS_ID__STATUS_SUCCESS;
        break;
    case GR_NET_OP_CLOSED:
        common->activity_id = NET_CLOSE;
        break;
    case GR_NET_OP_REFUSED:
        common->activity_id = NET_REFUSE;
        common->status_id = GIMUX__V1__STATUS_ID__STATUS_FAILURE;
        break;
    case GR_NET_OP_LISTEN:
        common->activity_id = NET_LISTEN;
        break;
    default:
        common->activity_id = ACTIVITY_OTHER;
        break;
    }
}

static uint8_t *
put_net(struct normalizer *n, uint8_t *at, const struct gr_net *in, struct common *common)
{
    size_t len = in->family == 4 ? 4 : 16;
    bool inbound = in->direction == GR_INBOUND;

    common->status_code = in->status;
    net_activity(in, n->windows, common);
    common->pid = in->pid;
    common->tid = in->tid;
    common->process = &in->process;
    common->user_name = &in->user_name;
    common->user_id = &in->user_id;
    at = put_number(at, 10, in->bytes_out);
    at = put_number(at, 9, in->bytes_in);
    at = put_number(at, 8, in->flow_id);
    at = put_number(at, 7, inbound ? in->local_port : in->remote_port); /* dst_port */
    at = put_bytes(at, 6, inbound ? in->local : in->remote, len);       /* dst_ip */
    at = put_number(at, 5, inbound ? in->remote_port : in->local_port); /* src_port */
    at = put_bytes(at, 4, inbound ? in->remote : in->local, len);       /* src_ip */
    at = put_number(at, 3, in->protocol);
    at = put_number(at, 2, in->direction <= GR_OUTBOUND ? in->direction : 0); /* same numbers */
    return put_number(at, 1, in->op <= GR_NET_OP_LISTEN ? in->op : 0);        /* step: same numbers */
}
static_assert((int)GR_OUTBOUND == (int)GIMUX__V1__DIRECTION__DIRECTION_OUTBOUND, "same numbers");
static_assert((int)GR_NET_OP_LISTEN == (int)GIMUX__V1__NETWORK_STEP__NETWORK_STEP_LISTEN, "same numbers");

/* Splits "a;b;c;" in place; empty answers are left out. */
static size_t
split_answers(char *text, char *answers[ANSWER_MAX])
{
    size_t count = 0;

    for (;;) {
        text += strspn(text, ";");
        if (*text == '\0')
            return count;
        answers[count++] = text;
        text += strcspn(text, ";");
        if (*text == '\0' || count == ANSWER_MAX)
            return count;
        *text++ = '\0';
    }
}

static uint8_t *
put_answers(struct normalizer *n, uint8_t *at, unsigned field, const struct gr_text *text)
{
    char *answers[ANSWER_MAX];
    size_t count;

    say_in_scratch(n, text, &n->lossy);
    count = split_answers(n->scratch, answers);
    while (count-- > 0)
        at = put_element(at, field, answers[count], strlen(answers[count]));
    return at;
}

static uint8_t *
put_dns(struct normalizer *n, uint8_t *at, const struct gr_dns *in, struct common *common)
{
    common->status_code = in->status;
    if (in->rcode != 0 || in->status != 0)
        common->status_id = GIMUX__V1__STATUS_ID__STATUS_FAILURE;
    else if (in->op != GR_DNS_OP_ANSWER)
        common->status_id = GIMUX__V1__STATUS_ID__STATUS_UNKNOWN;
    common->activity_id = in->op <= GR_DNS_OP_ANSWER ? in->op : ACTIVITY_OTHER; /* OCSF's numbers */
    common->pid = in->pid;
    common->process = &in->process;
    common->user_name = &in->user_name;
    common->user_id = &in->user_id;
    at = put_answers(n, at, 5, &in->answers);
    at = put_number(at, 4, in->rcode);
    at = put_number(at, 3, in->transaction_id);
    at = put_number(at, 2, in->type);
    return put_text(n, at, 1, &in->name);
}

/* A process is launched by its parent; who ends one is not known. */
static uint8_t *
put_process(struct normalizer *n, uint8_t *at, const struct gr_process *in, struct common *common)
{
    common->activity_id = in->op <= GR_PROCESS_OP_END ? in->op : ACTIVITY_OTHER; /* OCSF's numbers */
    if (in->op == GR_PROCESS_OP_START) {
        common->pid = in->parent_pid;
        common->process = &in->parent_image;
    }
    common->user_name = &in->user_name;
    common->user_id = &in->user_id;
    at = put_sint32(at, 7, (int32_t)in->exit_code);
    at = put_raw(n, at, 6, &in->image);
    at = put_path(n, at, 5, &in->parent_image);
    at = put_text(n, at, 4, &in->command_line);
    at = put_path(n, at, 3, &in->image);
    at = put_number(at, 2, in->parent_pid);
    return put_number(at, 1, in->pid);
}

static uint8_t *
put_logon(struct normalizer *n, uint8_t *at, const struct gr_logon *in, struct common *common)
{
    common->status_code = in->status;
    common->status_id = status_id(in->status, n->windows);
    common->activity_id = in->op <= GR_LOGON_OP_LOGOFF ? in->op : ACTIVITY_OTHER; /* OCSF's numbers */
    common->pid = in->pid;
    common->process = &in->process;
    at = put_text(n, at, 5, &in->source);
    at = put_text(n, at, 4, &in->user_id);
    at = put_text(n, at, 3, &in->user_name);
    at = put_number(at, 2, in->logon_id);
    return put_number(at, 1, in->logon_type);
}

static uint8_t *
put_uuid(uint8_t *at, unsigned field, const uint8_t uuid[GR_UUID_SIZE])
{
    char text[GR_UUID_TEXT];

    gr_uuid_format(uuid, text);
    return put_bytes(at, field, text, sizeof(text) - 1);
}

static uint8_t *
put_power(struct normalizer *n, uint8_t *at, const struct gr_power *in, struct common *common)
{
    static const uint32_t activities[] = {
        [GR_POWER_OP_ON] = POWER_ON,
        [GR_POWER_OP_OFF] = POWER_OFF,
        [GR_POWER_OP_SUSPEND] = POWER_SLEEP,
        [GR_POWER_OP_RESUME] = POWER_WAKE,
        [GR_POWER_OP_MIGRATE] = ACTIVITY_OTHER,
    };

    common->activity_id = in->op <= GR_POWER_OP_MIGRATE ? activities[in->op] : ACTIVITY_OTHER;
    at = put_text(n, at, 3, &in->target_host);
    at = put_text(n, at, 2, &in->vm_name);
    n->key = at - (GR_UUID_TEXT - 1);
    n->key_len = GR_UUID_TEXT - 1;
    return put_uuid(at, 1, in->vm_uuid);
}

/* The detail of a frame's event. */
static uint8_t *
put_detail(struct normalizer *n, uint8_t *at, const struct gr_record *record, struct common *common)
{
    const uint8_t *end = at;

    switch (record->type) {
    case GR_FILE:
        return put_length(put_file(n, at, &record->body.file, common), 16, end);
    case GR_NET:
        return put_length(put_net(n, at, &record->body.net, common), 17, end);
    case GR_DNS:
        return put_length(put_dns(n, at, &record->body.dns, common), 18, end);
    case GR_PROCESS:
        return put_length(put_process(n, at, &record->body.process, common), 19, end);
    case GR_LOGON:
        return put_length(put_logon(n, at, &record->body.logon, common), 20, end);
    case GR_POWER:
        return put_length(put_power(n, at, &record->body.power, common), 21, end);
    default:
        return at;
    }
}

/* ---- the frame ---- */

static uint8_t *
frame_end(struct normalizer *n)
{
    return n->frame + sizeof(n->frame);
}

/* The first fields of the event, whose others stand from `at` to the end; the frame around it; its length. */
static void
finish(struct normalizer *n, uint8_t *at, uint32_t stream, uint64_t sequence, int64_t time,
       const struct common *common, struct normalized *event)
{
    const uint8_t *end = frame_end(n);

    at = put_number(at, 7, common->status_code);
    at = put_number(at, 6, common->status_id);
    at = put_number(at, 5, common->activity_id);
    at = put_number(at, 4, event_class_uid(common->cls));
    at = put_sfixed64(at, 3, time);
    at = put_number(at, 2, sequence);
    at = put_number(at, 1, stream);
    at = put_length(at, 5, end);
    assert(end - at <= (ptrdiff_t)DELIMITED_FRAME_MAX);
    at = put_varint(at, (uint64_t)(end - at));
    *event = (struct normalized){ .data = at, .len = (size_t)(end - at), .cls = common->cls };
    if (n->key_len > 0) {
        event->key = (size_t)(n->key - at);
        event->key_len = n->key_len;
    }
}

static void
write_event(struct normalizer *n, const struct gr_record *record, uint32_t stream, struct normalized *event)
{
    struct common common = { .cls = event_class_of_record(record->type),
                             .status_id = GIMUX__V1__STATUS_ID__STATUS_SUCCESS,
                             .process = &none,
                             .user_name = &none,
                             .user_id = &none };
    uint8_t *at;

    n->key_len = 0;
    at = put_detail(n, frame_end(n), record, &common);
    at = put_number(at, 10, (record->flags & GR_FLAG_WAITS) != 0); /* waits */
    at = put_number(at, 9, n->lossy);
    at = put_actor(n, at, 8, &common);
    finish(n, at, stream, record->sequence, unix_time(record->time, n->windows), &common, event);
}

void
normalize_record(struct normalizer *normalizer, const struct gr_record *record, uint16_t driver,
                 const struct volume_map *volumes, uint32_t stream, struct normalized *event)
{
    assert(gr_type_is_event(record->type));
    normalizer->windows = gr_driver_is_windows(driver);
    normalizer->volumes = volumes;
    normalizer->lossy = false;
    write_event(normalizer, record, stream, event);
    if (normalizer->lossy) /* what says so stands behind what is: once more */
        write_event(normalizer, record, stream, event);
}

/* ---- gimuxd's own event ---- */

static uint8_t *
put_string(uint8_t *at, unsigned field, const char *text)
{
    return text ? put_bytes(at, field, text, strlen(text)) : at;
}

void
normalize_lifecycle(struct normalizer *normalizer, uint32_t stream, uint64_t sequence, int64_t time, bool up,
                    uint16_t driver, const uint8_t boot_id[GR_UUID_SIZE], const char *reason,
                    const char *door, struct normalized *event)
{
    struct common common = { .cls = CLASS_LIFECYCLE,
                             .activity_id = up ? LIFECYCLE_START : LIFECYCLE_STOP,
                             .status_id = GIMUX__V1__STATUS_ID__STATUS_SUCCESS };
    uint8_t *at = frame_end(normalizer);
    const uint8_t *end = at;

    normalizer->key_len = 0;
    at = put_string(at, 4, door);
    at = put_string(at, 3, reason);
    at = put_uuid(at, 2, boot_id);
    at = put_number(at, 1, driver <= GR_VMX ? driver : 0); /* same numbers */
    at = put_length(at, 22, end);
    finish(normalizer, at, stream, sequence, time, &common, event);
}
static_assert((int)GR_VMX == (int)GIMUX__V1__DRIVER__DRIVER_VMX, "same numbers");
