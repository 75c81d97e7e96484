/* Allocation that ends the program when memory runs out, and a growing buffer. */
#ifndef SIM_MEMORY_H
#define SIM_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* Like calloc, realloc and strdup, but say so on stderr and exit with status 1 when there is no memory. */
void *must_calloc(size_t count, size_t size);
void *must_realloc(void *memory, size_t size);
char *must_strdup(const char *text);

/* Bytes that grow at the end and are taken from the front. Zero-initialize; free with buffer_free. */
struct buffer {
    uint8_t *data; /* the first byte that is still there */
    size_t len;    /* bytes that are there */
    uint8_t *base; /* what was allocated */
    size_t cap;    /* bytes of that */
};

/* Makes room for `more` bytes behind the last one and returns where they go; add them with len. */
uint8_t *buffer_reserve(struct buffer *buffer, size_t more);

void buffer_add(struct buffer *buffer, const void *data, size_t len);

/* Takes `len` bytes (at most buffer->len) off the front. */
void buffer_take(struct buffer *buffer, size_t len);

void buffer_free(struct buffer *buffer);

#endif
