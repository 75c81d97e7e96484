/* Options of the configuration: the one table of their names, kinds, bounds and defaults, and their values as
 * text. */
#include "mux/base/option.h"

#include <assert.h>
#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "mux/base/conf.h"
#include "proto/event_class.h"

/* ---- the table ---- */

#define A(kind)          (1u << ADDRESS_##kind)
#define KIB              UINT64_C(1024)
#define MIB              (1024 * KIB)
#define GIB              (1024 * MIB)
#define HOUR             UINT64_C(3600000)
#define AT(type, member) offsetof(struct type, member)

static const struct option_info options[] = {
    { SECTION_TOP, "host", KIND_TEXT, AT(conf, host), 0, CONF_NAME_MAX, NULL, NULL,
      "this host's name, told to SVMs; default: the system's" },
    { SECTION_TOP, "pid_file", KIND_PATH, AT(conf, pid_file), 0, CONF_PATH_MAX, "/run/gimux/gimuxd.pid", NULL,
      "where the daemon writes its process id; \"\": nowhere" },
    { SECTION_TOP, "user", KIND_TEXT, AT(conf, user), 0, CONF_NAME_MAX, NULL, NULL,
      "user of this host that gimuxd, started as root, becomes once all is open; default: stays root" },
    { SECTION_TOP, "sandbox", KIND_BOOL, AT(conf, sandbox), 0, 0, "true", NULL,
      "whether a seccomp filter allows the system calls that gimuxd needs and no others" },
    { SECTION_TOP, "admin", KIND_ADDRESS, AT(conf, admin), A(UNIX), 0, "unix:/run/gimux/admin.sock", NULL,
      "the admin door: HTTP with /metrics and /v1/status, root only" },
    { SECTION_TOP, "log", KIND_CHOICE, AT(conf, syslog), 0, 0, "stderr", "stderr|syslog",
      "where log lines go" },
    { SECTION_TOP, "log_level", KIND_CHOICE, AT(conf, log_level), 0, 0, "info", "error|warning|info|debug",
      "the least grave lines that are written" },
    { SECTION_TOP, "heartbeat", KIND_DURATION, AT(conf, heartbeat), 50, HOUR, "5s", NULL,
      "drivers are asked to send something at least this often" },
    { SECTION_TOP, "silence", KIND_DURATION, AT(conf, silence), 100, HOUR, "15s", NULL,
      "a driver silent for so long is reported lost" },
    { SECTION_TOP, "drain", KIND_DURATION, AT(conf, drain), 0, HOUR, "5s", NULL,
      "how long SIGTERM waits for SVMs to take what is queued" },

    { SECTION_DOORS, "vsock", KIND_ADDRESS, AT(conf_doors, vsock), A(VSOCK), 0, NULL, NULL,
      "AF_VSOCK port where guests connect, e.g. vsock:any:48100" },
    { SECTION_DOORS, "vm_dir", KIND_PATH, AT(conf_doors, vm_dir), 0, CONF_PATH_MAX, NULL, NULL,
      "directory of one socket per VM section, <uuid>.sock, for QEMU chardevs" },
    { SECTION_DOORS, "vm_group", KIND_TEXT, AT(conf_doors, vm_group), 0, CONF_NAME_MAX, NULL, NULL,
      "group that may connect to the sockets of single VMs, e.g. kvm; default: root only" },
    { SECTION_DOORS, "shared", KIND_ADDRESS, AT(conf_doors, shared), A(UNIX), 0, NULL, NULL,
      "one socket for all VMs, where the VM is the one that the hello names: for simulation" },
    { SECTION_DOORS, "vmx", KIND_ADDRESS, AT(conf_doors, vmx), A(UNIX), 0, NULL, NULL,
      "root-only socket of the host's own source of VM lifecycle" },
    { SECTION_DOORS, "port", KIND_NUMBER, AT(conf_doors, port), 1, UINT32_MAX, "48100", NULL,
      "vsock port of guests behind <uds_path>_<port> and CONNECT <port>" },
    { SECTION_DOORS, "unknown_cid", KIND_CHOICE, AT(conf_doors, unknown_cid), 0, 0, "reject", "reject|hello",
      "a CID that no VM section names: reject it, or take the UUID of its hello" },
    { SECTION_DOORS, "redial", KIND_DURATION, AT(conf_doors, redial), 10, HOUR, "1s", NULL,
      "time between attempts to connect to a VM that is dialled" },

    { SECTION_LIMITS, "memory", KIND_SIZE, AT(conf_limits, memory), 1 * MIB, 1024 * GIB, "256M", NULL,
      "memory of all VM logs" },
    { SECTION_LIMITS, "vm_log", KIND_SIZE, AT(conf_limits, vm_log), 256 * KIB, 64 * GIB, "8M", NULL,
      "memory of one VM's log" },
    { SECTION_LIMITS, "vm_window", KIND_SIZE, AT(conf_limits, vm_window), 64 * KIB, 4 * GIB, "4M", NULL,
      "bytes of records that a driver may have unacknowledged" },
    { SECTION_LIMITS, "vms", KIND_NUMBER, AT(conf_limits, vms), 1, 65536, "1024", NULL,
      "VMs known at a time" },
    { SECTION_LIMITS, "connections", KIND_NUMBER, AT(conf_limits, connections), 1, 65536, "2048", NULL,
      "driver connections at a time" },
    { SECTION_LIMITS, "flood_records", KIND_NUMBER, AT(conf_limits, flood_records), 0, 1000000000, "1000",
      NULL, "records a second (or as many KiB) from which on a VM can be called flooding; 0: none ever is" },
    { SECTION_LIMITS, "flood_factor", KIND_NUMBER, AT(conf_limits, flood_factor), 2, 1000000, "10", NULL,
      "a flooding VM sends so many times the median of the others" },
    { SECTION_LIMITS, "flood_interval", KIND_DURATION, AT(conf_limits, flood_interval), 50, HOUR, "10s", NULL,
      "time between looks for flooding VMs" },

    { SECTION_STORAGE, "dir", KIND_PATH, AT(conf_storage, dir), 0, CONF_PATH_MAX, NULL, NULL,
      "directory of the files of VM logs; default: none, VM logs are in memory alone" },
    { SECTION_STORAGE, "vm", KIND_SIZE, AT(conf_storage, vm), 4 * MIB, 1024 * GIB, "64M", NULL,
      "bytes of files of one VM" },
    { SECTION_STORAGE, "total", KIND_SIZE, AT(conf_storage, total), 4 * MIB, 64 * 1024 * GIB, "4G", NULL,
      "bytes of files of all VMs" },

    { SECTION_VM, "cid", KIND_NUMBER, AT(conf_vm, cid), 1, UINT32_MAX - 1, NULL, NULL,
      "the VM's vsock context id" },
    { SECTION_VM, "uds_path", KIND_PATH, AT(conf_vm, uds_path), 0, CONF_PATH_MAX, NULL, NULL,
      "the VMM's vsock socket (Firecracker, Cloud Hypervisor): gimuxd listens on <uds_path>_<port>" },
    { SECTION_VM, "dial", KIND_ADDRESS, AT(conf_vm, dial), A(UNIX) | A(VSOCK), 0, NULL, NULL,
      "where gimuxd connects to the VM: a listening chardev, a CID, a VMM's vsock socket" },
    { SECTION_VM, "dial_connect", KIND_BOOL, AT(conf_vm, dial_connect), 0, 0, "false", NULL,
      "say CONNECT <port> there first (Firecracker, Cloud Hypervisor)" },

    { SECTION_SOLUTION, "altitude", KIND_NUMBER, AT(conf_solution, altitude), 0, 999999, "0", NULL,
      "order among solutions, the highest first" },
    { SECTION_SOLUTION, "address", KIND_ADDRESS, AT(conf_solution, address), A(TCP) | A(TLS), 0, NULL, NULL,
      "where the SVM listens" },
    { SECTION_SOLUTION, "plain", KIND_BOOL, AT(conf_solution, plain), 0, 0, "false", NULL,
      "allow tcp: without TLS" },
    { SECTION_SOLUTION, "cert", KIND_PATH, AT(conf_solution, cert), 0, CONF_PATH_MAX, NULL, NULL,
      "our certificate chain, PEM" },
    { SECTION_SOLUTION, "key", KIND_PATH, AT(conf_solution, key), 0, CONF_PATH_MAX, NULL, NULL,
      "its key, PEM" },
    { SECTION_SOLUTION, "ca", KIND_PATH, AT(conf_solution, ca), 0, CONF_PATH_MAX, NULL, NULL,
      "the CA of the SVM's certificate, PEM" },
    { SECTION_SOLUTION, "crl", KIND_PATH, AT(conf_solution, crl), 0, CONF_PATH_MAX, NULL, NULL,
      "revocation lists, one of every CA in the chain of the SVM's certificate, PEM; default: none" },
    { SECTION_SOLUTION, "tls_name", KIND_TEXT, AT(conf_solution, tls_name), 0, CONF_PATH_MAX, NULL, NULL,
      "name that the SVM's certificate must bear; default: the address's host" },
    { SECTION_SOLUTION, "policy", KIND_CHOICE, AT(conf_solution, policy), 0, 0, "pause", "pause|drop|spill",
      "when the SVM cannot keep up: pause the VM, drop events and tell a gap, or go on in files" },
    { SECTION_SOLUTION, "durability", KIND_CHOICE, AT(conf_solution, durability), 0, 0, "delivered",
      "delivered|process|disk",
      "drivers may forget an event: when the SVM has it, when it is in a file, or when it is on the disk" },
    { SECTION_SOLUTION, "window", KIND_SIZE, AT(conf_solution, window), 0, 4 * GIB, "0", NULL,
      "bytes of one VM sent and not acknowledged; 0: half of vm_log, shared among the solutions" },
    { SECTION_SOLUTION, "heartbeat", KIND_DURATION, AT(conf_solution, heartbeat), 50, HOUR, "5s", NULL,
      "something is sent at least this often; three such times of silence end the link" },
    { SECTION_SOLUTION, "redial_max", KIND_DURATION, AT(conf_solution, redial_max), 50, HOUR, "10s", NULL,
      "longest time between attempts to connect" },
    { SECTION_SOLUTION, "classes", KIND_LIST, AT(conf_solution, classes), 0, 0, NULL, NULL,
      "event classes: file, process, power, authentication, network, dns, lifecycle; {}: all" },
    { SECTION_SOLUTION, "vms", KIND_LIST, AT(conf_solution, vms), 0, 0, NULL, NULL, "UUIDs of VMs; {}: all" },
    { SECTION_SOLUTION, "mute", KIND_LIST, AT(conf_solution, mute), 0, 0, NULL, NULL,
      "path prefixes of file events that are not wanted" },
};
#define OPTIONS (sizeof(options) / sizeof(options[0]))
static_assert(OPTIONS <= OPTIONS_MAX, "OPTIONS_MAX is enough for any section");

