/* Guest records: the little-endian binary messages between a driver in a guest and gimuxd; one codec for both
 * ends.
 *
 * A connection carries records back to back. Each is a 24-byte header and a body; docs/guest-protocol.md has
 * the bytes, the order of records and the duties of both sides. A body is a fixed part (numbers, then the
 * lengths of its texts) followed by the texts. Bytes after the last known text belong to a newer version and
 * are skipped; so are whole records of unknown type.
 *
 * Decoding copies nothing: texts point into the caller's buffer and live as long as it does. */
#ifndef GIMUX_GUEST_RECORD_H
#define GIMUX_GUEST_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GR_HEADER_SIZE 24u
#define GR_MAX_RECORD  (256u * 1024u) /* largest record in bytes, header included */
#define GR_MAX_TEXT    65534u         /* largest text in bytes: 32,767 UTF-16 units */
#define GR_MAGIC       0x58554d47u    /* "GMUX" as bytes on the wire */
#define GR_VERSION     1u             /* the protocol version that this codec speaks */
#define GR_UUID_SIZE   16u            /* bytes in the order of the written form (RFC 4122) */

/* The last sequence that an event can have, so that one more is still a number; 2^63 - 1. */
#define GR_SEQUENCE_MAX (UINT64_MAX / 2)

/* Record types. 0x00xx control the connection and carry sequence 0 (LOST excepted); 0x01xx are events. */
enum gr_type {
    GR_HELLO = 0x0001,     /* driver: opens the connection */
    GR_WELCOME = 0x0002,   /* gimuxd: the hello is accepted */
    GR_REJECT = 0x0003,    /* gimuxd: it is not; the connection closes */
    GR_ACK = 0x0004,       /* gimuxd: events up to a sequence are safe */
    GR_VERDICT = 0x0005,   /* gimuxd: answer to an event whose operation waits */
    GR_FILE_READ = 0x0006, /* gimuxd: asks for content of a file */
    GR_FILE_DATA = 0x0007, /* driver: answers that */
    GR_INTEREST = 0x0008,  /* gimuxd: the event kinds that anybody wants have changed */
    GR_PING = 0x0009,      /* both */
    GR_PONG = 0x000a,      /* both: answers a ping with its token */
    GR_LOST = 0x000b,      /* driver: dropped the events from header.sequence to body.last */
    GR_BYE = 0x000c,       /* both: an orderly end */
    GR_VOLUMES = 0x000d,   /* driver: which drive letters its volumes have; replaces the last such record */

    GR_FILE = 0x0100,
    GR_NET = 0x0101,
    GR_DNS = 0x0102,
    GR_PROCESS = 0x0103,
    GR_LOGON = 0x0104,
    GR_POWER = 0x0105, /* vmx only */
};

#define GR_EVENT_FIRST GR_FILE
#define GR_EVENT_LAST  GR_POWER

/* The bit of an event type in masks of event kinds (WELCOME, INTEREST). */
#define GR_KIND(type) (UINT64_C(1) << ((unsigned)(type)-GR_EVENT_FIRST))
#define GR_KIND_ALL   (GR_KIND(GR_EVENT_LAST + 1) - 1)

/* Header flags. */
#define GR_FLAG_WAITS 0x0001u /* the operation in the guest waits for a verdict */

enum gr_driver {
    GR_VSEPFLT = 1,
    GR_VNETFLT = 2,
    GR_VNETWFP = 3,
    GR_LINUX = 4,
    GR_VMX = 5,
};

/* A run of bytes in somebody else's memory. In records of Windows drivers (gr_driver_is_windows) texts are
 * UTF-16LE and may hold unpaired surrogates; in all others UTF-8 that may be malformed. No NUL ends them. */
struct gr_text {
    const uint8_t *data;
    uint32_t len; /* bytes, at most GR_MAX_TEXT (gr_file_data.data: what the record holds) */
};

struct gr_hello {
    uint32_t magic;       /* GR_MAGIC */
    uint16_t version_min; /* protocol versions that the driver speaks */
    uint16_t version_max;
    uint16_t driver;  /* enum gr_driver */
    uint16_t padding; /* 0 */
    uint8_t vm_uuid[GR_UUID_SIZE];
    uint8_t boot_id[GR_UUID_SIZE]; /* differs at every boot */
    uint64_t first_held;  /* first sequence that the driver still holds (next new one if none), from 1 */
    struct gr_text build; /* of the driver, for logs */
    struct gr_text guest_os;
};

