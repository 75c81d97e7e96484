/* The client's own copy of its configuration. */
#include "client/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUBSCRIPTION_MAX ((size_t)128 << 10) /* bytes of its encoded form */

static void
free_texts(char **texts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(texts[i]);
    free(texts);
}

/* Copies a list of texts. An empty one is NULL. Returns false if memory ran out. */
static bool
copy_texts(char ***out, size_t *out_count, const char *const *texts, size_t count)
{
    char **copy = calloc(count + 1, sizeof(*copy));

    if (!copy)
        return false;
    for (size_t i = 0; i < count; i++) {
        copy[i] = strdup(texts[i]);
        if (!copy[i]) {
            free_texts(copy, i);
            return false;
        }
    }
    *out = copy;
    *out_count = count;
    return true;
}

static bool
copy_text(char **out, const char *text)
{
    *out = text ? strdup(text) : NULL;
    return *out || !text;
}

static bool
copy_subscription(Gimux__V1__Subscription *out, const struct gimux_client_config *config)
{
    out->class_uids = calloc(config->class_uid_count + 1, sizeof(*out->class_uids));
    if (!out->class_uids)
        return false;
    if (config->class_uid_count > 0)
        memcpy(out->class_uids, config->class_uids, config->class_uid_count * sizeof(*out->class_uids));
    out->n_class_uids = config->class_uid_count;
    return copy_texts(&out->vm_uuids, &out->n_vm_uuids, config->vm_uuids, config->vm_uuid_count) &&
           copy_texts(&out->muted_path_prefixes, &out->n_muted_path_prefixes, config->muted_path_prefixes,
                      config->muted_path_prefix_count);
}

static bool
check(const struct gimux_client *client, const struct gimux_client_config *config,
      char error[GIMUX_ERROR_MAX])
{
    size_t size = gimux__v1__subscription__get_packed_size(&client->subscription);

    for (size_t i = 0; i < config->vm_uuid_count; i++) {
        if (!gimux_position_is_uuid(config->vm_uuids[i])) {
            snprintf(error, GIMUX_ERROR_MAX, "VM %.64s: expected a UUID in lower-case 8-4-4-4-12 form",
                     config->vm_uuids[i]);
            return false;
        }
    }
    if (size > SUBSCRIPTION_MAX)
        snprintf(error, GIMUX_ERROR_MAX, "the subscription takes %zu bytes: expected at most %zu", size,
                 SUBSCRIPTION_MAX);
    else if (config->vm_uuid_count > GIMUX_VMS_MAX)
        snprintf(error, GIMUX_ERROR_MAX, "%zu VMs in the subscription: expected at most %d",
                 config->vm_uuid_count, GIMUX_VMS_MAX);
    else if (config->stream_max > GIMUX_STREAMS_MAX)
        snprintf(error, GIMUX_ERROR_MAX, "stream_max is %zu: expected at most %d", config->stream_max,
                 GIMUX_STREAMS_MAX);
    else if (config->name && strlen(config->name) >= sizeof(client->name))
        snprintf(error, GIMUX_ERROR_MAX, "the name is longer than %zu bytes", sizeof(client->name) - 1);
    else
        return true;
    return false;
}

bool
gimux_config_copy(struct gimux_client *client, const struct gimux_client_config *config,
                  char error[GIMUX_ERROR_MAX])
{
    gimux__v1__subscription__init(&client->subscription);
    if (config->callbacks)
        client->callbacks = *config->callbacks;
    client->user = config->user;
    client->explicit_ack = config->explicit_ack;
    client->positions.max = config->stream_max ? config->stream_max : GIMUX_STREAMS_MAX;
    if (!copy_text(&client->cert_file, config->cert_file) ||
        !copy_text(&client->key_file, config->key_file) || !copy_text(&client->ca_file, config->ca_file) ||
        !copy_text(&client->crl_file, config->crl_file) ||
        !copy_texts(&client->peer_names, &client->peer_name_count, config->peer_names,
                    config->peer_name_count) ||
        !copy_subscription(&client->subscription, config)) {
        snprintf(error, GIMUX_ERROR_MAX, "out of memory");
        return false;
    }
    if (!check(client, config, error))
        return false;
    snprintf(client->name, sizeof(client->name), "%s", config->name ? config->name : "");
    return true;
}

void
gimux_config_free(struct gimux_client *client)
{
    free(client->cert_file);
    free(client->key_file);
    free(client->ca_file);
    free(client->crl_file);
    free_texts(client->peer_names, client->peer_name_count);
    free(client->subscription.class_uids);
    free_texts(client->subscription.vm_uuids, client->subscription.n_vm_uuids);
    free_texts(client->subscription.muted_path_prefixes, client->subscription.n_muted_path_prefixes);
}
