/* The configuration: one file, read whole into one struct; from one table of options come the parser, the
 * bounds, the defaults, --print-config and the names in messages. */
#include "mux/conf.h"

#include <assert.h>
#include <confuse.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mux/log.h"
#include "proto/event_class.h"

/* ---- the table ---- */

enum section { TOP, DOORS, LIMITS, VM, SOLUTION, SECTIONS };

enum kind { TEXT, ADDRESS, BOOL, NUMBER, SIZE, DURATION, CHOICE, LIST };

struct option {
    enum section section;
    const char *name;
    enum kind kind;
    size_t offset;
    uint64_t min; /* TEXT: unused; ADDRESS: mask of kinds; else bounds of the value, in bytes or ms where it
                     has such */
    uint64_t max; /* TEXT: size of the array */
    const char *value; /* the default, as in a file; NULL: not set */
    const char *choices;
    const char *help;
};

#define A(kind)          (1u << ADDRESS_##kind)
#define KIB              UINT64_C(1024)
#define MIB              (1024 * KIB)
#define GIB              (1024 * MIB)
#define HOUR             UINT64_C(3600000)
#define AT(type, member) offsetof(struct type, member)

static const struct option options[] = {
    { TOP, "host", TEXT, AT(conf, host), 0, CONF_NAME_MAX, NULL, NULL,
      "this host's name, told to SVMs; default: the system's" },
    { TOP, "pid_file", TEXT, AT(conf, pid_file), 0, CONF_PATH_MAX, "/run/gimux/gimuxd.pid", NULL,
      "where the daemon writes its process id; \"\": nowhere" },
    { TOP, "admin", ADDRESS, AT(conf, admin), A(UNIX), 0, "unix:/run/gimux/admin.sock", NULL,
      "the admin door: HTTP with /metrics and /v1/status, root only" },
    { TOP, "log", CHOICE, AT(conf, syslog), 0, 0, "stderr", "stderr|syslog", "where log lines go" },
    { TOP, "log_level", CHOICE, AT(conf, log_level), 0, 0, "info", "error|warning|info|debug",
      "the least grave lines that are written" },
    { TOP, "heartbeat", DURATION, AT(conf, heartbeat), 50, HOUR, "5s", NULL,
      "drivers are asked to send something at least this often" },
    { TOP, "silence", DURATION, AT(conf, silence), 100, HOUR, "15s", NULL,
      "a driver silent for so long is reported lost" },
    { TOP, "drain", DURATION, AT(conf, drain), 0, HOUR, "5s", NULL,
      "how long SIGTERM waits for SVMs to take what is queued" },

    { DOORS, "vsock", ADDRESS, AT(conf_doors, vsock), A(VSOCK), 0, NULL, NULL,
      "AF_VSOCK port where guests connect, e.g. vsock:any:48100" },
    { DOORS, "vm_dir", TEXT, AT(conf_doors, vm_dir), 0, CONF_PATH_MAX, NULL, NULL,
      "directory of one socket per VM section, <uuid>.sock, for QEMU chardevs" },
    { DOORS, "shared", ADDRESS, AT(conf_doors, shared), A(UNIX), 0, NULL, NULL,
      "one socket for all, where the VM is whoever its hello says: for simulation" },
    { DOORS, "vmx", ADDRESS, AT(conf_doors, vmx), A(UNIX), 0, NULL, NULL,
      "root-only socket of the host's own source of VM lifecycle" },
    { DOORS, "port", NUMBER, AT(conf_doors, port), 1, UINT32_MAX, "48100", NULL,
      "vsock port of guests behind <uds_path>_<port> and CONNECT <port>" },
    { DOORS, "unknown_cid", CHOICE, AT(conf_doors, unknown_cid), 0, 0, "reject", "reject|hello",
      "a CID that no VM section names: reject it, or take the UUID of its hello" },
    { DOORS, "redial", DURATION, AT(conf_doors, redial), 10, HOUR, "1s", NULL,
      "time between attempts to connect to a VM that is dialled" },

    { LIMITS, "memory", SIZE, AT(conf_limits, memory), 1 * MIB, 1024 * GIB, "256M", NULL,
      "memory of all VM logs" },
    { LIMITS, "vm_log", SIZE, AT(conf_limits, vm_log), 256 * KIB, 64 * GIB, "8M", NULL,
      "memory of one VM's log" },
    { LIMITS, "vm_window", SIZE, AT(conf_limits, vm_window), 64 * KIB, 4 * GIB, "4M", NULL,
      "bytes of records that a driver may have unacknowledged" },
    { LIMITS, "vms", NUMBER, AT(conf_limits, vms), 1, 65536, "1024", NULL, "VMs known at a time" },
    { LIMITS, "connections", NUMBER, AT(conf_limits, connections), 1, 65536, "2048", NULL,
      "driver connections at a time" },

    { VM, "cid", NUMBER, AT(conf_vm, cid), 1, UINT32_MAX - 1, NULL, NULL, "the VM's vsock context id" },
    { VM, "uds_path", TEXT, AT(conf_vm, uds_path), 0, CONF_PATH_MAX, NULL, NULL,
      "the VMM's vsock socket (Firecracker, Cloud Hypervisor): gimuxd listens on <uds_path>_<port>" },
    { VM, "dial", ADDRESS, AT(conf_vm, dial), A(UNIX) | A(VSOCK), 0, NULL, NULL,
      "where gimuxd connects to the VM: a listening chardev, a CID, a VMM's vsock socket" },
    { VM, "dial_connect", BOOL, AT(conf_vm, dial_connect), 0, 0, "false", NULL,
      "say CONNECT <port> there first (Firecracker, Cloud Hypervisor)" },

    { SOLUTION, "altitude", NUMBER, AT(conf_solution, altitude), 0, 999999, "0", NULL,
      "order among solutions, the highest first" },
    { SOLUTION, "address", ADDRESS, AT(conf_solution, address), A(TCP) | A(TLS), 0, NULL, NULL,
      "where the SVM listens" },
    { SOLUTION, "plain", BOOL, AT(conf_solution, plain), 0, 0, "false", NULL, "allow tcp: without TLS" },
    { SOLUTION, "cert", TEXT, AT(conf_solution, cert), 0, CONF_PATH_MAX, NULL, NULL,
      "our certificate chain, PEM" },
    { SOLUTION, "key", TEXT, AT(conf_solution, key), 0, CONF_PATH_MAX, NULL, NULL, "its key, PEM" },
    { SOLUTION, "ca", TEXT, AT(conf_solution, ca), 0, CONF_PATH_MAX, NULL, NULL,
      "the CA of the SVM's certificate, PEM" },
    { SOLUTION, "tls_name", TEXT, AT(conf_solution, tls_name), 0, CONF_PATH_MAX, NULL, NULL,
      "name that the SVM's certificate must bear; default: the address's host" },
    { SOLUTION, "policy", CHOICE, AT(conf_solution, policy), 0, 0, "pause", "pause|drop",
      "when the SVM cannot keep up: pause the VM, or drop events and tell a gap" },
    { SOLUTION, "window", SIZE, AT(conf_solution, window), 0, 4 * GIB, "0", NULL,
      "bytes of one VM sent and not acknowledged; 0: half of vm_log, shared among the solutions" },
    { SOLUTION, "heartbeat", DURATION, AT(conf_solution, heartbeat), 50, HOUR, "5s", NULL,
      "something is sent at least this often; three such times of silence end the link" },
    { SOLUTION, "redial_max", DURATION, AT(conf_solution, redial_max), 50, HOUR, "10s", NULL,
      "longest time between attempts to connect" },
    { SOLUTION, "classes", LIST, AT(conf_solution, classes), 0, 0, NULL, NULL,
      "event classes: file, process, power, authentication, network, dns, lifecycle; {}: all" },
    { SOLUTION, "vms", LIST, AT(conf_solution, vms), 0, 0, NULL, NULL, "UUIDs of VMs; {}: all" },
    { SOLUTION, "mute", LIST, AT(conf_solution, mute), 0, 0, NULL, NULL,
      "path prefixes of file events that are not wanted" },
};
#define OPTIONS (sizeof(options) / sizeof(options[0]))

