/* What a connection says of its streams: starts, events, gaps, progress, ends; and what is acknowledged. */
#ifndef GIMUX_CLIENT_STREAM_H
#define GIMUX_CLIENT_STREAM_H

#include "client/link.h"
#include "client/position.h"

/* Handles a frame about a stream (other bodies: nothing), with the callbacks that belong to it. bytes: the
 * frame as it came. Refuses the link if the frame breaks the protocol. */
void gimux_stream_frame(struct link *link, const Gimux__V1__Frame *frame, struct gimux_bytes bytes);

/* Queues an Ack with all streams that have moved; keeps it for later if much waits to be sent already. */
void gimux_stream_send_acks(struct link *link);

/* The next run of the link that brings the stream sends what is newly acknowledged of it. */
void gimux_stream_acknowledge(struct position *position);

/* Forgets what the link has said; the positions stay. */
void gimux_stream_release(struct link *link);

#endif
