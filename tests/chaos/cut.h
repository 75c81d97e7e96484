/* A power cut: puts the files that powercut.so has watched into a state that a loss of power may leave.
 * gimuxd must be dead. */
#ifndef GIMUX_CHAOS_CUT_H
#define GIMUX_CHAOS_CUT_H

#include <stdbool.h>
#include <stdint.h>

struct cut_counts {
    uint64_t kept, dropped, torn; /* writes since the last fsync of their file */
    uint64_t names;               /* creations, removals and renames that were taken back */
};

/* Empties the journal in the directory `side`, or makes it. What is in the watched directory now is on the
 * disk. False with a message if that fails. */
bool cut_begin(const char *side);

/* Takes back at random what was done to the files of `dir` and is not on the disk, and adds to *counts. */
void cut_apply(const char *dir, const char *side, struct cut_counts *counts);

#endif
