/* The configuration: one file, read whole into one struct; from one table of options come the parser, the
 * bounds, the defaults, --print-config and the names in messages. */
#include "mux/base/conf.h"

#include <assert.h>
#include <confuse.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mux/base/conf_text.h"
#include "mux/base/option.h"
#include "proto/event_class.h"

/* ---- libconfuse: the file's grammar ---- */

static FILE *error_stream;     /* of the conf_load that is running */
static const char *error_path; /* and its file, which libconfuse does not tell of all sections */
static bool error_told;
static unsigned sections_read; /* 1 << enum option_section, of sections that a file has at most once */

static void
report(cfg_t *cfg, const char *format, va_list args)
{
    fprintf(error_stream, "%s:%d: ", error_path, cfg ? cfg->line : 0);
    vfprintf(error_stream, format, args);
    fputc('\n', error_stream);
    error_told = true;
}

static enum option_section
section_of(const cfg_t *cfg)
{
    enum option_section section = SECTION_DOORS;

    while (section < SECTIONS && strcmp(cfg_name((cfg_t *)cfg), option_section_name(section)) != 0)
        section++;
    return section < SECTIONS ? section : SECTION_TOP;
}

/* Called by libconfuse when it has read an option, with the line it is on. */
static int
check_option(cfg_t *cfg, cfg_opt_t *opt)
{
    const struct option_info *option = option_find(section_of(cfg), cfg_opt_name(opt));
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
    if (option->kind == KIND_LIST && count > CONF_LIST_MAX)
        why = "too many elements, at most 64";
    for (unsigned i = 0; i < count && !why; i++) {
        text = cfg_opt_getnstr(opt, i);
        why =
            option->kind == KIND_LIST ? option_check_element(option, text) : option_parse(option, text, into);
    }
    free(into);
    if (!why)
        return 0;
    if (option->kind == KIND_CHOICE)
        cfg_error(cfg, "%s = \"%s\": expected one of %s", option->name, text, option->choices);
    else if (strcmp(why, "out of bounds") == 0)
        cfg_error(cfg, "%s = %s: expected %llu to %llu%s", option->name, text,
                  (unsigned long long)option->min, (unsigned long long)option->max,
                  option->kind == KIND_DURATION ? " ms"
                  : option->kind == KIND_SIZE   ? " bytes"
                                                : "");
    else
        cfg_error(cfg, "%s = \"%s\": %s", option->name, text, why);
    return -1;
}

/* Of two such sections libconfuse would keep only the second. */
static int
check_once(cfg_t *cfg, cfg_opt_t *opt)
{
    unsigned bit = 1u << section_of(cfg_opt_getnsec(opt, 0));

    if (!(sections_read & bit)) {
        sections_read |= bit;
        return 0;
    }
    cfg_error(cfg, "%s: a second section, expected one", cfg_opt_name(opt));
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
    struct conf_solution parsed = { .plain = false };

    if (plain)
        option_parse(option_find(SECTION_SOLUTION, "plain"), plain, &parsed);
    if (name[0] == '\0' || strlen(name) >= CONF_NAME_MAX || strpbrk(name, " \t\r\n\"\\="))
        cfg_error(cfg, "solution \"%s\": expected a name of 1 to 63 characters without spaces or quotes",
                  name);
    else if (!address)
        cfg_error(cfg, "solution \"%s\": expected an address", name);
    else if (strncmp(address, "tcp:", 4) == 0 && !parsed.plain)
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
fill_grammar(enum option_section section, cfg_opt_t *out)
{
    const struct option_info *option = NULL;

    while ((option = option_next(section, option))) {
        cfg_opt_t text = CFG_STR(option->name, NULL, CFGF_NODEFAULT);
        cfg_opt_t list = CFG_STR_LIST(option->name, NULL, CFGF_NODEFAULT);

        *out = option->kind == KIND_LIST ? list : text;
        out->validcb = check_option;
        out++;
    }
    if (section == SECTION_TOP) {
        static cfg_opt_t sub[SECTIONS][OPTIONS_MAX + 1];
        static const cfg_flag_t flags[] = { [SECTION_DOORS] = CFGF_NONE,
                                            [SECTION_LIMITS] = CFGF_NONE,
                                            [SECTION_STORAGE] = CFGF_NONE,
                                            [SECTION_VM] = CFGF_TITLE | CFGF_MULTI | CFGF_NO_TITLE_DUPES,
                                            [SECTION_SOLUTION] =
                                                CFGF_TITLE | CFGF_MULTI | CFGF_NO_TITLE_DUPES };

        for (enum option_section s = SECTION_DOORS; s < SECTIONS; s++) {
            cfg_opt_t opt = CFG_SEC(option_section_name(s), sub[s], flags[s]);

            fill_grammar(s, sub[s]);
            opt.validcb = s == SECTION_VM ? check_vm : s == SECTION_SOLUTION ? check_solution : check_once;
            *out++ = opt;
        }
    }
    *out = (cfg_opt_t)CFG_END();
}

/* ---- from the file to the struct ---- */

/* Sets every option of one section: its default, or what the file says. False if out of memory. */
static bool
take_section(enum option_section section, cfg_t *cfg, void *base)
{
    const struct option_info *option = NULL;
    bool good = true;

    while ((option = option_next(section, option))) {
        cfg_opt_t *opt = cfg_getopt(cfg, option->name);
        unsigned count = opt ? cfg_opt_size(opt) : 0;
        struct conf_list *list = (void *)((char *)base + option->offset);
        const char *text = option->value;

        if (option->kind == KIND_LIST) {
            for (unsigned n = 0; n < count; n++) {
                list->texts[list->count] = strdup(cfg_opt_getnstr(opt, n));
                if (!list->texts[list->count])
                    good = false;
                else
                    list->count++;
            }
            continue;
        }
        if (count > 0 && cfg_opt_getnstr(opt, 0))
            text = cfg_opt_getnstr(opt, 0);
        if (text)
            option_parse(option, text, base); /* was checked when it was read */
    }
    return good;
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
        if (!take_section(SECTION_SOLUTION, section, solution))
            return false;
        for (unsigned n = 0; n < solution->classes.count; n++)
            solution->class_mask |= 1u << event_class_by_name(solution->classes.texts[n]);
        if (solution->class_mask == 0)
            solution->class_mask = CLASS_MASK_ALL;
    }
    qsort(conf->solutions, conf->solution_count, sizeof(conf->solutions[0]), by_altitude);
    return true;
}

