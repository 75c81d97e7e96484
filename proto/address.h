/* Addresses: vsock:CID:PORT, unix:PATH, tcp:HOST:PORT and tls:HOST:PORT, written the same way everywhere. */
#ifndef GIMUX_ADDRESS_H
#define GIMUX_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum address_kind {
    ADDRESS_NONE, /* not set */
    ADDRESS_VSOCK,
    ADDRESS_UNIX,
    ADDRESS_TCP,
    ADDRESS_TLS,
};

#define ADDRESS_PATH_MAX 108 /* sun_path, its NUL included */
#define ADDRESS_HOST_MAX 256
#define ADDRESS_TEXT_MAX 300 /* enough for every written form, NUL included */

struct address {
    enum address_kind kind;
    uint32_t cid;                /* vsock; "any" is VMADDR_CID_ANY */
    uint32_t port;               /* vsock, tcp, tls */
    char path[ADDRESS_PATH_MAX]; /* unix */
    char host[ADDRESS_HOST_MAX]; /* tcp, tls: name or numeric address, without brackets */
};

/* Reads one written address. An IPv6 HOST is in brackets. CID is a number or "any".
 * Returns NULL, or a static text that says what was expected; *out is then ADDRESS_NONE. */
const char *address_parse(const char *text, struct address *out);

/* Writes the address to buf in the form that address_parse reads. Returns buf. */
const char *address_format(const struct address *address, char buf[ADDRESS_TEXT_MAX]);

/* Whether two addresses are written the same. */
bool address_equal(const struct address *a, const struct address *b);

/* Fills a socket address for vsock and UNIX addresses, and for tcp and tls ones whose host is numeric.
 * Returns its length, or 0 if the host is a name that must be resolved first. */
socklen_t address_to_sockaddr(const struct address *address, struct sockaddr_storage *out);

#endif
