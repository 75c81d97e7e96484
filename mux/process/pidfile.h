/* The pid file: which process is gimuxd, and a lock that says that it still is. */
#ifndef GIMUX_PROCESS_PIDFILE_H
#define GIMUX_PROCESS_PIDFILE_H

#include <stdbool.h>

/* Opens and locks the file, empties it, and returns the descriptor that holds the lock: as long as any
 * process has it, nobody else gets the file. Waits up to wait_ms for one that is just ending. -1, having
 * logged why, if somebody else keeps it or it cannot be opened. */
int pidfile_lock(const char *path, unsigned wait_ms);

/* Writes this process's id. False, having logged why, if that cannot be. */
bool pidfile_write(const char *path);

/* Says how the last upgrade went, in a file beside the pid file (its name and ".upgrade"), for scripts that
 * wait for it. */
void pidfile_tell_upgrade(const char *path, bool good);

/* Removes both. */
void pidfile_remove(const char *path);

#endif
