/* The system calls that the process may still make once everything is open. */
#ifndef GIMUX_PROCESS_SANDBOX_H
#define GIMUX_PROCESS_SANDBOX_H

/* From now on all threads can make only those system calls that the event loop and the storage thread need.
 * Execution of programs and the like end the process; what else is not allowed fails with ENOSYS. If the
 * system has no such filter, says so and goes on without. */
void sandbox_filter(void);

#endif
