/* Guest sessions that one gimuxd hands to another: the driver, at the other end of the connection, does not
 * notice. */
#include <stdlib.h>
#include <string.h>

#include "mux/base/log.h"
#include "mux/guest/inner.h"

static void
export_volumes(const struct volume_map *map, struct parcel *parcel, Gimux__Handover__V1__Guest *to)
{
    for (uint32_t i = 0; map && i < map->count; i++) {
        Gimux__Handover__V1__Volume *volume = PARCEL_ADD(parcel, to->volumes, to->n_volumes, volume);

        volume->letter = (unsigned char)map->volumes[i].letter;
        volume->device = parcel_text(parcel, map->volumes[i].device);
    }
}

static void
export_door(const struct guest_door *door, struct parcel *parcel, Gimux__Handover__V1__Guest *guest)
{
    Gimux__Handover__V1__Door *to = PARCEL_SET(parcel, guest->door, door);

    to->name = parcel_text(parcel, door->name);
    to->proved = door->proved;
    to->vm_uuid = parcel_bytes(parcel, door->vm_uuid, GR_UUID_SIZE);
    to->unknown = door->unknown;
    to->vmx = door->vmx;
    to->cid = door->cid;
}

static void
export_guest(const struct guest *guest, const struct conn_rest *rest, struct parcel *parcel)
{
    Gimux__Handover__V1__Guest *to =
        PARCEL_ADD(parcel, parcel->message->guests, parcel->message->n_guests, guest);

    to->descriptor = parcel_file(parcel, conn_fd(guest->conn));
    export_door(&guest->door, parcel, to);
    if (guest->stream) {
        const struct stream_about *about = stream_about(guest->stream);

        to->vm_uuid = parcel_bytes(parcel, vm_uuid(stream_vm(guest->stream)), GR_UUID_SIZE);
        to->driver = about->driver;
        to->boot_id = parcel_bytes(parcel, about->boot_id, GR_UUID_SIZE);
    }
    to->acked = guest->acked;
    to->silent = guest->state == GUEST_SILENT;
    to->spoken = guest->spoken;
    to->heard = guest->heard;
    to->spoke = guest->spoke;
    export_volumes(guest->volumes, parcel, to);
    to->input = parcel_bytes(parcel, rest->in, rest->in_len);
    to->output = parcel_bytes(parcel, rest->out, rest->out_len);
    if (guest->gone)
        to->dialled = parcel_text(parcel, guest->door.name);
}

void
guest_list_export(const struct guest_list *list, struct parcel *parcel)
{
    const struct guest *guest;

    LIST_FOREACH (guest, &list->guests, in_list) {
        struct conn_rest rest;

        if (guest->state != GUEST_CLOSED && conn_export(guest->conn, &rest))
            export_guest(guest, &rest, parcel);
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

static bool
import_stream(struct guest *guest, const Gimux__Handover__V1__Guest *from)
{
    if (from->vm_uuid.len == 0)
        return true;
    if (from->vm_uuid.len != GR_UUID_SIZE || from->boot_id.len != GR_UUID_SIZE)
        return false;
    guest->stream = route_take_guest(guest->list->route, from->vm_uuid.data, (uint16_t)from->driver,
                                     from->boot_id.data, from->silent, guest);
    guest->acked = from->acked;
    guest->state = from->silent ? GUEST_SILENT : GUEST_ACTIVE;
    return guest->stream != NULL;
}

bool
guest_import(struct guest_list *list, struct parcel *parcel, const Gimux__Handover__V1__Guest *from,
             void (*gone)(void *arg), void *arg)
{
    const struct conn_rest rest = { from->input.data, from->input.len, from->output.data, from->output.len };
    struct guest *guest = calloc(1, sizeof(*guest));
    int fd = descriptors_take(&parcel->files, from->descriptor);
    struct conn *conn =
        guest && fd >= 0 ? conn_new(list->loop, fd, &guest_conn_limits, &guest_conn_ops, guest) : NULL;

    if (conn) {
        guest->list = list;
        guest->spoken = from->spoken;
        guest->heard = from->heard;
        guest->spoke = from->spoke;
        guest->gone = gone;
        guest->gone_arg = arg;
        guest_enlist(guest, conn);
        conn_pause(conn);
        if (import_door(from->door, &guest->door) && import_volumes(guest, from) &&
            import_stream(guest, from) && conn_import(conn, &rest))
            return true;
    } else {
        free(guest);
    }
    log_error(NULL, "upgrade: the connection of %s cannot be taken over",
              from->door ? from->door->name : "a driver");
    return false; /* NOLINT(clang-analyzer-unix.Malloc): it may be in the list, and the process exits */
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
