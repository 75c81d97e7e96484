/* Invents plausible events of a guest: files, connections, names, processes, logons. */
#include "thinagent-sim/made/invent.h"

#include <stdio.h>
#include <string.h>

#define COUNT(array) ((uint32_t)(sizeof(array) / sizeof((array)[0])))
#define PATH_ROOM    512
#define DEVICE       "\\Device\\HarddiskVolume2"
#define PID_FIRST    1000u

static const char *const users[] = { "anna", "bela", "chen", "dilek", "erik", "fatima", "goran", "hanna" };
static const char *const words[] = { "report",  "index",  "invoice", "cache",    "draft",  "backup",
                                     "photo",   "notes",  "budget",  "module",   "readme", "profile",
                                     "session", "config", "list",    "Übersicht" };
static const char *const endings[] = { "docx", "xlsx", "pdf", "txt", "tmp", "log", "dll", "exe",
                                       "json", "png",  "db",  "ps1", "zip", "js",  "ini", "dat" };
static const char *const windows_places[] = {
    "\\Users\\%s\\Documents\\%s", "\\Users\\%s\\AppData\\Local\\Temp\\%s",
    "\\Users\\%s\\Downloads\\%s", "\\Users\\%s\\Desktop\\%s",
    "\\ProgramData\\%s\\%s",      "\\Shares\\%s\\Projects\\%s",
};
static const char *const linux_places[] = {
    "/home/%s/documents/%s", "/home/%s/.cache/%s", "/tmp/%s-%s",
    "/var/lib/%s/%s",        "/srv/%s/www/%s",     "/var/log/%s/%s",
};
static const char *const windows_programs[] = {
    "\\Windows\\explorer.exe",
    "\\Windows\\System32\\svchost.exe",
    "\\Windows\\System32\\cmd.exe",
    "\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe",
    "\\Program Files\\Microsoft Office\\root\\Office16\\WINWORD.EXE",
    "\\Program Files (x86)\\Microsoft\\Edge\\Application\\msedge.exe",
};
static const char *const linux_programs[] = {
    "/usr/bin/bash",  "/usr/bin/python3.11", "/usr/sbin/nginx",
    "/usr/bin/rsync", "/usr/bin/vim.basic",  "/usr/bin/gcc-12",
};
static const char *const domains[] = { "example.com", "example.org", "files.example.net",
                                       "intranet.example.com" };
static const char *const hosts[] = { "www", "mail", "update", "api", "login", "dc1", "static", "print" };
static const uint16_t ports[] = { 443, 80, 445, 389, 53, 88, 8443, 22, 3389, 5985 };