/* The option by which two VMs share one place, so that a driver that comes from there could belong to either;
 * or NULL. */
static const char *
same_place(const struct conf_vm *a, const struct conf_vm *b)
{
    if (a->cid != 0 && a->cid == b->cid)
        return "cid";
    if (a->uds_path[0] && strcmp(a->uds_path, b->uds_path) == 0)
        return "uds_path";
    if (a->dial.kind != ADDRESS_NONE && address_equal(&a->dial, &b->dial))
        return "dial";
    return NULL;
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

        if (!take_section(SECTION_VM, section, vm))
            return false;
        gr_uuid_parse(cfg_title(section), vm->uuid);
        gr_uuid_format(vm->uuid, vm->uuid_text);
        for (unsigned n = 0; n < conf->vm_count; n++) {
            const char *shared = same_place(vm, &conf->vms[n]);

            if (shared) {
                cfg_error(cfg, "vm \"%s\": %s is that of vm \"%s\" already", vm->uuid_text, shared,
                          conf->vms[n].uuid_text);
                return false;
            }
            if (memcmp(vm->uuid, conf->vms[n].uuid, GR_UUID_SIZE) == 0) {
                cfg_error(cfg, "vm \"%s\": a second section, expected one", vm->uuid_text);
                return false;
            }
        }
        conf->vm_count++;
    }
    return true;
}

/* What SVMs were sent and have not acknowledged stays in the VM's log, in whole chunks. That must be less
 * than the log, or a VM would wait for an SVM whose policy is drop. */
static bool
check_windows(const struct conf *conf, cfg_t *cfg)
{
    uint64_t needed = CONF_LOG_CHUNK;
    uint64_t windows = 0;

    for (unsigned i = 0; i < conf->solution_count; i++) {
        windows += conf->solutions[i].window;
        needed += conf->solutions[i].policy == CONF_POLICY_DROP ? 2 * (uint64_t)CONF_LOG_CHUNK : 0;
    }
    if (windows > conf->limits.vm_log / 2)
        cfg_error(cfg, "solutions: windows of %llu bytes in all, expected at most half of limits.vm_log",
                  (unsigned long long)windows);
    else if (conf->limits.vm_log / 2 < needed)
        cfg_error(cfg,
                  "limits: vm_log = %llu, expected at least %llu with so many solutions whose policy is drop",
                  (unsigned long long)conf->limits.vm_log, (unsigned long long)needed * 2);
    else
        return true;
    return false;
}

