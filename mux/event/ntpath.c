/* Windows path forms: what a path of the NT namespace is called by people, and the stream it names.
 *
 * Letters are compared without regard to ASCII case: object names are, and it is they that are looked at
 * here. Names of files stay as the guest wrote them. */
#include "mux/event/ntpath.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

/* ---- which letter a device has ---- */

/* A device's name as ASCII without trailing backslashes; false if that is not what it is. */
static bool
take_device(const struct gr_text *text, struct volume *volume)
{
    size_t len = text->len / 2;

    if (text->len % 2 != 0)
        return false;
    while (len > 0 && text->data[2 * len - 2] == '\\' && text->data[2 * len - 1] == 0)
        len--;
    if (len < 2 || len >= VOLUME_DEVICE_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        uint8_t c = text->data[2 * i];

        if (c == 0 || c > 0x7f || text->data[2 * i + 1] != 0)
            return false;
        volume->device[i] = (char)c;
    }
    volume->device[len] = '\0';
    volume->device_len = (uint32_t)len;
    return volume->device[0] == '\\';
}

uint32_t
volume_map_set(struct volume_map *map, const struct gr_volumes *volumes)
{
    struct gr_volume volume;
    size_t at = 0;
    uint32_t left_out = 0;

    map->count = 0;
    while (gr_volume_next(volumes, &at, &volume)) {
        if (map->count < VOLUME_MAX && take_device(&volume.device, &map->volumes[map->count]))
            map->volumes[map->count++].letter = (char)volume.letter;
        else
            left_out++;
    }
    return left_out;
}

/* ---- forms of a path ---- */

static char
lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* What follows `prefix`, which is in lower case, in path, or NULL. Most prefixes differ from most paths
 * within three characters. */
static char *
after(char *path, const char *end, const char *prefix)
{
    for (; *prefix != '\0'; path++, prefix++)
        if (path == end || lower(*path) != *prefix)
            return NULL;
    return path;
}

static bool
at_component_end(const char *at, const char *end)
{
    return at == end || *at == '\\';
}

static bool
starts_with_drive(const char *path, const char *end)
{
    char letter = end - path >= 2 ? (char)(path[0] | 0x20) : 0;

    return letter >= 'a' && letter <= 'z' && path[1] == ':';
}

/* "c:" and "c:\...": the letter in upper case. NULL for anything else. */
static char *
drive_path(char *path, const char *end)
{
    if (!starts_with_drive(path, end) || !at_component_end(path + 2, end))
        return NULL;
    path[0] = (char)(path[0] & ~0x20);
    return path;
}

/* "server\share\..." that follows a prefix of at least two characters: \\server\share\... Redirectors may put
 * components in front that start with a semicolon (";X:logonid"); these go. NULL if no server is named. */
static char *
unc_path(char *rest, const char *end)
{
    while (rest < end && *rest == ';') {
        rest = memchr(rest, '\\', (size_t)(end - rest));
        if (!rest)
            return NULL;
        rest++;
    }
    if (at_component_end(rest, end))
        return NULL;
    rest[-1] = '\\';
    rest[-2] = '\\';
    return rest - 2;
}

/* What follows the device in path, or NULL. Devices of one guest differ in their last character, and drivers
 * write them as they do in VOLUMES. */
static char *
after_device(char *path, const char *end, const struct volume *volume)
{
    size_t len = volume->device_len;

    if (len > (size_t)(end - path) || !at_component_end(path + len, end) ||
        lower(path[len - 1]) != lower(volume->device[len - 1]))
        return NULL;
    if (memcmp(path, volume->device, len) != 0 && strncasecmp(path, volume->device, len) != 0)
        return NULL;
    return path + len;
}

/* The path with its device's letter, or NULL: nearly all paths have one. */
static char *
volume_path(char *path, const char *end, const struct volume_map *volumes)
{
    char *rest;

    for (uint32_t i = 0; volumes && i < volumes->count; i++) {
        rest = after_device(path, end, &volumes->volumes[i]);
        if (rest) {
            assert(rest - path >= 2);
            rest[-1] = ':';
            rest[-2] = volumes->volumes[i].letter;
            return rest - 2;
        }
    }
    return NULL;
}

/* The path on a redirector, a device for all shares, or NULL. */
static char *
share_path(char *path, const char *end)
{
    char *rest = after(path, end, "\\device\\mup\\");

    if (!rest)
        rest = after(path, end, "\\device\\lanmanredirector\\");
    return rest ? unc_path(rest, end) : NULL;
}

/* What follows the name of the directory of DOS devices, in any of its four spellings, or NULL. */
static char *
after_dos_devices(char *path, const char *end)
{
    switch (end - path >= 2 ? lower(path[1]) : '\0') {
    case '?':
        return after(path, end, "\\??\\");
    case '\\':
        return after(path, end, "\\\\?\\");
    case 'd':
        return after(path, end, "\\dosdevices\\");
    case 'g':
        return after(path, end, "\\global??\\");
    default:
        return NULL;
    }
}

/* A path of the NT namespace that is on no known volume. */
static char *
rooted_path(char *path, const char *end, const struct volume_map *volumes)
{
    char *rest = after_dos_devices(path, end);
    char *result;

    if (!rest)
        return share_path(path, end);
    if (after(rest, end, "unc\\"))
        return unc_path(rest + strlen("unc\\"), end);
    if (!after(rest, end, "globalroot\\"))
        return drive_path(rest, end);
    rest += strlen("globalroot");
    result = volume_path(rest, end, volumes);
    return result ? result : share_path(rest, end);
}

char *
ntpath_simplify(char *path, const char *end, const struct volume_map *volumes)
{
    char *result;

    if (path == end || *path != '\\') {
        result = drive_path(path, end);
    } else {
        result = volume_path(path, end, volumes);
        if (!result)
            result = rooted_path(path, end, volumes);
    }
    return result ? result : path;
}

/* ---- streams ---- */

static bool
is_word(const char *at, const char *end, const char *word)
{
    size_t len = strlen(word);

    return (size_t)(end - at) == len && strncasecmp(at, word, len) == 0;
}

/* Whether a stream, "name:type", is another name of the file or directory itself: f::$DATA,
 * dir:$I30:$INDEX_ALLOCATION. */
static bool
is_default_stream(const char *name, const char *colon, const char *end)
{
    if (is_word(colon + 1, end, "$INDEX_ALLOCATION"))
        return name == colon || is_word(name, colon, "$I30");
    return name == colon && is_word(colon + 1, end, "$DATA");
}

static bool
is_all_colons(const char *at, const char *end)
{
    while (at < end && *at == ':')
        at++;
    return at == end;
}

static char *
find(char *from, const char *end, char c)
{
    return memchr(from, c, (size_t)(end - from));
}

char *
ntpath_cut_stream(char *path, char **end, size_t *len)
{
    char *rest = starts_with_drive(path, *end) ? path + 2 : path;
    char *colon = find(rest, *end, ':');
    char *last;
    char *name;
    char *type;

    if (!colon)
        return NULL; /* nearly always */
    last = memrchr(rest, '\\', (size_t)(*end - rest));
    if (last)
        colon = find(last, *end, ':');
    if (!colon || is_all_colons(colon, *end))
        return NULL;
    name = colon + 1;
    type = find(name, *end, ':');
    if (type && is_default_stream(name, type, *end)) {
        *end = colon;
        return NULL;
    }
    /* "name:$BITMAP" is not the stream "name" */
    if (!type || (type + 1 < *end && !is_word(type + 1, *end, "$DATA")))
        type = *end;
    *len = (size_t)(type - name);
    *end = colon;
    return name;
}
