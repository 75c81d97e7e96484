/* Writes traces of drivers: pcap files of link type VSOCK whose payload is the drivers' byte streams. */
#include "thinagent-sim/trace_writer.h"

#include <pcap/pcap.h>

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "thinagent-sim/clock.h"
#include "thinagent-sim/memory.h"
#include "thinagent-sim/vsockmon.h"

/* libpcap takes no packet over 262,144 bytes; longer records are cut. */
#define PAYLOAD_MAX ((size_t)65536)
#define SNAPLEN     262144
#define GIMUXD_PORT 9650u /* stands in packets as the host's port; readers do not look at it */
#define CID_FIRST   3u    /* below are the hypervisor, the loopback and the host */
#define PORT_FIRST  1024u /* as of a guest without privileges */

struct trace_writer {
    pcap_t *pcap;
    pcap_dumper_t *dumper;
    uint8_t packet[VSOCKMON_HEADER + PAYLOAD_MAX];
};

struct trace_writer *
trace_writer_open(const char *path, char why[TRACE_WHY_MAX])
{
    struct trace_writer *writer = must_calloc(1, sizeof(*writer));

    writer->pcap = pcap_open_dead_with_tstamp_precision(DLT_VSOCK, SNAPLEN, PCAP_TSTAMP_PRECISION_NANO);
    if (writer->pcap)
        writer->dumper = pcap_dump_open(writer->pcap, path);
    if (!writer->dumper) {
        snprintf(why, TRACE_WHY_MAX, "cannot write trace: %s",
                 writer->pcap ? pcap_geterr(writer->pcap) : "out of memory");
        if (writer->pcap)
            pcap_close(writer->pcap);
        free(writer);
        return NULL;
    }
    return writer;
}

static void
put_packet(struct trace_writer *writer, uint32_t stream, uint16_t op, int64_t time, const uint8_t *data,
           size_t len)
{
    struct vsockmon_header header = {
        .src_cid = htole64(CID_FIRST + (uint64_t)stream),
        .dst_cid = htole64(VSOCKMON_HOST_CID),
        .src_port = htole32(PORT_FIRST + stream),
        .dst_port = htole32(GIMUXD_PORT),
        .op = htole16(op),
        .transport = htole16(VSOCKMON_NO_INFO),
    };
    struct pcap_pkthdr packet = {
        .ts = { .tv_sec = time / SECOND, .tv_usec = time % SECOND }, /* nanoseconds, in such a file */
        .caplen = (bpf_u_int32)(sizeof(header) + len),
        .len = (bpf_u_int32)(sizeof(header) + len),
    };

    memcpy(writer->packet, &header, sizeof(header));
    if (len > 0)
        memcpy(writer->packet + sizeof(header), data, len);
    pcap_dump((u_char *)writer->dumper, &packet, writer->packet);
}

void
trace_writer_connect(struct trace_writer *writer, uint32_t stream, int64_t time)
{
    put_packet(writer, stream, VSOCKMON_CONNECT, time, NULL, 0);
}

void
trace_writer_disconnect(struct trace_writer *writer, uint32_t stream, int64_t time)
{
    put_packet(writer, stream, VSOCKMON_DISCONNECT, time, NULL, 0);
}

void
trace_writer_put(struct trace_writer *writer, uint32_t stream, int64_t time, const uint8_t *data, size_t len)
{
    while (len > 0) {
        size_t part = len < PAYLOAD_MAX ? len : PAYLOAD_MAX;

        put_packet(writer, stream, VSOCKMON_PAYLOAD, time, data, part);
        data += part;
        len -= part;
    }
}

bool
trace_writer_close(struct trace_writer *writer, char why[TRACE_WHY_MAX])
{
    FILE *file = pcap_dump_file(writer->dumper);
    bool good = pcap_dump_flush(writer->dumper) == 0 && !ferror(file);

    if (!good)
        snprintf(why, TRACE_WHY_MAX, "cannot write trace: %s", strerror(errno));
    pcap_dump_close(writer->dumper);
    pcap_close(writer->pcap);
    free(writer);
    return good;
}
