/* One event of a Windows event log becomes a driver's record.
 *
 * docs/import.md has the whole mapping. What the logs mean, where it is not plain:
 *   - UserID in Sysmon's events is the account that wrote the log, not the actor: it is not taken.
 *   - In 4688 ProcessId is the parent.
 *   - "-" and "<unknown process>" stand for nothing. */
#include "thinagent-sim/trace/import_event.h"

#include <stdlib.h>
#include <string.h>

#include "thinagent-sim/trace/import_line.h"

#define STATUS_LOGON_FAILURE 0xc000006du
#define STATUS_ERROR         0xc0000000u /* from here on a status says that it failed */

/* Access rights of a file object (winnt.h). */
#define FILE_READ_DATA        0x00000001u
#define FILE_WRITE_DATA       0x00000002u
#define FILE_APPEND_DATA      0x00000004u
#define FILE_WRITE_EA         0x00000010u
#define FILE_EXECUTE          0x00000020u
#define FILE_WRITE_ATTRIBUTES 0x00000100u
#define WRITE_DAC_OR_OWNER    0x000c0000u

/* Security events say in EventType whether the operation was allowed. */
static uint32_t
status_of(const struct line *line)
{
    const char *type = line_field(line, "EventType");

    return type && strcmp(type, "AUDIT_FAILURE") == 0 ? STATUS_ACCESS_DENIED : 0;
}

/* ---- files ---- */

