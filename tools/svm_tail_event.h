/* Prints events and gaps, as text or as JSON; what guests chose is escaped. */
#ifndef SVM_TAIL_EVENT_H
#define SVM_TAIL_EVENT_H

#include <stdint.h>
#include <stdio.h>

#include "client/gimux_client.h"

/* One line on stdout: a JSON object with the names of gimux.proto, or text. */
void print_event_json(const struct gimux_event *event);
void print_event_text(const struct gimux_event *event);

/* The same of a gap, of which what begins at `first` is new. */
void print_gap_json(const struct gimux_gap *gap, uint64_t first);
void print_gap_text(const struct gimux_gap *gap, uint64_t first);

/* Prints text so that a terminal only shows it: controls, changes of direction and what is not UTF-8 come out
 * as \xNN and \uNNNN. */
void print_text(FILE *out, const char *text);

#endif
