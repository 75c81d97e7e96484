/* The security VM's end of gimux: link this library, give callbacks, and receive what the guests of a host
 * do.
 *
 * gimuxd, the daemon on each host, dials the SVM; so a client listens. It takes up to GIMUX_CONNECTIONS_MAX
 * connections at once (several hosts, or a host that comes back while its former connection is half dead),
 * answers the handshake, decodes frames into plain structs, acknowledges them, and after a break offers what
 * it already has, so that nothing is missed and nothing comes twice.
 *
 *     struct gimux_client_callbacks callbacks = { .on_event = print_event };
 *     struct gimux_client_config config = { .listen = "tcp:127.0.0.1:4000", .callbacks = &callbacks };
 *     char error[GIMUX_ERROR_MAX];
 *     struct gimux_client *client = gimux_client_new(&config, error);
 *     gimux_client_run(client);
 *
 * Threads: the library starts none and keeps no global state. All calls for one client must come from one
 * thread at a time. Signals: none is raised or handled; a write to a broken connection does not raise
 * SIGPIPE. Memory: at most about 3 MiB a connection and 1 KiB a remembered stream, plus 4 MiB.
 *
 * Texts from gimuxd come from guests in the end: they are NUL-terminated and never NULL (empty if absent),
 * but may hold anything, control characters included. Whatever a callback is given lives until the callback
 * returns, unless it says otherwise. Callbacks may call any function here except gimux_client_free,
 * gimux_client_dispatch and gimux_client_run. They should return well within a heartbeat (see
 * gimux_connection.heartbeat_ms): while one runs, nothing else does, and gimuxd takes a link that is silent
 * for three heartbeats for dead. */
#ifndef GIMUX_CLIENT_H
#define GIMUX_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GIMUX_CONNECTIONS_MAX 16   /* connections at once */
#define GIMUX_STREAMS_MAX     8192 /* streams remembered */
#define GIMUX_VMS_MAX         64   /* VMs in a subscription */
#define GIMUX_ERROR_MAX       512  /* room for an error text, its NUL included */

struct gimux_client;

/* ---- who sends ---------------------------------------------------------------------------------------- */

enum gimux_driver {
    GIMUX_DRIVER_UNKNOWN = 0,
    GIMUX_DRIVER_VSEPFLT = 1, /* Windows files */
    GIMUX_DRIVER_VNETFLT = 2, /* Windows network (TDI) */
    GIMUX_DRIVER_VNETWFP = 3, /* Windows network (WFP) */
    GIMUX_DRIVER_LINUX = 4,   /* fanotify and connection tracking */
    GIMUX_DRIVER_VMX = 5,     /* the host's source of VM lifecycle */
    GIMUX_DRIVER_GIMUXD = 6,  /* gimuxd's own events about a VM */
};

/* One connection from one gimuxd. Lives from on_connect until on_disconnect has returned. */
struct gimux_connection {
    const char *peer;      /* its address, "tcp:192.0.2.1:50000" */
    const char *host;      /* the host's name, as gimuxd says it */
    const char *build;     /* gimuxd's version */
    const char *solution;  /* the name under which this SVM is registered there */
    uint32_t altitude;     /* this SVM's order among the solutions of that host */
    uint32_t version;      /* protocol version in use */
    uint32_t heartbeat_ms; /* each side sends something at least this often, 10 to 3600000 */
    uint64_t window_bytes; /* unacknowledged bytes of one VM after which gimuxd waits */
    bool tls;              /* whether the connection is encrypted and gimuxd's certificate was verified */
};

/* A stream: one driver of one VM for one boot of it. Lives, at the same address, over as many connections as
 * it takes, until on_stream_forget has returned. Read only, except `user`. */
struct gimux_stream {
    const char *vm_uuid; /* lower-case 8-4-4-4-12 form */
    const char *boot_id; /* same form, differs at every boot of the guest */
    uint32_t driver;     /* enum gimux_driver, or a number that this version does not know */
    const char *driver_build;
    const char *guest_os;
    void *user; /* the caller's own, NULL at first; the library does not look at it */
};