static const char *const section_names[] = {
    [TOP] = "", [DOORS] = "doors", [LIMITS] = "limits", [VM] = "vm", [SOLUTION] = "solution"
};

/* ---- one value ---- */

/* Reads a number with one of the suffixes ("K" or "ms", ...) that units has, in pairs of name and factor. */
struct unit {
    const char *suffix;
    uint64_t factor;
};

static const char *
parse_scaled(const char *text, const struct unit *units, const struct option *option, uint64_t *out)
{
    char *end;
    unsigned long long value;

    if (!isdigit((unsigned char)text[0]))
        return "expected a number";
    value = strtoull(text, &end, 10);
    for (; units->suffix; units++)
        if (strcmp(end, units->suffix) == 0)
            break;
    if (!units->suffix)
        return option->kind == SIZE       ? "expected a number of bytes, or one with K, M or G"
               : option->kind == DURATION ? "expected a time with ms, s or m, like 500ms"
                                          : "expected a whole number";
    if (value > UINT64_MAX / units->factor || value * units->factor < option->min ||
        value * units->factor > option->max)
        return "out of bounds";
    *out = value * units->factor;
    return NULL;
}

static const struct unit *
units_of(enum kind kind)
{
    static const struct unit bytes[] = { { "", 1 }, { "K", KIB }, { "M", MIB }, { "G", GIB }, { NULL, 0 } };
    static const struct unit times[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { NULL, 0 } };
    static const struct unit plain[] = { { "", 1 }, { NULL, 0 } };

    return kind == SIZE ? bytes : kind == DURATION ? times : plain;
}

