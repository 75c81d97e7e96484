/* What the frames of a link mean: handshake, heartbeat, and whose turn it is. */
#ifndef GIMUX_CLIENT_SESSION_H
#define GIMUX_CLIENT_SESSION_H

#include <stdint.h>

#include "client/link.h"

#define SESSION_TURN_FRAMES   256u  /* frames of one link handled in a turn; also events between Acks */
#define SESSION_TURN_MS       20    /* a turn's time, checked after every frame */
#define SESSION_HANDSHAKE_MS  10000 /* from accept to MuxHello */
#define SESSION_HEARTBEAT_MIN 10u   /* bounds of MuxHello.heartbeat_ms */
#define SESSION_HEARTBEAT_MAX 3600000u

/* Reads and handles frames for one turn, acknowledges and flushes. Sets link->more if frames are left. */
void gimux_session_run(struct link *link);

/* Does what is due by the clock: ping, acknowledge, end a silent link. */
void gimux_session_tick(struct link *link);

/* When gimux_session_tick must be called next, in gimux_now's clock. */
int64_t gimux_session_deadline(const struct link *link);

/* Acknowledges, says good-bye if the link is open, and ends it. */
void gimux_session_stop(struct link *link);

/* Lets go of a dead link's streams and calls on_disconnect. */
void gimux_session_close(struct link *link);

#endif
