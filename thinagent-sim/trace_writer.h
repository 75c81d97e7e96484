/* Writes traces of drivers: pcap files of link type VSOCK whose payload is the drivers' byte streams. */
#ifndef SIM_TRACE_WRITER_H
#define SIM_TRACE_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_WHY_MAX 512 /* room for the texts that say what is wrong, NUL included */

struct trace_writer;

/* Creates or replaces the file. Returns NULL, with the reason in why, if it cannot. */
struct trace_writer *trace_writer_open(const char *path, char why[TRACE_WHY_MAX]);

/* A connection of stream number `stream` (from 0; it becomes a CID and port of its own) opens or closes.
 * `time` is in Unix nanoseconds, from 0. */
void trace_writer_connect(struct trace_writer *writer, uint32_t stream, int64_t time);
void trace_writer_disconnect(struct trace_writer *writer, uint32_t stream, int64_t time);

/* Bytes that the driver sends on it, usually one record. */
void trace_writer_put(struct trace_writer *writer, uint32_t stream, int64_t time, const uint8_t *data,
                      size_t len);

/* Closes the file. Returns false, with the reason in why, if not all of it could be written. */
bool trace_writer_close(struct trace_writer *writer, char why[TRACE_WHY_MAX]);

#endif
