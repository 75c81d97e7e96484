/* The text of a configuration file as its parser is given it: without comments, of which libconfuse counts
 * lines wrong, and takes one that is not closed for the end of the file. */
#ifndef GIMUX_BASE_CONF_TEXT_H
#define GIMUX_BASE_CONF_TEXT_H

#include <stdio.h>

#define CONF_TEXT_MAX ((size_t)16 << 20) /* bytes of a file */

/* Reads the file; comments are spaces in what is returned, which the caller frees. NULL, with a line FILE: or
 * FILE:LINE: in errors, if it cannot be read, is too long, has a NUL in it or a comment that is not closed.
 */
char *conf_text_read(const char *path, FILE *errors);

#endif