/* ---- events -------------------------------------------------------------------------------------------- */

/* OCSF classes (https://schema.ocsf.io). */
enum gimux_class {
    GIMUX_CLASS_FILE = 1001,
    GIMUX_CLASS_PROCESS = 1007,
    GIMUX_CLASS_POWER = 1011,
    GIMUX_CLASS_AUTHENTICATION = 3002,
    GIMUX_CLASS_NETWORK = 4001,
    GIMUX_CLASS_DNS = 4003,
    GIMUX_CLASS_LIFECYCLE = 6002,
};

enum gimux_status {
    GIMUX_STATUS_UNKNOWN = 0,
    GIMUX_STATUS_SUCCESS = 1,
    GIMUX_STATUS_FAILURE = 2,
};

/* A run of bytes; data is NULL if and only if len is 0. */
struct gimux_bytes {
    const uint8_t *data;
    size_t len; /* bytes */
};

/* Who did it. */
struct gimux_actor {
    uint32_t pid; /* 0 if not known */
    uint32_t tid;
    const char *process_path;
    const char *user_name; /* DOMAIN\name or name */
    const char *user_uid;  /* a SID (S-1-...) or a numeric uid */
};

struct gimux_file {
    const char *path;               /* C:\..., \\server\share\... or /... */
    const char *stream_name;        /* NTFS alternate data stream */
    const char *target_path;        /* where a rename went to */
    const char *target_stream_name; /* its alternate data stream */
    struct gimux_bytes path_raw;    /* the driver's own bytes (UTF-16LE or UTF-8), only if path is lossy */
    struct gimux_bytes target_path_raw;
    uint64_t file_id;     /* the file system's own number, 0 if not known */
    uint64_t size;        /* bytes, 0 if not known */
    uint32_t attributes;  /* FILE_ATTRIBUTE_* (Windows) or mode bits (linux) */
    uint32_t access_mask; /* desired access of an open */
    uint32_t create_mask; /* IRP_MJ_CREATE options, disposition in the top 8 bits */
    bool delete_on_close; /* the delete was asked for when the file was opened */
};

enum gimux_network_step {
    GIMUX_NETWORK_UNKNOWN = 0,
    GIMUX_NETWORK_PRECONNECT = 1,
    GIMUX_NETWORK_ESTABLISHED = 2,
    GIMUX_NETWORK_CLOSED = 3,
    GIMUX_NETWORK_REFUSED = 4,
    GIMUX_NETWORK_LISTEN = 5,
};

enum gimux_direction {
    GIMUX_DIRECTION_UNKNOWN = 0,
    GIMUX_DIRECTION_INBOUND = 1,
    GIMUX_DIRECTION_OUTBOUND = 2,
};

struct gimux_network {
    uint32_t step;         /* enum gimux_network_step: finer than the activity */
    uint32_t direction;    /* enum gimux_direction */
    uint32_t protocol_num; /* IANA: 6 TCP, 17 UDP */
    uint32_t src_port;
    uint32_t dst_port;
    struct gimux_bytes src_ip; /* 4 or 16 bytes in network order, or none; for inbound the remote end */
    struct gimux_bytes dst_ip;
    uint64_t flow_id;   /* the same for all events of one connection, 0 if the driver has none */
    uint64_t bytes_in;  /* towards the guest, over the connection's life */
    uint64_t bytes_out; /* from the guest */
};

struct gimux_dns {
    const char *hostname;
    uint32_t type; /* RFC 1035 QTYPE, 0 if not known */
    uint32_t transaction_id;
    uint32_t rcode; /* of a response */
    const char *const *answers;
    size_t answer_count;
};

struct gimux_process { /* the process that starts or ends */
    uint32_t pid;
    uint32_t parent_pid;
    const char *path;
    const char *cmd_line;
    const char *parent_path;
    struct gimux_bytes path_raw; /* only if path is lossy */
    int32_t exit_code;           /* of an end */
};

