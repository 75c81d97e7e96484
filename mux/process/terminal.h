/* Leaving the terminal that gimuxd was started from. */
#ifndef GIMUX_PROCESS_TERMINAL_H
#define GIMUX_PROCESS_TERMINAL_H

/* Standard input, output and error are /dev/null from now on; they stay what they are if that cannot be
 * opened. */
void leave_terminal(void);

#endif
