/* The frames of the normalizer: the very bytes of protobuf-c, for records of all kinds with random content;
 * no field of an event that none of them has; and room for the largest. */
#include <string.h>

#include "tests/unit/event/normalize_world.h"
#include "tests/unit/random.h"

#define RECORDS   20000
#define TEXT_MOST 300

/* ---- random records ---- */

/* Of any width, 0 among them. */
static uint64_t
any_number(void)
{
    return number() % 4 == 0 ? 0 : number() >> number() % 64;
}

static const char *const beginnings[] = {
    "",        "/usr/",          "\\Device\\HarddiskVolume2\\", "\\??\\c:\\", "\\Device\\Mup\\srv\\",
    "d:\\a:b", "x:stream:$DATA",
};
#define BEGINNINGS (sizeof(beginnings) / sizeof(beginnings[0]))

/* As UTF-16LE or UTF-8; now and then with letters that are not ASCII, or with what is no text at all. */
static struct gr_text
any_text(bool windows, uint8_t *buf)
{
    const char *beginning = beginnings[number() % BEGINNINGS];
    size_t chars = number() % 3 == 0 ? 0 : number() % TEXT_MOST;
    unsigned kind = (unsigned)(number() % 8);
    size_t len = 0;

    for (size_t i = 0; i < chars; i++) {
        uint16_t unit = *beginning ? (uint8_t)*beginning++ : (uint16_t)('!' + number() % 90);

        if (kind == 0 && number() % 20 == 0)
            unit = (uint16_t)number(); /* bad ones as well */
        else if (kind == 1 && number() % 20 == 0)
            unit = 0xe4;
        buf[len++] = (uint8_t)unit;
        if (windows)
            buf[len++] = (uint8_t)(unit >> 8);
    }
    return (struct gr_text){ buf, (uint32_t)(kind == 0 && len > 0 ? len - 1 : len) };
}

static uint8_t texts[5][2 * TEXT_MOST];

static void
fill_file(struct gr_file *file, bool windows)
{
    *file = (struct gr_file){ .op = (uint16_t)(number() % 9),
                              .status = (uint32_t)any_number(),
                              .pid = (uint32_t)any_number(),
                              .tid = (uint32_t)any_number(),
                              .file_id = any_number(),
                              .size = any_number(),
                              .result = (uint32_t)(number() % 7),
                              .create_mask = (uint32_t)any_number(),
                              .access_mask = (uint32_t)any_number(),
                              .attributes = (uint32_t)any_number(),
                              .path = any_text(windows, texts[0]),
                              .target = any_text(windows, texts[1]),
                              .process = any_text(windows, texts[2]),
                              .user_name = any_text(windows, texts[3]),
                              .user_id = any_text(windows, texts[4]) };
}

static void
fill_net(struct gr_net *net, bool windows)
{
    *net = (struct gr_net){ .op = (uint16_t)(number() % 7),
                            .protocol = (uint8_t)number(),
                            .direction = (uint8_t)(number() % 3),
                            .family = number() % 2 ? 4 : 6,
                            .status = (uint32_t)any_number(),
                            .pid = (uint32_t)any_number(),
                            .tid = (uint32_t)any_number(),
                            .local_port = (uint16_t)any_number(),
                            .remote_port = (uint16_t)any_number(),
                            .flow_id = any_number(),
                            .bytes_in = any_number(),
                            .bytes_out = any_number(),
                            .process = any_text(windows, texts[0]),
                            .user_name = any_text(windows, texts[1]),
                            .user_id = any_text(windows, texts[2]) };
    for (size_t i = 0; i < sizeof(net->local); i++) {
        net->local[i] = (uint8_t)number();
        net->remote[i] = (uint8_t)number();
    }
}

