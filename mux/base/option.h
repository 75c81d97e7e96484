/* Options of the configuration: the one table of their names, kinds, bounds and defaults, and their values as
 * text. */
#ifndef GIMUX_BASE_OPTION_H
#define GIMUX_BASE_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Sections of the file. The options of each set members of a struct of its own: conf, conf_doors,
 * conf_limits, conf_storage, conf_vm, conf_solution. */
enum option_section {
    SECTION_TOP,
    SECTION_DOORS,
    SECTION_LIMITS,
    SECTION_STORAGE,
    SECTION_VM,
    SECTION_SOLUTION,
    SECTIONS,
};

enum option_kind {
    KIND_TEXT,     /* char array */
    KIND_PATH,     /* the same, an absolute path */
    KIND_ADDRESS,  /* struct address */
    KIND_BOOL,     /* bool */
    KIND_NUMBER,   /* uint32_t */
    KIND_SIZE,     /* uint64_t, bytes */
    KIND_DURATION, /* uint32_t, ms */
    KIND_CHOICE,   /* int: the index of the choice */
    KIND_LIST,     /* struct conf_list */
};

struct option_info {
    enum option_section section;
    const char *name;
    enum option_kind kind;
    size_t offset; /* of the member in the section's struct */
    uint64_t min;  /* numbers, sizes, durations: the least value; address: mask of 1 << enum address_kind */
    uint64_t max;  /* numbers, sizes, durations: the largest value; text, path: size of the array */
    const char *value;   /* the default, as in a file; NULL: not set */
    const char *choices; /* "a|b|c" */
    const char *help;
};

#define OPTIONS_MAX 64 /* options of all sections, at most */

/* "doors", "limits", "storage", "vm", "solution"; "" for the top. */
const char *option_section_name(enum option_section section);

/* The next option of a section, in the order of the table, or NULL: start with NULL. */
const struct option_info *option_next(enum option_section section, const struct option_info *option);

/* The option of that name, or NULL. */
const struct option_info *option_find(enum option_section section, const char *name);

/* Reads a value (of any kind but list) into its member of *base, the section's struct. Returns NULL, or
 * static text that says what was expected; "out of bounds" if that is a number from min to max. */
const char *option_parse(const struct option_info *option, const char *text, void *base);

/* Why a text cannot be an element of this list option (static text), or NULL. */
const char *option_check_element(const struct option_info *option, const char *text);

/* Whether the member differs from "not set"; always for options with a default. */
bool option_is_set(const struct option_info *option, const void *base);

/* Prints the member's value as it is written in the file. */
void option_print(const struct option_info *option, const void *base, FILE *out);

/* Prints text in quotes, as it is written in the file. */
void option_print_quoted(const char *text, FILE *out);

/* The name of a choice, as the file has it, of an option that has choices; "" if it has none of that number.
 */
#define OPTION_CHOICE_MAX 32
const char *option_choice(enum option_section section, const char *name, int value,
                          char out[OPTION_CHOICE_MAX]);

#endif