static const char *const section_names[] = { [SECTION_TOP] = "",          [SECTION_DOORS] = "doors",
                                             [SECTION_LIMITS] = "limits", [SECTION_STORAGE] = "storage",
                                             [SECTION_VM] = "vm",         [SECTION_SOLUTION] = "solution" };

const char *
option_section_name(enum option_section section)
{
    return section_names[section];
}

const struct option_info *
option_next(enum option_section section, const struct option_info *option)
{
    option = option ? option + 1 : options;
    while (option < options + OPTIONS && option->section != section)
        option++;
    return option < options + OPTIONS ? option : NULL;
}

const struct option_info *
option_find(enum option_section section, const char *name)
{
    const struct option_info *option = NULL;

    while ((option = option_next(section, option)) && strcmp(option->name, name) != 0)
        continue;
    return option;
}

/* ---- one value ---- */

struct unit {
    const char *suffix;
    uint64_t factor;
};

/* Reads a number with one of the suffixes that the option's kind has. */
static const char *
parse_scaled(const char *text, const struct option_info *option, uint64_t *out)
{
    static const struct unit bytes[] = { { "", 1 }, { "K", KIB }, { "M", MIB }, { "G", GIB }, { NULL, 0 } };
    static const struct unit times[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { NULL, 0 } };
    static const struct unit plain[] = { { "", 1 }, { NULL, 0 } };
    const struct unit *units = option->kind == KIND_SIZE       ? bytes
                               : option->kind == KIND_DURATION ? times
                                                               : plain;
    char *end;
    unsigned long long value;

    if (!isdigit((unsigned char)text[0]))
        return "expected a number";
    value = strtoull(text, &end, 10);
    for (; units->suffix; units++)
        if (strcmp(end, units->suffix) == 0)
            break;
    if (!units->suffix)
        return option->kind == KIND_SIZE       ? "expected a number of bytes, or one with K, M or G"
               : option->kind == KIND_DURATION ? "expected a time with ms, s or m, like 500ms"
                                               : "expected a whole number";
    if (value > UINT64_MAX / units->factor || value * units->factor < option->min ||
        value * units->factor > option->max)
        return "out of bounds";
    *out = value * units->factor;
    return NULL;
}