static void
fill_dns(struct gr_dns *dns, bool windows)
{
    *dns = (struct gr_dns){ .op = (uint16_t)(number() % 4),
                            .type = (uint16_t)any_number(),
                            .transaction_id = (uint16_t)any_number(),
                            .rcode = (uint16_t)any_number(),
                            .status = (uint32_t)any_number(),
                            .pid = (uint32_t)any_number(),
                            .name = any_text(windows, texts[0]),
                            .answers = any_text(windows, texts[1]),
                            .process = any_text(windows, texts[2]),
                            .user_name = any_text(windows, texts[3]),
                            .user_id = any_text(windows, texts[4]) };
}

static void
fill_process(struct gr_process *process, bool windows)
{
    *process = (struct gr_process){ .op = (uint16_t)(number() % 4),
                                    .pid = (uint32_t)any_number(),
                                    .parent_pid = (uint32_t)any_number(),
                                    .exit_code = (uint32_t)any_number(),
                                    .image = any_text(windows, texts[0]),
                                    .command_line = any_text(windows, texts[1]),
                                    .parent_image = any_text(windows, texts[2]),
                                    .user_name = any_text(windows, texts[3]),
                                    .user_id = any_text(windows, texts[4]) };
}

static void
fill_logon(struct gr_logon *logon, bool windows)
{
    *logon = (struct gr_logon){ .op = (uint16_t)(number() % 4),
                                .logon_type = (uint16_t)any_number(),
                                .status = (uint32_t)any_number(),
                                .logon_id = any_number(),
                                .pid = (uint32_t)any_number(),
                                .user_name = any_text(windows, texts[0]),
                                .user_id = any_text(windows, texts[1]),
                                .source = any_text(windows, texts[2]),
                                .process = any_text(windows, texts[3]) };
}

static void
fill_power(struct gr_power *power, bool windows)
{
    *power = (struct gr_power){ .op = (uint16_t)(number() % 7),
                                .vm_name = any_text(windows, texts[0]),
                                .target_host = any_text(windows, texts[1]) };
    for (size_t i = 0; i < GR_UUID_SIZE; i++)
        power->vm_uuid[i] = (uint8_t)number();
}

static void
fill(struct gr_record *record, bool windows)
{
    *record = (struct gr_record){ .type = (uint16_t)(GR_EVENT_FIRST + number() % (GR_POWER - GR_FILE + 1)),
                                  .flags = number() % 2 ? GR_FLAG_WAITS : 0,
                                  .sequence = number() >> number() % 64,
                                  .time = any_number() };
    switch (record->type) {
    case GR_FILE:
        fill_file(&record->body.file, windows);
        break;
    case GR_NET:
        fill_net(&record->body.net, windows);
        break;
    case GR_DNS:
        fill_dns(&record->body.dns, windows);
        break;
    case GR_PROCESS:
        fill_process(&record->body.process, windows);
        break;
    case GR_LOGON:
        fill_logon(&record->body.logon, windows);
        break;
    default:
        fill_power(&record->body.power, windows);
        break;
    }
}

/* ---- which fields were seen ---- */

#define FIELDS_MAX 200

static const ProtobufCFieldDescriptor *seen[FIELDS_MAX];
static unsigned seen_count;

static bool
was_seen(const ProtobufCFieldDescriptor *field)
{
    for (unsigned i = 0; i < seen_count; i++)
        if (seen[i] == field)
            return true;
    return false;
}

/* Whether the field has another value than its default. */
static bool
is_said(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const uint8_t *base = (const uint8_t *)message;
    const uint8_t *member = base + field->offset;
    uint64_t wide;
    uint32_t low;

    if (field->label == PROTOBUF_C_LABEL_REPEATED || field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
        memcpy(&low, base + field->quantifier_offset, sizeof(low));
        return field->label == PROTOBUF_C_LABEL_REPEATED ? low > 0 : low == field->id;
    }
    memcpy(&low, member, sizeof(low));
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        return **(char *const *)(const void *)member != '\0';
    case PROTOBUF_C_TYPE_MESSAGE:
        return *(ProtobufCMessage *const *)(const void *)member != NULL;
    case PROTOBUF_C_TYPE_BYTES: /* its length comes first */
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        memcpy(&wide, member, sizeof(wide));
        return wide != 0;
    default:
        return low != 0;
    }
}

