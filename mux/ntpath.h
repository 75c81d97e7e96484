/* Windows path forms: what a path of the NT namespace is called by people, and the stream it names. */
#ifndef GIMUX_NTPATH_H
#define GIMUX_NTPATH_H

#include "mux/normalize.h"

/* Rewrites an NT path to the form that people write, as docs/events.md lists them: C:\... or
 * \\server\share\... Paths of unknown form or device stay as they are. `path` is UTF-8, ends with NUL and is
 * changed in place (no result is longer); the result starts at the returned pointer, inside path. `volumes`
 * may be NULL. */
char *ntpath_simplify(char *path, const struct volume_map *volumes);

/* Cuts the stream suffix (":name:$DATA" and its short forms) off the last component of `path`, in place.
 * Returns the stream's name, inside path, or NULL if the path names no stream but the default one. */
char *ntpath_cut_stream(char *path);

#endif