static int
choice_index(const char *choices, const char *text)
{
    size_t len = strlen(text);
    int index = 0;

    for (const char *at = choices; at; at = strchr(at, '|'), at = at ? at + 1 : NULL, index++)
        if (strncmp(at, text, len) == 0 && (at[len] == '|' || at[len] == '\0'))
            return index;
    return -1;
}

static const char *
parse_bool(const char *text, bool *out)
{
    *out = strcmp(text, "true") == 0 || strcmp(text, "yes") == 0;
    return *out || strcmp(text, "false") == 0 || strcmp(text, "no") == 0 ? NULL : "expected true or false";
}

/* Reads one value into *base's member. Returns NULL or what was expected. */
static const char *
parse_value(const struct option *option, const char *text, void *base)
{
    void *member = (char *)base + option->offset;
    const char *why = NULL;
    uint64_t number = 0;
    int choice;

    switch (option->kind) {
    case TEXT:
        if (strlen(text) >= option->max)
            return "too long";
        strcpy(member, text);
        break;
    case ADDRESS:
        why = address_parse(text, member);
        if (!why && !(option->min & (1u << ((struct address *)member)->kind)))
            why = option->min == A(VSOCK)  ? "expected vsock:CID:PORT"
                  : option->min == A(UNIX) ? "expected unix:PATH"
                  : option->min & A(TCP)   ? "expected tcp:HOST:PORT or tls:HOST:PORT"
                                           : "expected unix:PATH or vsock:CID:PORT";
        break;
    case BOOL:
        why = parse_bool(text, member);
        break;
    case NUMBER:
    case SIZE:
    case DURATION:
        why = parse_scaled(text, units_of(option->kind), option, &number);
        if (option->kind == SIZE)
            *(uint64_t *)member = number;
        else
            *(uint32_t *)member = (uint32_t)number;
        break;
    case CHOICE:
        choice = choice_index(option->choices, text);
        if (choice < 0)
            return "not one of the choices";
        if (option->offset == AT(conf, syslog) && option->section == TOP)
            *(bool *)member = choice == 1;
        else
            *(int *)member = choice;
        break;
    case LIST:
        break;
    }
    return why;
}

/* ---- libconfuse: the file's grammar ---- */

static FILE *error_stream; /* of the conf_load that is running */

static void
report(cfg_t *cfg, const char *format, va_list args)
{
    fprintf(error_stream, "%s:%d: ", cfg && cfg->filename ? cfg->filename : "configuration",
            cfg ? cfg->line : 0);
    vfprintf(error_stream, format, args);
    fputc('\n', error_stream);
}

static const struct option *
find_option(enum section section, const char *name)
{
    for (size_t i = 0; i < OPTIONS; i++)
        if (options[i].section == section && strcmp(options[i].name, name) == 0)
            return &options[i];
    return NULL;
}

