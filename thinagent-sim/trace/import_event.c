/* One event of a Windows event log becomes a driver's record.
 *
 * What the logs mean, where it is not plain:
 *   - UserID in Sysmon's events is the account that wrote the log, not the actor: it is not taken.
 *   - Source and destination of a connection (3, 5156) are its initiator and its target, so that for an
 *     inbound one the local end is the destination.
 *   - 5156 calls the process ProcessID in some logs and ProcessId in others. In 4688 ProcessId is the parent.
 *   - "-" and "<unknown process>" stand for nothing. */
#include "thinagent-sim/trace/import_event.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define STATUS_ACCESS_DENIED 0xc0000022u
#define DNS_ERROR_RCODE      9000 /* Windows' errors 9001 to 9010 are RCODEs 1 to 10 */

/* Access rights of a file object (winnt.h). */
#define FILE_READ_DATA        0x00000001u
#define FILE_WRITE_DATA       0x00000002u
#define FILE_APPEND_DATA      0x00000004u
#define FILE_WRITE_EA         0x00000010u
#define FILE_EXECUTE          0x00000020u
#define FILE_DELETE_CHILD     0x00000040u
#define FILE_WRITE_ATTRIBUTES 0x00000100u
#define DELETE_RIGHT          0x00010000u
#define WRITE_DAC_OR_OWNER    0x000c0000u

/* An event being converted. */
struct line {
    const json_t *event;
    struct text_pool *pool;
    const char *why; /* set: the event cannot be used */
};

/* ---- fields ---- */

/* A field's text, or NULL if it is missing or stands for nothing. */
static const char *
field(const struct line *line, const char *name)
{
    const char *text = json_string_value(json_object_get(line->event, name));

    if (!text || text[0] == '\0' || strcmp(text, "-") == 0 || strcmp(text, "<unknown process>") == 0)
        return NULL;
    return text;
}

static struct gr_text
text_of(struct line *line, const char *name)
{
    return text_put(line->pool, field(line, name));
}

/* Like text_of, for what an event makes no sense without. */
static struct gr_text
needed_text(struct line *line, const char *name, const char *why)
{
    struct gr_text text = text_of(line, name);

    if (text.len == 0)
        line->why = why;
    return text;
}

/* A number that is decimal or 0x..., as a number or a text; 0 if it is missing. */
static uint64_t
number_of(const struct line *line, const char *name)
{
    const json_t *value = json_object_get(line->event, name);
    const char *text = field(line, name);

    if (json_is_integer(value))
        return (uint64_t)json_integer_value(value);
    return text ? strtoull(text, NULL, 0) : 0;
}

static uint32_t
number32_of(const struct line *line, const char *name)
{
    return (uint32_t)number_of(line, name);
}

/* A number that must be there and at most max. */
static uint64_t
needed_number(struct line *line, const char *name, uint64_t max, const char *why)
{
    uint64_t value = number_of(line, name);

    if ((!field(line, name) && !json_is_integer(json_object_get(line->event, name))) || value > max)
        line->why = why;
    return value;
}

/* A name that comes in two fields: DOMAIN\name. */
static struct gr_text
account_of(struct line *line, const char *domain_field, const char *name_field)
{
    const char *domain = field(line, domain_field);
    const char *name = field(line, name_field);
    char both[1024];

    if (!name)
        return text_put(line->pool, NULL);
    if (!domain)
        return text_put(line->pool, name);
    if ((size_t)snprintf(both, sizeof(both), "%s\\%s", domain, name) >= sizeof(both))
        line->pool->full = true;
    return text_put(line->pool, both);
}

/* Security events say in EventType whether the operation was allowed. */
static uint32_t
status_of(const struct line *line)
{
    const char *type = field(line, "EventType");

    return type && strcmp(type, "AUDIT_FAILURE") == 0 ? STATUS_ACCESS_DENIED : 0;
}

static void
address_of(struct line *line, const char *name, uint16_t *family, uint8_t out[16])
{
    const char *text = field(line, name);

    if (text && strchr(text, ':') && inet_pton(AF_INET6, text, out) == 1)
        *family = 6;
    else if (text && inet_pton(AF_INET, text, out) == 1)
        *family = 4;
    else
        line->why = "an address is missing or malformed";
}

/* ---- files ---- */

static bool
convert_file(struct line *line, struct gr_record *record, uint16_t op, uint32_t result)
{
    struct gr_file *file = &record->body.file;

    record->type = GR_FILE;
    file->op = op;
    file->result = result;
    file->pid = number32_of(line, "ProcessId");
    file->path = needed_text(line, "TargetFilename", "no TargetFilename");
    file->process = text_of(line, "Image");
    file->user_name = text_of(line, "User");
    return true;
}