static bool
convert_file(struct line *line, struct gr_record *record, uint16_t op, uint32_t result)
{
    struct gr_file *file = &record->body.file;

    record->type = GR_FILE;
    file->op = op;
    file->result = result;
    file->pid = (uint32_t)line_number(line, "ProcessId");
    file->path = line_needed_text(line, "TargetFilename", "no TargetFilename");
    file->process = line_text(line, "Image");
    file->user_name = line_text(line, "User");
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

/* What a 4663 with these rights in its AccessMask most likely was. The first row that fits counts. Nothing
 * is made of the right to delete: a rename uses it too, and a 4660 follows when the file is gone. */
static const struct {
    uint32_t rights;
    uint16_t op;
} access_ops[] = {
    { FILE_WRITE_DATA | FILE_APPEND_DATA, GR_FILE_OP_WRITE },
    { FILE_WRITE_ATTRIBUTES | FILE_WRITE_EA | WRITE_DAC_OR_OWNER, GR_FILE_OP_SET_ATTR },
    { FILE_READ_DATA | FILE_EXECUTE, GR_FILE_OP_READ },
};

static struct import_known_key
handle_key(const struct line *line)
{
    return (struct import_known_key){ KNOWN_HANDLE, line->machine, line_number(line, "ProcessId"),
                                      line_number(line, "HandleId") };
}

/* Keeps the name of the handle, for the 4660 that may follow. A handle that could not be opened is 0. */
static void
remember_handle(struct line *line, bool is_file)
{
    struct import_known_key key = handle_key(line);
    const char *name = is_file ? line_field(line, "ObjectName") : "";

    if (key.second != 0 && name)
        import_known_put(line->known, &key, name);
    else
        free(import_known_take(line->known, &key));
}

static void
convert_subject(struct line *line, struct gr_file *file)
{
    file->status = status_of(line);
    file->pid = (uint32_t)line_number(line, "ProcessId");
    file->process = line_text(line, "ProcessName");
    file->user_name = line_account(line, "SubjectDomainName", "SubjectUserName");
    file->user_id = line_text(line, "SubjectUserSid");
}

/* Fills in what 4656 and 4663 have in common. Returns false if the object is no file. */
static bool
convert_object(struct line *line, struct gr_record *record)
{
    struct gr_file *file = &record->body.file;
    const char *type = line_field(line, "ObjectType");
    bool is_file = type && strcmp(type, "File") == 0;

    remember_handle(line, is_file);
    record->type = GR_FILE;
    if (!is_file)
        return false;
    file->access_mask = (uint32_t)line_needed_number(line, "AccessMask", UINT32_MAX, "no AccessMask");
    file->path = line_needed_text(line, "ObjectName", "no ObjectName");
    convert_subject(line, file);
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

/* 4660 has no name: that of the handle's last 4656 or 4663 counts. */
static bool
convert_object_deleted(struct line *line, struct gr_record *record)
{
    struct gr_file *file = &record->body.file;
    struct import_known_key key = handle_key(line);
    char *name = import_known_take(line->known, &key);
    bool is_file = !name || name[0] != '\0';

    record->type = GR_FILE;
    file->op = GR_FILE_OP_DELETE;
    file->path = text_put(line->pool, name);
    convert_subject(line, file);
    if (!name)
        line->why = "no 4656 or 4663 before it names the handle";
    free(name);
    return is_file;
}

/* ---- processes and logons ---- */

static bool
convert_sysmon_process(struct line *line, struct gr_record *record, uint16_t op)
{
    struct gr_process *process = &record->body.process;

    record->type = GR_PROCESS;
    process->op = op;
    process->pid = (uint32_t)line_needed_number(line, "ProcessId", UINT32_MAX, "no ProcessId");
    process->parent_pid = (uint32_t)line_number(line, "ParentProcessId");
    process->image = line_text(line, "Image");
    process->command_line = line_text(line, "CommandLine");
    process->parent_image = line_text(line, "ParentImage");
    process->user_name = line_text(line, "User");
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
    process->pid = (uint32_t)line_needed_number(line, "NewProcessId", UINT32_MAX, "no NewProcessId");
    process->parent_pid = (uint32_t)line_number(line, "ProcessId");
    process->image = line_text(line, "NewProcessName");
    process->command_line = line_text(line, "CommandLine");
    process->parent_image = line_text(line, "ParentProcessName");
    process->user_name = line_account(line, "SubjectDomainName", "SubjectUserName");
    process->user_id = line_text(line, "SubjectUserSid");
    return true;
}

static bool
convert_exited_process(struct line *line, struct gr_record *record)
{
    struct gr_process *process = &record->body.process;

    record->type = GR_PROCESS;
    process->op = GR_PROCESS_OP_END;
    process->pid = (uint32_t)line_needed_number(line, "ProcessId", UINT32_MAX, "no ProcessId");
    process->exit_code = (uint32_t)line_number(line, "Status");
    process->image = line_text(line, "ProcessName");
    process->user_name = line_account(line, "SubjectDomainName", "SubjectUserName");
    process->user_id = line_text(line, "SubjectUserSid");
    return true;
}

static void
convert_session(struct line *line, struct gr_record *record, uint16_t op)
{
    struct gr_logon *logon = &record->body.logon;
    const char *source = line_field(line, "IpAddress");

    record->type = GR_LOGON;
    logon->op = op;
    logon->status = status_of(line);
    logon->logon_type = (uint16_t)line_number(line, "LogonType");
    logon->logon_id = line_number(line, "TargetLogonId");
    logon->pid = (uint32_t)line_number(line, "ProcessId");
    logon->user_name = line_account(line, "TargetDomainName", "TargetUserName");
    logon->user_id = line_text(line, "TargetUserSid");
    logon->source = text_put(line->pool, source ? source : line_field(line, "WorkstationName"));
    logon->process = line_text(line, "ProcessName");
}

static void
need_logon_type(struct line *line)
{
    line_needed_number(line, "LogonType", UINT16_MAX, "no LogonType");
}

static struct import_known_key
logoff_key(const struct line *line)
{
    return (struct import_known_key){ KNOWN_LOGOFF, line->machine, line_number(line, "TargetLogonId"), 0 };
}

/* Whether a 4647 has told that the session ends; it is forgotten. */
static bool
take_logoff(struct line *line)
{
    struct import_known_key key = logoff_key(line);
    char *text = import_known_take(line->known, &key);
    bool told = text != NULL;

    free(text);
    return told;
}

static bool
convert_logon(struct line *line, struct gr_record *record)
{
    convert_session(line, record, GR_LOGON_OP_LOGON);
    need_logon_type(line);
    take_logoff(line); /* numbers come again after a boot */
    return true;
}

/* There is no session: a TargetLogonId is not there. */
static bool
convert_failed_logon(struct line *line, struct gr_record *record)
{
    struct gr_logon *logon = &record->body.logon;

    convert_session(line, record, GR_LOGON_OP_LOGON);
    need_logon_type(line);
    logon->status = (uint32_t)line_number(line, "Status");
    if (logon->status < STATUS_ERROR)
        logon->status = STATUS_LOGON_FAILURE;
    return true;
}

/* A session ends once: 4634 follows 4647 when the last of it is gone. */
static bool
convert_logoff(struct line *line, struct gr_record *record)
{
    convert_session(line, record, GR_LOGON_OP_LOGOFF);
    need_logon_type(line);
    return !take_logoff(line);
}

static bool
convert_user_logoff(struct line *line, struct gr_record *record)
{
    struct import_known_key key = logoff_key(line);

    convert_session(line, record, GR_LOGON_OP_LOGOFF);
    if (key.first != 0)
        import_known_put(line->known, &key, "");
    return true;
}

/* ---- the rules ---- */

#define SYSMON   "Sysmon"
#define SECURITY "Security"

#define NO_FILE     "no file"
#define NO_DATAGRAM "no datagram socket: a bind is no listen"

static const struct {
    int id;
    uint16_t driver;
    const char *channel;
    const char *about;
    bool (*convert)(struct line *line, struct gr_record *record); /* false: nothing that a driver sees */
    const char *left_out; /* which of them convert leaves out, or NULL */
} rules[] = {
    { 1, GR_VSEPFLT, SYSMON, "process created", convert_process_start, NULL },
    { 2, GR_VSEPFLT, SYSMON, "file time changed", convert_time_changed, NULL },
    { 3, GR_VNETWFP, SYSMON, "network connection", convert_connection, NULL },
    { 5, GR_VSEPFLT, SYSMON, "process ended", convert_process_end, NULL },
    { 11, GR_VSEPFLT, SYSMON, "file created", convert_created, NULL },
    { 15, GR_VSEPFLT, SYSMON, "file stream created", convert_created, NULL },
    { 22, GR_VNETWFP, SYSMON, "DNS query", convert_query, NULL },
    { 23, GR_VSEPFLT, SYSMON, "file deleted, archived", convert_deleted, NULL },
    { 26, GR_VSEPFLT, SYSMON, "file deleted", convert_deleted, NULL },
    { 4624, GR_VSEPFLT, SECURITY, "logon", convert_logon, NULL },
    { 4625, GR_VSEPFLT, SECURITY, "failed logon", convert_failed_logon, NULL },
    { 4634, GR_VSEPFLT, SECURITY, "logoff", convert_logoff, "a 4647 has told it" },
    { 4647, GR_VSEPFLT, SECURITY, "logoff by the user", convert_user_logoff, NULL },
    { 4656, GR_VSEPFLT, SECURITY, "object handle", convert_handle, NO_FILE },
    { 4660, GR_VSEPFLT, SECURITY, "object deleted", convert_object_deleted, NO_FILE },
    { 4663, GR_VSEPFLT, SECURITY, "object access", convert_access,
      "no file, or rights whose use no driver tells" },
    { 4688, GR_VSEPFLT, SECURITY, "process created", convert_new_process, NULL },
    { 4689, GR_VSEPFLT, SECURITY, "process ended", convert_exited_process, NULL },
    { 5154, GR_VNETWFP, SECURITY, "listen allowed", convert_allowed_listen, NULL },
    { 5155, GR_VNETWFP, SECURITY, "listen blocked", convert_blocked_listen, NULL },
    { 5156, GR_VNETWFP, SECURITY, "connection allowed", convert_allowed_connection, NULL },
    { 5157, GR_VNETWFP, SECURITY, "connection blocked", convert_blocked_connection, NULL },
    { 5158, GR_VNETWFP, SECURITY, "bind allowed", convert_allowed_bind, NO_DATAGRAM },
    { 5159, GR_VNETWFP, SECURITY, "bind blocked", convert_blocked_bind, NO_DATAGRAM },
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

const char *
import_rule_left_out(size_t rule)
{
    return rules[rule].left_out;
}

uint16_t
import_rule_driver(size_t rule)
{
    return rules[rule].driver;
}

static const char *
source_of(const struct line *line)
{
    const char *source = line_field(line, "SourceName");

    return source ? source : line_field(line, "Channel");
}

size_t
import_rule_of(const json_t *event)
{
    struct line line = { .event = event };
    const char *source = source_of(&line);
    uint64_t id = line_number(&line, "EventID");
    size_t rule;

    for (rule = 0; rule < RULES; rule++)
        if ((uint64_t)rules[rule].id == id && (!source || strstr(source, rules[rule].channel)))
            break;
    return rule;
}

const char *
import_source(const json_t *event, uint64_t *id)
{
    struct line line = { .event = event };
    const char *source = source_of(&line);

    *id = line_number(&line, "EventID");
    if (source && strstr(source, SYSMON))
        return SYSMON;
    return source && strstr(source, SECURITY) ? SECURITY : source;
}

enum import_result
import_event(size_t rule, const json_t *event, const struct import_place *place, struct gr_record *out,
             const char **why)
{
    struct line line = {
        .event = event, .pool = place->pool, .known = place->known, .machine = place->machine
    };

    memset(out, 0, sizeof(*out));
    text_pool_reset(line.pool, rules[rule].driver);
    if (!rules[rule].convert(&line, out))
        return IMPORT_SKIPPED;
    if (!line.why && line.pool->full)
        line.why = "a text is too long";
    *why = line.why;
    return line.why ? IMPORT_UNUSABLE : IMPORT_DONE;
}
