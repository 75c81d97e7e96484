/* The events of the benchmark: records with the kinds and the text lengths of real guests (mix_rows.h), made
 * once, before anything is measured. */
#include "tests/bench/mix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/mix_rows.h"

#define DEVICE   "\\Device\\HarddiskVolume2\\"
#define TEXT_MAX (MIX_RECORD_MAX / 4) /* characters */

uint16_t
mix_driver(enum mix_drivers drivers, uint32_t id)
{
    /* Half of them linux; Windows has both drivers, and more to say of files than of connections. */
    static const uint16_t windows[8] = { GR_VSEPFLT, GR_VNETWFP, GR_VSEPFLT, GR_VSEPFLT,
                                         GR_VNETWFP, GR_VSEPFLT, GR_VNETWFP, GR_VSEPFLT };

    if (drivers == MIX_LINUX || (drivers == MIX_ALL && id % 2 == 0))
        return GR_LINUX;
    return windows[(drivers == MIX_ALL ? id / 2 : id) % 8];
}

unsigned
mix_texts(struct gr_record *record, struct gr_text *texts[MIX_TEXTS])
{
    switch (record->type) {
    case GR_FILE: {
        struct gr_file *file = &record->body.file;
        struct gr_text *all[] = { &file->path, &file->target, &file->process, &file->user_name,
                                  &file->user_id };

        memcpy(texts, all, sizeof(all));
        return 5;
    }
    case GR_NET: {
        struct gr_net *net = &record->body.net;
        struct gr_text *all[] = { &net->process, &net->user_name, &net->user_id };

        memcpy(texts, all, sizeof(all));
        return 3;
    }
    case GR_DNS: {
        struct gr_dns *dns = &record->body.dns;
        struct gr_text *all[] = { &dns->name, &dns->answers, &dns->process, &dns->user_name, &dns->user_id };

        memcpy(texts, all, sizeof(all));
        return 5;
    }
    case GR_PROCESS: {
        struct gr_process *process = &record->body.process;
        struct gr_text *all[] = { &process->image, &process->command_line, &process->parent_image,
                                  &process->user_name, &process->user_id };

        memcpy(texts, all, sizeof(all));
        return 5;
    }
    case GR_LOGON: {
        struct gr_logon *logon = &record->body.logon;
        struct gr_text *all[] = { &logon->user_name, &logon->user_id, &logon->source, &logon->process };

        memcpy(texts, all, sizeof(all));
        return 4;
    }
    default:
        return 0;
    }
}

uint16_t *
mix_op(struct gr_record *record)
{
    switch (record->type) {
    case GR_FILE:
        return &record->body.file.op;
    case GR_NET:
        return &record->body.net.op;
    case GR_DNS:
        return &record->body.dns.op;
    case GR_PROCESS:
        return &record->body.process.op;
    default:
        return &record->body.logon.op;
    }
}

/* ---- texts ---- */

/* `len` characters that look like a path: names of some letters, after the device if there is one. */
static void
say(struct gr_text *text, uint8_t *buf, uint32_t len, bool windows, bool device, uint32_t salt)
{
    const char *start = device ? DEVICE : windows ? "C:\\" : "/";
    char slash = windows ? '\\' : '/';
    uint32_t width = windows ? 2 : 1;

    for (uint32_t i = 0; i < len; i++) {
        uint32_t random = (i + 1) * 2654435761u ^ salt * 2246822519u;
        char c = i < strlen(start)                     ? start[i]
                 : (i + salt) % 11 == 0 && i + 1 < len ? slash
                                                       : (char)('a' + (random >> 16) % 26);

        buf[i * width] = (uint8_t)c;
        if (windows)
            buf[i * width + 1] = 0;
    }
    text->data = buf;
    text->len = len * width;
}

