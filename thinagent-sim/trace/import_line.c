/* The fields of one event of a log. */
#include "thinagent-sim/trace/import_line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *
line_field(const struct line *line, const char *name)
{
    const char *text = json_string_value(json_object_get(line->event, name));

    if (!text || text[0] == '\0' || strcmp(text, "-") == 0 || strcmp(text, "<unknown process>") == 0)
        return NULL;
    return text;
}

struct gr_text
line_text(struct line *line, const char *name)
{
    return text_put(line->pool, line_field(line, name));
}

struct gr_text
line_needed_text(struct line *line, const char *name, const char *why)
{
    struct gr_text text = line_text(line, name);

    if (text.len == 0)
        line->why = why;
    return text;
}

uint64_t
line_number(const struct line *line, const char *name)
{
    const json_t *value = json_object_get(line->event, name);
    const char *text = line_field(line, name);

    if (json_is_integer(value))
        return (uint64_t)json_integer_value(value);
    return text ? strtoull(text, NULL, 0) : 0;
}

uint64_t
line_needed_number(struct line *line, const char *name, uint64_t max, const char *why)
{
    uint64_t value = line_number(line, name);

    if ((!line_field(line, name) && !json_is_integer(json_object_get(line->event, name))) || value > max)
        line->why = why;
    return value;
}

struct gr_text
line_account(struct line *line, const char *domain_field, const char *name_field)
{
    const char *domain = line_field(line, domain_field);
    const char *name = line_field(line, name_field);
    char both[1024];

    if (!name)
        return text_put(line->pool, NULL);
    if (!domain)
        return text_put(line->pool, name);
    if ((size_t)snprintf(both, sizeof(both), "%s\\%s", domain, name) >= sizeof(both))
        line->pool->full = true;
    return text_put(line->pool, both);
}
