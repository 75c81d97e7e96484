/* What the files of import share: the fields of one event of a log. */
#ifndef SIM_IMPORT_LINE_H
#define SIM_IMPORT_LINE_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "proto/guest_record.h"
#include "thinagent-sim/text.h"
#include "thinagent-sim/trace/import_known.h"

#define STATUS_ACCESS_DENIED 0xc0000022u

/* An event being converted. */
struct line {
    const json_t *event;
    struct text_pool *pool;
    struct import_known *known; /* what earlier events said */
    uint32_t machine;           /* whose event it is, in known */
    const char *why;            /* set: the event cannot be used */
};

/* A field's text, or NULL if it is missing or stands for nothing. It belongs to the event. */
const char *line_field(const struct line *line, const char *name);

/* The field's text in the pool, empty if there is none. */
struct gr_text line_text(struct line *line, const char *name);

/* Like line_text, for what an event makes no sense without: if there is none, line->why is set to why. */
struct gr_text line_needed_text(struct line *line, const char *name, const char *why);

/* A number that is decimal or 0x..., as a number or a text; 0 if it is missing. */
uint64_t line_number(const struct line *line, const char *name);

/* A number that must be there and at most max; else line->why is set to why. */
uint64_t line_needed_number(struct line *line, const char *name, uint64_t max, const char *why);

/* A name that comes in two fields, as DOMAIN\name; without one of them, what there is of name. */
struct gr_text line_account(struct line *line, const char *domain_field, const char *name_field);

/* Fill in the record of an event of the network. Return false if no driver tells it. */
bool convert_connection(struct line *line, struct gr_record *record);         /* Sysmon 3 */
bool convert_query(struct line *line, struct gr_record *record);              /* Sysmon 22 */
bool convert_allowed_listen(struct line *line, struct gr_record *record);     /* 5154 */
bool convert_blocked_listen(struct line *line, struct gr_record *record);     /* 5155 */
bool convert_allowed_connection(struct line *line, struct gr_record *record); /* 5156 */
bool convert_blocked_connection(struct line *line, struct gr_record *record); /* 5157 */
bool convert_allowed_bind(struct line *line, struct gr_record *record);       /* 5158 */
bool convert_blocked_bind(struct line *line, struct gr_record *record);       /* 5159 */

#endif
