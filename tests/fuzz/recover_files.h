/* The segment files of fuzz_recover: made as the input says, damage and lies included. */
#ifndef GIMUX_TESTS_RECOVER_FILES_H
#define GIMUX_TESTS_RECOVER_FILES_H

#include "tests/unit/store/store_world.h"

#include <assert.h>

#include "mux/store/segment.h"
#include "mux/vmlog/vm.h"
#include "proto/delimited.h"
#include "proto/gimux.pb-c.h"

#define VMS     2u
#define SOURCES 4u /* streams of one VM that files are about */
#define ROOM    ((size_t)64 * 1024)
#define NAMES   3u
#define HIGHEST GR_SEQUENCE_MAX /* sequence that a file is about */

/* One stream as files are made of it. */
struct source {
    uint16_t driver;
    uint8_t boot;
    uint32_t id;
    uint64_t next;
};

static const char *const names[NAMES] = { "one", "two", "three" };
static const uint16_t drivers[] = { GR_VSEPFLT, GR_LINUX, VM_DRIVER_GIMUXD, VM_DRIVER_GIMUXD };
static const uint8_t *input;
static size_t left;
static char dir[64];
static struct source sources[VMS][SOURCES];
static uint8_t file[ROOM];
static size_t len;

/* ---- the input ---- */

static uint8_t
u8(void)
{
    return left > 0 ? (left--, *input++) : 0;
}

static uint32_t
u16(void)
{
    uint32_t high = u8();

    return high << 8 | u8();
}

/* A number below HIGHEST, small more often than not. */
static uint64_t
number(void)
{
    uint8_t how = u8();
    uint64_t value = 0;

    for (uint8_t bytes = how < 192 ? how % 6 : how % 9; bytes > 0; bytes--)
        value = value << 8 | u8();
    return value % HIGHEST;
}

/* ---- files ---- */

static void
put_event(struct segment_frame *frame, uint8_t *out, uint64_t first)
{
    Gimux__V1__Frame message = GIMUX__V1__FRAME__INIT;
    Gimux__V1__Event event = GIMUX__V1__EVENT__INIT;
    Gimux__V1__Gap gap = GIMUX__V1__GAP__INIT;
    size_t body;
    size_t prefix;

    event.stream = gap.stream = frame->id;
    event.sequence = gap.last_sequence = frame->sequence;
    gap.first_sequence = first;
    gap.reason = GIMUX__V1__GAP_REASON__GAP_REASON_DRIVER;
    message.body_case = frame->cls == VMLOG_GAP ? GIMUX__V1__FRAME__BODY_GAP : GIMUX__V1__FRAME__BODY_EVENT;
    if (frame->cls == VMLOG_GAP)
        message.gap = &gap;
    else
        message.event = &event;
    body = gimux__v1__frame__get_packed_size(&message);
    prefix = delimited_put_prefix(out, body);
    gimux__v1__frame__pack(&message, out + prefix);
    frame->data = out;
    frame->len = (uint32_t)(prefix + body);
}

static void
write_frame(uint64_t seed, struct source *source)
{
    struct segment_frame frame = { .driver = source->driver, .id = source->id, .count = 1 };
    uint8_t packed[128];
    uint8_t how = u8();

    memset(frame.boot_id, source->boot, sizeof(frame.boot_id));
    frame.cls = how % CLASS_COUNT;
    if (how >= 224) {
        frame.cls = VMLOG_GAP;
        frame.count = 1 + (uint32_t)number();
        if (frame.count == 0)
            frame.count = 1;
    } else if (how >= 208) {
        source->next = 1 + number(); /* something is missing, or comes twice */
    } else if (how >= 200) {
        frame.id = 1 + u8() % 16;
    }
    frame.record_bytes = u8() * 100u;
    frame.sequence = source->next + frame.count - 1;
    put_event(&frame, packed, source->next);
    source->next = frame.sequence < HIGHEST ? frame.sequence + 1 : 1;
    len += segment_put_frame(file + len, seed, len, &frame);
}