static enum section
section_of(const cfg_t *cfg)
{
    enum section section = DOORS;

    while (section < SECTIONS && strcmp(cfg_name((cfg_t *)cfg), section_names[section]) != 0)
        section++;
    return section < SECTIONS ? section : TOP;
}

/* Why one element of a list is not what the option wants, or NULL. */
static const char *
check_element(const struct option *option, const char *text)
{
    uint8_t uuid[GR_UUID_SIZE];

    if (strcmp(option->name, "classes") == 0 && event_class_by_name(text) == CLASS_COUNT)
        return "expected file, process, power, authentication, network, dns or lifecycle";
    if (strcmp(option->name, "vms") == 0 && !gr_uuid_parse(text, uuid))
        return "expected a UUID";
    return NULL;
}

/* Called by libconfuse when it has read an option, with the line it is on. */
static int
check_option(cfg_t *cfg, cfg_opt_t *opt)
{
    const struct option *option = find_option(section_of(cfg), cfg_opt_name(opt));
    union {
        struct conf conf;
        struct conf_solution solution;
    } *into = calloc(1, sizeof(*into));
    unsigned count = cfg_opt_size(opt);
    const char *why = NULL;
    const char *text = "";

    assert(option);
    if (!into)
        return -1;
    if (option->kind == LIST && count > CONF_LIST_MAX)
        why = "too many elements, at most 64";
    for (unsigned i = 0; i < count && !why; i++) {
        text = cfg_opt_getnstr(opt, i);
        why = option->kind == LIST ? check_element(option, text) : parse_value(option, text, into);
    }
    free(into);
    if (!why)
        return 0;
    if (option->kind == CHOICE)
        cfg_error(cfg, "%s = \"%s\": expected one of %s", option->name, text, option->choices);
    else if (strcmp(why, "out of bounds") == 0)
        cfg_error(cfg, "%s = %s: expected %llu to %llu%s", option->name, text,
                  (unsigned long long)option->min, (unsigned long long)option->max,
                  option->kind == DURATION ? " ms"
                  : option->kind == SIZE   ? " bytes"
                                           : "");
    else
        cfg_error(cfg, "%s = \"%s\": %s", option->name, text, why);
    return -1;
}

static int
check_vm(cfg_t *cfg, cfg_opt_t *opt)
{
    cfg_t *vm = cfg_opt_getnsec(opt, cfg_opt_size(opt) - 1);
    uint8_t uuid[GR_UUID_SIZE];

    if (gr_uuid_parse(cfg_title(vm), uuid))
        return 0;
    cfg_error(cfg, "vm \"%s\": expected a UUID", cfg_title(vm));
    return -1;
}

static int
check_solution(cfg_t *cfg, cfg_opt_t *opt)
{
    cfg_t *solution = cfg_opt_getnsec(opt, cfg_opt_size(opt) - 1);
    const char *name = cfg_title(solution);
    const char *address = cfg_getstr(solution, "address");
    const char *plain = cfg_getstr(solution, "plain");
    bool plain_allowed = false;

    if (plain)
        parse_bool(plain, &plain_allowed);
    if (name[0] == '\0' || strlen(name) >= CONF_NAME_MAX || strpbrk(name, " \t\"\\="))
        cfg_error(cfg, "solution \"%s\": expected a name of 1 to 63 characters without spaces or quotes",
                  name);
    else if (!address)
        cfg_error(cfg, "solution \"%s\": expected an address", name);
    else if (strncmp(address, "tcp:", 4) == 0 && !plain_allowed)
        cfg_error(cfg, "solution \"%s\": expected a tls: address, or plain = true", name);
    else if (strncmp(address, "tls:", 4) == 0 &&
             (!cfg_getstr(solution, "cert") || !cfg_getstr(solution, "key") || !cfg_getstr(solution, "ca")))
        cfg_error(cfg, "solution \"%s\": expected cert, key and ca with a tls: address", name);
    else
        return 0;
    return -1;
}

