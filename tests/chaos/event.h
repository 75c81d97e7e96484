/* The content of the events that chaos makes: it follows from who made it and its sequence alone, so that the
 * SVM's side can tell what should have come. */
#ifndef GIMUX_CHAOS_EVENT_H
#define GIMUX_CHAOS_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/gimux_client.h"
#include "proto/guest_record.h"

#define EVENT_RECORD_MAX 100000 /* bytes of the largest record that event_write makes */

/* Prefixes that an SVM may mute; what starts so is about one file event in five. */
#define EVENT_MUTED_LINUX   "/muted/"
#define EVENT_MUTED_WINDOWS "C:\\Muted\\"

struct event_id {
    uint32_t vm;     /* its index */
    uint32_t boot;   /* counts the VM's boots */
    uint16_t driver; /* enum gr_driver */
    uint64_t sequence;
};

void event_vm_uuid(uint32_t vm, uint8_t out[GR_UUID_SIZE]);
void event_boot_id(uint32_t vm, uint32_t boot, uint8_t out[GR_UUID_SIZE]);

/* The way back from written UUIDs. False if they are not of this program. */
bool event_parse_ids(const char *vm_uuid, const char *boot_id, uint32_t *vm, uint32_t *boot);

/* Writes the record of that event. Returns its size in bytes. */
size_t event_write(const struct event_id *id, uint8_t *buf, size_t cap);

/* Writes the VOLUMES record of a Windows driver. */
size_t event_write_volumes(uint8_t *buf, size_t cap);

/* Whether an SVM that mutes the two prefixes above does not get it. */
bool event_is_muted(const struct event_id *id);

/* Whether what came is that event. Returns NULL, or what is wrong. */
const char *event_check(const struct event_id *id, const struct gimux_event *event);

#endif
