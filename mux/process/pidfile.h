/* The pid file: which process is gimuxd, and a lock that says that it still is. */
#ifndef GIMUX_PROCESS_PIDFILE_H
#define GIMUX_PROCESS_PIDFILE_H

#include <stdbool.h>

/* Opens and locks the file, empties it, and returns the descriptor that holds the lock: as long as any
 * process has that open, nobody else gets the file. Waits up to wait_ms for a process that is just ending.
 * -1, having logged why, if another one keeps the lock or the file cannot be opened. */
int pidfile_lock(const char *path, unsigned wait_ms);

/* Writes this process's id into it. False, having logged why, if that fails. */
bool pidfile_write(const char *path);

/* Says how the last upgrade went, "done" or "failed", in a file beside the pid file (its name and
 * ".upgrade"), for scripts that wait for it. Logs it if that fails. */
void pidfile_tell_upgrade(const char *path, bool good);

/* Removes both files. */
void pidfile_remove(const char *path);

#endif
