/* A parcel: what one gimuxd gives to another, a message (proto/handover.proto) and descriptors beside it.
 *
 * Every room that has something to give adds it. If memory runs out, the parcel is `failed`: it is incomplete
 * and must not be given. It can still be filled as before, so that only the one who began it has to check;
 * but what was put into it must not be read back: elements for which there was no memory are all the same
 * one. */
#ifndef GIMUX_BASE_PARCEL_H
#define GIMUX_BASE_PARCEL_H

#include <stdbool.h>
#include <stddef.h>

#include "mux/base/descriptors.h"
#include "proto/address.h"
#include "proto/handover.pb-c.h"

struct parcel {
    Gimux__Handover__V1__Handover *message; /* the parcel's */
    struct descriptors files;               /* beside it, numbered from 1 */
    bool failed;                            /* memory ran out while it was filled */
};

/* Makes an empty one, to be filled; parcel_fini must follow. False if out of memory. */
bool parcel_begin(struct parcel *parcel);

/* Frees it. `close_files`: closes the descriptors that are still in it, because they were received; else they
 * stay their owners'. */
void parcel_fini(struct parcel *parcel, bool close_files);

/* Adds an initialized element to a repeated field: PARCEL_ADD(parcel, message->vms, message->n_vms, vm). What
 * is returned, never NULL, is freed with the message. */
#define PARCEL_ADD(parcel, list, count, name)                                                                \
    (parcel_add((parcel), (void ***)&(list), &(count), &gimux__handover__v1__##name##__descriptor))
void *parcel_add(struct parcel *parcel, void ***list, size_t *count, const ProtobufCMessageDescriptor *of);

/* The same for a field that is a message. */
#define PARCEL_SET(parcel, field, name)                                                                      \
    (parcel_set((parcel), (void **)&(field), &gimux__handover__v1__##name##__descriptor))
void *parcel_set(struct parcel *parcel, void **field, const ProtobufCMessageDescriptor *of);

/* Copies for a text or a bytes field, freed with the message; empty if the parcel has failed. */
char *parcel_text(struct parcel *parcel, const char *text);
ProtobufCBinaryData parcel_bytes(struct parcel *parcel, const void *data, size_t len);

/* Puts a descriptor, which stays the caller's, beside the message. Returns its number for the message; 0 if
 * memory ran out. */
uint32_t parcel_file(struct parcel *parcel, int fd);

/* Adds a listening socket, which stays the caller's, to message->sockets. */
void parcel_add_socket(struct parcel *parcel, const struct address *address, int fd);

#endif