static void
write_stream(uint64_t seed, const struct source *source)
{
    struct segment_stream stream = { .driver = source->driver, .id = source->id, .start = 1 };
    uint8_t how = u8();

    memset(stream.boot_id, source->boot, sizeof(stream.boot_id));
    stream.last = source->next - 1;
    stream.ended = how & 1;
    if (how >= 128)
        stream.start = how >= 192 ? 1 + number() : source->next;
    if (how % 8 == 7)
        stream.last = stream.start - 1 + number();
    if (stream.last < stream.start - 1)
        stream.last = stream.start - 1;
    if (how % 64 == 5)
        stream.id = 1 + u8() % 16;
    len += segment_put_stream(file + len, seed, len, &stream);
}

static void
write_position(uint64_t seed, const struct source *source)
{
    struct segment_position position = { .driver = source->driver };
    uint8_t how = u8();

    memset(position.boot_id, source->boot, sizeof(position.boot_id));
    snprintf(position.solution, sizeof(position.solution), "%s", names[how % NAMES]);
    position.settled = number();
    if (how < 192 && position.settled >= source->next)
        position.settled = source->next - 1;
    position.acked = position.settled + (how & 16 ? number() : 0);
    position.delivered = position.settled;
    if (how & 32) {
        position.delivered = number();
        position.filtered = number();
        position.gapped = number();
    }
    len += segment_put_position(file + len, seed, len, &position);
}

static void
write_records(uint64_t seed, unsigned vm)
{
    while (left > 0 && len + 1024 < ROOM) {
        uint8_t what = u8();
        struct source *source = &sources[vm][what / 8 % SOURCES];

        switch (what % 8) {
        case 0:
            return;
        case 1:
            write_stream(seed, source);
            break;
        case 2:
            write_position(seed, source);
            break;
        case 3:
            len += segment_put_mark(file + len, seed, len);
            break;
        case 4:
            if (what >= 128) { /* another life of gimuxd's, or of the guest */
                source->boot = what / 32;
                source->id = 1 + u8() % 16;
                source->next = 1;
            }
            break;
        default:
            for (unsigned i = 1 + what / 64 * 5; i > 0 && len + 1024 < ROOM; i--)
                write_frame(seed, source);
            break;
        }
    }
}

static void
damage_bytes(uint8_t how)
{
    size_t at = u16() % len;
    size_t to = at + u16() % 512;

    switch (how % 4) {
    case 0:
        file[at] ^= (uint8_t)(1 + how / 4);
        break;
    case 1:
        len = at;
        break;
    case 2:
        for (; at < to && at < len; at++)
            file[at] = 0;
        break;
    default:
        for (; at < to && at < ROOM; at++)
            file[at] = u8();
        if (len < at)
            len = at;
        break;
    }
}

static void
write_file(const char *name)
{
    char path[64 + 1 + SEGMENT_NAME_MAX];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert(fd >= 0);
    assert(write(fd, file, len) == (ssize_t)len);
    close(fd);
}

static void
make_file(unsigned i)
{
    unsigned what = u8();
    unsigned vm = what / 8 % VMS;
    struct segment_name name = { .number = 1 + i, .seed = 1 + what / 16 };
    char text[SEGMENT_NAME_MAX];

    memset(name.vm_uuid, (int)('a' + vm), GR_UUID_SIZE);
    memset(file, 0, sizeof(file));
    len = segment_put_header(file, &name);
    write_records(name.seed, vm);
    for (unsigned damages = what % 4 == 3 ? 1 + u8() % 4 : 0; damages > 0 && len > 0; damages--)
        damage_bytes(u8());
    if (what % 32 == 4)
        name.seed++;
    if (what % 32 == 5)
        memset(name.vm_uuid, 'a' + u8() % 2, GR_UUID_SIZE);
    if (what % 32 == 6)
        name.number = u8() % 8;
    write_file(segment_name_format(&name, text));
    if (what % 32 == 20) {
        name.number += u8() % 2;
        name.seed += u8() % 2;
        write_file(segment_name_format(&name, text));
    }
    if (what % 32 == 21)
        write_file("something.else");
}

static void
make_files(void)
{
    for (unsigned vm = 0; vm < VMS; vm++)
        for (unsigned i = 0; i < SOURCES; i++)
            sources[vm][i] = (struct source){
                .driver = drivers[i], .boot = (uint8_t)(1 + i), .id = 1 + vm * SOURCES + i, .next = 1
            };
    each_file(dir, remove_file, NULL);
    for (unsigned i = 0, count = 1 + u8() % 4; i < count; i++)
        make_file(i);
}

#endif