static bool
convert_created(struct line *line, struct gr_record *record)
{
    return convert_file(line, record, GR_FILE_OP_OPEN, GR_CREATED);
}

static bool
convert_time_changed(struct line *line, struct gr_record *record)
{
    return convert_file(line, record, GR_FILE_OP_SET_ATTR, 0);
}

static bool
convert_deleted(struct line *line, struct gr_record *record)
{
    return convert_file(line, record, GR_FILE_OP_DELETE, 0);
}

/* What a 4663 with these rights in its AccessMask most likely was. The first row that fits counts. Using the
 * right to delete is the only trace that a delete leaves in 4663, so it becomes one. */
static const struct {
    uint32_t rights;
    uint16_t op;
} access_ops[] = {
    { DELETE_RIGHT | FILE_DELETE_CHILD, GR_FILE_OP_DELETE },
    { FILE_WRITE_DATA | FILE_APPEND_DATA, GR_FILE_OP_WRITE },
    { FILE_WRITE_ATTRIBUTES | FILE_WRITE_EA | WRITE_DAC_OR_OWNER, GR_FILE_OP_SET_ATTR },
    { FILE_READ_DATA | FILE_EXECUTE, GR_FILE_OP_READ },
};

/* Fills in what 4656 and 4663 have in common. Returns false if the object is no file. */
static bool
convert_object(struct line *line, struct gr_record *record)
{
    struct gr_file *file = &record->body.file;
    const char *type = field(line, "ObjectType");

    if (!type || strcmp(type, "File") != 0)
        return false;
    record->type = GR_FILE;
    file->status = status_of(line);
    file->pid = number32_of(line, "ProcessId");
    file->access_mask = (uint32_t)needed_number(line, "AccessMask", UINT32_MAX, "no AccessMask");
    file->path = needed_text(line, "ObjectName", "no ObjectName");
    file->process = text_of(line, "ProcessName");
    file->user_name = account_of(line, "SubjectDomainName", "SubjectUserName");
    file->user_id = text_of(line, "SubjectUserSid");
    return true;
}

static bool
convert_handle(struct line *line, struct gr_record *record)
{
    record->body.file.op = GR_FILE_OP_OPEN;
    record->body.file.result = GR_OPENED;
    return convert_object(line, record);
}

static bool
convert_access(struct line *line, struct gr_record *record)
{
    struct gr_file *file = &record->body.file;

    if (!convert_object(line, record))
        return false;
    for (size_t i = 0; i < sizeof(access_ops) / sizeof(access_ops[0]) && file->op == 0; i++)
        if (file->access_mask & access_ops[i].rights)
            file->op = access_ops[i].op;
    return file->op != 0; /* no driver reports the use of other rights, such as reading attributes */
}

/* ---- processes and logons ---- */

static bool
convert_sysmon_process(struct line *line, struct gr_record *record, uint16_t op)
{
    struct gr_process *process = &record->body.process;

    record->type = GR_PROCESS;
    process->op = op;
    process->pid = (uint32_t)needed_number(line, "ProcessId", UINT32_MAX, "no ProcessId");
    process->parent_pid = number32_of(line, "ParentProcessId");
    process->image = text_of(line, "Image");
    process->command_line = text_of(line, "CommandLine");
    process->parent_image = text_of(line, "ParentImage");
    process->user_name = text_of(line, "User");
    return true;
}

static bool
convert_process_start(struct line *line, struct gr_record *record)
{
    return convert_sysmon_process(line, record, GR_PROCESS_OP_START);
}

static bool
convert_process_end(struct line *line, struct gr_record *record)
{
    return convert_sysmon_process(line, record, GR_PROCESS_OP_END);
}

static bool
convert_new_process(struct line *line, struct gr_record *record)
{
    struct gr_process *process = &record->body.process;

    record->type = GR_PROCESS;
    process->op = GR_PROCESS_OP_START;
    process->pid = (uint32_t)needed_number(line, "NewProcessId", UINT32_MAX, "no NewProcessId");
    process->parent_pid = number32_of(line, "ProcessId");
    process->image = text_of(line, "NewProcessName");
    process->command_line = text_of(line, "CommandLine");
    process->parent_image = text_of(line, "ParentProcessName");
    process->user_name = account_of(line, "SubjectDomainName", "SubjectUserName");
    process->user_id = text_of(line, "SubjectUserSid");
    return true;
}

