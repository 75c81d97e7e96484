/* Sockets and clocks of the benchmark: what is done before anything is measured, waiting. */
#ifndef GIMUX_BENCH_WIRE_H
#define GIMUX_BENCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Nanoseconds since 1970; all latencies are differences of this clock. */
uint64_t wire_now(void);

/* Monotonic nanoseconds. */
uint64_t wire_clock(void);

/* Connect, again and again for some seconds. Sockets wait, for 10 seconds at most. -1 if nobody is there. */
int wire_dial_unix(const char *path);
int wire_dial_tcp(uint16_t port);

/* Listens on a free port of 127.0.0.1; -1 if that fails. */
int wire_listen(uint16_t *port);

/* A port of 127.0.0.1 that is free at this moment. */
uint16_t wire_free_port(void);

/* Waits for a connection; -1 if none came in 10 seconds. */
int wire_accept(int listener);

/* All of it, or false. Also for sockets that do not wait. */
bool wire_send(int fd, const void *data, size_t len);

/* Exactly so many bytes, or false. */
bool wire_read(int fd, void *out, size_t len);

/* Reads byte by byte until what has come ends with `end` (which may be the last of several lines). What came
 * is in out, cut at size and ended by a NUL. False if it did not come. */
bool wire_expect(int fd, const char *end, char *out, size_t size);

/* Makes the socket non-blocking. */
void wire_no_wait(int fd);

#endif