/* The options of one section, for libconfuse. */
static void
fill_grammar(enum section section, cfg_opt_t *out)
{
    for (size_t i = 0; i < OPTIONS; i++) {
        cfg_opt_t text = CFG_STR(options[i].name, NULL, CFGF_NODEFAULT);
        cfg_opt_t list = CFG_STR_LIST(options[i].name, NULL, CFGF_NODEFAULT);

        if (options[i].section != section)
            continue;
        *out = options[i].kind == LIST ? list : text;
        out->validcb = check_option;
        out++;
    }
    if (section == TOP) {
        static cfg_opt_t sub[SECTIONS][OPTIONS + 1];
        static const cfg_flag_t flags[] = { [DOORS] = CFGF_NONE,
                                            [LIMITS] = CFGF_NONE,
                                            [VM] = CFGF_TITLE | CFGF_MULTI | CFGF_NO_TITLE_DUPES,
                                            [SOLUTION] = CFGF_TITLE | CFGF_MULTI | CFGF_NO_TITLE_DUPES };

        for (enum section s = DOORS; s < SECTIONS; s++) {
            cfg_opt_t opt = CFG_SEC(section_names[s], sub[s], flags[s]);

            fill_grammar(s, sub[s]);
            opt.validcb = s == VM ? check_vm : s == SOLUTION ? check_solution : NULL;
            *out++ = opt;
        }
    }
    *out = (cfg_opt_t)CFG_END();
}

/* ---- from the file to the struct ---- */

/* Sets every option of one section: its default, then what the file says (cfg NULL: nothing). */
static void
take_section(enum section section, cfg_t *cfg, void *base)
{
    for (size_t i = 0; i < OPTIONS; i++) {
        const struct option *option = &options[i];
        cfg_opt_t *opt = cfg && option->section == section ? cfg_getopt(cfg, option->name) : NULL;
        unsigned count = opt ? cfg_opt_size(opt) : 0;
        struct conf_list *list = (void *)((char *)base + option->offset);
        const char *text = option->value;

        if (option->section != section)
            continue;
        if (option->kind == LIST) {
            for (unsigned n = 0; n < count; n++)
                list->texts[list->count++] = strdup(cfg_opt_getnstr(opt, n));
            continue;
        }
        if (count > 0 && cfg_opt_getnstr(opt, 0))
            text = cfg_opt_getnstr(opt, 0);
        if (text)
            parse_value(option, text, base); /* was checked when it was read */
    }
}

static int
by_altitude(const void *left, const void *right)
{
    const struct conf_solution *a = left;
    const struct conf_solution *b = right;

    if (a->altitude != b->altitude)
        return a->altitude > b->altitude ? -1 : 1;
    return strcmp(a->name, b->name);
}

static bool
take_solutions(struct conf *conf, cfg_t *cfg)
{
    unsigned count = cfg_size(cfg, "solution");

    if (count > CONF_SOLUTIONS_MAX) {
        cfg_error(cfg, "%u solutions: expected at most %d", count, CONF_SOLUTIONS_MAX);
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        cfg_t *section = cfg_getnsec(cfg, "solution", i);
        struct conf_solution *solution = &conf->solutions[conf->solution_count++];

        snprintf(solution->name, sizeof(solution->name), "%s", cfg_title(section));
        take_section(SOLUTION, section, solution);
        for (unsigned n = 0; n < solution->classes.count; n++)
            solution->class_mask |= 1u << event_class_by_name(solution->classes.texts[n]);
        if (solution->class_mask == 0)
            solution->class_mask = CLASS_MASK_ALL;
    }
    qsort(conf->solutions, conf->solution_count, sizeof(conf->solutions[0]), by_altitude);
    return true;
}

static bool
take_vms(struct conf *conf, cfg_t *cfg)
{
    conf->vms = calloc(cfg_size(cfg, "vm") + 1, sizeof(*conf->vms));
    if (!conf->vms)
        return false;
    for (unsigned i = 0; i < cfg_size(cfg, "vm"); i++) {
        cfg_t *section = cfg_getnsec(cfg, "vm", i);
        struct conf_vm *vm = &conf->vms[conf->vm_count];

        take_section(VM, section, vm);
        gr_uuid_parse(cfg_title(section), vm->uuid);
        gr_uuid_format(vm->uuid, vm->uuid_text);
        for (unsigned n = 0; n < conf->vm_count; n++) {
            if (vm->cid != 0 && vm->cid == conf->vms[n].cid) {
                cfg_error(cfg, "vm \"%s\": cid %u is that of vm \"%s\" already", vm->uuid_text, vm->cid,
                          conf->vms[n].uuid_text);
                return false;
            }
            if (memcmp(vm->uuid, conf->vms[n].uuid, GR_UUID_SIZE) == 0) {
                cfg_error(cfg, "vm \"%s\" stands there twice", vm->uuid_text);
                return false;
            }
        }
        conf->vm_count++;
    }
    return true;
}

