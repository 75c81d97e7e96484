/* Reads traces of drivers: pcap files of link type VSOCK whose payload is the drivers' byte streams.
 *
 * These are our own recordings (trace_writer) and captures of a vsockmon interface. The byte stream of every
 * guest connection is put together, however it was cut into packets; the records in it are sorted into
 * streams by the HELLO with which each connection opens. What the host sent, and connections that do not open
 * with HELLO, are skipped. */
#ifndef SIM_TRACE_H
#define SIM_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/guest_record.h"
#include "thinagent-sim/memory.h"
#include "thinagent-sim/trace_writer.h"

struct trace_record {
    size_t at;    /* where it starts in the stream's bytes */
    uint32_t len; /* bytes */
    uint16_t type;
    uint64_t sequence;
    int64_t time; /* when its last byte was captured, Unix nanoseconds */
};

/* One driver of one VM for one boot, over all its connections. */
struct trace_stream {
    uint8_t vm_uuid[GR_UUID_SIZE];
    uint8_t boot_id[GR_UUID_SIZE];
    uint16_t driver;
    struct buffer bytes; /* the records back to back */
    struct trace_record *records;
    size_t count; /* at least 1: the first is HELLO. Later HELLOs and events sent again are not kept */
    size_t cap;
    uint64_t last_sequence;
    uint64_t resent;      /* events that were in the trace more than once */
    uint32_t connections; /* HELLOs */
};

struct trace {
    struct trace_stream **streams; /* in the order of their first HELLO */
    size_t count;
    uint64_t packets; /* that were read */
    uint64_t bytes;   /* of the file, up to where it was read */
    uint32_t foreign; /* connections that are not a driver's */
    bool damaged;     /* something could not be read; damage says what came first, and where */
    char damage[TRACE_WHY_MAX];
};

/* Reads a trace file, or one in memory. Returns NULL, with the reason in why, if it is no trace at all; a
 * trace that is damaged further on is returned as far as it can be read. Free it with trace_free. */
struct trace *trace_read(const char *path, char why[TRACE_WHY_MAX]);
struct trace *trace_read_memory(const uint8_t *data, size_t len, char why[TRACE_WHY_MAX]);

void trace_free(struct trace *trace);

/* Decodes record number `index` of a stream, which the reader has found to be well formed. */
void trace_record_decode(const struct trace_stream *stream, size_t index, struct gr_record *out);

#endif