struct gimux_authentication {
    uint32_t
        logon_type_id; /* OCSF: 2 Interactive, 3 Network, 5 Service, 7 Unlock, 10 Remote Interactive, ... */
    uint64_t session_uid;  /* the guest's logon id */
    const char *user_name; /* who logged on or off */
    const char *user_uid;
    const char *src; /* from where: address or workstation, as the guest says it */
};

struct gimux_power {
    const char *vm_uuid; /* the VM that this is about; the stream's own VM is the host's */
    const char *vm_name;
    const char *target_host; /* of a migration (activity 99) */
};

struct gimux_lifecycle { /* a driver's link to gimuxd: activity 3 Start or 4 Stop */
    uint32_t driver;     /* enum gimux_driver */
    const char *boot_id;
    const char *reason; /* why it stopped */
    const char *door;   /* the address by which it came */
};

struct gimux_event {
    struct gimux_stream *stream;
    const struct gimux_connection *connection;
    uint64_t sequence;    /* within the stream, from 1, ascending; holes are what the subscription left out */
    int64_t time_ns;      /* when it happened in the guest, nanoseconds since 1970-01-01 UTC */
    uint32_t class_uid;   /* enum gimux_class, or an OCSF class that this version does not know */
    uint32_t activity_id; /* OCSF activity of that class, see gimux_client_activity_name */
    uint32_t status_id;   /* enum gimux_status */
    uint32_t status_code; /* NTSTATUS (Windows drivers) or errno (linux), as the driver gave it */
    bool lossy; /* some text was not valid Unicode: U+FFFD stands in it, the raw fields have it all */
    bool waits; /* the guest's operation waits for a verdict */
    const struct gimux_actor *actor; /* NULL if the driver does not know */

    /* At most one of these is not NULL, as a rule the one of class_uid: test the pointer. */
    const struct gimux_file *file;
    const struct gimux_network *network;
    const struct gimux_dns *dns;
    const struct gimux_process *process;
    const struct gimux_authentication *authentication;
    const struct gimux_power *power;
    const struct gimux_lifecycle *lifecycle;

    struct gimux_bytes frame; /* the frame as it came: varint length, then gimux.v1.Frame */
};

enum gimux_gap_reason {
    GIMUX_GAP_UNKNOWN = 0,
    GIMUX_GAP_OVERFLOW = 1, /* this SVM fell behind and its policy on that host is drop */
    GIMUX_GAP_DRIVER = 2,   /* the driver itself dropped them */
    GIMUX_GAP_RESTART = 3,  /* gimuxd no longer has them */
    GIMUX_GAP_RECORD = 4,   /* the driver's record could not be made an event */
    GIMUX_GAP_STORAGE = 5,  /* the file in which gimuxd kept them was damaged */
};

/* Events that will not come. Never overlaps an event or gap that came before. */
struct gimux_gap {
    struct gimux_stream *stream;
    uint64_t first; /* both ends included */
    uint64_t last;
    uint32_t reason; /* enum gimux_gap_reason */
};

/* ---- callbacks ----------------------------------------------------------------------------------------- */

enum gimux_disconnect {
    GIMUX_DISCONNECT_BYE,      /* gimuxd said good-bye */
    GIMUX_DISCONNECT_CLOSED,   /* gimuxd closed the connection without a word */
    GIMUX_DISCONNECT_ERROR,    /* the network failed, or memory ran out */
    GIMUX_DISCONNECT_SILENT,   /* nothing came for three heartbeats, or the handshake took over 10 seconds */
    GIMUX_DISCONNECT_PROTOCOL, /* gimuxd broke the protocol */
    GIMUX_DISCONNECT_TLS,      /* TLS failed */
    GIMUX_DISCONNECT_STOPPED,  /* this side closed: gimux_client_free */
};

enum gimux_level { GIMUX_LOG_ERROR = 1, GIMUX_LOG_WARNING = 2, GIMUX_LOG_INFO = 3, GIMUX_LOG_DEBUG = 4 };