struct gr_welcome {
    uint16_t version; /* the one chosen */
    uint16_t padding;
    uint32_t heartbeat_ms; /* each side sends something at least this often */
    uint64_t next_wanted;  /* the driver goes on from this sequence */
    uint64_t window;       /* bytes of unacknowledged event records that the driver may have outstanding */
    uint64_t interest;     /* GR_KIND bits: other events need no record and take no sequence */
};

enum gr_reject_code {
    GR_REJECT_VERSION = 1,  /* no common protocol version */
    GR_REJECT_IDENTITY = 2, /* the hello contradicts the door */
    GR_REJECT_CLONE = 3,    /* another VM with this UUID is connected */
    GR_REJECT_DRIVER = 4,   /* unknown driver, or not one for this door */
    GR_REJECT_LIMIT = 5,    /* a configured limit is reached: try again later */
    GR_REJECT_UNKNOWN = 6,  /* this VM is not configured here */
};

struct gr_reject {
    uint16_t code;         /* enum gr_reject_code */
    struct gr_text reason; /* UTF-8 whatever the driver */
};

enum gr_level { GR_LEVEL_DELIVERED = 1, GR_LEVEL_PROCESS = 2, GR_LEVEL_DISK = 3 };

struct gr_ack {
    uint64_t sequence; /* all events up to this one need not be kept */
    uint16_t level;    /* enum gr_level: how safe they are */
};

struct gr_verdict {
    uint64_t sequence; /* of the event that waits */
    uint16_t answer;   /* 1 allow, 2 deny */
    uint16_t source;   /* 0 an SVM; else the class of failure whose default this is */
};

struct gr_file_read {
    uint64_t request; /* chosen by gimuxd, comes back in FILE_DATA */
    uint64_t file_id; /* of the event, 0 if it had none */
    uint64_t offset;
    uint32_t length;     /* bytes wanted */
    struct gr_text path; /* as the driver sent it, in its own encoding */
};

struct gr_file_data {
    uint64_t request;
    uint64_t offset;
    uint32_t status;     /* 0, or NTSTATUS or errno */
    uint32_t end;        /* 1: the file ends here */
    struct gr_text data; /* at most what a record holds */
};

struct gr_interest {
    uint64_t kinds; /* GR_KIND bits */
};

struct gr_ping { /* and PONG */
    uint64_t token;
};

struct gr_lost {
    uint64_t last;   /* last sequence dropped; the first is the header's */
    uint32_t reason; /* 1 the driver's queue was full, 2 out of memory, 0 other */
};

struct gr_bye {
    uint16_t code;         /* 0 orderly stop, 1 guest shuts down, 2 protocol error */
    struct gr_text reason; /* UTF-8 whatever the driver */
};

struct gr_volumes {
    uint32_t count;         /* entries that follow, at most 64 */
    struct gr_text entries; /* read them with gr_volume_next */
};

/* One entry of VOLUMES: \Device\HarddiskVolume2 is C. */
struct gr_volume {
    uint16_t letter; /* 'A' to 'Z' */
    struct gr_text device;
};

enum gr_file_op {
    GR_FILE_OP_OPEN = 1,     /* post-create: opened, created, overwritten or superseded, see result */
    GR_FILE_OP_READ = 2,     /* first read of a handle */
    GR_FILE_OP_WRITE = 3,    /* first write of a handle */
    GR_FILE_OP_CLOSE = 4,    /* the last handle of a modified file was closed */
    GR_FILE_OP_RENAME = 5,   /* to target */
    GR_FILE_OP_DELETE = 6,   /* final: disposition or delete-on-close took effect */
    GR_FILE_OP_SET_ATTR = 7, /* FileBasicInformation; chmod, chown, utimes */
};

/* IoStatus.Information of IRP_MJ_CREATE; a linux driver says 1 or 2. */
enum gr_create_result {
    GR_SUPERSEDED = 0,
    GR_OPENED = 1,
    GR_CREATED = 2,
    GR_OVERWRITTEN = 3,
    GR_EXISTS = 4,
    GR_DOES_NOT_EXIST = 5,
};