static bool
convert_exited_process(struct line *line, struct gr_record *record)
{
    struct gr_process *process = &record->body.process;

    record->type = GR_PROCESS;
    process->op = GR_PROCESS_OP_END;
    process->pid = (uint32_t)needed_number(line, "ProcessId", UINT32_MAX, "no ProcessId");
    process->exit_code = number32_of(line, "Status");
    process->image = text_of(line, "ProcessName");
    process->user_name = account_of(line, "SubjectDomainName", "SubjectUserName");
    process->user_id = text_of(line, "SubjectUserSid");
    return true;
}

static bool
convert_session(struct line *line, struct gr_record *record, uint16_t op)
{
    struct gr_logon *logon = &record->body.logon;
    const char *source = field(line, "IpAddress");

    record->type = GR_LOGON;
    logon->op = op;
    logon->status = status_of(line);
    logon->logon_type = (uint16_t)needed_number(line, "LogonType", UINT16_MAX, "no LogonType");
    logon->logon_id = number_of(line, "TargetLogonId");
    logon->pid = number32_of(line, "ProcessId");
    logon->user_name = account_of(line, "TargetDomainName", "TargetUserName");
    logon->user_id = text_of(line, "TargetUserSid");
    logon->source = text_put(line->pool, source ? source : field(line, "WorkstationName"));
    logon->process = text_of(line, "ProcessName");
    return true;
}

static bool
convert_logon(struct line *line, struct gr_record *record)
{
    return convert_session(line, record, GR_LOGON_OP_LOGON);
}

static bool
convert_logoff(struct line *line, struct gr_record *record)
{
    return convert_session(line, record, GR_LOGON_OP_LOGOFF);
}

/* ---- network ---- */

/* The two ends as the log names them, as local and remote end, by the direction. */
static void
convert_ends(struct line *line, struct gr_net *net, const char *const source[2], const char *const target[2])
{
    bool inbound = net->direction == GR_INBOUND;
    uint16_t source_family = 0;
    uint16_t target_family = 0;

    address_of(line, source[0], &source_family, inbound ? net->remote : net->local);
    address_of(line, target[0], &target_family, inbound ? net->local : net->remote);
    *(inbound ? &net->remote_port : &net->local_port) =
        (uint16_t)needed_number(line, source[1], UINT16_MAX, "no source port");
    *(inbound ? &net->local_port : &net->remote_port) =
        (uint16_t)needed_number(line, target[1], UINT16_MAX, "no destination port");
    net->family = source_family;
    if (source_family != target_family)
        line->why = "addresses of different families";
}

static bool
convert_connection(struct line *line, struct gr_record *record)
{
    static const char *const source[] = { "SourceIp", "SourcePort" };
    static const char *const target[] = { "DestinationIp", "DestinationPort" };
    struct gr_net *net = &record->body.net;
    const char *protocol = field(line, "Protocol");
    const char *initiated = field(line, "Initiated");

    record->type = GR_NET;
    net->op = GR_NET_OP_ESTABLISHED;
    net->protocol = protocol && strcasecmp(protocol, "udp") == 0 ? 17 : 6;
    net->direction = initiated && strcmp(initiated, "false") == 0 ? GR_INBOUND : GR_OUTBOUND;
    net->pid = number32_of(line, "ProcessId");
    convert_ends(line, net, source, target);
    net->process = text_of(line, "Image");
    net->user_name = text_of(line, "User");
    return true;
}

static void
convert_filter_process(struct line *line, struct gr_record *record)
{
    struct gr_net *net = &record->body.net;

    record->type = GR_NET;
    net->protocol = (uint8_t)needed_number(line, "Protocol", UINT8_MAX, "no Protocol");
    net->pid = number32_of(line, field(line, "ProcessID") ? "ProcessID" : "ProcessId");
    net->process = text_of(line, "Application");
}

static bool
convert_allowed_connection(struct line *line, struct gr_record *record)
{
    static const char *const source[] = { "SourceAddress", "SourcePort" };
    static const char *const target[] = { "DestAddress", "DestPort" };
    struct gr_net *net = &record->body.net;
    const char *direction = field(line, "Direction");

    net->op = GR_NET_OP_PRECONNECT;
    if (direction && strcmp(direction, "%%14592") == 0)
        net->direction = GR_INBOUND;
    else if (direction && strcmp(direction, "%%14593") == 0)
        net->direction = GR_OUTBOUND;
    else
        line->why = "Direction is neither %%14592 (inbound) nor %%14593 (outbound)";
    convert_ends(line, net, source, target);
    convert_filter_process(line, record);
    return true;
}