static int
choice_index(const char *choices, const char *text)
{
    size_t len = strlen(text);
    int index = 0;

    for (const char *at = choices; at; at = strchr(at, '|'), at = at ? at + 1 : NULL, index++)
        if (strcspn(at, "|") == len && strncmp(at, text, len) == 0)
            return index;
    return -1;
}

const char *
option_parse(const struct option_info *option, const char *text, void *base)
{
    void *member = (char *)base + option->offset;
    const char *why = NULL;
    uint64_t number = 0;
    int choice;

    switch (option->kind) {
    case KIND_PATH:
        if (text[0] != '\0' && text[0] != '/') /* a daemon changes its directory */
            return "expected an absolute path";
        /* fallthrough */
    case KIND_TEXT:
        if (strlen(text) >= option->max)
            return "too long";
        strcpy(member, text);
        break;
    case KIND_ADDRESS:
        why = address_parse(text, member);
        if (!why && !(option->min & (1u << ((struct address *)member)->kind)))
            why = option->min == A(VSOCK)  ? "expected vsock:CID:PORT"
                  : option->min == A(UNIX) ? "expected unix:PATH"
                  : option->min & A(TCP)   ? "expected tcp:HOST:PORT or tls:HOST:PORT"
                                           : "expected unix:PATH or vsock:CID:PORT";
        break;
    case KIND_BOOL:
        *(bool *)member = strcmp(text, "true") == 0 || strcmp(text, "yes") == 0;
        if (!*(bool *)member && strcmp(text, "false") != 0 && strcmp(text, "no") != 0)
            return "expected true or false";
        break;
    case KIND_NUMBER:
    case KIND_SIZE:
    case KIND_DURATION:
        why = parse_scaled(text, option, &number);
        if (option->kind == KIND_SIZE)
            *(uint64_t *)member = number;
        else
            *(uint32_t *)member = (uint32_t)number;
        break;
    case KIND_CHOICE:
        choice = choice_index(option->choices, text);
        if (choice < 0)
            return "not one of the choices";
        *(int *)member = choice;
        break;
    case KIND_LIST:
        break;
    }
    return why;
}

