/* Floods: names the VMs that send far more than the others, from what was counted since the last look. */
#include "mux/route/inner.h"

#include <assert.h>
#include <stdlib.h>

#include "mux/base/log.h"

#define BYTES_OF_RECORD 1024 /* that make as much of a flood as one record */

enum measure { RECORDS, BYTES, MEASURES };

/* Of one VM, a second. */
struct rate {
    uint64_t of[MEASURES];
};

/* What the VMs are compared with. */
struct common {
    struct rate median; /* of those that have sent anything, but the one that sent most */
    unsigned active;    /* that have sent anything */
    unsigned factor;
    uint64_t floor[MEASURES];
};

static bool
has_sent(const struct vm *vm)
{
    return route_vm(vm)->traffic.records > route_vm(vm)->traffic.seen_records;
}

static struct rate
rate_of(const struct vm *vm, uint64_t ms)
{
    const struct vm_traffic *traffic = &route_vm(vm)->traffic;

    return (struct rate){ { (traffic->records - traffic->seen_records) * 1000 / ms,
                            (traffic->bytes - traffic->seen_bytes) * 1000 / ms } };
}

static int
compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

/* The lower median of all values but the greatest; 0 if there are no such. Of the values above it, it is the
 * median of the others; and those below it are no flood. */
static uint64_t
median(uint64_t *values, unsigned count)
{
    if (count < 2)
        return 0;
    qsort(values, count, sizeof(*values), compare);
    return values[(count - 2) / 2];
}

/* Returns false if there is no memory to find it out. */
static bool
find_common(const struct vm_table *table, const struct conf_limits *limits, uint64_t ms,
            struct common *common)
{
    uint64_t *values = malloc((vm_table_count(table) + 1) * sizeof(*values));

    if (!values)
        return false;
    *common = (struct common){ .factor = limits->flood_factor,
                               .floor = { limits->flood_records,
                                          limits->flood_records * (uint64_t)BYTES_OF_RECORD } };
    for (int measure = 0; measure < MEASURES; measure++) {
        common->active = 0;
        for (const struct vm *vm = NULL; (vm = vm_next(table, vm));)
            if (has_sent(vm))
                values[common->active++] = rate_of(vm, ms).of[measure];
        common->median.of[measure] = median(values, common->active);
    }
    free(values);
    return true;
}

/* Whether a rate, times `times`, is that of a flood. */
static bool
is_flood(const struct rate *rate, const struct common *common, unsigned times)
{
    for (int measure = 0; measure < MEASURES; measure++)
        if (common->floor[measure] > 0 && rate->of[measure] * times >= common->floor[measure] &&
            rate->of[measure] * times >= common->factor * common->median.of[measure])
            return true;
    return false;
}

static void
judge(struct vm *vm, const struct rate *rate, const struct common *common, bool alone)
{
    struct log_who about = { .vm = vm_uuid_text(vm) };
    bool was = route_vm(vm)->traffic.flooding;
    bool is = !alone && is_flood(rate, common, was ? 2 : 1);

    if (is == was)
        return;
    route_vm(vm)->traffic.flooding = is;
    log_line(is ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, &about,
             "%s: %llu records/s and %llu bytes/s, the median of %u other VMs is %llu and %llu",
             is ? "flooding" : "no longer flooding", (unsigned long long)rate->of[RECORDS],
             (unsigned long long)rate->of[BYTES], common->active > 0 ? common->active - has_sent(vm) : 0,
             (unsigned long long)common->median.of[RECORDS], (unsigned long long)common->median.of[BYTES]);
}

void
flood_look(const struct vm_table *table, const struct conf_limits *limits, uint64_t ms)
{
    struct common common;

    assert(ms > 0);
    if (!find_common(table, limits, ms, &common))
        return;
    for (struct vm *vm = NULL; (vm = vm_next(table, vm));) {
        struct route_vm *at = route_vm(vm);
        struct rate rate = rate_of(vm, ms);

        if (!at->paused)
            judge(vm, &rate, &common, vm_table_count(table) == 1);
        at->traffic.seen_records = at->traffic.records;
        at->traffic.seen_bytes = at->traffic.bytes;
    }
}
