/* Which fields the body of each type of record has, in the order of the wire: guest_record.c includes this,
 * and nobody else. The tables are constants of that file, so that the compiler can unroll what decodes
 * events. */
#ifndef GIMUX_GUEST_FIELDS_H
#define GIMUX_GUEST_FIELDS_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/guest_record.h"

/* How a field is written on the wire. A text has its length in the fixed part, its bytes after that part. */
enum field_kind { END, U8, U16, U32, U64, BYTES16, TEXT, LONG_TEXT };

struct field {
    uint8_t kind;
    uint16_t offset; /* in struct gr_record */
    uint16_t min;    /* numbers only: bounds; max 0 means any value */
    uint16_t max;
};

#define NUM(kind, member)                                                                                    \
    {                                                                                                        \
        kind, offsetof(struct gr_record, body.member), 0, 0                                                  \
    }
#define RANGE(kind, member, min, max)                                                                        \
    {                                                                                                        \
        kind, offsetof(struct gr_record, body.member), min, max                                              \
    }
#define UUID(member)                                                                                         \
    {                                                                                                        \
        BYTES16, offsetof(struct gr_record, body.member), 0, 0                                               \
    }
#define STR(member)                                                                                          \
    {                                                                                                        \
        TEXT, offsetof(struct gr_record, body.member), 0, 0                                                  \
    }
#define LONG_STR(member)                                                                                     \
    {                                                                                                        \
        LONG_TEXT, offsetof(struct gr_record, body.member), 0, 0                                             \
    }

static const struct field hello_fields[] = {
    NUM(U32, hello.magic),
    RANGE(U16, hello.version_min, 1, UINT16_MAX),
    RANGE(U16, hello.version_max, 1, UINT16_MAX),
    NUM(U16, hello.driver),
    NUM(U16, hello.padding),
    UUID(hello.vm_uuid),
    UUID(hello.boot_id),
    NUM(U64, hello.first_held),
    STR(hello.build),
    STR(hello.guest_os),
    { END, 0, 0, 0 },
};
static const struct field welcome_fields[] = {
    NUM(U16, welcome.version),
    NUM(U16, welcome.padding),
    NUM(U32, welcome.heartbeat_ms),
    NUM(U64, welcome.next_wanted),
    NUM(U64, welcome.window),
    NUM(U64, welcome.interest),
    { END, 0, 0, 0 },
};
static const struct field reject_fields[] = {
    NUM(U16, reject.code),
    STR(reject.reason),
    { END, 0, 0, 0 },
};
static const struct field ack_fields[] = {
    NUM(U64, ack.sequence),
    NUM(U16, ack.level),
    { END, 0, 0, 0 },
};
static const struct field verdict_fields[] = {
    NUM(U64, verdict.sequence),
    RANGE(U16, verdict.answer, 1, 2),
    NUM(U16, verdict.source),
    { END, 0, 0, 0 },
};
static const struct field file_read_fields[] = {
    NUM(U64, file_read.request), NUM(U64, file_read.file_id), NUM(U64, file_read.offset),
    NUM(U32, file_read.length),  STR(file_read.path),         { END, 0, 0, 0 },
};
static const struct field file_data_fields[] = {
    NUM(U64, file_data.request),     NUM(U64, file_data.offset), NUM(U32, file_data.status),
    RANGE(U32, file_data.end, 0, 1), LONG_STR(file_data.data),   { END, 0, 0, 0 },
};
static const struct field interest_fields[] = { NUM(U64, interest.kinds), { END, 0, 0, 0 } };
static const struct field ping_fields[] = { NUM(U64, ping.token), { END, 0, 0, 0 } };
static const struct field lost_fields[] = {
    NUM(U64, lost.last),
    NUM(U32, lost.reason),
    { END, 0, 0, 0 },
};
static const struct field bye_fields[] = {
    NUM(U16, bye.code),
    STR(bye.reason),
    { END, 0, 0, 0 },
};
static const struct field volumes_fields[] = {
    RANGE(U32, volumes.count, 0, 64),
    LONG_STR(volumes.entries),
    { END, 0, 0, 0 },
};
static const struct field file_fields[] = {
    RANGE(U16, file.op, GR_FILE_OP_OPEN, GR_FILE_OP_SET_ATTR),
    NUM(U16, file.padding),
    NUM(U32, file.status),
    NUM(U32, file.pid),
    NUM(U32, file.tid),
    NUM(U64, file.file_id),
    NUM(U64, file.size),
    NUM(U32, file.result),
    NUM(U32, file.create_mask),
    NUM(U32, file.access_mask),
    NUM(U32, file.attributes),
    STR(file.path),
    STR(file.target),
    STR(file.process),
    STR(file.user_name),
    STR(file.user_id),
    { END, 0, 0, 0 },
};
static const struct field net_fields[] = {
    RANGE(U16, net.op, GR_NET_OP_PRECONNECT, GR_NET_OP_LISTEN),
    NUM(U8, net.protocol),
    RANGE(U8, net.direction, 0, GR_OUTBOUND),
    RANGE(U16, net.family, 4, 6),
    NUM(U16, net.padding),
    NUM(U32, net.status),
    NUM(U32, net.pid),
    NUM(U32, net.tid),
    NUM(U16, net.local_port),
    NUM(U16, net.remote_port),
    UUID(net.local),
    UUID(net.remote),
    NUM(U64, net.flow_id),
    NUM(U64, net.bytes_in),
    NUM(U64, net.bytes_out),
    STR(net.process),
    STR(net.user_name),
    STR(net.user_id),
    { END, 0, 0, 0 },
};
static const struct field dns_fields[] = {
    RANGE(U16, dns.op, GR_DNS_OP_QUERY, GR_DNS_OP_ANSWER),
    NUM(U16, dns.type),
    NUM(U16, dns.transaction_id),
    NUM(U16, dns.rcode),
    NUM(U32, dns.status),
    NUM(U32, dns.pid),
    STR(dns.name),
    STR(dns.answers),
    STR(dns.process),
    STR(dns.user_name),
    STR(dns.user_id),
    { END, 0, 0, 0 },
};
static const struct field process_fields[] = {
    RANGE(U16, process.op, GR_PROCESS_OP_START, GR_PROCESS_OP_END),
    NUM(U16, process.padding),
    NUM(U32, process.pid),
    NUM(U32, process.parent_pid),
    NUM(U32, process.exit_code),
    STR(process.image),
    STR(process.command_line),
    STR(process.parent_image),
    STR(process.user_name),
    STR(process.user_id),
    { END, 0, 0, 0 },
};
static const struct field logon_fields[] = {
    RANGE(U16, logon.op, GR_LOGON_OP_LOGON, GR_LOGON_OP_LOGOFF),
    NUM(U16, logon.logon_type),
    NUM(U32, logon.status),
    NUM(U64, logon.logon_id),
    NUM(U32, logon.pid),
    STR(logon.user_name),
    STR(logon.user_id),
    STR(logon.source),
    STR(logon.process),
    { END, 0, 0, 0 },
};
static const struct field power_fields[] = {
    RANGE(U16, power.op, GR_POWER_OP_ON, GR_POWER_OP_MIGRATE),
    NUM(U16, power.padding),
    UUID(power.vm_uuid),
    STR(power.vm_name),
    STR(power.target_host),
    { END, 0, 0, 0 },
};