static bool
convert_allowed_bind(struct line *line, struct gr_record *record)
{
    struct gr_net *net = &record->body.net;

    net->op = GR_NET_OP_LISTEN;
    address_of(line, "SourceAddress", &net->family, net->local);
    net->local_port = (uint16_t)needed_number(line, "SourcePort", UINT16_MAX, "no SourcePort");
    convert_filter_process(line, record);
    return true;
}

static bool
convert_query(struct line *line, struct gr_record *record)
{
    struct gr_dns *dns = &record->body.dns;

    record->type = GR_DNS;
    dns->op = GR_DNS_OP_ANSWER;
    dns->status = number32_of(line, "QueryStatus");
    if (dns->status > DNS_ERROR_RCODE && dns->status <= DNS_ERROR_RCODE + 10)
        dns->rcode = (uint16_t)(dns->status - DNS_ERROR_RCODE);
    dns->pid = number32_of(line, "ProcessId");
    dns->name = needed_text(line, "QueryName", "no QueryName");
    dns->answers = text_of(line, "QueryResults"); /* each ends with ';' there too */
    dns->process = text_of(line, "Image");
    dns->user_name = text_of(line, "User");
    return true;
}

/* ---- the rules ---- */

#define SYSMON   "Sysmon"
#define SECURITY "Security"

static const struct {
    int id;
    uint16_t driver;
    const char *channel;
    const char *about;
    bool (*convert)(struct line *line, struct gr_record *record); /* false: nothing that a driver sees */
} rules[] = {
    { 1, GR_VSEPFLT, SYSMON, "process created", convert_process_start },
    { 2, GR_VSEPFLT, SYSMON, "file time changed", convert_time_changed },
    { 3, GR_VNETWFP, SYSMON, "network connection", convert_connection },
    { 5, GR_VSEPFLT, SYSMON, "process ended", convert_process_end },
    { 11, GR_VSEPFLT, SYSMON, "file created", convert_created },
    { 15, GR_VSEPFLT, SYSMON, "file stream created", convert_created },
    { 22, GR_VNETWFP, SYSMON, "DNS query", convert_query },
    { 23, GR_VSEPFLT, SYSMON, "file deleted, archived", convert_deleted },
    { 26, GR_VSEPFLT, SYSMON, "file deleted", convert_deleted },
    { 4624, GR_VSEPFLT, SECURITY, "logon", convert_logon },
    { 4634, GR_VSEPFLT, SECURITY, "logoff", convert_logoff },
    { 4656, GR_VSEPFLT, SECURITY, "object handle", convert_handle },
    { 4663, GR_VSEPFLT, SECURITY, "object access", convert_access },
    { 4688, GR_VSEPFLT, SECURITY, "process created", convert_new_process },
    { 4689, GR_VSEPFLT, SECURITY, "process ended", convert_exited_process },
    { 5156, GR_VNETWFP, SECURITY, "connection allowed", convert_allowed_connection },
    { 5158, GR_VNETWFP, SECURITY, "bind allowed", convert_allowed_bind },
};
#define RULES (sizeof(rules) / sizeof(rules[0]))

size_t
import_rule_count(void)
{
    return RULES;
}

const char *
import_rule_channel(size_t rule)
{
    return rules[rule].channel;
}

int
import_rule_id(size_t rule)
{
    return rules[rule].id;
}

const char *
import_rule_about(size_t rule)
{
    return rules[rule].about;
}

uint16_t
import_rule_driver(size_t rule)
{
    return rules[rule].driver;
}

size_t
import_rule_of(const json_t *event)
{
    struct line line = { .event = event };
    const char *source = field(&line, "SourceName");
    uint64_t id = number_of(&line, "EventID");
    size_t rule;

    if (!source)
        source = field(&line, "Channel");
    for (rule = 0; rule < RULES; rule++)
        if ((uint64_t)rules[rule].id == id && (!source || strstr(source, rules[rule].channel)))
            break;
    return rule;
}

enum import_result
import_event(size_t rule, const json_t *event, struct text_pool *pool, struct gr_record *out,
             const char **why)
{
    struct line line = { .event = event, .pool = pool };

    memset(out, 0, sizeof(*out));
    text_pool_reset(pool, rules[rule].driver);
    if (!rules[rule].convert(&line, out))
        return IMPORT_SKIPPED;
    if (!line.why && pool->full)
        line.why = "a text is too long";
    *why = line.why;
    return line.why ? IMPORT_UNUSABLE : IMPORT_DONE;
}
