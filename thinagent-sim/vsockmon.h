/* The header before every packet of a LINKTYPE_VSOCK capture, as linux/vsockmon.h defines it (little-endian).
 */
#ifndef SIM_VSOCKMON_H
#define SIM_VSOCKMON_H

#include <assert.h>
#include <stdint.h>

struct vsockmon_header {
    uint64_t src_cid;
    uint64_t dst_cid;
    uint32_t src_port;
    uint32_t dst_port;
    uint16_t op;        /* enum vsockmon_op */
    uint16_t transport; /* which header follows this one */
    uint16_t len;       /* bytes of that */
    uint8_t reserved[2];
};

#define VSOCKMON_HEADER 32u
static_assert(sizeof(struct vsockmon_header) == VSOCKMON_HEADER, "as on the wire");

enum vsockmon_op {
    VSOCKMON_CONNECT = 1,
    VSOCKMON_DISCONNECT = 2,
    VSOCKMON_CONTROL = 3,
    VSOCKMON_PAYLOAD = 4,
};

#define VSOCKMON_NO_INFO  1u /* transport: no header of its own */
#define VSOCKMON_HOST_CID 2u

#endif
