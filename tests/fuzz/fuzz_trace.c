/* Fuzzes the trace reader: any file gives a trace or a reason, and every record kept can be decoded. */
#include "thinagent-sim/trace/trace.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char why[TRACE_WHY_MAX];
    struct trace *trace = trace_read_memory(data, size, why);

    for (size_t i = 0; trace && i < trace->count; i++) {
        const struct trace_stream *stream = trace->streams[i];

        if (stream->count == 0 || stream->records[0].type != GR_HELLO)
            abort();
        for (size_t j = 0; j < stream->count; j++) {
            struct gr_record record;

            trace_record_decode(stream, j, &record);
        }
    }
    trace_free(trace);
    return 0;
}
