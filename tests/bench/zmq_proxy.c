/* zmq_proxy: ZeroMQ's own forwarder, as its guide has it: XSUB for producers, XPUB for receivers.
 *
 *     zmq_proxy SOCKET PORT
 *
 * XPUB drops what a slow receiver does not take; ZMQ_XPUB_NODROP makes it wait instead. */
#include <stdio.h>
#include <zmq.h>

int
main(int argc, char **argv)
{
    void *context = zmq_ctx_new();
    void *in = zmq_socket(context, ZMQ_XSUB), *out = zmq_socket(context, ZMQ_XPUB);
    char address[512];
    int one = 1;

    if (argc != 3) {
        fprintf(stderr, "usage: zmq_proxy SOCKET PORT\n");
        return 2;
    }
    zmq_setsockopt(out, ZMQ_XPUB_NODROP, &one, sizeof(one));
    snprintf(address, sizeof(address), "ipc://%s", argv[1]);
    if (zmq_bind(in, address) == 0) {
        snprintf(address, sizeof(address), "tcp://127.0.0.1:%s", argv[2]);
        if (zmq_bind(out, address) == 0)
            zmq_proxy(in, out, NULL);
    }
    fprintf(stderr, "zmq_proxy: %s: %s\n", address, zmq_strerror(zmq_errno()));
    return 1;
}
