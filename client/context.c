/* What one client holds, shared by all parts of the library: its clock, its log, its alarm. */
#include "client/context.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <time.h>

int64_t
gimux_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void
gimux_log(struct gimux_client *client, enum gimux_level level, const char *format, ...)
{
    char text[GIMUX_ERROR_MAX + ADDRESS_TEXT_MAX];
    va_list args;

    if (!client->callbacks.on_log)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    client->callbacks.on_log(client->user, level, text);
}

void
gimux_wake_at(struct gimux_client *client, int64_t at)
{
    struct itimerspec when = { 0 };

    if (at >= client->timer_at)
        return;
    client->timer_at = at;
    when.it_value.tv_sec = at / 1000;
    when.it_value.tv_nsec = at % 1000 * 1000000 + 1; /* all zero would stop the timer */
    timerfd_settime(client->timer, TFD_TIMER_ABSTIME, &when, NULL);
}
