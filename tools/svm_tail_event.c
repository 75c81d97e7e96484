/* Prints events and gaps, as text or as JSON; what guests chose is escaped. */
#include "tools/svm_tail_event.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <jansson.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- texts ---- */

/* Reads one UTF-8 character at text. Returns its length in bytes, or 0 if there is none that is valid. */
static size_t
utf8_step(const char *text, uint32_t *character)
{
    static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
    const uint8_t *s = (const uint8_t *)text;
    size_t len = s[0] < 0x80 ? 1 : s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc0 ? 2 : 0;
    uint32_t c = len == 1 ? s[0] : s[0] & (0x7fu >> len);

    if (s[0] >= 0xf8 || len == 0)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    if (c < smallest[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    *character = c;
    return len;
}

/* Whether a terminal may do anything but show it: controls, line ends, changes of direction. */
static bool
is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x200e || c == 0x200f ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

/* Prints text that a guest chose. */
void
print_text(FILE *out, const char *text)
{
    uint32_t c;
    size_t len;

    for (; *text; text += len) {
        len = utf8_step(text, &c);
        if (len == 0) {
            fprintf(out, "\\x%02x", (uint8_t)*text);
            len = 1;
        } else if (is_control(c)) {
            fprintf(out, c < 0x100 ? "\\x%02" PRIx32 : "\\u%04" PRIx32, c);
        } else {
            fwrite(text, 1, len, out);
        }
    }
}

/* JSON must be Unicode: what is not becomes U+FFFD. */
static json_t *
json_text(const char *text)
{
    json_t *value = json_string(text);
    char *clean = value ? NULL : malloc(strlen(text) * 3 + 1);
    char *to = clean;
    uint32_t c;
    size_t len;

    if (!clean)
        return value;
    for (; *text; text += len ? len : 1) {
        len = utf8_step(text, &c);
        memcpy(to, len ? text : "\xef\xbf\xbd", len ? len : 3);
        to += len ? len : 3;
    }
    value = json_stringn(clean, (size_t)(to - clean));
    free(clean);
    return value;
}

/* ---- an event as JSON: the names of gimux.proto ---- */

enum field_kind { TEXT, U32, U64, I32, BOOL, HEX, IP, DRIVER };

struct field {
    const char *name;
    enum field_kind kind;
    size_t offset;
};

#define FIELD(kind, type, member)                                                                            \
    {                                                                                                        \
#member, kind, offsetof(struct gimux_##type, member)                                                 \
    }
#define END                                                                                                  \
    {                                                                                                        \
        NULL, TEXT, 0                                                                                        \
    }

static const struct field actor_fields[] = {
    FIELD(U32, actor, pid),        FIELD(U32, actor, tid),       FIELD(TEXT, actor, process_path),
    FIELD(TEXT, actor, user_name), FIELD(TEXT, actor, user_uid), END,
};
static const struct field file_fields[] = {
    FIELD(TEXT, file, path),
    FIELD(TEXT, file, stream_name),
    FIELD(TEXT, file, target_path),
    FIELD(TEXT, file, target_stream_name),
    FIELD(HEX, file, path_raw),
    FIELD(HEX, file, target_path_raw),
    FIELD(U64, file, file_id),
    FIELD(U64, file, size),
    FIELD(U32, file, attributes),
    FIELD(U32, file, access_mask),
    FIELD(U32, file, create_mask),
    FIELD(BOOL, file, delete_on_close),
    END,
};
static const struct field network_fields[] = {
    FIELD(U32, network, step),
    FIELD(U32, network, direction),
    FIELD(U32, network, protocol_num),
    FIELD(IP, network, src_ip),
    FIELD(U32, network, src_port),
    FIELD(IP, network, dst_ip),
    FIELD(U32, network, dst_port),
    FIELD(U64, network, flow_id),
    FIELD(U64, network, bytes_in),
    FIELD(U64, network, bytes_out),
    END,
};
static const struct field dns_fields[] = {
    FIELD(TEXT, dns, hostname),
    FIELD(U32, dns, type),
    FIELD(U32, dns, transaction_id),
    FIELD(U32, dns, rcode),
    END,
};
static const struct field process_fields[] = {
    FIELD(U32, process, pid),          FIELD(U32, process, parent_pid),
    FIELD(TEXT, process, path),        FIELD(TEXT, process, cmd_line),
    FIELD(TEXT, process, parent_path), FIELD(HEX, process, path_raw),
    FIELD(I32, process, exit_code),    END,
};
static const struct field authentication_fields[] = {
    FIELD(U32, authentication, logon_type_id), FIELD(U64, authentication, session_uid),
    FIELD(TEXT, authentication, user_name),    FIELD(TEXT, authentication, user_uid),
    FIELD(TEXT, authentication, src),          END,
};
static const struct field power_fields[] = {
    FIELD(TEXT, power, vm_uuid),
    FIELD(TEXT, power, vm_name),
    FIELD(TEXT, power, target_host),
    END,
};
static const struct field lifecycle_fields[] = {
    FIELD(DRIVER, lifecycle, driver),
    FIELD(TEXT, lifecycle, boot_id),
    FIELD(TEXT, lifecycle, reason),
    FIELD(TEXT, lifecycle, door),
    END,
};

static json_t *
hex_json(const struct gimux_bytes *bytes)
{
    char *hex = malloc(bytes->len * 2 + 1);
    json_t *value = NULL;

    if (hex) {
        hex[0] = '\0';
        for (size_t i = 0; i < bytes->len; i++)
            sprintf(hex + 2 * i, "%02x", bytes->data[i]);
        value = json_string(hex);
        free(hex);
    }
    return value;
}

static json_t *
ip_json(const struct gimux_bytes *ip)
{
    char text[INET6_ADDRSTRLEN] = "";

    if (ip->len)
        inet_ntop(ip->len == 4 ? AF_INET : AF_INET6, ip->data, text, sizeof(text));
    return json_string(text);
}

/* JSON's integers here are signed: a greater one is a string, as protobuf's own JSON has it. */
static json_t *
json_unsigned(uint64_t value)
{
    return value <= INT64_MAX ? json_integer((json_int_t)value) : json_sprintf("%" PRIu64, value);
}

static json_t *
field_json(enum field_kind kind, const void *at)
{
    switch (kind) {
    case TEXT:
        return json_text(*(const char *const *)at);
    case U32:
        return json_integer(*(const uint32_t *)at);
    case U64:
        return json_unsigned(*(const uint64_t *)at);
    case I32:
        return json_integer(*(const int32_t *)at);
    case BOOL:
        return json_boolean(*(const bool *)at);
    case HEX:
        return hex_json(at);
    case IP:
        return ip_json(at);
    case DRIVER:
        return json_string(gimux_client_driver_name(*(const uint32_t *)at));
    }
    return NULL;
}

/* Empty texts are left out. */
static json_t *
struct_json(const struct field *fields, const void *from)
{
    json_t *out = json_object();

    for (const struct field *field = fields; field->name; field++) {
        json_t *value = field_json(field->kind, (const char *)from + field->offset);

        if (json_is_string(value) && json_string_length(value) == 0)
            json_decref(value);
        else
            json_object_set_new(out, field->name, value);
    }
    return out;
}

static json_t *
dns_json(const struct gimux_dns *dns)
{
    json_t *out = struct_json(dns_fields, dns);
    json_t *answers = json_array();

    for (size_t i = 0; i < dns->answer_count; i++)
        json_array_append_new(answers, json_text(dns->answers[i]));
    json_object_set_new(out, "answers", answers);
    return out;
}

/* What is particular to the event's class. */
static json_t *
detail_json(const struct gimux_event *event)
{
    if (event->file)
        return struct_json(file_fields, event->file);
    if (event->network)
        return struct_json(network_fields, event->network);
    if (event->dns)
        return dns_json(event->dns);
    if (event->process)
        return struct_json(process_fields, event->process);
    if (event->authentication)
        return struct_json(authentication_fields, event->authentication);
    if (event->power)
        return struct_json(power_fields, event->power);
    if (event->lifecycle)
        return struct_json(lifecycle_fields, event->lifecycle);
    return json_object();
}

/* The start of every JSON line: what it is and of which stream. */
static json_t *
line_json(const char *kind, const struct gimux_stream *stream)
{
    return json_pack("{ss ss ss ss}", "kind", kind, "vm_uuid", stream->vm_uuid, "driver",
                     gimux_client_driver_name(stream->driver), "boot_id", stream->boot_id);
}

static void
print_json(json_t *line)
{
    json_dumpf(line, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
    putchar('\n');
    json_decref(line);
}

void
print_event_json(const struct gimux_event *event)
{
    const char *class_name = gimux_client_class_name(event->class_uid);
    json_t *line = line_json("event", event->stream);
    json_t *more = json_pack(
        "{sI sI si si sI ss ss si sI sb sb so}", "sequence", (json_int_t)event->sequence, "time_ns",
        (json_int_t)event->time_ns, "class_uid", (int)event->class_uid, "activity_id",
        (int)event->activity_id, "type_uid", (json_int_t)event->class_uid * 100 + event->activity_id, "class",
        class_name, "activity", gimux_client_activity_name(event->class_uid, event->activity_id), "status_id",
        (int)event->status_id, "status_code", (json_int_t)event->status_code, "lossy", event->lossy, "waits",
        event->waits, class_name, detail_json(event));

    if (event->actor)
        json_object_set_new(line, "actor", struct_json(actor_fields, event->actor));
    json_object_update(line, more);
    json_decref(more);
    print_json(line);
}

/* ---- an event as a line of text ---- */

static void
print_value(const json_t *value)
{
    if (json_is_string(value))
        print_text(stdout, json_string_value(value));
    else if (json_is_integer(value))
        printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else
        printf("%s", json_is_true(value) ? "yes" : "no");
}

/* Prints what is not empty, 0 or no, in the order of the tables. */
static void
print_fields(json_t *fields, const char *prefix)
{
    const char *name;
    json_t *value;
    size_t i;
    json_t *item;

    json_object_foreach(fields, name, value)
    {
        if (json_is_array(value)) {
            json_array_foreach(value, i, item)
            {
                printf(" answer=");
                print_value(item);
            }
        } else if (!json_is_false(value) && !(json_is_integer(value) && json_integer_value(value) == 0)) {
            printf(" %s%s=", prefix, name);
            print_value(value);
        }
    }
    json_decref(fields);
}

static void
print_time(int64_t ns)
{
    int64_t rest = ((ns % 1000000000) + 1000000000) % 1000000000;
    time_t seconds = (time_t)((ns - rest) / 1000000000);
    struct tm tm;
    char text[64] = "?";

    if (gmtime_r(&seconds, &tm))
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    printf("%s.%09" PRId64 "Z", text, rest);
}

static void
print_stream(const struct gimux_stream *stream)
{
    printf(" %s %s", stream->vm_uuid, gimux_client_driver_name(stream->driver));
}

void
print_event_text(const struct gimux_event *event)
{
    print_time(event->time_ns);
    print_stream(event->stream);
    printf(" %" PRIu64 " %s/%s", event->sequence, gimux_client_class_name(event->class_uid),
           gimux_client_activity_name(event->class_uid, event->activity_id));
    print_fields(detail_json(event), "");
    if (event->actor)
        print_fields(struct_json(actor_fields, event->actor), "actor.");
    if (event->status_code || event->status_id == GIMUX_STATUS_FAILURE)
        printf(" status=%s/0x%" PRIx32, event->status_id == GIMUX_STATUS_FAILURE ? "failure" : "success",
               event->status_code);
    printf("%s%s\n", event->lossy ? " lossy" : "", event->waits ? " waits" : "");
}

void
print_gap_json(const struct gimux_gap *gap, uint64_t first)
{
    json_t *line = line_json("gap", gap->stream);

    json_object_set_new(line, "first", json_integer((json_int_t)first));
    json_object_set_new(line, "last", json_integer((json_int_t)gap->last));
    json_object_set_new(line, "reason", json_string(gimux_client_gap_name(gap->reason)));
    print_json(line);
}

void
print_gap_text(const struct gimux_gap *gap, uint64_t first)
{
    printf("gap");
    print_stream(gap->stream);
    printf(" %" PRIu64 "-%" PRIu64 " %s\n", first, gap->last, gimux_client_gap_name(gap->reason));
}
