/* The content of the events that chaos makes: it follows from who made it and its sequence alone, so that the
 * SVM's side can tell what should have come. */
#include "tests/chaos/event.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/chaos/chance.h"

#define VM_FORMAT   "c4a05c4a-0000-4000-8000-%012x"
#define BOOT_FORMAT "b0070000-0000-4000-8000-%04x%08x"
#define PATH_MAX_   32000u
#define DEVICE      "\\Device\\HarddiskVolume2"

void
event_vm_uuid(uint32_t vm, uint8_t out[GR_UUID_SIZE])
{
    char text[GR_UUID_TEXT];

    snprintf(text, sizeof(text), VM_FORMAT, vm);
    gr_uuid_parse(text, out);
}

void
event_boot_id(uint32_t vm, uint32_t boot, uint8_t out[GR_UUID_SIZE])
{
    char text[GR_UUID_TEXT];

    snprintf(text, sizeof(text), BOOT_FORMAT, vm & 0xffff, boot);
    gr_uuid_parse(text, out);
}

bool
event_parse_ids(const char *vm_uuid, const char *boot_id, uint32_t *vm, uint32_t *boot)
{
    char text[GR_UUID_TEXT];

    *vm = (uint32_t)strtoul(vm_uuid + strlen(vm_uuid) - 8, NULL, 16);
    snprintf(text, sizeof(text), VM_FORMAT, *vm);
    if (strcmp(text, vm_uuid) != 0)
        return false;
    *boot = (uint32_t)strtoul(boot_id + strlen(boot_id) - 8, NULL, 16);
    snprintf(text, sizeof(text), BOOT_FORMAT, *vm & 0xffff, *boot);
    return strcmp(text, boot_id) == 0;
}

static uint64_t
hash_of(const struct event_id *id)
{
    return chance_hash(((uint64_t)id->vm << 48) ^ ((uint64_t)id->boot << 16) ^ id->driver, id->sequence);
}

bool
event_is_muted(const struct event_id *id)
{
    return id->driver != GR_VNETWFP && hash_of(id) % 5 == 0;
}

/* Most paths are short, one in 64 is of some thousand bytes, one in 2048 about as long as they get. */
static size_t
padding_of(uint64_t hash)
{
    uint64_t length = hash >> 32;

    return (hash >> 8) % 2048 == 0 ? 20000 + length % 10000
           : (hash >> 8) % 64 == 0 ? length % 4000
                                   : length % 60;
}

/* The path as the SVM sees it; for a driver of Windows without "C:". */
static size_t
write_path(const struct event_id *id, char out[PATH_MAX_])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    bool windows = gr_driver_is_windows(id->driver);
    char slash = windows ? '\\' : '/';
    uint64_t hash = hash_of(id);
    size_t padding = padding_of(hash);
    int len = snprintf(out, PATH_MAX_, "%c%s%cv%u%cd%u%cb%u%c%llu%c%016llx.", slash,
                       !event_is_muted(id) ? "chaos"
                       : windows           ? "Muted"
                                           : "muted",
                       slash, id->vm, slash, id->driver, slash, id->boot, slash,
                       (unsigned long long)id->sequence, slash, (unsigned long long)hash);

    assert(len > 0 && (size_t)len + padding < PATH_MAX_);
    for (size_t i = 0; i < padding; i++)
        out[(size_t)len + i] = letters[(hash + i) % (sizeof(letters) - 1)];
    return (size_t)len + padding;
}

static struct gr_text
utf16(const char *prefix, const char *text, size_t len, uint8_t *buf)
{
    size_t at = 0;

    for (; *prefix; prefix++, at += 2)
        buf[at] = (uint8_t)*prefix, buf[at + 1] = 0;
    for (size_t i = 0; i < len; i++, at += 2)
        buf[at] = (uint8_t)text[i], buf[at + 1] = 0;
    return (struct gr_text){ buf, (uint32_t)at };
}

size_t
event_write(const struct event_id *id, uint8_t *buf, size_t cap)
{
    static char path[PATH_MAX_];
    static uint8_t wide[2 * PATH_MAX_ + 128];
    struct gr_record record = { .sequence = id->sequence, .time = id->sequence + 1 };
    size_t len;

    if (id->driver == GR_VNETWFP) {
        record.type = GR_NET;
        record.body.net.op = GR_NET_OP_ESTABLISHED;
        record.body.net.protocol = 6;
        record.body.net.direction = GR_OUTBOUND;
        record.body.net.family = 4;
        record.body.net.pid = id->vm + 1;
        record.body.net.flow_id = hash_of(id);
        record.body.net.bytes_out = id->sequence;
    } else {
        len = write_path(id, path);
        record.type = GR_FILE;
        record.body.file.op = GR_FILE_OP_OPEN;
        record.body.file.result = GR_OPENED;
        record.body.file.pid = id->vm + 1;
        record.body.file.size = id->sequence;
        record.body.file.path = gr_driver_is_windows(id->driver)
                                    ? utf16(DEVICE, path, len, wide)
                                    : (struct gr_text){ (const uint8_t *)path, (uint32_t)len };
    }
    return gr_encode(&record, buf, cap);
}

size_t
event_write_volumes(uint8_t *buf, size_t cap)
{
    uint8_t name[64];
    uint8_t entries[128];
    size_t len = 0;
    struct gr_record record = { .type = GR_VOLUMES };
    struct gr_volume volume = { 'C', utf16(DEVICE, "", 0, name) };

    gr_volume_put(entries, sizeof(entries), &len, &volume);
    record.body.volumes.count = 1;
    record.body.volumes.entries = (struct gr_text){ entries, (uint32_t)len };
    return gr_encode(&record, buf, cap);
}

const char *
event_check(const struct event_id *id, const struct gimux_event *event)
{
    static char path[PATH_MAX_];
    size_t len;
    size_t drive = gr_driver_is_windows(id->driver) ? 2 : 0;

    if (!event->actor || event->actor->pid != id->vm + 1)
        return "another actor";
    if (id->driver == GR_VNETWFP)
        return event->network && event->network->flow_id == hash_of(id) &&
                       event->network->bytes_out == id->sequence
                   ? NULL
                   : "another network event";
    if (!event->file || event->file->size != id->sequence)
        return "another file event";
    len = write_path(id, path);
    if (strlen(event->file->path) != len + drive || memcmp(event->file->path, "C:", drive) != 0 ||
        memcmp(event->file->path + drive, path, len) != 0)
        return "another path";
    return NULL;
}