/* What no single option can say. */
static bool
check_whole(const struct conf *conf, cfg_t *cfg)
{
    if (conf->limits.vm_log > conf->limits.memory)
        cfg_error(cfg, "limits: vm_log is more than memory");
    else if (conf->silence < 2 * conf->heartbeat)
        cfg_error(cfg, "silence: expected at least twice the heartbeat");
    else if (conf->limits.vms < conf->vm_count)
        cfg_error(cfg, "limits: vms = %u, but there are %u vm sections", conf->limits.vms, conf->vm_count);
    else
        return true;
    return false;
}

struct conf *
conf_load(const char *path, FILE *errors)
{
    cfg_opt_t grammar[OPTIONS + SECTIONS];
    struct conf *conf = calloc(1, sizeof(*conf));
    cfg_t *cfg;
    bool good = false;

    if (!conf)
        return NULL;
    error_stream = errors;
    fill_grammar(TOP, grammar);
    cfg = cfg_init(grammar, CFGF_NONE);
    cfg_set_error_function(cfg, report);
    snprintf(conf->path, sizeof(conf->path), "%s", path);
    gethostname(conf->host, sizeof(conf->host) - 1);
    switch (cfg_parse(cfg, path)) {
    case CFG_SUCCESS:
        take_section(TOP, cfg, conf);
        take_section(DOORS, cfg_getsec(cfg, "doors"), &conf->doors);
        take_section(LIMITS, cfg_getsec(cfg, "limits"), &conf->limits);
        good = take_vms(conf, cfg) && take_solutions(conf, cfg) && check_whole(conf, cfg);
        break;
    case CFG_FILE_ERROR:
        fprintf(errors, "%s: cannot be read\n", path);
        break;
    default:
        break;
    }
    cfg_free(cfg);
    if (good)
        return conf;
    conf_free(conf);
    return NULL;
}

static void
free_list(struct conf_list *list)
{
    for (unsigned i = 0; i < list->count; i++)
        free(list->texts[i]);
}

void
conf_free(struct conf *conf)
{
    if (!conf)
        return;
    for (unsigned i = 0; i < conf->solution_count; i++) {
        free_list(&conf->solutions[i].classes);
        free_list(&conf->solutions[i].vms);
        free_list(&conf->solutions[i].mute);
    }
    free(conf->vms);
    free(conf);
}

/* ---- printing ---- */

