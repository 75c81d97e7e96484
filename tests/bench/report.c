/* What came out: medians with minimum and maximum, as a table and as JSON. */
#include "tests/bench/report.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[MEASURES] = {
    "cpu_s_per_million", "deliveries_per_s", "ratio_to_limit", "p50_us",       "p99_us",
    "p99_to_limit",      "rss_mb",           "kib_per_vm",     "welcome_ms",   "longest_ms",
    "quiet_p50_us",      "quiet_p99_us",     "quiet_most_us",  "asked_p50_us", "asked_p99_us",
    "asked_most_us",     "reply_kib",        "reply_ms"
};

static void
add(struct row *row, enum measure measure, double value)
{
    struct samples *samples = &row->samples[measure];

    if (samples->count < REPORT_REPETITIONS)
        samples->all[samples->count++] = value;
}

void
report_flow(struct row *row, const struct run_result *result, const struct run_result *limit)
{
    add(row, CPU_S_PER_MILLION, result->cpu_per_million);
    add(row, DELIVERIES_PER_S, result->deliveries_per_s);
    add(row, RSS_MB, result->rss_mb);
    if (result->p50_us > 0) {
        add(row, P50_US, result->p50_us);
        add(row, P99_US, result->p99_us);
    }
    if (limit)
        add(row, RATIO_TO_LIMIT, result->cpu_per_million / limit->cpu_per_million);
    if (limit && limit->p99_us > 0)
        add(row, P99_TO_LIMIT, result->p99_us / limit->p99_us);
    row->event_bytes = result->event_bytes;
    row->lossless = row->lossless && result->lossless;
    row->lost += result->lost;
    row->reordered += result->reordered;
}

void
report_connect(struct row *row, const struct connect_result *result)
{
    add(row, RSS_MB, result->rss_mb);
    if (row->scenario->kind == SCENARIO_IDLE) {
        add(row, KIB_PER_VM, result->kib_per_vm);
    } else {
        add(row, WELCOME_MS, result->welcome_ms);
        add(row, LONGEST_MS, result->longest_ms);
    }
}

void
report_ask(struct row *row, const struct ask_result *result)
{
    add(row, RSS_MB, result->rss_mb);
    add(row, QUIET_P50_US, result->quiet.p50);
    add(row, QUIET_P99_US, result->quiet.p99);
    add(row, QUIET_MOST_US, result->quiet.most);
    add(row, ASKED_P50_US, result->asked.p50);
    add(row, ASKED_P99_US, result->asked.p99);
    add(row, ASKED_MOST_US, result->asked.most);
    add(row, REPLY_KIB, result->reply_kib);
    add(row, REPLY_MS, result->reply_ms);
}

/* ---- medians ---- */

static int
compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;

    return a < b ? -1 : a > b;
}

struct spread {
    double least, median, most;
};

static struct spread
spread_of(const struct row *row, enum measure measure)
{
    struct samples sorted = row->samples[measure];
    unsigned n = sorted.count;

    if (n == 0)
        return (struct spread){ 0, 0, 0 };
    qsort(sorted.all, n, sizeof(sorted.all[0]), compare);
    return (struct spread){ sorted.all[0], (sorted.all[(n - 1) / 2] + sorted.all[n / 2]) / 2,
                            sorted.all[n - 1] };
}

/* ---- the table ---- */

static void
put_cell(const struct row *row, enum measure measure, double unit, int digits, int width)
{
    struct spread spread = spread_of(row, measure);

    if (row->samples[measure].count == 0)
        printf("  %*s", width, "");
    else
        printf("  %*.*f", width, digits, spread.median / unit);
}

static void
put_range(const struct row *row, enum measure measure, int digits)
{
    struct spread spread = spread_of(row, measure);
    char text[64];

    snprintf(text, sizeof(text), "(%.*f to %.*f)", digits, spread.least, digits, spread.most);
    printf(" %-16s", row->samples[measure].count > 1 ? text : "");
}

static void
put_flow(const struct row *row)
{
    printf("  %-15s", row->system->name);
    if (row->samples[CPU_S_PER_MILLION].count == 0) {
        printf("  failed\n");
        return;
    }
    put_cell(row, CPU_S_PER_MILLION, 1, 3, 8);
    put_range(row, CPU_S_PER_MILLION, 3);
    put_cell(row, RATIO_TO_LIMIT, 1, 2, 6);
    put_range(row, RATIO_TO_LIMIT, 2);
    put_cell(row, DELIVERIES_PER_S, 1e6, 2, 7);
    put_cell(row, P50_US, 1, 0, 7);
    put_cell(row, P99_US, 1, 0, 8);
    put_cell(row, P99_TO_LIMIT, 1, 2, 6);
    put_cell(row, RSS_MB, 1, 1, 7);
    if (row->lossless)
        printf("  yes");
    else
        printf("  NO: %llu lost, %llu out of order", (unsigned long long)row->lost,
               (unsigned long long)row->reordered);
    printf(row->failed ? ", %u failed\n" : "\n", row->failed);
}

