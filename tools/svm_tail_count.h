/* Counts what came of each stream, so that a test can do the sum. */
#ifndef SVM_TAIL_COUNT_H
#define SVM_TAIL_COUNT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "client/gimux_client.h"

struct count_stream;

/* Zero-initialize. Uses gimux_stream.user. */
struct count {
    struct count_stream *streams;
    uint64_t again; /* events that came again because they were not acknowledged before a link broke */
};

void count_start(struct count *count, struct gimux_stream *stream);
void count_event(struct count *count, const struct gimux_event *event);

/* Returns whether anything of the gap is new; *first is then where that begins. */
bool count_gap(struct count *count, const struct gimux_gap *gap, uint64_t *first);

void count_progress(struct count *count, struct gimux_stream *stream, uint64_t sequence, uint64_t filtered);
void count_end(struct count *count, struct gimux_stream *stream);

/* Writes all counts and the client's own to the file as JSON: who reads it sees the old file or the new one,
 * never half of one. Returns false with errno set. */
bool count_write(const struct count *count, const struct gimux_client *client, const char *path);

/* Prints a line for each stream. */
void count_print(const struct count *count, FILE *out);

void count_free(struct count *count);

#endif