static void
print_quoted(const char *text, FILE *out)
{
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static void
print_value(const struct option *option, const void *base, FILE *out)
{
    const void *member = (const char *)base + option->offset;
    const struct conf_list *list = member;
    char buf[ADDRESS_TEXT_MAX];
    const char *choice;
    int index;

    switch (option->kind) {
    case TEXT:
        print_quoted(member, out);
        break;
    case ADDRESS:
        print_quoted(address_format(member, buf), out);
        break;
    case BOOL:
        fputs(*(const bool *)member ? "true" : "false", out);
        break;
    case NUMBER:
        fprintf(out, "%u", *(const uint32_t *)member);
        break;
    case DURATION:
        fprintf(out, "%ums", *(const uint32_t *)member);
        break;
    case SIZE:
        fprintf(out, "%llu", (unsigned long long)*(const uint64_t *)member);
        break;
    case CHOICE:
        index = option->offset == AT(conf, syslog) && option->section == TOP ? *(const bool *)member
                                                                             : *(const int *)member;
        for (choice = option->choices; index > 0; index--)
            choice = strchr(choice, '|') + 1;
        fprintf(out, "%.*s", (int)strcspn(choice, "|"), choice);
        break;
    case LIST:
        fputc('{', out);
        for (unsigned i = 0; i < list->count; i++) {
            fputs(i ? ", " : "", out);
            print_quoted(list->texts[i], out);
        }
        fputc('}', out);
        break;
    }
}

static bool
is_set(const struct option *option, const void *base)
{
    const void *member = (const char *)base + option->offset;

    if (option->value)
        return true;
    switch (option->kind) {
    case TEXT:
        return *(const char *)member != '\0';
    case ADDRESS:
        return ((const struct address *)member)->kind != ADDRESS_NONE;
    case LIST:
        return ((const struct conf_list *)member)->count > 0;
    default:
        return *(const uint32_t *)member != 0;
    }
}

static void
print_section(enum section section, const char *title, const void *base, FILE *out)
{
    const char *indent = section == TOP ? "" : "    ";

    if (section != TOP) {
        fprintf(out, "\n%s ", section_names[section]);
        if (title)
            print_quoted(title, out);
        fputs(title ? " {\n" : "{\n", out);
    }
    for (size_t i = 0; i < OPTIONS; i++) {
        if (options[i].section != section || !is_set(&options[i], base))
            continue;
        fprintf(out, "%s%s = ", indent, options[i].name);
        print_value(&options[i], base, out);
        fputc('\n', out);
    }
    if (section != TOP)
        fputs("}\n", out);
}

void
conf_print(const struct conf *conf, FILE *out)
{
    print_section(TOP, NULL, conf, out);
    print_section(DOORS, NULL, &conf->doors, out);
    print_section(LIMITS, NULL, &conf->limits, out);
    for (unsigned i = 0; i < conf->vm_count; i++)
        print_section(VM, conf->vms[i].uuid_text, &conf->vms[i], out);
    for (unsigned i = 0; i < conf->solution_count; i++)
        print_section(SOLUTION, conf->solutions[i].name, &conf->solutions[i], out);
}

void
conf_help(FILE *out)
{
    for (enum section section = TOP; section < SECTIONS; section++) {
        if (section != TOP)
            fprintf(out, "\n%s%s {\n", section_names[section],
                    section == VM         ? " \"UUID\""
                    : section == SOLUTION ? " \"NAME\""
                                          : "");
        for (size_t i = 0; i < OPTIONS; i++) {
            const struct option *option = &options[i];

            if (option->section != section)
                continue;
            fprintf(out, "%s%-13s %s", section == TOP ? "" : "    ", option->name, option->help);
            if (option->choices)
                fprintf(out, " (%s)", option->choices);
            if (option->value)
                fprintf(out, " [%s]", option->value);
            fputc('\n', out);
        }
        if (section != TOP)
            fputs("}\n", out);
    }
}

/* ---- questions ---- */

static bool
lists_equal(const struct conf_list *a, const struct conf_list *b)
{
    if (a->count != b->count)
        return false;
    for (unsigned i = 0; i < a->count; i++)
        if (strcmp(a->texts[i], b->texts[i]) != 0)
            return false;
    return true;
}

bool
conf_solution_equal(const struct conf_solution *a, const struct conf_solution *b)
{
    /* memory of both was zero before it was filled, so bytes compare */
    return memcmp(a, b, offsetof(struct conf_solution, classes)) == 0 &&
           lists_equal(&a->classes, &b->classes) && lists_equal(&a->vms, &b->vms) &&
           lists_equal(&a->mute, &b->mute);
}

bool
conf_vm_equal(const struct conf_vm *a, const struct conf_vm *b)
{
    return memcmp(a->uuid, b->uuid, GR_UUID_SIZE) == 0 && a->cid == b->cid &&
           strcmp(a->uds_path, b->uds_path) == 0 && address_equal(&a->dial, &b->dial) &&
           a->dial_connect == b->dial_connect;
}

const struct conf_vm *
conf_vm_by_uuid(const struct conf *conf, const uint8_t uuid[GR_UUID_SIZE])
{
    for (unsigned i = 0; i < conf->vm_count; i++)
        if (memcmp(conf->vms[i].uuid, uuid, GR_UUID_SIZE) == 0)
            return &conf->vms[i];
    return NULL;
}

const struct conf_vm *
conf_vm_by_cid(const struct conf *conf, uint32_t cid)
{
    for (unsigned i = 0; i < conf->vm_count; i++)
        if (conf->vms[i].cid != 0 && conf->vms[i].cid == cid)
            return &conf->vms[i];
    return NULL;
}
