/* The client's own copy of its configuration. */
#ifndef GIMUX_CLIENT_CONFIG_H
#define GIMUX_CLIENT_CONFIG_H

#include <stdbool.h>

#include "client/context.h"

/* Copies all but `listen` into the client (zero-initialized). Returns false and says in error what is out of
 * bounds; gimux_config_free frees what was copied in either case. */
bool gimux_config_copy(struct gimux_client *client, const struct gimux_client_config *config,
                       char error[GIMUX_ERROR_MAX]);

void gimux_config_free(struct gimux_client *client);

#endif