/* splitmix64: short, and well spread for any seed. */
static uint64_t
random_bits(struct guest *guest)
{
    uint64_t z = (guest->random += 0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

uint32_t
invent_number(struct guest *guest, uint32_t below)
{
    return (uint32_t)((random_bits(guest) >> 32) * below >> 32);
}

/* Small numbers are much likelier: things are touched again and again. */
static uint32_t
skewed(struct guest *guest, uint32_t below)
{
    return invent_number(guest, invent_number(guest, below) + 1);
}

void
invent_start(struct guest *guest, uint16_t driver, uint64_t seed)
{
    memset(guest, 0, sizeof(*guest));
    guest->driver = driver;
    guest->random = seed;
    guest->user = invent_number(guest, COUNT(users));
    guest->next_pid = PID_FIRST;
    guest->next_flow = 1;
    guest->address = 10u << 24 | invent_number(guest, 1u << 24);
}

static bool
is_windows(const struct guest *guest)
{
    return gr_driver_is_windows(guest->driver);
}

static void
make_path(struct guest *guest, char path[PATH_ROOM])
{
    const char *user = users[invent_number(guest, 10) < 8 ? guest->user : skewed(guest, COUNT(users))];
    const char *place =
        (is_windows(guest) ? windows_places : linux_places)[skewed(guest, COUNT(windows_places))];
    char name[128];
    char *at = path;

    snprintf(name, sizeof(name), "%s%u.%s", words[skewed(guest, COUNT(words))], skewed(guest, 1000),
             endings[skewed(guest, COUNT(endings))]);
    if (is_windows(guest))
        at += snprintf(path, PATH_ROOM, DEVICE);
    snprintf(at, PATH_ROOM - (size_t)(at - path), place, user, name); /* places have two %s each */
}

static struct gr_text
put_program(struct guest *guest, struct text_pool *pool)
{
    char path[PATH_ROOM];
    uint32_t which = skewed(guest, COUNT(windows_programs));

    if (!is_windows(guest))
        return text_put(pool, linux_programs[which]);
    snprintf(path, sizeof(path), DEVICE "%s", windows_programs[which]);
    return text_put(pool, path);
}

static struct gr_text
put_user(struct guest *guest, struct text_pool *pool, struct gr_text *id)
{
    char text[64];

    snprintf(text, sizeof(text), is_windows(guest) ? "S-1-5-21-1004336348-1177238915-682003330-%u" : "%u",
             1000 + guest->user);
    *id = text_put(pool, text);
    snprintf(text, sizeof(text), is_windows(guest) ? "EXAMPLE\\%s" : "%s", users[guest->user]);
    return text_put(pool, text);
}

static uint32_t
some_pid(struct guest *guest)
{
    return guest->next_pid - 4 * skewed(guest, (guest->next_pid - PID_FIRST) / 4 + 1);
}

static void
invent_file(struct guest *guest, struct text_pool *pool, struct gr_file *file)
{
    static const uint16_t ops[] = { GR_FILE_OP_OPEN,   GR_FILE_OP_OPEN,    GR_FILE_OP_OPEN,
                                    GR_FILE_OP_READ,   GR_FILE_OP_READ,    GR_FILE_OP_WRITE,
                                    GR_FILE_OP_WRITE,  GR_FILE_OP_CLOSE,   GR_FILE_OP_RENAME,
                                    GR_FILE_OP_DELETE, GR_FILE_OP_SET_ATTR };
    char path[PATH_ROOM];

    file->op = ops[invent_number(guest, COUNT(ops))];
    file->pid = some_pid(guest);
    file->tid = file->pid + 4 * invent_number(guest, 8);
    file->size = skewed(guest, 1u << 24);
    file->attributes = is_windows(guest) ? 0x20 : 0100644;
    if (file->op == GR_FILE_OP_OPEN) {
        file->result = invent_number(guest, 4) == 0 ? GR_CREATED : GR_OPENED;
        file->access_mask = file->result == GR_CREATED ? 0x120116 : 0x120089;
        file->create_mask = file->result == GR_CREATED ? 0x02000060 : 0x01000060;
    }
    make_path(guest, path);
    file->path = text_put(pool, path);
    for (const char *p = path; *p != '\0'; p++)
        file->file_id = file->file_id * 31 + (uint8_t)*p;
    if (file->op == GR_FILE_OP_RENAME) {
        make_path(guest, path);
        file->target = text_put(pool, path);
    }
    file->process = put_program(guest, pool);
    file->user_name = put_user(guest, pool, &file->user_id);
}

static void
put_address(uint8_t out[16], uint32_t address)
{
    for (size_t i = 0; i < 4; i++)
        out[i] = (uint8_t)(address >> (24 - 8 * i));
}

static void
invent_net(struct guest *guest, struct text_pool *pool, struct gr_net *net)
{
    uint16_t port = ports[skewed(guest, COUNT(ports))];
    uint16_t other = (uint16_t)(49152 + invent_number(guest, 16384));
    bool inbound = invent_number(guest, 5) == 0;

    net->op = (uint16_t)(GR_NET_OP_PRECONNECT + invent_number(guest, 3));
    net->protocol = port == 53 ? 17 : 6;
    net->direction = inbound ? GR_INBOUND : GR_OUTBOUND;
    net->family = 4;
    net->pid = some_pid(guest);
    net->local_port = inbound ? port : other;
    net->remote_port = inbound ? other : port;
    put_address(net->local, guest->address);
    put_address(net->remote, 198u << 24 | 51u << 16 | 100u << 8 | invent_number(guest, 256));
    net->flow_id = net->op == GR_NET_OP_PRECONNECT ? guest->next_flow++ : guest->next_flow;
    if (net->op == GR_NET_OP_CLOSED) {
        net->bytes_in = skewed(guest, 1u << 22);
        net->bytes_out = skewed(guest, 1u << 18);
    }
    net->process = put_program(guest, pool);
    net->user_name = put_user(guest, pool, &net->user_id);
}

static void
invent_dns(struct guest *guest, struct text_pool *pool, struct gr_dns *dns)
{
    char text[128];

    dns->op = invent_number(guest, 2) == 0 ? GR_DNS_OP_QUERY : GR_DNS_OP_ANSWER;
    dns->type = 1;
    dns->transaction_id = (uint16_t)invent_number(guest, 65536);
    dns->pid = some_pid(guest);
    snprintf(text, sizeof(text), "%s%u.%s", hosts[skewed(guest, COUNT(hosts))], skewed(guest, 20),
             domains[skewed(guest, COUNT(domains))]);
    dns->name = text_put(pool, text);
    if (dns->op == GR_DNS_OP_ANSWER) {
        snprintf(text, sizeof(text), "198.51.100.%u;198.51.100.%u;", invent_number(guest, 256),
                 invent_number(guest, 256));
        dns->answers = text_put(pool, text);
    }
    dns->process = put_program(guest, pool);
    dns->user_name = put_user(guest, pool, &dns->user_id);
}

static void
invent_process(struct guest *guest, struct text_pool *pool, struct gr_process *process)
{
    char text[PATH_ROOM + 64];
    char path[PATH_ROOM];

    process->op = invent_number(guest, 2) == 0 ? GR_PROCESS_OP_START : GR_PROCESS_OP_END;
    process->parent_pid = some_pid(guest);
    process->pid = process->op == GR_PROCESS_OP_START ? (guest->next_pid += 4) : some_pid(guest);
    if (guest->next_pid > 60000)
        guest->next_pid = PID_FIRST;
    process->image = put_program(guest, pool);
    if (process->op == GR_PROCESS_OP_START) {
        make_path(guest, path);
        snprintf(text, sizeof(text), is_windows(guest) ? "\"program.exe\" /open \"%s\"" : "program --open %s",
                 path);
        process->command_line = text_put(pool, text);
        process->parent_image = put_program(guest, pool);
    }
    process->user_name = put_user(guest, pool, &process->user_id);
}

static void
invent_logon(struct guest *guest, struct text_pool *pool, struct gr_logon *logon)
{
    static const uint16_t types[] = { 2, 3, 3, 3, 5, 7, 10 };
    char text[32];

    logon->op = invent_number(guest, 2) == 0 ? GR_LOGON_OP_LOGON : GR_LOGON_OP_LOGOFF;
    logon->logon_type = types[invent_number(guest, COUNT(types))];
    logon->logon_id = 0x10000 + invent_number(guest, 1000);
    logon->pid = some_pid(guest);
    logon->user_name = put_user(guest, pool, &logon->user_id);
    snprintf(text, sizeof(text), "198.51.100.%u", invent_number(guest, 256));
    logon->source = text_put(pool, text);
    logon->process = put_program(guest, pool);
}

void
invent_event(struct guest *guest, enum event_class cls, int64_t unix_ns, struct text_pool *pool,
             struct gr_record *out)
{
    memset(out, 0, sizeof(*out));
    text_pool_reset(pool, guest->driver);
    out->sequence = 1;
    out->time = driver_time(guest->driver, unix_ns);
    switch (cls) {
    case CLASS_NETWORK:
        out->type = GR_NET;
        invent_net(guest, pool, &out->body.net);
        break;
    case CLASS_DNS:
        out->type = GR_DNS;
        invent_dns(guest, pool, &out->body.dns);
        break;
    case CLASS_PROCESS:
        out->type = GR_PROCESS;
        invent_process(guest, pool, &out->body.process);
        break;
    case CLASS_AUTHENTICATION:
        out->type = GR_LOGON;
        invent_logon(guest, pool, &out->body.logon);
        break;
    default:
        out->type = GR_FILE;
        invent_file(guest, pool, &out->body.file);
        break;
    }
}
