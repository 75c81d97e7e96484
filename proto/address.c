/* Addresses: vsock:CID:PORT, unix:PATH, tcp:HOST:PORT and tls:HOST:PORT, written the same way everywhere. */
#include "proto/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include <linux/vm_sockets.h>

static bool
number(const char *text, size_t len, uint64_t max, uint32_t *out)
{
    uint64_t value = 0;

    if (len == 0 || len > 10)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    if (value > max)
        return false;
    *out = (uint32_t)value;
    return true;
}

static const char *
parse_vsock(const char *rest, struct address *out)
{
    const char *colon = strchr(rest, ':');

    if (!colon)
        return "expected vsock:CID:PORT";
    if (colon - rest == 3 && memcmp(rest, "any", 3) == 0)
        out->cid = VMADDR_CID_ANY;
    else if (!number(rest, (size_t)(colon - rest), UINT32_MAX, &out->cid))
        return "expected a CID (a number, or any) after vsock:";
    if (!number(colon + 1, strlen(colon + 1), UINT32_MAX, &out->port))
        return "expected a port number after vsock:CID:";
    out->kind = ADDRESS_VSOCK;
    return NULL;
}

static const char *
parse_unix(const char *rest, struct address *out)
{
    if (rest[0] != '/')
        return "expected an absolute path after unix:";
    if (strlen(rest) >= sizeof(out->path))
        return "expected a path of at most 107 bytes after unix:";
    strcpy(out->path, rest);
    out->kind = ADDRESS_UNIX;
    return NULL;
}

static const char *
parse_inet(const char *rest, enum address_kind kind, struct address *out)
{
    const char *host = rest;
    const char *colon = strrchr(rest, ':');
    size_t len;

    if (!colon || colon == rest)
        return "expected HOST:PORT after tcp: or tls:";
    len = (size_t)(colon - rest);
    if (host[0] == '[') {
        if (len < 3 || host[len - 1] != ']')
            return "expected ] after an IPv6 address";
        host++;
        len -= 2;
    } else if (memchr(host, ':', len)) {
        return "expected an IPv6 address in brackets: [ADDRESS]:PORT";
    }
    if (len >= sizeof(out->host))
        return "expected a host name of at most 255 bytes";
    if (!number(colon + 1, strlen(colon + 1), UINT16_MAX, &out->port))
        return "expected a port number from 0 to 65535 after the host";
    memcpy(out->host, host, len);
    out->host[len] = '\0';
    out->kind = kind;
    return NULL;
}

const char *
address_parse(const char *text, struct address *out)
{
    const char *why;

    memset(out, 0, sizeof(*out));
    if (strncmp(text, "vsock:", 6) == 0)
        why = parse_vsock(text + 6, out);
    else if (strncmp(text, "unix:", 5) == 0)
        why = parse_unix(text + 5, out);
    else if (strncmp(text, "tcp:", 4) == 0)
        why = parse_inet(text + 4, ADDRESS_TCP, out);
    else if (strncmp(text, "tls:", 4) == 0)
        why = parse_inet(text + 4, ADDRESS_TLS, out);
    else
        why = "expected vsock:CID:PORT, unix:PATH, tcp:HOST:PORT or tls:HOST:PORT";
    if (why)
        memset(out, 0, sizeof(*out));
    return why;
}

const char *
address_format(const struct address *address, char buf[ADDRESS_TEXT_MAX])
{
    const char *scheme = address->kind == ADDRESS_TLS ? "tls" : "tcp";
    const char *form = strchr(address->host, ':') ? "%s:[%s]:%u" : "%s:%s:%u";

    switch (address->kind) {
    case ADDRESS_VSOCK:
        if (address->cid == VMADDR_CID_ANY)
            snprintf(buf, ADDRESS_TEXT_MAX, "vsock:any:%u", address->port);
        else
            snprintf(buf, ADDRESS_TEXT_MAX, "vsock:%u:%u", address->cid, address->port);
        break;
    case ADDRESS_UNIX:
        snprintf(buf, ADDRESS_TEXT_MAX, "unix:%s", address->path);
        break;
    case ADDRESS_TCP:
    case ADDRESS_TLS:
        snprintf(buf, ADDRESS_TEXT_MAX, form, scheme, address->host, address->port);
        break;
    case ADDRESS_NONE:
        snprintf(buf, ADDRESS_TEXT_MAX, "none");
        break;
    }
    return buf;
}

bool
address_equal(const struct address *a, const struct address *b)
{
    return a->kind == b->kind && a->cid == b->cid && a->port == b->port && strcmp(a->path, b->path) == 0 &&
           strcmp(a->host, b->host) == 0;
}

socklen_t
address_to_sockaddr(const struct address *address, struct sockaddr_storage *out)
{
    struct sockaddr_vm vm = { .svm_family = AF_VSOCK, .svm_cid = address->cid, .svm_port = address->port };
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)address->port) };
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)address->port) };

    memset(out, 0, sizeof(*out));
    switch (address->kind) {
    case ADDRESS_VSOCK:
        memcpy(out, &vm, sizeof(vm));
        return sizeof(vm);
    case ADDRESS_UNIX:
        strcpy(un.sun_path, address->path);
        memcpy(out, &un, sizeof(un));
        return sizeof(un);
    case ADDRESS_TCP:
    case ADDRESS_TLS:
        if (inet_pton(AF_INET, address->host, &in4.sin_addr) == 1) {
            memcpy(out, &in4, sizeof(in4));
            return sizeof(in4);
        }
        if (inet_pton(AF_INET6, address->host, &in6.sin6_addr) == 1) {
            memcpy(out, &in6, sizeof(in6));
            return sizeof(in6);
        }
        return 0;
    case ADDRESS_NONE:
        break;
    }
    return 0;
}
