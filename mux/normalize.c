/* Normalization: a driver's record becomes a gimux.v1.Event in OCSF's words. Pure: no socket, no allocation
 * per event. docs/events.md has the table of what becomes of what. */
#include "mux/normalize.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mux/ntpath.h"
#include "mux/text.h"
#include "proto/delimited.h"

/* Room for the texts of any record: they lie in the record without overlap, so their sum is within its size.
 * One byte more for each is the NUL; the raw bytes of two paths come on top. */
#define TEXTS_PER_RECORD 5
#define TEXT_SPACE       (TEXT_ROOM(GR_MAX_RECORD) + TEXTS_PER_RECORD + 2 * GR_MAX_TEXT)

static_assert(TEXT_SPACE + 4096 <= DELIMITED_FRAME_MAX, "the largest event fits a frame");

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

struct normalized {
    Gimux__V1__Frame frame;
    Gimux__V1__Event event;
    Gimux__V1__Actor actor;
    union {
        Gimux__V1__File file;
        Gimux__V1__Network network;
        Gimux__V1__Dns dns;
        Gimux__V1__Process process;
        Gimux__V1__Authentication authentication;
        Gimux__V1__Power power;
        Gimux__V1__Lifecycle lifecycle;
    } detail;
    enum event_class cls;

    bool windows; /* how the record at hand is to be read */
    const struct volume_map *volumes;
    bool bad; /* something in the last text could not be said */

    char uuid[GR_UUID_TEXT];
    uint8_t local[16];
    uint8_t remote[16];
    char *answers[ANSWER_MAX];
    size_t used; /* of texts */
    char texts[TEXT_SPACE];
};

struct normalized *
normalized_new(void)
{
    struct normalized *n = calloc(1, sizeof(*n));

    if (!n) {
        fprintf(stderr, "out of memory: %zu bytes for the event being normalized\n", sizeof(*n));
        abort();
    }
    gimux__v1__frame__init(&n->frame);
    gimux__v1__event__init(&n->event);
    return n;
}

void
normalized_free(struct normalized *event)
{
    free(event);
}

const Gimux__V1__Frame *
normalized_frame(const struct normalized *event)
{
    return &event->frame;
}

enum event_class
normalized_class(const struct normalized *event)
{
    return event->cls;
}

const char *
normalized_key(const struct normalized *event)
{
    const char *key = NULL;

    if (event->event.detail_case == GIMUX__V1__EVENT__DETAIL_FILE)
        key = event->detail.file.path;
    else if (event->event.detail_case == GIMUX__V1__EVENT__DETAIL_POWER)
        key = event->detail.power.vm_uuid;
    return key && *key ? key : NULL;
}

/* ---- texts ---- */

/* The text as UTF-8 in n->texts, *len bytes and a NUL; n->bad: something could not be said. */
static char *
put_text(struct normalized *n, const struct gr_text *text, size_t *len)
{
    char *out = n->texts + n->used;

    assert(n->used + TEXT_ROOM(text->len) <= TEXT_SPACE);
    n->bad = false;
    if (n->windows)
        *len = text_from_utf16le(text->data, text->len, out, &n->bad);
    else
        *len = text_from_utf8(text->data, text->len, out, &n->bad);
    n->used += *len + 1;
    n->event.lossy |= n->bad;
    return out;
}

/* An empty text, in the event's own memory. */
static char *
say_nothing(struct normalized *n)
{
    char *out = n->texts + n->used++;

    *out = '\0';
    return out;
}

static char *
say(struct normalized *n, const struct gr_text *text)
{
    size_t len;

    return text->len == 0 ? say_nothing(n) : put_text(n, text, &len);
}

