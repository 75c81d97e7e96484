/* The configuration: one file, read whole into one struct; from one table of options come the parser, the
 * bounds, the defaults, --print-config and the names in messages. */
#ifndef GIMUX_BASE_CONF_H
#define GIMUX_BASE_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/address.h"
#include "proto/guest_record.h"

#define CONF_PATH_MAX      256
#define CONF_NAME_MAX      64
#define CONF_SOLUTIONS_MAX 16                  /* VMLOG_SINKS */
#define CONF_LOG_CHUNK     ((size_t)64 * 1024) /* bytes by which a VM log grows: VMLOG_LARGE_CHUNK */
#define CONF_LIST_MAX      64                  /* entries of a list option */

enum conf_policy { CONF_POLICY_PAUSE, CONF_POLICY_DROP, CONF_POLICY_SPILL };
enum conf_durability { CONF_DELIVERED, CONF_PROCESS, CONF_DISK };
enum conf_unknown_cid { CONF_UNKNOWN_REJECT, CONF_UNKNOWN_HELLO };

/* A list of texts. */
struct conf_list {
    unsigned count;
    char *texts[CONF_LIST_MAX];
};

struct conf_doors {
    struct address vsock;         /* "vsock:any:48100"; ADDRESS_NONE: no such door, for all of these */
    char vm_dir[CONF_PATH_MAX];   /* directory of <vm-uuid>.sock; empty: none */
    char vm_group[CONF_NAME_MAX]; /* group that may connect to these and to <uds_path>_<port>; empty: root
                                     only */
    struct address shared;        /* UNIX socket where the VM is the one that the hello names */
    struct address vmx;           /* root-only UNIX socket of the host's source of VM lifecycle */
    uint32_t port;   /* of guests' vsock connections that come as <uds_path>_<port>, and for CONNECT <port> */
    int unknown_cid; /* enum conf_unknown_cid: what to do with a CID that no vm section names */
    uint32_t redial; /* ms between attempts to dial a VM */
};

struct conf_limits {
    uint64_t memory;         /* bytes of all VM logs */
    uint64_t vm_log;         /* bytes of one VM's log */
    uint64_t vm_window;      /* bytes of unacknowledged records of one stream */
    uint32_t vms;            /* VMs known at a time */
    uint32_t connections;    /* driver connections at a time */
    uint32_t flood_records;  /* a second, below which no VM floods; 0: none ever does */
    uint32_t flood_factor;   /* times the median of the other VMs */
    uint32_t flood_interval; /* ms between checks */
};

/* Files of VM logs. */
struct conf_storage {
    char dir[CONF_PATH_MAX]; /* empty: none, VM logs are in memory alone */
    uint64_t vm;             /* bytes of files of one VM */
    uint64_t total;          /* bytes of files of all VMs */
};

struct conf_vm {
    uint8_t uuid[GR_UUID_SIZE];
    char uuid_text[GR_UUID_TEXT];
    uint32_t cid;                 /* 0: none */
    char uds_path[CONF_PATH_MAX]; /* Firecracker's or Cloud Hypervisor's; gimuxd listens on <uds_path>_<port>
                                   */
    struct address dial;          /* where gimuxd connects to this VM, whenever it is not connected */
    bool dial_connect;            /* says CONNECT <port> there first (Firecracker, Cloud Hypervisor) */
};

struct conf_solution {
    char name[CONF_NAME_MAX];
    uint32_t altitude;
    struct address address; /* tcp or tls */
    bool plain;             /* allows tcp */
    char cert[CONF_PATH_MAX];
    char key[CONF_PATH_MAX];
    char ca[CONF_PATH_MAX];
    char crl[CONF_PATH_MAX];      /* revocation lists; empty: none */
    char tls_name[CONF_PATH_MAX]; /* name in the SVM's certificate; empty: the host of the address */
    int policy;                   /* enum conf_policy */
    int durability;           /* enum conf_durability: when an event counts as accepted for this solution */
    uint64_t window;          /* bytes of one VM in flight to this SVM; 0: derived from vm_log */
    uint32_t heartbeat;       /* ms */
    uint32_t redial_max;      /* ms: the longest time between two attempts to connect */
    struct conf_list classes; /* empty: all */
    struct conf_list vms;     /* UUIDs; empty: all */
    struct conf_list mute;    /* path prefixes of file events that are not wanted */
    uint32_t class_mask;      /* from classes */
};

struct conf {
    char path[CONF_PATH_MAX]; /* of the file */
    char host[CONF_NAME_MAX]; /* this host's name, for SVMs */
    char pid_file[CONF_PATH_MAX];
    char user[CONF_NAME_MAX]; /* whom root becomes once its files and sockets are open; empty: stays root */
    bool sandbox;             /* system calls are filtered */
    struct address admin;     /* UNIX socket of the admin door */
    int syslog;               /* 0 stderr, 1 syslog */
    int log_level;            /* enum log_level */
    uint32_t heartbeat;       /* ms: asked of drivers */
    uint32_t silence;         /* ms: a driver silent for so long is reported lost */
    uint32_t drain;           /* ms: how long SVMs have, after SIGTERM, to take what is queued */
    struct conf_doors doors;
    struct conf_limits limits;
    struct conf_storage storage;
    unsigned vm_count;
    struct conf_vm *vms;
    unsigned solution_count;
    struct conf_solution solutions[CONF_SOLUTIONS_MAX]; /* by altitude, highest first, then by name */
};

/* Reads and checks a file. On an error prints FILE:LINE: what is wrong and what was expected to `errors`, and
 * returns NULL; also NULL if out of memory. The caller frees the result with conf_free. */
struct conf *conf_load(const char *path, FILE *errors);
void conf_free(struct conf *conf); /* NULL is fine */

/* Prints the configuration in force, defaults included, as a file that conf_load reads. */
void conf_print(const struct conf *conf, FILE *out);

/* Prints every option with its meaning, choices and default. */
void conf_help(FILE *out);

/* Whether two solutions have the same options, so that the link to the SVM can stay. */
bool conf_solution_equal(const struct conf_solution *a, const struct conf_solution *b);

/* Whether two VM sections are the same. */
bool conf_vm_equal(const struct conf_vm *a, const struct conf_vm *b);

/* The vm section of a UUID or CID, or NULL. */
const struct conf_vm *conf_vm_by_uuid(const struct conf *conf, const uint8_t uuid[GR_UUID_SIZE]);
const struct conf_vm *conf_vm_by_cid(const struct conf *conf, uint32_t cid);

#endif
