/* Windows path forms: what a path of the NT namespace is called by people, and the stream it names. */
#ifndef GIMUX_EVENT_NTPATH_H
#define GIMUX_EVENT_NTPATH_H

#include <stddef.h>
#include <stdint.h>

#include "proto/guest_record.h"

/* Which drive letter each device of one guest has, from its VOLUMES record. Zero-initialize; owns no memory.
 */
#define VOLUME_MAX        26
#define VOLUME_DEVICE_MAX 64 /* bytes of ASCII, NUL included; longer device names are left out */
struct volume_map {
    uint32_t count;
    struct volume {
        char letter;
        char device[VOLUME_DEVICE_MAX]; /* "\Device\HarddiskVolume2", no trailing backslash, NUL-terminated */
        uint32_t device_len;            /* bytes, without the NUL */
    } volumes[VOLUME_MAX];
};

/* Replaces the map by what the record says (texts are UTF-16LE). Entries over VOLUME_MAX or with devices that
 * are too long, not ASCII or not an absolute name are left out; returns how many were. */
uint32_t volume_map_set(struct volume_map *map, const struct gr_volumes *volumes);

/* Rewrites an NT path to the form that people write, as docs/events.md lists them: C:\... or
 * \\server\share\... Paths of unknown form or device stay as they are. The path is the UTF-8 from `path` up
 * to `end`, without NUL, and is changed in place; no result is longer, and each ends where it did. Returns
 * where it begins now, inside path. `volumes` may be NULL. */
char *ntpath_simplify(char *path, const char *end, const struct volume_map *volumes);

/* Cuts the stream suffix (":name:$DATA" and its short forms) off the last component of the path from `path`
 * up to *end: moves *end to where the path ends without it. Returns where the stream's name begins, inside
 * path, and sets *len to its bytes; or NULL if the path names no stream but the default one. */
char *ntpath_cut_stream(char *path, char **end, size_t *len);

#endif