/* Numbers such as a driver sends; nothing depends on them but the length of their varints. */
static void
fill_numbers(struct gr_record *record, const struct mix_row *row, uint32_t salt)
{
    switch (record->type) {
    case GR_FILE:
        record->body.file.pid = 1000 + salt * 4;
        record->body.file.tid = 1004 + salt * 4;
        record->body.file.file_id = UINT64_C(0x1000000000001) + salt;
        record->body.file.size = (uint64_t)salt * 1733;
        record->body.file.result = row->detail;
        record->body.file.access_mask = 0x120196;
        record->body.file.attributes = 0x20;
        break;
    case GR_NET:
        record->body.net.family = row->detail;
        record->body.net.protocol = 6;
        record->body.net.direction = GR_OUTBOUND;
        record->body.net.pid = 1000 + salt * 4;
        record->body.net.local_port = (uint16_t)(49152 + salt);
        record->body.net.remote_port = 443;
        memcpy(record->body.net.local, (const uint8_t[]){ 10, 1, 2, 3 }, 4);
        memcpy(record->body.net.remote, (const uint8_t[]){ 93, 184, 216, 34 }, 4);
        record->body.net.flow_id = 70000 + salt;
        break;
    case GR_DNS:
        record->body.dns.type = 1;
        record->body.dns.transaction_id = (uint16_t)(salt * 257);
        record->body.dns.pid = 1000 + salt * 4;
        break;
    case GR_PROCESS:
        record->body.process.pid = 2000 + salt * 4;
        record->body.process.parent_pid = 1000 + salt * 4;
        break;
    default:
        record->body.logon.logon_type = 3;
        record->body.logon.logon_id = 0x62f2d + salt;
        record->body.logon.pid = 700;
        break;
    }
}

/* How long the first text must be for a record of `size` bytes. */
static uint32_t
fit(uint32_t len, size_t now, uint32_t size, uint32_t width)
{
    int64_t wanted = (int64_t)len + ((int64_t)size - (int64_t)now) / (int64_t)width;

    return wanted < 1 ? 1 : wanted > TEXT_MAX ? TEXT_MAX : (uint32_t)wanted;
}

static size_t
make_record(uint16_t driver, const struct mix_row *row, uint32_t salt, uint32_t size, uint8_t *out)
{
    static uint8_t room[MIX_TEXTS][TEXT_MAX * 2];
    struct gr_record record = { .type = row->type };
    struct gr_text *texts[MIX_TEXTS];
    unsigned count = mix_texts(&record, texts);
    bool windows = gr_driver_is_windows(driver);
    /* The logs of which the traces are made have letters, where the kernel has devices. */
    bool device = row->device || (windows && row->type == GR_FILE && row->len[0] > strlen(DEVICE));
    size_t len = 0;

    *mix_op(&record) = row->op;
    fill_numbers(&record, row, salt);
    for (unsigned i = 0; i < count; i++)
        say(texts[i], room[i], row->len[i], windows, device && i == 0, salt + i * 31);
    for (int round = 0; round < (size ? 2 : 1); round++) {
        len = gr_encode(&record, out, MIX_RECORD_MAX);
        if (len == 0)
            abort();
        if (size && round == 0)
            say(texts[0], room[0], fit(row->len[0], len, size, windows ? 2 : 1), windows, device, salt);
    }
    return len;
}

struct mix *
mix_new(uint16_t driver, uint32_t size)
{
    const struct mix_row *rows = driver == GR_LINUX     ? mix_linux
                                 : driver == GR_VSEPFLT ? mix_vsepflt
                                                        : mix_vnetwfp;
    struct mix *mix = calloc(1, sizeof(*mix));
    uint32_t used = 0;

    if (!mix || !(mix->bytes = malloc((size_t)MIX_EVENTS * MIX_RECORD_MAX)))
        abort();
    mix->driver = driver;
    for (uint32_t i = 0; i < MIX_EVENTS; i++) {
        /* 37 has no factor in common with the rows: all of them come, well mixed. */
        used += (uint32_t)make_record(driver, &rows[i * 37 % MIX_ROWS], i, size, mix->bytes + used);
        mix->at[i + 1] = used;
    }
    return mix;
}

void
mix_free(struct mix *mix)
{
    if (!mix)
        return;
    free(mix->bytes);
    free(mix);
}