/* A path in the form that people write. If something in it could not be said, *raw is the driver's bytes. */
static char *
say_path(struct normalized *n, const struct gr_text *text, ProtobufCBinaryData *raw)
{
    size_t len;
    char *out;

    if (text->len == 0)
        return say_nothing(n);
    out = put_text(n, text, &len);
    if (n->bad && raw) {
        raw->data = memcpy(n->texts + n->used, text->data, text->len);
        raw->len = text->len;
        n->used += text->len;
    }
    return n->windows ? ntpath_simplify(out, len, n->volumes) : out;
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

/* Makes the event empty and of this class. Its status is success until told otherwise. */
static Gimux__V1__Event *
begin(struct normalized *n, enum event_class cls, uint32_t stream, uint64_t sequence, int64_t time)
{
    Gimux__V1__Event *event = &n->event;

    gimux__v1__event__init(event);
    event->stream = stream;
    event->sequence = sequence;
    event->time = time;
    event->class_uid = event_class_uid(cls);
    event->status_id = GIMUX__V1__STATUS_ID__STATUS_SUCCESS;
    n->cls = cls;
    n->used = 0;
    n->frame.body_case = GIMUX__V1__FRAME__BODY_EVENT;
    n->frame.event = event;
    return event;
}

/* Who did it. Absent texts are NULL; when nothing is known the event has no actor. */
static void
set_actor(struct normalized *n, uint32_t pid, uint32_t tid, const struct gr_text *process,
          const struct gr_text *user_name, const struct gr_text *user_id)
{
    static const struct gr_text none;
    Gimux__V1__Actor *actor = &n->actor;

    process = process ? process : &none;
    user_name = user_name ? user_name : &none;
    user_id = user_id ? user_id : &none;
    if (pid == 0 && tid == 0 && process->len == 0 && user_name->len == 0 && user_id->len == 0)
        return;
    gimux__v1__actor__init(actor);
    actor->pid = pid;
    actor->tid = tid;
    actor->process_path = say_path(n, process, NULL);
    actor->user_name = say(n, user_name);
    actor->user_uid = say(n, user_id);
    n->event.actor = actor;
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

static void
normalize_file(struct normalized *n, const struct gr_file *in)
{
    Gimux__V1__File *out = &n->detail.file;

    gimux__v1__file__init(out);
    n->event.status_code = in->status;
    n->event.status_id = status_id(in->status, n->windows);
    n->event.activity_id = file_activity(in, n->event.status_id);
    set_actor(n, in->pid, in->tid, &in->process, &in->user_name, &in->user_id);
    out->path = say_path(n, &in->path, &out->path_raw);
    out->target_path = say_path(n, &in->target, &out->target_path_raw);
    if (n->windows) {
        char *stream = ntpath_cut_stream(out->path);
        char *target_stream = ntpath_cut_stream(out->target_path);

        if (stream)
            out->stream_name = stream;
        if (target_stream)
            out->target_stream_name = target_stream;
    }
    out->file_id = in->file_id;
    out->size = in->size;
    out->attributes = in->attributes;
    out->access_mask = in->access_mask;
    out->create_mask = in->create_mask;
    out->delete_on_close = (in->create_mask & GR_CREATE_DELETE_ON_CLOSE) != 0;
    n->event.file = out;
    n->event.detail_case = GIMUX__V1__EVENT__DETAIL_FILE;
}

static void
net_activity(Gimux__V1__Event *event, Gimux__V1__Network *out, const struct gr_net *in, bool windows)
{
    out->step = (Gimux__V1__NetworkStep)in->op; /* same numbers */
    event->status_id = status_id(in->status, windows);
    switch (in->op) {
    case GR_NET_OP_PRECONNECT:
        event->activity_id = NET_OPEN;
        event->status_id = GIMUX__V1__STATUS_ID__STATUS_UNKNOWN;
        break;
    case GR_NET_OP_ESTABLISHED:
        event->activity_id = NET_OPEN;
        event->status_id = GIMUX__V1__STATUS_ID__STATUS_SUCCESS;
        break;
    case GR_NET_OP_CLOSED:
        event->activity_id = NET_CLOSE;
        break;
    case GR_NET_OP_REFUSED:
        event->activity_id = NET_REFUSE;
        event->status_id = GIMUX__V1__STATUS_ID__STATUS_FAILURE;
        break;
    case GR_NET_OP_LISTEN:
        event->activity_id = NET_LISTEN;
        break;
    default:
        event->activity_id = ACTIVITY_OTHER;
        out->step = GIMUX__V1__NETWORK_STEP__NETWORK_STEP_UNKNOWN;
        break;
    }
}
static_assert((int)GR_NET_OP_LISTEN == (int)GIMUX__V1__NETWORK_STEP__NETWORK_STEP_LISTEN, "same numbers");

static void
normalize_net(struct normalized *n, const struct gr_net *in)
{
    Gimux__V1__Network *out = &n->detail.network;
    size_t len = in->family == 4 ? 4 : 16;
    ProtobufCBinaryData local = { len, memcpy(n->local, in->local, len) };
    ProtobufCBinaryData remote = { len, memcpy(n->remote, in->remote, len) };
    bool inbound = in->direction == GR_INBOUND;

    gimux__v1__network__init(out);
    n->event.status_code = in->status;
    net_activity(&n->event, out, in, n->windows);
    set_actor(n, in->pid, in->tid, &in->process, &in->user_name, &in->user_id);
    if (in->direction <= GR_OUTBOUND)
        out->direction = (Gimux__V1__Direction)in->direction; /* same numbers */
    out->protocol_num = in->protocol;
    out->src_ip = inbound ? remote : local;
    out->src_port = inbound ? in->remote_port : in->local_port;
    out->dst_ip = inbound ? local : remote;
    out->dst_port = inbound ? in->local_port : in->remote_port;
    out->flow_id = in->flow_id;
    out->bytes_in = in->bytes_in;
    out->bytes_out = in->bytes_out;
    n->event.network = out;
    n->event.detail_case = GIMUX__V1__EVENT__DETAIL_NETWORK;
}
static_assert((int)GR_OUTBOUND == (int)GIMUX__V1__DIRECTION__DIRECTION_OUTBOUND, "same numbers");

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

static void
normalize_dns(struct normalized *n, const struct gr_dns *in)
{
    Gimux__V1__Dns *out = &n->detail.dns;
    bool failed = in->rcode != 0 || in->status != 0;

    gimux__v1__dns__init(out);
    n->event.status_code = in->status;
    if (failed)
        n->event.status_id = GIMUX__V1__STATUS_ID__STATUS_FAILURE;
    else if (in->op != GR_DNS_OP_ANSWER)
        n->event.status_id = GIMUX__V1__STATUS_ID__STATUS_UNKNOWN;
    n->event.activity_id = in->op <= GR_DNS_OP_ANSWER ? in->op : ACTIVITY_OTHER; /* OCSF's numbers */
    set_actor(n, in->pid, 0, &in->process, &in->user_name, &in->user_id);
    out->hostname = say(n, &in->name);
    out->type = in->type;
    out->transaction_id = in->transaction_id;
    out->rcode = in->rcode;
    out->n_answers = split_answers(say(n, &in->answers), n->answers);
    out->answers = n->answers;
    n->event.dns = out;
    n->event.detail_case = GIMUX__V1__EVENT__DETAIL_DNS;
}

/* A process is launched by its parent; who ends one is not known. */
static void
normalize_process(struct normalized *n, const struct gr_process *in)
{
    Gimux__V1__Process *out = &n->detail.process;

    gimux__v1__process__init(out);
    n->event.activity_id = in->op <= GR_PROCESS_OP_END ? in->op : ACTIVITY_OTHER; /* OCSF's numbers */
    if (in->op == GR_PROCESS_OP_START)
        set_actor(n, in->parent_pid, 0, &in->parent_image, &in->user_name, &in->user_id);
    else
        set_actor(n, 0, 0, NULL, &in->user_name, &in->user_id);
    out->pid = in->pid;
    out->parent_pid = in->parent_pid;
    out->path = say_path(n, &in->image, &out->path_raw);
    out->cmd_line = say(n, &in->command_line);
    if (in->op == GR_PROCESS_OP_START && n->event.actor)
        out->parent_path = n->actor.process_path;
    else
        out->parent_path = say_path(n, &in->parent_image, NULL);
    out->exit_code = (int32_t)in->exit_code;
    n->event.process = out;
    n->event.detail_case = GIMUX__V1__EVENT__DETAIL_PROCESS;
}

static void
normalize_logon(struct normalized *n, const struct gr_logon *in)
{
    Gimux__V1__Authentication *out = &n->detail.authentication;

    gimux__v1__authentication__init(out);
    n->event.status_code = in->status;
    n->event.status_id = status_id(in->status, n->windows);
    n->event.activity_id = in->op <= GR_LOGON_OP_LOGOFF ? in->op : ACTIVITY_OTHER; /* OCSF's numbers */
    set_actor(n, in->pid, 0, &in->process, NULL, NULL);
    out->logon_type_id = in->logon_type;
    out->session_uid = in->logon_id;
    out->user_name = say(n, &in->user_name);
    out->user_uid = say(n, &in->user_id);
    out->src = say(n, &in->source);
    n->event.authentication = out;
    n->event.detail_case = GIMUX__V1__EVENT__DETAIL_AUTHENTICATION;
}

static void
normalize_power(struct normalized *n, const struct gr_power *in)
{
    static const uint32_t activities[] = {
        [GR_POWER_OP_ON] = POWER_ON,
        [GR_POWER_OP_OFF] = POWER_OFF,
        [GR_POWER_OP_SUSPEND] = POWER_SLEEP,
        [GR_POWER_OP_RESUME] = POWER_WAKE,
        [GR_POWER_OP_MIGRATE] = ACTIVITY_OTHER,
    };
    Gimux__V1__Power *out = &n->detail.power;

    gimux__v1__power__init(out);
    n->event.activity_id = in->op <= GR_POWER_OP_MIGRATE ? activities[in->op] : ACTIVITY_OTHER;
    out->vm_uuid = (char *)gr_uuid_format(in->vm_uuid, n->uuid);
    out->vm_name = say(n, &in->vm_name);
    out->target_host = say(n, &in->target_host);
    n->event.power = out;
    n->event.detail_case = GIMUX__V1__EVENT__DETAIL_POWER;
}

void
normalize_record(struct normalized *event, const struct gr_record *record, uint16_t driver,
                 const struct volume_map *volumes, uint32_t stream)
{
    struct normalized *n = event;

    assert(gr_type_is_event(record->type));
    n->windows = gr_driver_is_windows(driver);
    n->volumes = volumes;
    begin(n, event_class_of_record(record->type), stream, record->sequence,
          unix_time(record->time, n->windows));
    n->event.waits = (record->flags & GR_FLAG_WAITS) != 0;
    switch (record->type) {
    case GR_FILE:
        normalize_file(n, &record->body.file);
        break;
    case GR_NET:
        normalize_net(n, &record->body.net);
        break;
    case GR_DNS:
        normalize_dns(n, &record->body.dns);
        break;
    case GR_PROCESS:
        normalize_process(n, &record->body.process);
        break;
    case GR_LOGON:
        normalize_logon(n, &record->body.logon);
        break;
    case GR_POWER:
        normalize_power(n, &record->body.power);
        break;
    default:
        break;
    }
}

/* ---- gimuxd's own event ---- */

void
normalize_lifecycle(struct normalized *event, uint32_t stream, uint64_t sequence, int64_t time, bool up,
                    uint16_t driver, const uint8_t boot_id[GR_UUID_SIZE], const char *reason,
                    const char *door)
{
    Gimux__V1__Lifecycle *out = &event->detail.lifecycle;

    begin(event, CLASS_LIFECYCLE, stream, sequence, time);
    gimux__v1__lifecycle__init(out);
    event->event.activity_id = up ? LIFECYCLE_START : LIFECYCLE_STOP;
    if (driver <= GR_VMX)
        out->driver = (Gimux__V1__Driver)driver; /* same numbers */
    out->boot_id = (char *)gr_uuid_format(boot_id, event->uuid);
    if (reason)
        out->reason = (char *)reason;
    out->door = (char *)door;
    event->event.lifecycle = out;
    event->event.detail_case = GIMUX__V1__EVENT__DETAIL_LIFECYCLE;
}
static_assert((int)GR_VMX == (int)GIMUX__V1__DRIVER__DRIVER_VMX, "same numbers");
