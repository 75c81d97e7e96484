/* Ways to gimuxd: opens what connects one agent, without waiting for it. */
#ifndef SIM_DOOR_H
#define SIM_DOOR_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/address.h"
#include "proto/guest_record.h"
#include "thinagent-sim/options.h"

enum door_kind {
    DOOR_CONNECT,
    DOOR_LISTEN,
    DOOR_DEVICE,
    DOOR_NONE, /* only a recording is made */
};

struct door {
    enum door_kind kind;
    struct address address; /* of connect and listen; its path has the VM's UUID in place of %u */
    const char *device;
};

/* Works out the door of one VM. Returns false after a message on stderr. */
bool door_of(const struct options *options, const uint8_t vm_uuid[GR_UUID_SIZE], struct door *door);

/* Starts to connect, or opens the device. Returns a non-blocking descriptor (a connection may still be on its
 * way), or -1 with errno. */
int door_open(const struct door *door);

/* Makes the listening socket. Returns a non-blocking descriptor, or -1 after a message on stderr. A socket
 * file that is left over from an earlier run is replaced; one that somebody listens on is not. */
int door_listen(const struct door *door);

#endif