const char *
option_check_element(const struct option_info *option, const char *text)
{
    uint8_t uuid[GR_UUID_SIZE];

    if (strcmp(option->name, "classes") == 0 && event_class_by_name(text) == CLASS_COUNT)
        return "expected file, process, power, authentication, network, dns or lifecycle";
    if (strcmp(option->name, "vms") == 0 && !gr_uuid_parse(text, uuid))
        return "expected a UUID";
    return NULL;
}

/* ---- values as text ---- */

void
option_print_quoted(const char *text, FILE *out)
{
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\' || *text == '$') /* ${NAME} asks the environment */
            fputc('\\', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

void
option_print(const struct option_info *option, const void *base, FILE *out)
{
    const void *member = (const char *)base + option->offset;
    const struct conf_list *list = member;
    char buf[ADDRESS_TEXT_MAX];
    char choice[OPTION_CHOICE_MAX];

    switch (option->kind) {
    case KIND_TEXT:
    case KIND_PATH:
        option_print_quoted(member, out);
        break;
    case KIND_ADDRESS:
        option_print_quoted(address_format(member, buf), out);
        break;
    case KIND_BOOL:
        fputs(*(const bool *)member ? "true" : "false", out);
        break;
    case KIND_NUMBER:
        fprintf(out, "%u", *(const uint32_t *)member);
        break;
    case KIND_DURATION:
        fprintf(out, "%ums", *(const uint32_t *)member);
        break;
    case KIND_SIZE:
        fprintf(out, "%llu", (unsigned long long)*(const uint64_t *)member);
        break;
    case KIND_CHOICE:
        fputs(option_choice(option->section, option->name, *(const int *)member, choice), out);
        break;
    case KIND_LIST:
        fputc('{', out);
        for (unsigned i = 0; i < list->count; i++) {
            fputs(i ? ", " : "", out);
            option_print_quoted(list->texts[i], out);
        }
        fputc('}', out);
        break;
    }
}

bool
option_is_set(const struct option_info *option, const void *base)
{
    const void *member = (const char *)base + option->offset;

    if (option->value)
        return true;
    switch (option->kind) {
    case KIND_TEXT:
    case KIND_PATH:
        return *(const char *)member != '\0';
    case KIND_ADDRESS:
        return ((const struct address *)member)->kind != ADDRESS_NONE;
    case KIND_LIST:
        return ((const struct conf_list *)member)->count > 0;
    default:
        return *(const uint32_t *)member != 0;
    }
}

const char *
option_choice(enum option_section section, const char *name, int value, char out[OPTION_CHOICE_MAX])
{
    const struct option_info *option = option_find(section, name);
    const char *choice = option ? option->choices : NULL;

    while (choice && value-- > 0) {
        choice = strchr(choice, '|');
        choice = choice ? choice + 1 : NULL;
    }
    snprintf(out, OPTION_CHOICE_MAX, "%.*s", choice ? (int)strcspn(choice, "|") : 0, choice ? choice : "");
    return out;
}
