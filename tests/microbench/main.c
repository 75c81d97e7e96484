/* Runs each step of the event path by itself over the events of some traces, and says what it costs, as JSON.
 * tests/microbench/run makes a table of that, and counts instructions with callgrind where the processor's
 * counters cannot be read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/microbench/counter.h"
#include "tests/microbench/step.h"

#define SAMPLES   15
#define SAMPLE_NS 5000000 /* of one sample, at least */

static const struct step *const steps[] = {
    &step_decode, &step_normalize, &step_pack, &step_append, &step_send, &step_whole,
};
#define STEPS (sizeof(steps) / sizeof(steps[0]))

struct cost {
    double ns[SAMPLES];
    double instructions; /* negative: not counted */
};

/* All that is counted happens under this function: callgrind is told its name. */
void __attribute__((noinline)) counted_run(const struct step *step);

void __attribute__((noinline)) counted_run(const struct step *step)
{
    step->run();
}

static void
prepare(const struct step *step)
{
    if (step->prepare)
        step->prepare();
}

static int
compare(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;

    return (left > right) - (left < right);
}

static void
measure(const struct step *step, double units, bool can_count, struct cost *cost)
{
    for (int i = 0; i < SAMPLES; i++) {
        uint64_t ns = 0;
        uint64_t instructions = 0;
        unsigned runs = 0;

        for (; ns < SAMPLE_NS; runs++) {
            uint64_t before;
            uint64_t counted;

            prepare(step);
            counted = can_count ? counter_instructions() : 0;
            before = counter_ns();
            counted_run(step);
            ns += counter_ns() - before;
            instructions += can_count ? counter_instructions() - counted : 0;
        }
        cost->ns[i] = (double)ns / runs / units;
        cost->instructions = can_count ? (double)instructions / runs / units : -1;
    }
    qsort(cost->ns, SAMPLES, sizeof(cost->ns[0]), compare);
}

static void
print(const struct step *step, double units, const struct cost *cost, bool last)
{
    printf(" {\"step\": \"%s\", \"what\": \"%s\", \"unit\": \"%s\", \"units\": %.0f, \"ns\": %.1f, "
           "\"ns_min\": %.1f, \"ns_max\": %.1f, \"instructions\": ",
           step->name, step->what, step->times > 1 ? "delivery" : "event", units, cost->ns[SAMPLES / 2],
           cost->ns[0], cost->ns[SAMPLES - 1]);
    if (cost->instructions < 0)
        printf("null");
    else
        printf("%.1f", cost->instructions);
    printf("}%s\n", last ? "" : ",");
}

int
main(int argc, char **argv)
{
    bool count_only = argc > 1 && strcmp(argv[1], "--count") == 0;
    bool can_count = !count_only && counter_open();
    int first = count_only ? 2 : 1;
    struct mix mix;

    if (argc <= first) {
        fprintf(stderr, "usage: microbench [--count] TRACE...\n"
                        "  --count  run each step once, for callgrind, and print no times\n");
        return 2;
    }
    mix_read(&mix, argv + first, argc - first);
    printf("[\n");
    for (size_t i = 0; i < STEPS; i++) {
        const struct step *step = steps[i];
        double units = (double)mix.count * step->times;
        struct cost cost = { .instructions = -1 };

        step->open(&mix);
        prepare(step);
        step->run(); /* so that libraries are bound, and chunks and caches are there */
        if (count_only) {
            prepare(step);
            counted_run(step);
        } else {
            measure(step, units, can_count, &cost);
        }
        print(step, units, &cost, i + 1 == STEPS);
        step->close();
    }
    printf("]\n");
    mix_free(&mix);
    return 0;
}
