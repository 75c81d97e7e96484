/* Addresses: every written form read and written, what is refused and why, and the socket addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <linux/vm_sockets.h>

#include <cmocka.h>

#include "proto/address.h"

static struct address
parsed(const char *text)
{
    struct address address;
    const char *why = address_parse(text, &address);

    if (why)
        fail_msg("%s: %s", text, why);
    return address;
}

static void
expect_refused(const char *text, const char *expected)
{
    struct address address;
    const char *why = address_parse(text, &address);

    if (!why)
        fail_msg("%s was taken", text);
    if (!strstr(why, expected))
        fail_msg("%s: expected \"%s\" in \"%s\"", text, expected, why);
    assert_int_equal(address.kind, ADDRESS_NONE);
}

static void
test_written_forms_come_back(void **state)
{
    static const char *const forms[] = {
        "vsock:2:9000",
        "vsock:any:0",
        "vsock:4294967294:4294967295",
        "unix:/run/gimux/vmx.sock",
        "tcp:localhost:1",
        "tls:svm.example:65535",
        "tcp:192.0.2.1:80",
        "tls:[2001:db8::1]:443",
    };
    char text[ADDRESS_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        struct address address = parsed(forms[i]);

        assert_string_equal(address_format(&address, text), forms[i]);
    }
}

static void
test_parts_are_read(void **state)
{
    struct address address = parsed("vsock:3:1024");

    (void)state;
    assert_int_equal(address.kind, ADDRESS_VSOCK);
    assert_int_equal(address.cid, 3);
    assert_int_equal(address.port, 1024);
    address = parsed("vsock:any:5");
    assert_int_equal(address.cid, VMADDR_CID_ANY);
    address = parsed("tls:[::1]:443");
    assert_int_equal(address.kind, ADDRESS_TLS);
    assert_string_equal(address.host, "::1");
    assert_int_equal(address.port, 443);
    address = parsed("unix:/a:b");
    assert_int_equal(address.kind, ADDRESS_UNIX);
    assert_string_equal(address.path, "/a:b");
}

static void
test_nothing_is_written_as_none(void **state)
{
    struct address address = { .kind = ADDRESS_NONE };
    struct sockaddr_storage out;
    char text[ADDRESS_TEXT_MAX];

    (void)state;
    assert_string_equal(address_format(&address, text), "none");
    assert_int_equal(address_to_sockaddr(&address, &out), 0);
}

static void
test_what_is_wrong_is_said(void **state)
{
    (void)state;
    expect_refused("", "expected vsock:CID:PORT, unix:PATH");
    expect_refused("none", "expected vsock:CID:PORT, unix:PATH");
    expect_refused("udp:host:1", "expected vsock:CID:PORT, unix:PATH");
    expect_refused("vsock:2", "expected vsock:CID:PORT");
    expect_refused("vsock::1", "expected a CID");
    expect_refused("vsock:host:1", "expected a CID");
    expect_refused("vsock:4294967296:1", "expected a CID");
    expect_refused("vsock:00000000002:1", "expected a CID");
    expect_refused("vsock:2:", "expected a port number");
    expect_refused("vsock:2:-1", "expected a port number");
    expect_refused("vsock:2:1:1", "expected a port number");
    expect_refused("unix:run/x", "expected an absolute path");
    expect_refused("unix:", "expected an absolute path");
    expect_refused("tcp:host", "expected HOST:PORT");
    expect_refused("tcp::80", "expected HOST:PORT");
    expect_refused("tcp:host:", "expected a port number from 0 to 65535");
    expect_refused("tcp:host:65536", "expected a port number from 0 to 65535");
    expect_refused("tcp:host:8o", "expected a port number from 0 to 65535");
    expect_refused("tcp:::1:80", "brackets");
    expect_refused("tcp:[::1:80", "expected ]");
    expect_refused("tcp:[]:80", "expected ]");
}

static void
test_lengths_are_bounded(void **state)
{
    char text[400];
    struct address address;

    (void)state;
    memset(text, 'a', sizeof(text));
    memcpy(text, "unix:/", 6);
    text[5 + 107] = '\0';
    assert_null(address_parse(text, &address));
    text[5 + 107] = 'a';
    text[5 + 108] = '\0';
    expect_refused(text, "at most 107 bytes");

    memset(text, 'a', sizeof(text));
    memcpy(text, "tcp:", 4);
    strcpy(text + 4 + 255, ":65535");
    assert_null(address_parse(text, &address));
    assert_int_equal(strlen(address.host), 255);
    memset(text + 4 + 255, 'a', 1);
    strcpy(text + 4 + 256, ":65535");
    expect_refused(text, "at most 255 bytes");
}

static void
test_the_longest_form_fits_its_buffer(void **state)
{
    struct address address = { .kind = ADDRESS_TLS, .port = 65535 };
    char text[ADDRESS_TEXT_MAX];

    (void)state;
    memset(address.host, ':', sizeof(address.host) - 1);
    address_format(&address, text);
    assert_int_equal(strlen(text), strlen("tls:[]:65535") + sizeof(address.host) - 1);
}

static void
test_socket_addresses(void **state)
{
    struct sockaddr_storage out;
    struct sockaddr_vm *vm = (struct sockaddr_vm *)&out;
    struct sockaddr_un *un = (struct sockaddr_un *)&out;
    struct sockaddr_in *in4 = (struct sockaddr_in *)&out;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&out;
    struct address address = parsed("vsock:7:9");

    (void)state;
    assert_int_equal(address_to_sockaddr(&address, &out), sizeof(*vm));
    assert_int_equal(vm->svm_family, AF_VSOCK);
    assert_int_equal(vm->svm_cid, 7);
    assert_int_equal(vm->svm_port, 9);
    address = parsed("unix:/run/x");
    assert_int_equal(address_to_sockaddr(&address, &out), sizeof(*un));
    assert_int_equal(un->sun_family, AF_UNIX);
    assert_string_equal(un->sun_path, "/run/x");
    address = parsed("tcp:127.0.0.1:8080");
    assert_int_equal(address_to_sockaddr(&address, &out), sizeof(*in4));
    assert_int_equal(in4->sin_family, AF_INET);
    assert_int_equal(ntohs(in4->sin_port), 8080);
    assert_int_equal(ntohl(in4->sin_addr.s_addr), INADDR_LOOPBACK);
    address = parsed("tls:[::1]:443");
    assert_int_equal(address_to_sockaddr(&address, &out), sizeof(*in6));
    assert_int_equal(in6->sin6_family, AF_INET6);
    assert_int_equal(ntohs(in6->sin6_port), 443);
    assert_true(IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr));
    address = parsed("tcp:svm.example:443");
    assert_int_equal(address_to_sockaddr(&address, &out), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_written_forms_come_back),
        cmocka_unit_test(test_parts_are_read),
        cmocka_unit_test(test_nothing_is_written_as_none),
        cmocka_unit_test(test_what_is_wrong_is_said),
        cmocka_unit_test(test_lengths_are_bounded),
        cmocka_unit_test(test_the_longest_form_fits_its_buffer),
        cmocka_unit_test(test_socket_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