static void
note_fields(const ProtobufCMessage *message)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];

        if (!is_said(message, field))
            continue;
        if (!was_seen(field)) {
            assert_in_range(seen_count, 0, FIELDS_MAX - 1);
            seen[seen_count++] = field;
        }
        if (field->type == PROTOBUF_C_TYPE_MESSAGE)
            note_fields(*(ProtobufCMessage *const *)(const void *)((const uint8_t *)message + field->offset));
    }
}

static void
expect_all_seen(const ProtobufCMessageDescriptor *descriptor)
{
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];

        if (!was_seen(field))
            fail_msg("no event has a %s.%s", descriptor->short_name, field->name);
        if (field->type == PROTOBUF_C_TYPE_MESSAGE)
            expect_all_seen(field->descriptor);
    }
}

/* ---- the tests ---- */

static void
test_random_records_make_the_bytes_of_protobuf_c(void **state)
{
    static const uint8_t boot_id[GR_UUID_SIZE] = { 1 };
    const struct volume_map map = { .count = 1, .volumes = { { 'C', "\\Device\\HarddiskVolume2", 23 } } };
    const char *seed = getenv("NORMALIZE_SEED");

    (void)state;
    random_state = seed ? strtoull(seed, NULL, 10) : 1;
    for (unsigned i = 0; i < RECORDS; i++) {
        uint16_t driver = (uint16_t)(GR_VSEPFLT + number() % GR_VMX);
        struct gr_record record;

        fill(&record, gr_driver_is_windows(driver));
        note_fields(&normalize(&record, driver, number() % 2 ? &map : NULL)->base);
    }
    normalize_lifecycle(normalizer, 1, 2, 3, true, GR_LINUX, boot_id, "why", "unix:/x", &normalized);
    note_fields(&unpack()->base);
    expect_all_seen(&gimux__v1__event__descriptor);
}

/* No record makes an event that a frame cannot hold: not even one whose parent's path stands in it twice, and
 * the bytes of a bad path, too. */
static void
test_the_largest_process_fits(void **state)
{
    static uint8_t bad[GR_MAX_TEXT];
    static uint8_t record_bytes[GR_MAX_RECORD];
    const struct gr_text whole = { bad, GR_MAX_TEXT };
    struct gr_process process = { .op = GR_PROCESS_OP_START, .image = whole, .parent_image = whole };
    struct gr_record record = { .type = GR_PROCESS, .flags = GR_FLAG_WAITS, .sequence = UINT64_MAX };
    uint32_t rest;

    (void)state;
    memset(bad, 0xff, sizeof(bad));
    record.time = INT64_MAX;
    process.pid = process.parent_pid = UINT32_MAX;
    process.exit_code = 0x80000000;
    process.command_line = whole;
    record.body.process = process;
    rest = GR_MAX_RECORD - (uint32_t)gr_encode(&record, record_bytes, sizeof(record_bytes));
    assert_in_range(rest, 1, GR_MAX_TEXT);
    record.body.process.user_name = (struct gr_text){ bad, rest };
    assert_int_equal(gr_encode(&record, record_bytes, sizeof(record_bytes)), GR_MAX_RECORD);
    normalize_record(normalizer, &record, GR_LINUX, NULL, UINT32_MAX, &normalized);
    assert_in_range(normalized.len, DELIMITED_FRAME_MAX - 100, DELIMITED_FRAME_MAX + DELIMITED_PREFIX_MAX);
    unpack();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_records_make_the_bytes_of_protobuf_c),
        cmocka_unit_test(test_the_largest_process_fits),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
