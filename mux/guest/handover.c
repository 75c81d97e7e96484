/* Guest sessions that one gimuxd hands to another: the driver, at the other end of the connection, does not
 * notice. */
#include <stdlib.h>
#include <string.h>

#include "mux/base/log.h"
#include "mux/guest/inner.h"

static void
export_volumes(const struct volume_map *map, Gimux__Handover__V1__Guest *to)
{
    for (uint32_t i = 0; map && i < map->count; i++) {
        Gimux__Handover__V1__Volume *volume = handover_alloc(sizeof(*volume));

        gimux__handover__v1__volume__init(volume);
        volume->letter = (unsigned char)map->volumes[i].letter;
        volume->device = handover_text(map->volumes[i].device);
        handover_grow((void ***)&to->volumes, &to->n_volumes, volume);
    }
}

static Gimux__Handover__V1__Door *
export_door(const struct guest_door *door)
{
    Gimux__Handover__V1__Door *to = handover_alloc(sizeof(*to));

    gimux__handover__v1__door__init(to);
    to->name = handover_text(door->name);
    to->proved = door->proved;
    to->vm_uuid = handover_bytes(door->vm_uuid, GR_UUID_SIZE);
    to->unknown = door->unknown;
    to->vmx = door->vmx;
    to->cid = door->cid;
    return to;
}

static Gimux__Handover__V1__Guest *
export_guest(const struct guest *guest, const struct conn_rest *rest)
{
    Gimux__Handover__V1__Guest *to = handover_alloc(sizeof(*to));

    gimux__handover__v1__guest__init(to);
    to->door = export_door(&guest->door);
    if (guest->stream) {
        to->vm_uuid = handover_bytes(guest->stream->vm->uuid, GR_UUID_SIZE);
        to->driver = guest->stream->driver;
        to->boot_id = handover_bytes(guest->stream->boot_id, GR_UUID_SIZE);
    }
    to->acked = guest->acked;
    to->silent = guest->state == GUEST_SILENT;
    to->spoken = guest->spoken;
    to->heard = guest->heard;
    to->spoke = guest->spoke;
    export_volumes(guest->volumes, to);
    to->input = handover_bytes(rest->in, rest->in_len);
    to->output = handover_bytes(rest->out, rest->out_len);
    if (guest->gone)
        to->dialled = handover_text(guest->door.name);
    return to;
}

void
guest_list_export(const struct guest_list *list, Gimux__Handover__V1__Handover *message,
                  struct handover_files *files)
{
    const struct guest *guest;

    LIST_FOREACH (guest, &list->guests, in_list) {
        struct conn_rest rest;
        Gimux__Handover__V1__Guest *to;

        if (guest->state == GUEST_CLOSED || !conn_export(guest->conn, &rest))
            continue;
        to = export_guest(guest, &rest);
        to->descriptor = handover_add(files, conn_fd(guest->conn));
        handover_grow((void ***)&message->guests, &message->n_guests, to);
    }
}

static bool
import_door(const Gimux__Handover__V1__Door *from, struct guest_door *door)
{
    if (!from || from->vm_uuid.len != GR_UUID_SIZE || strlen(from->name) >= sizeof(door->name))
        return false;
    strcpy(door->name, from->name);
    door->proved = from->proved;
    memcpy(door->vm_uuid, from->vm_uuid.data, GR_UUID_SIZE);
    door->unknown = from->unknown;
    door->vmx = from->vmx;
    door->cid = from->cid;
    return true;
}

static bool
import_volumes(struct guest *guest, const Gimux__Handover__V1__Guest *from)
{
    struct volume_map *map = from->n_volumes > 0 ? calloc(1, sizeof(*map)) : NULL;

    for (size_t i = 0; map && i < from->n_volumes && i < VOLUME_MAX; i++) {
        struct volume *volume = &map->volumes[map->count];
        size_t len = strlen(from->volumes[i]->device);

        if (len < 2 || len >= VOLUME_DEVICE_MAX)
            continue;
        volume->letter = (char)from->volumes[i]->letter;
        strcpy(volume->device, from->volumes[i]->device);
        volume->device_len = (uint32_t)len;
        map->count++;
    }
    guest->volumes = map;
    return map || from->n_volumes == 0;
}

/* Finds the stream and takes it, as route_open does, but tells nobody. */
static bool
import_stream(struct guest *guest, const Gimux__Handover__V1__Guest *from)
{
    const struct vm *vm;
    struct stream *stream;

    if (from->vm_uuid.len == 0)
        return true;
    if (from->vm_uuid.len != GR_UUID_SIZE || from->boot_id.len != GR_UUID_SIZE)
        return false;
    vm = vm_find(&guest->list->route->table, from->vm_uuid.data);
    stream = vm ? vm_stream_find(vm, (uint16_t)from->driver, from->boot_id.data) : NULL;
    if (!stream || stream->guest)
        return false;
    guest->stream = stream;
    guest->acked = from->acked;
    guest->state = from->silent ? GUEST_SILENT : GUEST_ACTIVE;
    stream->guest = guest;
    stream->silent = from->silent;
    stream->ended = false;
    stream->vm->connected++;
    return true;
}

static bool
import_guest(struct guest *guest, const Gimux__Handover__V1__Guest *from, int fd)
{
    const struct conn_rest rest = { from->input.data, from->input.len, from->output.data, from->output.len };
    struct conn *conn = conn_new(guest->list->loop, fd, &guest_conn_limits, &guest_conn_ops, guest);

    if (!conn)
        return false;
    guest_enlist(guest, conn);
    conn_pause(conn);
    return import_door(from->door, &guest->door) && import_volumes(guest, from) &&
           import_stream(guest, from) && conn_import(conn, &rest);
}

bool
guest_import(struct guest_list *list, const Gimux__Handover__V1__Guest *from, struct handover_files *files,
             void (*gone)(void *arg), void *arg)
{
    struct guest *guest = handover_alloc(sizeof(*guest));
    int fd = handover_take_out(files, from->descriptor);

    guest->list = list;
    guest->spoken = from->spoken;
    guest->heard = from->heard;
    guest->spoke = from->spoke;
    guest->gone = gone;
    guest->gone_arg = arg;
    if (fd >= 0 && import_guest(guest, from, fd))
        return true;
    log_error(NULL, "upgrade: the connection of %s cannot be taken over",
              from->door ? from->door->name : "a driver");
    return false;
}

void
guest_list_taken(struct guest_list *list)
{
    struct guest *guest;

    LIST_FOREACH (guest, &list->guests, in_list)
        if (guest->stream)
            guest_accepted(guest);
    guest_list_resume(list);
}
