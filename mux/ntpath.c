/* Windows path forms: what a path of the NT namespace is called by people, and the stream it names.
 *
 * Letters are compared without regard to ASCII case: object names are, and it is they that are looked at
 * here. Names of files stay as the guest wrote them. */
#include "mux/ntpath.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

/* ---- which letter a device has ---- */

/* A device's name as ASCII without trailing backslashes; false if that is not what it is. */
static bool
device_name(const struct gr_text *text, char out[VOLUME_DEVICE_MAX])
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
        out[i] = (char)c;
    }
    out[len] = '\0';
    return out[0] == '\\';
}

uint32_t
volume_map_set(struct volume_map *map, const struct gr_volumes *volumes)
{
    struct gr_volume volume;
    size_t at = 0;
    uint32_t left_out = 0;

    map->count = 0;
    while (gr_volume_next(volumes, &at, &volume)) {
        if (map->count < VOLUME_MAX && device_name(&volume.device, map->volumes[map->count].device))
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
after(char *path, const char *prefix)
{
    for (; *prefix != '\0'; path++, prefix++)
        if (lower(*path) != *prefix)
            return NULL;
    return path;
}

static bool
at_component_end(const char *at)
{
    return *at == '\\' || *at == '\0';
}

static bool
starts_with_drive(const char *path)
{
    char letter = (char)(path[0] | 0x20);

    return letter >= 'a' && letter <= 'z' && path[1] == ':';
}

/* "c:" and "c:\...": the letter in upper case. NULL for anything else. */
static char *
drive_path(char *path)
{
    if (!starts_with_drive(path) || !at_component_end(path + 2))
        return NULL;
    path[0] = (char)(path[0] & ~0x20);
    return path;
}

/* "server\share\..." that follows a prefix of at least two characters: \\server\share\... Redirectors may put
 * components in front that start with a semicolon (";X:logonid"); these go. NULL if no server is named. */
static char *
unc_path(char *rest)
{
    while (*rest == ';') {
        rest = strchr(rest, '\\');
        if (!rest)
            return NULL;
        rest++;
    }
    if (at_component_end(rest))
        return NULL;
    rest[-1] = '\\';
    rest[-2] = '\\';
    return rest - 2;
}

/* What follows the device in path, or NULL. Devices of one guest differ in their last character, and drivers
 * write them as they do in VOLUMES. */
static char *
after_device(char *path, size_t len, const char *device)
{
    size_t device_len = strlen(device);

    if (device_len > len || !at_component_end(path + device_len) ||
        lower(path[device_len - 1]) != lower(device[device_len - 1]))
        return NULL;
    if (memcmp(path, device, device_len) != 0 && strncasecmp(path, device, device_len) != 0)
        return NULL;
    return path + device_len;
}

static char *
device_path(char *path, size_t len, const struct volume_map *volumes)
{
    char *rest;

    for (uint32_t i = 0; volumes && i < volumes->count; i++) {
        rest = after_device(path, len, volumes->volumes[i].device);
        if (rest) {
            assert(rest - path >= 2);
            rest[-1] = ':';
            rest[-2] = volumes->volumes[i].letter;
            return rest - 2;
        }
    }
    rest = after(path, "\\device\\mup\\");
    if (!rest)
        rest = after(path, "\\device\\lanmanredirector\\");
    return rest ? unc_path(rest) : NULL;
}

/* What follows the name of the directory of DOS devices, in any of its four spellings, or NULL. */
static char *
after_dos_devices(char *path)
{
    switch (lower(path[1])) {
    case '?':
        return after(path, "\\??\\");
    case '\\':
        return after(path, "\\\\?\\");
    case 'd':
        return after(path, "\\dosdevices\\");
    case 'g':
        return after(path, "\\global??\\");
    default:
        return NULL;
    }
}

char *
ntpath_simplify(char *path, size_t len, const struct volume_map *volumes)
{
    char *rest = *path == '\\' ? after_dos_devices(path) : NULL;
    char *result = NULL;

    if (*path != '\\') {
        result = drive_path(path);
    } else if (!rest) {
        result = device_path(path, len, volumes);
    } else if (after(rest, "unc\\")) {
        result = unc_path(rest + 4);
    } else if (after(rest, "globalroot\\")) {
        rest += strlen("globalroot");
        result = device_path(rest, len - (size_t)(rest - path), volumes);
    } else {
        result = drive_path(rest);
    }
    return result ? result : path;
}

/* ---- streams ---- */

/* Whether a stream is another name of the file or directory itself: f::$DATA, dir:$I30:$INDEX_ALLOCATION. */
static bool
is_default_stream(const char *name, const char *type)
{
    if (strcasecmp(type, "$INDEX_ALLOCATION") == 0)
        return *name == '\0' || strcasecmp(name, "$I30") == 0;
    return *name == '\0' && strcasecmp(type, "$DATA") == 0;
}

char *
ntpath_cut_stream(char *path)
{
    char *last = strrchr(path, '\\');
    char *colon;
    char *type;

    if (!last)
        last = starts_with_drive(path) ? path + 2 : path;
    colon = strchr(last, ':');
    if (!colon || colon[strspn(colon, ":")] == '\0')
        return NULL;
    type = strchr(colon + 1, ':');
    if (type) {
        *type = '\0';
        if (is_default_stream(colon + 1, type + 1)) {
            *colon = '\0';
            return NULL;
        }
        if (type[1] != '\0' && strcasecmp(type + 1, "$DATA") != 0)
            *type = ':'; /* "name:$BITMAP" is not the stream "name" */
    }
    *colon = '\0';
    return colon + 1;
}