#define GR_CREATE_DELETE_ON_CLOSE 0x1000u /* in create_mask: FILE_DELETE_ON_CLOSE */

struct gr_file {
    uint16_t op; /* enum gr_file_op */
    uint16_t padding;
    uint32_t status; /* NTSTATUS or errno */
    uint32_t pid;
    uint32_t tid;
    uint64_t file_id;     /* 0 if not known */
    uint64_t size;        /* bytes, 0 if not known */
    uint32_t result;      /* enum gr_create_result, of an OPEN */
    uint32_t create_mask; /* Parameters.Create.Options: disposition in the top 8 bits, options below */
    uint32_t access_mask; /* desired access of an OPEN */
    uint32_t attributes;  /* FILE_ATTRIBUTE_* or mode bits */
    struct gr_text path;
    struct gr_text target;  /* of a rename */
    struct gr_text process; /* image path of the actor */
    struct gr_text user_name;
    struct gr_text user_id; /* SID in its text form, or a numeric uid */
};

enum gr_net_op {
    GR_NET_OP_PRECONNECT = 1, /* asked, may still be denied */
    GR_NET_OP_ESTABLISHED = 2,
    GR_NET_OP_CLOSED = 3,
    GR_NET_OP_REFUSED = 4, /* by the peer, by policy or by a verdict: see status */
    GR_NET_OP_LISTEN = 5,  /* listen, or the bind of a datagram socket */
};

enum gr_direction { GR_INBOUND = 1, GR_OUTBOUND = 2 };

struct gr_net {
    uint16_t op;       /* enum gr_net_op */
    uint8_t protocol;  /* IANA number */
    uint8_t direction; /* enum gr_direction, 0 if not known */
    uint16_t family;   /* 4 or 6: how many bytes of the addresses count */
    uint16_t padding;
    uint32_t status;
    uint32_t pid;
    uint32_t tid;
    uint16_t local_port; /* little-endian like every number here */
    uint16_t remote_port;
    uint8_t local[16]; /* network order; IPv4 in the first 4 bytes, the rest 0 */
    uint8_t remote[16];
    uint64_t flow_id; /* the same for all events of a connection, 0 if not known */
    uint64_t bytes_in;
    uint64_t bytes_out;
    struct gr_text process;
    struct gr_text user_name;
    struct gr_text user_id;
};

enum gr_dns_op { GR_DNS_OP_QUERY = 1, GR_DNS_OP_ANSWER = 2 };

struct gr_dns {
    uint16_t op;   /* enum gr_dns_op */
    uint16_t type; /* QTYPE, 0 if not known */
    uint16_t transaction_id;
    uint16_t rcode;
    uint32_t status; /* of the resolver: 0, or its error */
    uint32_t pid;
    struct gr_text name;
    struct gr_text answers; /* one after the other, each ended by ';' */
    struct gr_text process;
    struct gr_text user_name;
    struct gr_text user_id;
};

enum gr_process_op { GR_PROCESS_OP_START = 1, GR_PROCESS_OP_END = 2 };

struct gr_process {
    uint16_t op; /* enum gr_process_op */
    uint16_t padding;
    uint32_t pid;
    uint32_t parent_pid;
    uint32_t exit_code; /* of an end */
    struct gr_text image;
    struct gr_text command_line;
    struct gr_text parent_image;
    struct gr_text user_name;
    struct gr_text user_id;
};

enum gr_logon_op { GR_LOGON_OP_LOGON = 1, GR_LOGON_OP_LOGOFF = 2 };

struct gr_logon {
    uint16_t op; /* enum gr_logon_op */
    uint16_t
        logon_type; /* Windows logon type: 2 interactive, 3 network, 5 service, 7 unlock, 10 remote, ... */
    uint32_t status;
    uint64_t logon_id;
    uint32_t pid;             /* of the process that logs on */
    struct gr_text user_name; /* who is logged on */
    struct gr_text user_id;
    struct gr_text source; /* address or workstation */
    struct gr_text process;
};

enum gr_power_op {
    GR_POWER_OP_ON = 1,
    GR_POWER_OP_OFF = 2,
    GR_POWER_OP_SUSPEND = 3,
    GR_POWER_OP_RESUME = 4,
    GR_POWER_OP_MIGRATE = 5, /* leaves for target_host */
};

