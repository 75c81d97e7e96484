/* Allocation that ends the program when memory runs out, and a growing buffer. */
#include "thinagent-sim/memory.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *
or_exit(void *memory)
{
    if (!memory) {
        fputs("thinagent-sim: out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

void *
must_calloc(size_t count, size_t size)
{
    return or_exit(calloc(count > 0 ? count : 1, size));
}

void *
must_realloc(void *memory, size_t size)
{
    return or_exit(realloc(memory, size > 0 ? size : 1));
}

char *
must_strdup(const char *text)
{
    return or_exit(strdup(text));
}

uint8_t *
buffer_reserve(struct buffer *buffer, size_t more)
{
    size_t front = buffer->base ? (size_t)(buffer->data - buffer->base) : 0;

    if (buffer->cap - front - buffer->len >= more && buffer->base)
        return buffer->data + buffer->len;
    if (buffer->base)
        memmove(buffer->base, buffer->data, buffer->len);
    if (buffer->cap - buffer->len < more || !buffer->base) {
        buffer->cap = buffer->cap * 2 > buffer->len + more ? buffer->cap * 2 : buffer->len + more;
        buffer->base = must_realloc(buffer->base, buffer->cap);
    }
    buffer->data = buffer->base;
    return buffer->data + buffer->len;
}

void
buffer_add(struct buffer *buffer, const void *data, size_t len)
{
    if (len == 0)
        return;
    memcpy(buffer_reserve(buffer, len), data, len);
    buffer->len += len;
}

void
buffer_take(struct buffer *buffer, size_t len)
{
    assert(len <= buffer->len);
    buffer->len -= len;
    buffer->data = buffer->len > 0 ? buffer->data + len : buffer->base;
}

void
buffer_free(struct buffer *buffer)
{
    free(buffer->base);
    memset(buffer, 0, sizeof(*buffer));
}
