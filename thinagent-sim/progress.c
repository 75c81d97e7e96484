/* The progress line on a terminal: how much is sent and acknowledged, and how fast. */
#include "thinagent-sim/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "thinagent-sim/clock.h"
#include "thinagent-sim/memory.h"

#define BAR_WIDTH 30

struct progress {
    uint64_t sent;
    uint64_t acked;
    uint64_t shown_acked; /* at the last showing, */
    int64_t shown_at;     /* and when that was, clock_ns */
};

struct progress *
progress_new(void)
{
    struct progress *progress;

    if (!isatty(STDERR_FILENO))
        return NULL;
    progress = must_calloc(1, sizeof(*progress));
    progress->shown_at = clock_ns(CLOCK_MONOTONIC);
    return progress;
}

void
progress_add(struct progress *progress, const struct agent_counters *counters)
{
    progress->sent += counters->sent;
    progress->acked += counters->acked;
}

void
progress_show(struct progress *progress)
{
    int64_t now = clock_ns(CLOCK_MONOTONIC);
    double rate =
        (double)(progress->acked - progress->shown_acked) * SECOND / (double)(now - progress->shown_at);
    int filled = progress->sent > 0 ? (int)(BAR_WIDTH * progress->acked / progress->sent) : 0;

    fprintf(stderr, "\r[%-*.*s] %" PRIu64 " of %" PRIu64 " acknowledged, %.0f/s\033[K", BAR_WIDTH, filled,
            "##############################", progress->acked, progress->sent, rate);
    progress->shown_acked = progress->acked;
    progress->shown_at = now;
    progress->sent = 0;
    progress->acked = 0;
}

void
progress_end(struct progress *progress)
{
    if (progress)
        fputs("\r\033[K", stderr);
    free(progress);
}
