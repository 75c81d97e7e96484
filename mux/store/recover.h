/* Recovery: at start, the VM logs that files hold are taken up. */
#ifndef GIMUX_STORE_RECOVER_H
#define GIMUX_STORE_RECOVER_H

#include <stdbool.h>

#include "mux/store/store.h"
#include "mux/vmlog/vm.h"

/* Reads every segment in the store's directory: VMs, their streams, and stubs of what they hold go into the
 * table; store_saved and store_was_damaged say from then on how far solutions were. Torn tails are cut off,
 * damage is said in the log, and files that belong to nothing are named there and left alone. Waits for the
 * disk. Returns false if the directory cannot be read, or memory is out. The caller
 * lifts the table's limit meanwhile: what was accepted is told, also of VMs beyond it. */
bool recover_logs(struct store *store, struct vm_table *table);

#endif