/* Any of these may be NULL. `user` is gimux_client_config.user. */
struct gimux_client_callbacks {
    /* A gimuxd has connected and the handshake is done. Every one of these is followed by one on_disconnect;
     * connections that fail before are only logged. */
    void (*on_connect)(void *user, const struct gimux_connection *connection);
    void (*on_disconnect)(void *user, const struct gimux_connection *connection, enum gimux_disconnect reason,
                          const char *text);

    /* A stream comes (again) by this connection, from first_sequence on. Called for every connection that
     * brings it; look at stream->user to see whether it is new to you. */
    void (*on_stream_start)(void *user, const struct gimux_connection *connection,
                            struct gimux_stream *stream, uint64_t first_sequence);

    void (*on_event)(void *user, const struct gimux_event *event);
    void (*on_gap)(void *user, const struct gimux_gap *gap);

    /* Up to `sequence` everything has come that will; what of it was neither an event nor in a gap, this
     * SVM's subscription left out. `filtered` counts those since this gimuxd first heard of the stream.
     * `sequence` may be behind the last event: a later progress catches up. */
    void (*on_progress)(void *user, struct gimux_stream *stream, uint64_t sequence, uint64_t filtered);

    /* Nothing more will come of this stream after last_sequence (0: there never was an event). The stream
     * may still be acknowledged, until it is forgotten. */
    void (*on_stream_end)(void *user, struct gimux_stream *stream, uint64_t last_sequence);

    /* The last time that this stream is seen: it was pushed out by newer ones, or the client is freed. Free
     * stream->user here. */
    void (*on_stream_forget)(void *user, struct gimux_stream *stream);

    /* Every whole frame, as it came and before it is looked at: varint length, then gimux.v1.Frame. */
    void (*on_frame)(void *user, const struct gimux_connection *connection, const uint8_t *bytes, size_t len);

    /* One line for a log, without a newline. */
    void (*on_log)(void *user, enum gimux_level level, const char *text);
};

/* ---- the client ---------------------------------------------------------------------------------------- */

/* Zero-initialize; set listen and callbacks, and what else is wanted. gimux_client_new copies all of it. */
struct gimux_client_config {
    const char
        *listen; /* "tcp:HOST:PORT" or "tls:HOST:PORT"; an IPv6 HOST in brackets; port 0: any free one */

    /* For tls, all three, as PEM files: this SVM's certificate (chain), its key, and the CA that has signed
     * gimuxd's certificate. TLS 1.3 only; a gimuxd without a valid certificate is refused. */
    const char *cert_file;
    const char *key_file;
    const char *ca_file;
    /* Revocation lists, PEM, one of every CA in the chain of gimuxd's certificate; NULL: revocation is not
     * checked.
     */
    const char *crl_file;
    /* Names of which gimuxd's certificate must bear one (DNS names, wildcards allowed); none: any certificate
     * of that CA is accepted. */
    const char *const *peer_names;
    size_t peer_name_count;

    const char *name; /* the SVM's own name and version, for gimuxd's logs, at most 127 bytes; may be NULL */

    /* The subscription. It narrows what gimuxd's configuration grants; empty lists do not. All texts together
     * take at most 128 KiB. */
    const uint32_t *class_uids; /* enum gimux_class */
    size_t class_uid_count;
    const char *const *vm_uuids; /* lower-case 8-4-4-4-12 form, at most GIMUX_VMS_MAX */
    size_t vm_uuid_count;
    const char *const *muted_path_prefixes; /* file events whose path begins with one are not sent */
    size_t muted_path_prefix_count;

    /* false: an event or gap is acknowledged once its callback has returned. true: only by gimux_client_ack;
     * after a break what is not acknowledged comes again. */
    bool explicit_ack;

    size_t stream_max; /* streams remembered, at most and by default (0) GIMUX_STREAMS_MAX; ended ones are
                          forgotten first, oldest first, then those that no connection has brought */

    const struct gimux_client_callbacks *callbacks;
    void *user; /* given to every callback */
};

/* Makes a client and starts to listen. Returns NULL and writes what was wrong to error (may be NULL): a bad
 * address, one that is in use, files that cannot be read, a subscription over its bounds, no memory. */