struct type_info {
    const char *name;
    const struct field *fields;
};

static const struct type_info control_types[] = {
    [GR_HELLO] = { "HELLO", hello_fields },
    [GR_WELCOME] = { "WELCOME", welcome_fields },
    [GR_REJECT] = { "REJECT", reject_fields },
    [GR_ACK] = { "ACK", ack_fields },
    [GR_VERDICT] = { "VERDICT", verdict_fields },
    [GR_FILE_READ] = { "FILE_READ", file_read_fields },
    [GR_FILE_DATA] = { "FILE_DATA", file_data_fields },
    [GR_INTEREST] = { "INTEREST", interest_fields },
    [GR_PING] = { "PING", ping_fields },
    [GR_PONG] = { "PONG", ping_fields },
    [GR_LOST] = { "LOST", lost_fields },
    [GR_BYE] = { "BYE", bye_fields },
    [GR_VOLUMES] = { "VOLUMES", volumes_fields },
};
static const struct type_info event_types[] = {
    [GR_FILE - GR_EVENT_FIRST] = { "FILE", file_fields }, /* NOLINT(misc-redundant-expression): 0 */
    [GR_NET - GR_EVENT_FIRST] = { "NET", net_fields },
    [GR_DNS - GR_EVENT_FIRST] = { "DNS", dns_fields },
    [GR_PROCESS - GR_EVENT_FIRST] = { "PROCESS", process_fields },
    [GR_LOGON - GR_EVENT_FIRST] = { "LOGON", logon_fields },
    [GR_POWER - GR_EVENT_FIRST] = { "POWER", power_fields },
};
static_assert(sizeof(event_types) / sizeof(event_types[0]) == GR_EVENT_LAST - GR_EVENT_FIRST + 1,
              "every event type is in the table");

#endif
