/* The text of a configuration file as its parser is given it: without comments, of which libconfuse counts
 * lines wrong, and takes one that is not closed for the end of the file. */
#include "mux/base/conf_text.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static unsigned
line_of(const char *text, const char *at)
{
    unsigned line = 1;

    for (; text < at; text++)
        line += *text == '\n';
    return line;
}

static char *
read_file(const char *path, FILE *errors)
{
    FILE *file = fopen(path, "re");
    struct stat info;
    char *text = NULL;
    const char *nul;
    size_t len = 0;
    bool good = false;

    if (!file || fstat(fileno(file), &info) != 0) {
        fprintf(errors, "%s: cannot be read: %s\n", path, strerror(errno));
    } else if (S_ISDIR(info.st_mode)) {
        fprintf(errors, "%s: is a directory, expected a file\n", path);
    } else if (!(text = malloc(CONF_TEXT_MAX + 1))) {
        fprintf(errors, "%s: out of memory\n", path);
    } else {
        len = fread(text, 1, CONF_TEXT_MAX + 1, file);
        if (ferror(file))
            fprintf(errors, "%s: cannot be read: %s\n", path, strerror(errno));
        else if (len > CONF_TEXT_MAX)
            fprintf(errors, "%s: expected at most %zu bytes\n", path, CONF_TEXT_MAX);
        else if ((nul = memchr(text, '\0', len)))
            fprintf(errors, "%s:%u: a NUL byte, expected text\n", path, line_of(text, nul));
        else
            good = true;
        if (good) {
            text[len] = '\0';
        } else {
            free(text);
            text = NULL;
        }
    }
    if (file)
        fclose(file);
    return text;
}

/* Behind the text in quotes that begins here; at the end of all if it is not closed, which the parser says.
 */
static char *
skip_quoted(char *at)
{
    char quote = *at++;

    while (*at && *at != quote)
        at += at[0] == '\\' && at[1] ? 2 : 1;
    return *at ? at + 1 : at;
}

/* Makes spaces of all but newlines. */
static void
blank(char *from, const char *end)
{
    for (; from < end; from++)
        if (*from != '\n')
            *from = ' ';
}

/* As the parser has it: # begins a comment anywhere outside of quotes, // and a slash with a star only where
 * a word could begin. Returns where one begins that is not closed, or NULL. */
static const char *
blank_comments(char *text)
{
    bool in_word = false;

    for (char *at = text; *at;) {
        char *end = NULL;

        if (*at == '"' || *at == '\'') {
            at = skip_quoted(at);
            in_word = false;
            continue;
        }
        if (*at == '#' || (!in_word && strncmp(at, "//", 2) == 0)) {
            end = at + strcspn(at, "\n");
        } else if (!in_word && strncmp(at, "/*", 2) == 0) {
            end = strstr(at + 2, "*/");
            if (!end)
                return at;
            end += 2;
        }
        if (end) {
            blank(at, end);
            at = end;
            in_word = false;
        } else {
            in_word = !strchr(" \t\r\n{}()=+,", *at);
            at++;
        }
    }
    return NULL;
}

char *
conf_text_read(const char *path, FILE *errors)
{
    char *text = read_file(path, errors);
    const char *open = text ? blank_comments(text) : NULL;

    if (!open)
        return text;
    fprintf(errors, "%s:%u: a comment begins here that is not closed, expected */\n", path,
            line_of(text, open));
    free(text);
    return NULL;
}