static void
put_connect(const struct row *row)
{
    struct spread memory = spread_of(row, KIB_PER_VM), time = spread_of(row, WELCOME_MS);
    struct spread longest = spread_of(row, LONGEST_MS);

    printf("  %-15s", row->system->name);
    if (row->samples[RSS_MB].count == 0)
        printf("  failed");
    else if (row->scenario->kind == SCENARIO_IDLE)
        printf("  %.2f KiB of resident memory for each (%.2f to %.2f)", memory.median, memory.least,
               memory.most);
    else
        printf("  all WELCOMEd after %.1f ms (%.1f to %.1f); longest wait for a PONG %.1f ms (%.1f to %.1f)",
               time.median, time.least, time.most, longest.median, longest.least, longest.most);
    printf("\n");
}

static void
put_ask(const struct row *row)
{
    static const struct {
        const char *name;
        enum measure p50, p99, most;
    } lines[] = { { "not asked", QUIET_P50_US, QUIET_P99_US, QUIET_MOST_US },
                  { "asked", ASKED_P50_US, ASKED_P99_US, ASKED_MOST_US } };
    struct spread size = spread_of(row, REPLY_KIB), time = spread_of(row, REPLY_MS);

    if (row->samples[RSS_MB].count == 0) {
        printf("  %-15s  failed\n", row->system->name);
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        struct spread p99 = spread_of(row, lines[i].p99);

        printf("  %-15s  %-9s  a PONG after p50 %.2f ms, p99 %.2f ms (%.2f to %.2f), max %.2f ms\n",
               i == 0 ? row->system->name : "", lines[i].name, spread_of(row, lines[i].p50).median / 1e3,
               p99.median / 1e3, p99.least / 1e3, p99.most / 1e3, spread_of(row, lines[i].most).most / 1e3);
    }
    printf("  %-15s  a reply of %.0f KiB takes %.0f ms (%.0f to %.0f)\n", "", size.median, time.median,
           time.least, time.most);
}

void
report_table(const struct row *rows, unsigned count)
{
    const struct scenario *last = NULL;

    for (unsigned i = 0; i < count; i++) {
        const struct row *row = &rows[i];

        if (row->scenario != last)
            printf("\n%s: %s", row->scenario->name, row->scenario->text);
        if (row->scenario != last && row->scenario->kind == SCENARIO_FLOW) {
            printf("; records of %.0f bytes\n", row->event_bytes);
            printf("  %-15s  %8s %-16s  %6s %-16s  %7s  %7s  %8s  %6s  %7s  %s\n", "system", "CPU s/M",
                   "(range)", "ratio", "(range)", "M/s", "p50 us", "p99 us", "ratio", "RSS MB", "lossless");
        } else if (row->scenario != last) {
            printf("\n");
        }
        last = row->scenario;
        if (row->scenario->kind == SCENARIO_FLOW)
            put_flow(row);
        else if (row->scenario->kind == SCENARIO_ASK)
            put_ask(row);
        else
            put_connect(row);
    }
}

/* ---- JSON ---- */

static json_t *
row_json(const struct row *row)
{
    json_t *object = json_object();
    const struct scenario *scenario = row->scenario;

    json_object_set_new(object, "scenario", json_string(scenario->name));
    json_object_set_new(object, "system", json_string(row->system->name));
    json_object_set_new(object, "text", json_string(scenario->text));
    json_object_set_new(object, "vms", json_integer(scenario->producers));
    json_object_set_new(object, "svms", json_integer(scenario->receivers));
    json_object_set_new(object, "event_bytes", json_real(row->event_bytes));
    json_object_set_new(object, "repetitions", json_integer(row->samples[RSS_MB].count));
    json_object_set_new(object, "failed", json_integer(row->failed));
    json_object_set_new(object, "lossless", json_boolean(row->lossless && row->failed == 0));
    for (unsigned i = 0; i < MEASURES; i++) {
        struct spread spread = spread_of(row, (enum measure)i);
        char name[64];

        if (row->samples[i].count == 0) {
            if (i <= P99_US || i == RSS_MB)
                json_object_set_new(object, names[i], json_null());
            continue;
        }
        json_object_set_new(object, names[i], json_real(spread.median));
        snprintf(name, sizeof(name), "%s_min", names[i]);
        json_object_set_new(object, name, json_real(spread.least));
        snprintf(name, sizeof(name), "%s_max", names[i]);
        json_object_set_new(object, name, json_real(spread.most));
    }
    return object;
}

bool
report_json(const struct row *rows, unsigned count, const char *path)
{
    json_t *list = json_array();
    bool good;

    for (unsigned i = 0; i < count; i++)
        json_array_append_new(list, row_json(&rows[i]));
    good = json_dump_file(list, path, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) == 0;
    json_decref(list);
    if (!good)
        fprintf(stderr, "bench: %s: cannot be written\n", path);
    return good;
}
