/* How long deliveries of a sink take: from the arrival of a record to its frame being written.
 *
 * Not each is timed. Of a VM whose log has grown in a turn of the loop, the last entry is marked with the
 * time at which that turn began, and when the cursor passes the mark, the time since then is counted. While
 * there is a mark, what follows is not marked.
 *
 * A mark stays while the SVM is away: that it waited is part of the truth. What is not wanted has no frame:
 * if the cursor passes the mark and nothing is sent the mark is dropped; if frames go out with it, these
 * count. What is given up is dropped. Of a frame that the socket cut, the connection sends the rest: it
 * counts when that is gone; if the connection ends before, it does not count.
 *
 * What it costs: 7 of the 2,235 instructions of an event on the whole path (make instructions, with three
 * sinks; 16 if every turn were timed, and a look at the clock in each), and 8 bytes for each VM and slot, 128
 * a VM. What it gives: the histogram gimux_delivery_seconds, the one measure of how late an SVM hears of what
 * happened. */
#include "mux/net/loop.h"
#include "mux/route/inner.h"

#define SAMPLE_NS UINT64_C(1000000) /* at least between two turns that are timed */

void
sink_mark(struct sink *sink, struct vm *vm, uint64_t began)
{
    struct vm_turn *turn = &route_vm(vm)->turns[sink->slot];
    const struct vmlog *log = vm_log_of(vm);

    if (turn->marked != 0 || began == 0 || (began != sink->sampled && began - sink->sampled < SAMPLE_NS))
        return;
    if (vmlog_sent_number(log, sink->slot) == vmlog_end_number(log))
        return; /* it has passed all of it already */
    sink->sampled = began;
    turn->mark = (uint32_t)vmlog_end_number(log);
    turn->marked = began;
}

void
sink_unmark(struct sink *sink, struct vm *vm)
{
    route_vm(vm)->turns[sink->slot].marked = 0;
}

void
sink_settle_mark(struct sink *sink, struct vm_turn *turn, size_t bytes, bool cut, uint64_t *now)
{
    uint32_t sent = (uint32_t)vmlog_sent_number(vm_log_of(turn->vm), sink->slot);
    int32_t beyond = (int32_t)(sent - turn->mark); /* entries that the cursor is beyond the mark */

    if (turn->marked == 0 || beyond < 0)
        return;
    if (bytes > 0 && cut && beyond == 0) {
        sink->cut = turn->marked;
    } else if (bytes > 0) {
        if (*now == 0)
            *now = loop_now_ns();
        histogram_observe(&sink->delivery, *now - turn->marked);
    }
    turn->marked = 0;
}

void
sink_drained(struct sink *sink)
{
    if (sink->cut == 0)
        return;
    histogram_observe(&sink->delivery, loop_now_ns() - sink->cut);
    sink->cut = 0;
}
