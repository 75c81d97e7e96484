/* The system calls that the process may still make once everything is open. */
#ifndef GIMUX_PROCESS_SANDBOX_H
#define GIMUX_PROCESS_SANDBOX_H

/* From now on all threads can make only those system calls that the event loop and the storage thread need.
 * Execution of programs and the like ends the process; whatever else is not allowed fails with ENOSYS. If
 * there can be no such filter, a warning says why, and the process goes on as it is. */
void sandbox_filter(void);

#endif
