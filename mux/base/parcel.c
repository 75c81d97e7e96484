/* A parcel: what one gimuxd gives to another, a message (proto/handover.proto) and descriptors beside it. */
#include "mux/base/parcel.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define ELEMENT_MAX 512 /* bytes of the largest message as a struct */

bool
parcel_begin(struct parcel *parcel)
{
    *parcel = (struct parcel){ .message = malloc(sizeof(*parcel->message)) };
    if (!parcel->message)
        return false;
    gimux__handover__v1__handover__init(parcel->message);
    return true;
}

void
parcel_fini(struct parcel *parcel, bool close_files)
{
    gimux__handover__v1__handover__free_unpacked(parcel->message, NULL);
    parcel->message = NULL;
    descriptors_fini(&parcel->files, close_files);
}

/* The element that is filled when there is no memory for one; nobody reads it. */
static void *
scratch(struct parcel *parcel, const ProtobufCMessageDescriptor *of)
{
    static union {
        char bytes[ELEMENT_MAX];
        max_align_t align;
    } element;

    parcel->failed = true;
    of->message_init((ProtobufCMessage *)(void *)&element);
    return &element;
}

static void *
make(struct parcel *parcel, const ProtobufCMessageDescriptor *of)
{
    void *element = parcel->failed ? NULL : malloc(of->sizeof_message);

    assert(of->sizeof_message <= ELEMENT_MAX);
    if (element)
        of->message_init(element);
    else
        parcel->failed = true;
    return element;
}

void *
parcel_set(struct parcel *parcel, void **field, const ProtobufCMessageDescriptor *of)
{
    *field = make(parcel, of);
    return *field ? *field : scratch(parcel, of);
}

void *
parcel_add(struct parcel *parcel, void ***list, size_t *count, const ProtobufCMessageDescriptor *of)
{
    void *element = make(parcel, of);

    /* The list's room is the least power of two that holds it: it is full when the count is such a power. */
    if (element && (*count & (*count - 1)) == 0) {
        void **grown = realloc(*list, (*count > 0 ? *count * 2 : 1) * sizeof(void *));

        if (!grown) {
            free(element);
            return scratch(parcel, of);
        }
        *list = grown;
    }
    if (!element)
        return scratch(parcel, of);
    (*list)[(*count)++] = element;
    return element;
}

char *
parcel_text(struct parcel *parcel, const char *text)
{
    char *copy = parcel->failed ? NULL : strdup(text);

    if (copy)
        return copy;
    parcel->failed = true;
    return (char *)(uintptr_t)protobuf_c_empty_string; /* which is not freed */
}

ProtobufCBinaryData
parcel_bytes(struct parcel *parcel, const void *data, size_t len)
{
    ProtobufCBinaryData bytes = { 0, NULL };

    if (len == 0 || parcel->failed)
        return bytes;
    bytes.data = malloc(len);
    if (!bytes.data) {
        parcel->failed = true;
        return bytes;
    }
    memcpy(bytes.data, data, len);
    bytes.len = len;
    return bytes;
}

uint32_t
parcel_file(struct parcel *parcel, int fd)
{
    uint32_t number = descriptors_add(&parcel->files, fd);

    if (number == 0)
        parcel->failed = true;
    return number;
}

void
parcel_add_socket(struct parcel *parcel, const struct address *address, int fd)
{
    Gimux__Handover__V1__Socket *to =
        PARCEL_ADD(parcel, parcel->message->sockets, parcel->message->n_sockets, socket);
    char text[ADDRESS_TEXT_MAX];

    to->address = parcel_text(parcel, address_format(address, text));
    to->descriptor = parcel_file(parcel, fd);
}