/* A solution that relies on files needs a directory for them. */
static bool
check_storage(const struct conf *conf, cfg_t *cfg)
{
    for (unsigned i = 0; i < conf->solution_count; i++) {
        const struct conf_solution *solution = &conf->solutions[i];

        if (solution->durability == CONF_DELIVERED && solution->policy == CONF_POLICY_SPILL)
            cfg_error(cfg, "solution \"%s\": policy = spill: expected durability = process or disk",
                      solution->name);
        else if (solution->durability != CONF_DELIVERED && conf->storage.dir[0] == '\0')
            cfg_error(cfg, "solution \"%s\": durability: expected a storage section with a dir",
                      solution->name);
        else
            continue;
        return false;
    }
    if (conf->storage.vm <= conf->storage.total)
        return true;
    cfg_error(cfg, "storage: vm is more than total");
    return false;
}

/* Checks what depends on several options. */
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
        return check_storage(conf, cfg) && check_windows(conf, cfg);
    return false;
}

struct conf *
conf_load(const char *path, FILE *errors)
{
    cfg_opt_t grammar[OPTIONS_MAX + SECTIONS];
    struct conf *conf;
    cfg_t *cfg;
    char *text;
    bool good = false;

    if (strlen(path) >= sizeof(conf->path)) {
        fprintf(errors, "%s: the path is longer than %zu bytes\n", path, sizeof(conf->path) - 1);
        return NULL;
    }
    text = conf_text_read(path, errors);
    if (!text)
        return NULL;
    conf = calloc(1, sizeof(*conf));
    if (!conf) {
        free(text);
        return NULL;
    }
    error_stream = errors;
    error_path = path;
    error_told = false;
    sections_read = 0;
    fill_grammar(SECTION_TOP, grammar);
    cfg = cfg_init(grammar, CFGF_NONE);
    cfg_set_error_function(cfg, report);
    snprintf(conf->path, sizeof(conf->path), "%s", path);
    gethostname(conf->host, sizeof(conf->host) - 1);
    if (cfg_parse_buf(cfg, text) == CFG_SUCCESS) {
        good = take_section(SECTION_TOP, cfg, conf) &&
               take_section(SECTION_DOORS, cfg_getsec(cfg, "doors"), &conf->doors) &&
               take_section(SECTION_LIMITS, cfg_getsec(cfg, "limits"), &conf->limits) &&
               take_section(SECTION_STORAGE, cfg_getsec(cfg, "storage"), &conf->storage) &&
               take_vms(conf, cfg) && take_solutions(conf, cfg) && check_whole(conf, cfg);
    } else if (!error_told) { /* libconfuse says nothing about an empty name */
        cfg_error(cfg, "expected the name of an option or section");
    }
    cfg_free(cfg);
    free(text);
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
print_section(enum option_section section, const char *title, const void *base, FILE *out)
{
    const char *indent = section == SECTION_TOP ? "" : "    ";
    const struct option_info *option = NULL;

    if (section != SECTION_TOP) {
        fprintf(out, "\n%s ", option_section_name(section));
        if (title)
            option_print_quoted(title, out);
        fputs(title ? " {\n" : "{\n", out);
    }
    while ((option = option_next(section, option))) {
        if (!option_is_set(option, base))
            continue;
        fprintf(out, "%s%s = ", indent, option->name);
        option_print(option, base, out);
        fputc('\n', out);
    }
    if (section != SECTION_TOP)
        fputs("}\n", out);
}

void
conf_print(const struct conf *conf, FILE *out)
{
    print_section(SECTION_TOP, NULL, conf, out);
    print_section(SECTION_DOORS, NULL, &conf->doors, out);
    print_section(SECTION_LIMITS, NULL, &conf->limits, out);
    print_section(SECTION_STORAGE, NULL, &conf->storage, out);
    for (unsigned i = 0; i < conf->vm_count; i++)
        print_section(SECTION_VM, conf->vms[i].uuid_text, &conf->vms[i], out);
    for (unsigned i = 0; i < conf->solution_count; i++)
        print_section(SECTION_SOLUTION, conf->solutions[i].name, &conf->solutions[i], out);
}

void
conf_help(FILE *out)
{
    for (enum option_section section = SECTION_TOP; section < SECTIONS; section++) {
        if (section != SECTION_TOP)
            fprintf(out, "\n%s%s {\n", option_section_name(section),
                    section == SECTION_VM         ? " \"UUID\""
                    : section == SECTION_SOLUTION ? " \"NAME\""
                                                  : "");
        const struct option_info *option = NULL;

        while ((option = option_next(section, option))) {
            fprintf(out, "%s%-13s %s", section == SECTION_TOP ? "" : "    ", option->name, option->help);
            if (option->choices)
                fprintf(out, " (%s)", option->choices);
            if (option->value)
                fprintf(out, " [%s]", option->value);
            fputc('\n', out);
        }
        if (section != SECTION_TOP)
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
    /* both were zeroed before they were filled, so padding is the same */
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
