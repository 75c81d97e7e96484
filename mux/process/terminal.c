/* Leaving the terminal that gimuxd was started from. */
#include "mux/process/terminal.h"

#include <fcntl.h>
#include <unistd.h>

void
leave_terminal(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return;
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    close(null);
}