struct gimux_client *gimux_client_new(const struct gimux_client_config *config, char error[GIMUX_ERROR_MAX]);

/* Acknowledges what can be, says good-bye to every gimuxd, closes all and frees all; on_disconnect and
 * on_stream_forget are called. NULL is allowed. Not from a callback. */
void gimux_client_free(struct gimux_client *client);

/* The address that the client listens on, with the port that was picked. Lives as long as the client. */
const char *gimux_client_address(const struct gimux_client *client);

/* A descriptor (epoll) that is readable when gimux_client_dispatch has something to do, timers included. For
 * the caller's own poll, epoll, libevent or GLib loop. The client owns it: do not read or close it. */
int gimux_client_fd(const struct gimux_client *client);

/* Does what is due; if nothing is, waits up to timeout_ms milliseconds (0: not at all, -1: until something
 * is). Does a bounded piece of work: at most 256 frames or about 20 ms a connection, then returns, with
 * gimux_client_fd still readable if more is left. Returns 0, or -1 with errno set (EBUSY in a callback). A
 * signal ends the wait early with 0. */
int gimux_client_dispatch(struct gimux_client *client, int timeout_ms);

/* Dispatches until gimux_client_stop. Returns 0, or -1 with errno set. */
int gimux_client_run(struct gimux_client *client);

/* From a callback: no further event is delivered, and gimux_client_dispatch and gimux_client_run return. What
 * came and was not delivered is kept: a later dispatch goes on with it. Not for signal handlers: use signalfd
 * and gimux_client_dispatch. */
void gimux_client_stop(struct gimux_client *client);

/* Acknowledges everything of the stream up to and including `sequence` (explicit_ack only). Sent with the
 * next dispatch, which gimux_client_fd asks for. Returns 0, also if that was acknowledged before; or -1 with
 * errno EINVAL if `sequence` has not come yet or acknowledgement is automatic. */
int gimux_client_ack(struct gimux_client *client, struct gimux_stream *stream, uint64_t sequence);

/* Reads the certificate, key, CA and revocation list files again; connections that are made from now on use
 * them. Open ones go on, except if gimuxd's certificate is revoked now. Returns false, keeps the
 * former ones and writes what was wrong to error (may be NULL). */
bool gimux_client_reload_certificates(struct gimux_client *client, char error[GIMUX_ERROR_MAX]);

/* Counters since gimux_client_new. */
struct gimux_client_stats {
    uint64_t connections;     /* handshakes completed */
    uint64_t refused;         /* connections that ended before that */
    uint64_t open;            /* connections open now, handshake completed */
    uint64_t streams;         /* streams remembered now */
    uint64_t forgotten;       /* streams pushed out by newer ones */
    uint64_t events;          /* given to on_event */
    uint64_t gaps;            /* given to on_gap */
    uint64_t gapped;          /* sequences that those gaps cover */
    uint64_t duplicates;      /* events dropped because they had come before, or because a newer connection
                                 brings their stream */
    uint64_t out_of_order;    /* events, gaps and ends out of order on their connection: a protocol error */
    uint64_t protocol_errors; /* connections closed for one, out_of_order included */
    uint64_t acks;            /* Ack frames sent */
    uint64_t bytes_in;        /* of frames, their lengths included */
    uint64_t bytes_out;
};

void gimux_client_get_stats(const struct gimux_client *client, struct gimux_client_stats *out);

/* ---- words --------------------------------------------------------------------------------------------- */

/* Names for logs, static memory: "vsepflt"; "file"; "rename"; "overflow"; "silent". For numbers that this
 * version does not know, "unknown"; for activity 99, "other". */
const char *gimux_client_driver_name(uint32_t driver);
const char *gimux_client_class_name(uint32_t class_uid);
const char *gimux_client_activity_name(uint32_t class_uid, uint32_t activity_id);
const char *gimux_client_gap_name(uint32_t reason);
const char *gimux_client_disconnect_name(enum gimux_disconnect reason);

/* The class_uid of a class name, or 0. */
uint32_t gimux_client_class_by_name(const char *name);

#ifdef __cplusplus
}
#endif

#endif
