/* Events of the network become a driver's records.
 *
 * What the logs mean, where it is not plain:
 *   - Source and destination of a connection (3, 5156, 5157) are its initiator and its target, so that for an
 *     inbound one the local end is the destination.
 *   - 5156 calls the process ProcessID in some logs and ProcessId in others. */
#include "thinagent-sim/trace/import_line.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#define DNS_ERROR_RCODE 9000 /* Windows' errors 9001 to 9010 are RCODEs 1 to 10 */
#define PROTOCOL_UDP    17

static void
address_of(struct line *line, const char *name, uint16_t *family, uint8_t out[16])
{
    const char *text = line_field(line, name);

    if (text && strchr(text, ':') && inet_pton(AF_INET6, text, out) == 1)
        *family = 6;
    else if (text && inet_pton(AF_INET, text, out) == 1)
        *family = 4;
    else
        line->why = "an address is missing or malformed";
}

/* The two ends as the log names them, as local and remote end, by the direction. */
static void
convert_ends(struct line *line, struct gr_net *net, const char *const source[2], const char *const target[2])
{
    bool inbound = net->direction == GR_INBOUND;
    uint16_t source_family = 0;
    uint16_t target_family = 0;

    address_of(line, source[0], &source_family, inbound ? net->remote : net->local);
    address_of(line, target[0], &target_family, inbound ? net->local : net->remote);
    *(inbound ? &net->remote_port : &net->local_port) =
        (uint16_t)line_needed_number(line, source[1], UINT16_MAX, "no source port");
    *(inbound ? &net->local_port : &net->remote_port) =
        (uint16_t)line_needed_number(line, target[1], UINT16_MAX, "no destination port");
    net->family = source_family;
    if (source_family != target_family)
        line->why = "addresses of different families";
}

bool
convert_connection(struct line *line, struct gr_record *record)
{
    static const char *const source[] = { "SourceIp", "SourcePort" };
    static const char *const target[] = { "DestinationIp", "DestinationPort" };
    struct gr_net *net = &record->body.net;
    const char *protocol = line_field(line, "Protocol");
    const char *initiated = line_field(line, "Initiated");

    record->type = GR_NET;
    net->op = GR_NET_OP_ESTABLISHED;
    net->protocol = protocol && strcasecmp(protocol, "udp") == 0 ? PROTOCOL_UDP : 6;
    net->direction = initiated && strcmp(initiated, "false") == 0 ? GR_INBOUND : GR_OUTBOUND;
    net->pid = (uint32_t)line_number(line, "ProcessId");
    convert_ends(line, net, source, target);
    net->process = line_text(line, "Image");
    net->user_name = line_text(line, "User");
    return true;
}

/* What all events of the Windows Filtering Platform have. */
static void
convert_filter(struct line *line, struct gr_record *record, uint16_t op, uint32_t status)
{
    struct gr_net *net = &record->body.net;

    record->type = GR_NET;
    net->op = op;
    net->status = status;
    net->protocol = (uint8_t)line_needed_number(line, "Protocol", UINT8_MAX, "no Protocol");
    net->pid = (uint32_t)line_number(line, line_field(line, "ProcessID") ? "ProcessID" : "ProcessId");
    net->process = line_text(line, "Application");
}

static bool
convert_filtered_connection(struct line *line, struct gr_record *record, uint16_t op, uint32_t status)
{
    static const char *const source[] = { "SourceAddress", "SourcePort" };
    static const char *const target[] = { "DestAddress", "DestPort" };
    struct gr_net *net = &record->body.net;
    const char *direction = line_field(line, "Direction");

    convert_filter(line, record, op, status);
    if (direction && strcmp(direction, "%%14592") == 0)
        net->direction = GR_INBOUND;
    else if (direction && strcmp(direction, "%%14593") == 0)
        net->direction = GR_OUTBOUND;
    else
        line->why = "Direction is neither %%14592 (inbound) nor %%14593 (outbound)";
    convert_ends(line, net, source, target);
    return true;
}

bool
convert_allowed_connection(struct line *line, struct gr_record *record)
{
    return convert_filtered_connection(line, record, GR_NET_OP_ESTABLISHED, 0);
}

bool
convert_blocked_connection(struct line *line, struct gr_record *record)
{
    return convert_filtered_connection(line, record, GR_NET_OP_REFUSED, STATUS_ACCESS_DENIED);
}

static bool
convert_filtered_listen(struct line *line, struct gr_record *record, uint32_t status)
{
    struct gr_net *net = &record->body.net;

    convert_filter(line, record, GR_NET_OP_LISTEN, status);
    address_of(line, "SourceAddress", &net->family, net->local);
    net->local_port = (uint16_t)line_needed_number(line, "SourcePort", UINT16_MAX, "no SourcePort");
    return true;
}

bool
convert_allowed_listen(struct line *line, struct gr_record *record)
{
    return convert_filtered_listen(line, record, 0);
}

bool
convert_blocked_listen(struct line *line, struct gr_record *record)
{
    return convert_filtered_listen(line, record, STATUS_ACCESS_DENIED);
}

/* A datagram socket takes what comes once it is bound, which a driver calls LISTEN too; one of TCP does not:
 * it most often connects next. */
static bool
is_datagram_bind(struct line *line, const struct gr_record *record)
{
    return line->why || record->body.net.protocol == PROTOCOL_UDP;
}

bool
convert_allowed_bind(struct line *line, struct gr_record *record)
{
    return convert_allowed_listen(line, record) && is_datagram_bind(line, record);
}

bool
convert_blocked_bind(struct line *line, struct gr_record *record)
{
    return convert_blocked_listen(line, record) && is_datagram_bind(line, record);
}

bool
convert_query(struct line *line, struct gr_record *record)
{
    struct gr_dns *dns = &record->body.dns;

    record->type = GR_DNS;
    dns->op = GR_DNS_OP_ANSWER;
    dns->status = (uint32_t)line_number(line, "QueryStatus");
    if (dns->status > DNS_ERROR_RCODE && dns->status <= DNS_ERROR_RCODE + 10)
        dns->rcode = (uint16_t)(dns->status - DNS_ERROR_RCODE);
    dns->pid = (uint32_t)line_number(line, "ProcessId");
    dns->name = line_needed_text(line, "QueryName", "no QueryName");
    dns->answers = line_text(line, "QueryResults"); /* each ends with ';' there too */
    dns->process = line_text(line, "Image");
    dns->user_name = line_text(line, "User");
    return true;
}
