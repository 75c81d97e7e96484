/* Leaving the terminal that gimuxd was started from. */
#ifndef GIMUX_PROCESS_TERMINAL_H
#define GIMUX_PROCESS_TERMINAL_H

/* Standard input, output and error lead nowhere from now on. */
void leave_terminal(void);

#endif