struct gr_power {
    uint16_t op; /* enum gr_power_op */
    uint16_t padding;
    uint8_t vm_uuid[GR_UUID_SIZE]; /* the VM that this is about */
    struct gr_text vm_name;
    struct gr_text target_host;
};

struct gr_record {
    uint16_t type; /* enum gr_type, or one that this version does not know (then body is untouched) */
    uint16_t flags;
    uint32_t size;     /* of the whole record in bytes; set by decode, ignored by encode */
    uint64_t sequence; /* events and LOST: from 1; else 0 */
    uint64_t time;     /* driver time: FILETIME (Windows drivers) or Unix nanoseconds */
    union {
        struct gr_hello hello;
        struct gr_welcome welcome;
        struct gr_reject reject;
        struct gr_ack ack;
        struct gr_verdict verdict;
        struct gr_file_read file_read;
        struct gr_file_data file_data;
        struct gr_interest interest;
        struct gr_ping ping; /* PING and PONG */
        struct gr_lost lost;
        struct gr_bye bye;
        struct gr_volumes volumes;
        struct gr_file file;
        struct gr_net net;
        struct gr_dns dns;
        struct gr_process process;
        struct gr_logon logon;
        struct gr_power power;
    } body;
};

enum gr_result {
    GR_OK,      /* a whole record of a known type */
    GR_SKIP,    /* a whole record of an unknown type: header fields are set, go on after size bytes */
    GR_MORE,    /* the buffer ends before the record does: read on */
    GR_INVALID, /* malformed: close the connection; why says what was wrong and what was expected */
};

#define GR_WHY_MAX 160 /* room for the text of GR_INVALID, NUL included */

/* Decodes the record at the start of buf[0..len). On GR_OK and GR_SKIP the record takes record->size bytes of
 * buf. Checks the size before anything else, every text length against what the record holds, and that
 * numbers are within what this version knows (operations, directions, families; not a HELLO's driver, which
 * has its own REJECT). On GR_INVALID why is written and record holds nothing of use. */
enum gr_result gr_decode(const uint8_t *buf, size_t len, struct gr_record *record, char why[GR_WHY_MAX]);

/* Writes the record to buf[0..cap). Returns its size in bytes, or 0 if it does not fit, its type is unknown,
 * or a text is longer than GR_MAX_TEXT (FILE_DATA: than the record). Overlapping buf with the texts is not
 * allowed. */
size_t gr_encode(const struct gr_record *record, uint8_t *buf, size_t cap);

/* Reads one entry of VOLUMES: start with *at = 0 and call until it returns false. gr_decode has checked all
 * of them, so a decoded record gives exactly body.volumes.count entries. */
bool gr_volume_next(const struct gr_volumes *volumes, size_t *at, struct gr_volume *out);

/* Appends one entry to the entries being built in buf, of which *len bytes are used and which has room for
 * cap. Returns false and changes nothing if it does not fit. */
bool gr_volume_put(uint8_t *buf, size_t cap, size_t *len, const struct gr_volume *volume);

/* Names for logs, as the documents write them ("HELLO", "vsepflt"); "?" for what is unknown. Static memory.
 */
const char *gr_type_name(uint16_t type);
const char *gr_driver_name(uint16_t driver);

/* Whether records of this driver hold UTF-16LE texts, FILETIME and NTSTATUS. */
static inline bool
gr_driver_is_windows(uint16_t driver)
{
    return driver >= GR_VSEPFLT && driver <= GR_VNETWFP;
}

/* Whether the type is one of events, which carry a sequence. */
static inline bool
gr_type_is_event(uint16_t type)
{
    return type >= GR_EVENT_FIRST && type <= GR_EVENT_LAST;
}

/* The written form of a UUID, lower case, 36 characters and NUL; and back. gr_uuid_parse takes either case
 * and returns false, leaving out untouched, if text is anything else than 8-4-4-4-12 hexadecimal digits. */
#define GR_UUID_TEXT 37
const char *gr_uuid_format(const uint8_t uuid[GR_UUID_SIZE], char buf[GR_UUID_TEXT]);
bool gr_uuid_parse(const char *text, uint8_t out[GR_UUID_SIZE]);

#endif
