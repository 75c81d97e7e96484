/* The store: VM logs in files. Writes what was appended and how far solutions are, says when it is safe,
 * reads back what left memory, and removes what nobody needs.
 *
 * The theory stands at the top of store.c; the format of the files is segment.h. All of it runs in the loop's
 * thread and never waits for a disk: reading and writing are jobs of the disk thread. */
#ifndef GIMUX_STORE_STORE_H
#define GIMUX_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "mux/base/conf.h"
#include "mux/net/loop.h"
#include "mux/store/segment.h"
#include "mux/vmlog/vm.h"

#define STORE_WHY_MAX 512

struct store;

/* What the store asks and tells; given from above. */
struct store_ops {
    /* The name of the solution in a slot, or NULL. */
    const char *(*solution)(void *arg, unsigned sink);
    /* More of the VM's log is recorded, or a stub was loaded, or a sink may load more. */
    void (*moved)(void *arg, struct vm *vm);
};

/* Opens the directory, making it if it is not there, and locks it: one gimuxd at a time. `held`: another one
 * has it, so it is not locked, and files are only read until store_thaw. `conf` and `pool` must stay. Returns
 * NULL with a reason in why (STORE_WHY_MAX bytes). */
struct store *store_new(struct loop *loop, const struct conf *conf, struct vmlog_pool *pool,
                        const struct store_ops *ops, void *arg, bool held, char *why);

/* Closes, after store_finish, when all VMs have left. NULL is fine. */
void store_free(struct store *store);

/* New bounds. The directory stays. */
void store_set_conf(struct store *store, const struct conf *conf);

/* Whether a solution of the configuration relies on files, and so all logs are written to them. */
bool store_is_needed(const struct conf *conf);

/* Something of the VM's log or positions has changed: it is written soon, if it is not settled before. */
void store_touch(struct store *store, struct vm *vm);

/* Writes what is due, if nothing is being written. */
void store_flush(struct store *store);

/* Writes everything, positions too, and waits for it, as far as it can be written: for the end. Nothing is
 * done while files are frozen. */
void store_finish(struct store *store);

/* Leaving, for an upgrade: as store_finish, but nothing waits. From now on everything is due, positions too,
 * until store_stay. Call store_try_to_leave now and then: it tries again what failed, and returns true once
 * nothing more can be written and no write is under way. The caller sees from the recorded numbers of the
 * logs whether all is in files: a disk that fails, or a bound, may have been in the way. Reading goes on,
 * which changes no file. */
void store_begin_leave(struct store *store);
bool store_try_to_leave(struct store *store);

/* Back to normal, after store_begin_leave, store_freeze or both. */
void store_stay(struct store *store);

/* From now on files stay as they are, whatever becomes of the logs; the lock on the directory stays, too.
 * store_thaw: writing goes on with what is touched from then on; a store that was held takes the lock, for
 * which it waits some seconds, and cuts off the torn tails that it has found. */
void store_freeze(struct store *store);
void store_thaw(struct store *store);

/* Gives the lock up, for another process that opens the directory itself; until store_thaw. */
void store_unlock(struct store *store);

/* Whether `path` can be storage.dir, for --check; nothing is made. False, with a line in `why` (STORE_WHY_MAX
 * bytes), if not; the line also says if the directory does not exist but can be made, else it is empty. */
bool store_check_dir(const char *path, char *why);

/* Reads the stub that the sink waits for. Returns false if it may not load more now: `moved` comes when it
 * may. */
bool store_load(struct store *store, struct vm *vm, struct vmlog_chunk *stub, unsigned sink);

/* The VM is about to be forgotten: its files are removed, when the disk comes to it. */
void store_forget(struct vm *vm);

/* The same at the end of the process: its files stay. After store_finish. */
void store_leave(struct vm *vm);

/* ---- what files said when they were taken up ---- */

/* How far the solution was in the stream; with stream NULL the result says only whether there is a position
 * of it in any stream of the VM. NULL: nothing is known. Valid until store_clear_saved. */
const struct vmlog_saved *store_saved(const struct vm *vm, const struct stream *stream, const char *solution);

/* Whether the VM's files were damaged: nobody knows then who else was there. */
bool store_was_damaged(const struct vm *vm);

/* All solutions have joined: forgets the saved positions, as store_forget and store_leave do too. */
void store_clear_saved(struct vm *vm);

/* ---- bounds and figures ---- */

/* Bytes of loaded chunks that each sink may have in memory: a part of limits.memory that appending leaves
 * free. A single chunk may be larger. */
#define STORE_LOAD_MAX ((size_t)4 * 1024 * 1024)
size_t store_load_share(const struct conf *conf);

/* Bytes that the store itself takes at most: buffers, and stubs for all that may be in files. */
uint64_t store_memory_bound(const struct conf *conf);

/* Bytes of one VM's files. */
uint64_t store_vm_bytes(const struct vm *vm);

/* What operators see of all of it. */
struct storage_snapshot {
    uint64_t bytes;    /* of files */
    uint64_t segments; /* files */
    uint64_t waiting;  /* VMs that have something to write */
    bool failing;      /* the last write failed */
    bool full;         /* a bound stands in the way of some VM */
};

void store_snapshot(const struct store *store, struct storage_snapshot *out);

/* Whether recorded means: on the disk. */
bool store_syncs(const struct store *store);

#endif
