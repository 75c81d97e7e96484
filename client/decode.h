/* From the bytes of a frame to the plain structs of gimux_client.h. */
#ifndef GIMUX_CLIENT_DECODE_H
#define GIMUX_CLIENT_DECODE_H

#include <stddef.h>
#include <stdint.h>

#include "client/gimux_client.h"
#include "proto/gimux.pb-c.h"

/* Memory for one decoded frame, in bytes: four times the largest frame. A frame of many tiny fields that
 * would take more is refused. */
#define DECODE_MEMORY ((size_t)4 << 20)

/* Room for the decoded form of one frame, used again for the next. */
struct decoder {
    uint8_t *memory; /* DECODE_MEMORY bytes */
    size_t used;
};

/* An event and what its pointers point to. */
struct decoded_event {
    struct gimux_event event;
    struct gimux_actor actor;
    union {
        struct gimux_file file;
        struct gimux_network network;
        struct gimux_dns dns;
        struct gimux_process process;
        struct gimux_authentication authentication;
        struct gimux_power power;
        struct gimux_lifecycle lifecycle;
    } detail;
};

/* Returns false if memory ran out. */
bool gimux_decoder_init(struct decoder *decoder);
void gimux_decoder_free(struct decoder *decoder);

/* Decodes a frame (without its length prefix). Returns NULL if it is malformed or takes more than
 * DECODE_MEMORY. The result lives in the decoder until the next call and is not to be freed. */
const Gimux__V1__Frame *gimux_decode_frame(struct decoder *decoder, const uint8_t *body, size_t len);

/* Fills *out, all but event.stream, event.connection and event.frame, with pointers into *from. */
void gimux_decode_event(const Gimux__V1__Event *from, struct decoded_event *out);

#endif
