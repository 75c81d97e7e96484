/* Windows path forms: devices, prefixes, shares and streams, and what only looks like one of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <uchar.h>

#include <cmocka.h>

#include "mux/event/ntpath.h"

#define W(literal) ((struct gr_text){ (const uint8_t *)(u"" literal), sizeof(u"" literal) - 2 })
#define B(literal) ((struct gr_text){ (const uint8_t *)(literal), sizeof(literal) - 1 })

static void
put_volume(uint8_t *buf, size_t cap, struct gr_volumes *volumes, char letter, struct gr_text device)
{
    struct gr_volume volume = { (uint16_t)letter, device };
    size_t len = volumes->entries.len;

    assert_true(gr_volume_put(buf, cap, &len, &volume));
    volumes->entries = (struct gr_text){ buf, (uint32_t)len };
    volumes->count++;
}

static struct volume_map
some_volumes(void)
{
    static uint8_t buf[512];
    struct gr_volumes volumes = { 0, { buf, 0 } };
    struct volume_map map;

    memset(&map, 0xaa, sizeof(map));
    put_volume(buf, sizeof(buf), &volumes, 'E', W("\\Device\\HarddiskVolume20\\"));
    put_volume(buf, sizeof(buf), &volumes, 'C', W("\\Device\\HarddiskVolume2"));
    put_volume(buf, sizeof(buf), &volumes, 'F', W("\\X"));
    assert_int_equal(volume_map_set(&map, &volumes), 0);
    assert_int_equal(map.count, 3);
    return map;
}

static void
test_volumes_that_cannot_be_kept_are_left_out(void **state)
{
    static uint8_t buf[8192];
    static const char16_t nul[] = { '\\', 0, 'a' };
    struct gr_volumes volumes = { 0, { buf, 0 } };
    struct volume_map map;

    (void)state;
    put_volume(buf, sizeof(buf), &volumes, 'A', W(""));
    put_volume(buf, sizeof(buf), &volumes, 'A', W("\\\\\\"));
    put_volume(buf, sizeof(buf), &volumes, 'A', W("Device"));
    put_volume(buf, sizeof(buf), &volumes, 'A', W("\\Device\\\u00e4"));
    put_volume(buf, sizeof(buf), &volumes, 'A', B("\\\0a\0b"));
    put_volume(buf, sizeof(buf), &volumes, 'A', (struct gr_text){ (const uint8_t *)nul, sizeof(nul) });
    put_volume(buf, sizeof(buf), &volumes, 'A',
               W("\\2345678901234567890123456789012345678901234567890123456789012.4"));
    put_volume(buf, sizeof(buf), &volumes, 'B',
               W("\\2345678901234567890123456789012345678901234567890123456789012."));
    assert_int_equal(volume_map_set(&map, &volumes), 7);
    assert_int_equal(map.count, 1);
    assert_int_equal(map.volumes[0].letter, 'B');
    assert_int_equal(strlen(map.volumes[0].device), VOLUME_DEVICE_MAX - 1);

    volumes = (struct gr_volumes){ 0, { buf, 0 } };
    for (int i = 0; i < VOLUME_MAX + 2; i++)
        put_volume(buf, sizeof(buf), &volumes, 'C', W("\\Device\\HarddiskVolume2"));
    assert_int_equal(volume_map_set(&map, &volumes), 2);
    assert_int_equal(map.count, VOLUME_MAX);
}

/* The text alone in memory of its own, so that the address sanitizer sees a byte too many. */
static char *
copy(const char *text)
{
    size_t len = strlen(text);
    char *bytes = malloc(len + !len);

    assert_non_null(bytes);
    return memcpy(bytes, text, len);
}

static void
expect_text(const char *at, size_t len, const char *expected)
{
    assert_int_equal(len, strlen(expected));
    assert_memory_equal(at, expected, len);
}

static void
expect_path_with(const struct volume_map *map, const char *in, const char *expected)
{
    char *buf = copy(in);
    const char *end = buf + strlen(in);
    const char *path = ntpath_simplify(buf, end, map);

    expect_text(path, (size_t)(end - path), expected);
    free(buf);
}

static void
expect_path(const char *in, const char *expected)
{
    struct volume_map map = some_volumes();

    expect_path_with(&map, in, expected);
}

static void
test_devices_become_letters(void **state)
{
    (void)state;
    expect_path("\\Device\\HarddiskVolume2\\a\\b.txt", "C:\\a\\b.txt");
    expect_path("\\device\\harddiskvolume2\\A", "C:\\A");
    expect_path("\\Device\\HarddiskVolume2\\", "C:\\");
    expect_path("\\Device\\HarddiskVolume2", "C:");
    expect_path("\\Device\\HarddiskVolume20\\a", "E:\\a");
    expect_path("\\Device\\HarddiskVolume21\\a", "\\Device\\HarddiskVolume21\\a");
    expect_path("\\Device\\HarddiskVolume2x", "\\Device\\HarddiskVolume2x");
    expect_path("\\Device\\HarddiskVolume", "\\Device\\HarddiskVolume");
    expect_path("\\X\\a", "F:\\a");
    expect_path("\\x\\a", "F:\\a");
    expect_path("\\Y\\a", "\\Y\\a");
    expect_path("\\Device\\NamedPipe\\lsass", "\\Device\\NamedPipe\\lsass");
}

static void
test_prefixes_of_drives_go(void **state)
{
    (void)state;
    expect_path("\\??\\c:\\a", "C:\\a");
    expect_path("\\\\?\\c:\\a", "C:\\a");
    expect_path("\\DosDevices\\D:\\a", "D:\\a");
    expect_path("\\GLOBAL??\\z:", "Z:");
    expect_path("\\global??\\z:\\", "Z:\\");
    expect_path("c:\\a", "C:\\a");
    expect_path("c:", "C:");
    expect_path("c:a", "c:a");
    expect_path("\\??\\c:a", "\\??\\c:a");
    expect_path("\\??\\1:\\a", "\\??\\1:\\a");
    expect_path("[:\\a", "[:\\a");
    expect_path("\\??\\", "\\??\\");
    expect_path("\\??", "\\??");
    expect_path("", "");
    expect_path("\\", "\\");
    expect_path("relative", "relative");
    expect_path("\\??\\Volume{0-1}\\a", "\\??\\Volume{0-1}\\a");
    expect_path("\\??\\GLOBALROOT\\Device\\HarddiskVolume2\\a", "C:\\a");
    expect_path("\\\\?\\GLOBALROOT\\Device\\HarddiskVolumeShadowCopy1\\a",
                "\\\\?\\GLOBALROOT\\Device\\HarddiskVolumeShadowCopy1\\a");
}

static void
test_shares_become_unc(void **state)
{
    (void)state;
    expect_path("\\\\?\\UNC\\srv\\share\\f", "\\\\srv\\share\\f");
    expect_path("\\??\\UNC\\srv\\share", "\\\\srv\\share");
    expect_path("\\??\\unc\\srv", "\\\\srv");
    expect_path("\\Device\\Mup\\srv\\share\\f", "\\\\srv\\share\\f");
    expect_path("\\Device\\LanmanRedirector\\;X:00000000000abcde\\srv\\share\\f", "\\\\srv\\share\\f");
    expect_path("\\Device\\LanmanRedirector\\srv\\share\\f", "\\\\srv\\share\\f");
    expect_path("\\Device\\Mup\\;LanmanRedirector\\;Z:0001\\srv\\share", "\\\\srv\\share");
    expect_path("\\\\srv\\share\\f", "\\\\srv\\share\\f");
    expect_path("\\??\\UNC\\", "\\??\\UNC\\");
    expect_path("\\??\\UNC\\\\x", "\\??\\UNC\\\\x");
    expect_path("\\Device\\Mup", "\\Device\\Mup");
    expect_path("\\Device\\Mup\\", "\\Device\\Mup\\");
    expect_path("\\Device\\Mup\\;X", "\\Device\\Mup\\;X");
    expect_path("\\Device\\Mup\\;X\\", "\\Device\\Mup\\;X\\");
    expect_path("\\Device\\Mupsrv\\share", "\\Device\\Mupsrv\\share");
}

static void
test_without_volumes_devices_stay(void **state)
{
    (void)state;
    expect_path_with(NULL, "\\Device\\HarddiskVolume2\\a", "\\Device\\HarddiskVolume2\\a");
    expect_path_with(NULL, "\\Device\\Mup\\srv\\share", "\\\\srv\\share");
}

static void
expect_stream(const char *in, const char *path, const char *stream)
{
    char *buf = copy(in);
    char *end = buf + strlen(in);
    size_t len = 77;
    char *found = ntpath_cut_stream(buf, &end, &len);

    expect_text(buf, (size_t)(end - buf), path);
    if (stream) {
        assert_non_null(found);
        expect_text(found, len, stream);
    } else {
        assert_null(found);
    }
    free(buf);
}

static void
test_streams_are_cut_off(void **state)
{
    (void)state;
    expect_stream("C:\\a.txt:Zone.Identifier:$DATA", "C:\\a.txt", "Zone.Identifier");
    expect_stream("C:\\a.txt:Zone.Identifier", "C:\\a.txt", "Zone.Identifier");
    expect_stream("C:\\a.txt:x:$data", "C:\\a.txt", "x");
    expect_stream("C:\\a.txt:x:", "C:\\a.txt", "x");
    expect_stream("C:\\a.txt::$DATA", "C:\\a.txt", NULL);
    expect_stream("C:\\:x", "C:\\", "x");
    expect_stream("\\\\srv\\share\\a:x", "\\\\srv\\share\\a", "x");
    expect_stream(":x", "", "x");
    expect_stream("C:\\d:$I30:$INDEX_ALLOCATION", "C:\\d", NULL);
    expect_stream("C:\\d::$INDEX_ALLOCATION", "C:\\d", NULL);
    expect_stream("C:\\d:$I30:$BITMAP", "C:\\d", "$I30:$BITMAP");
    expect_stream("C:\\d:x:$INDEX_ALLOCATION", "C:\\d", "x:$INDEX_ALLOCATION");
    expect_stream("C:\\f::$EA", "C:\\f", ":$EA");
}

static void
test_other_colons_stay(void **state)
{
    (void)state;
    expect_stream("C:\\a.txt", "C:\\a.txt", NULL);
    expect_stream("C:", "C:", NULL);
    expect_stream("C:a", "C:a", NULL);
    expect_stream("C:a:x", "C:a", "x");
    expect_stream("", "", NULL);
    expect_stream("C:\\a:", "C:\\a:", NULL);
    expect_stream("C:\\a::", "C:\\a::", NULL);
    expect_stream("C:\\d:$I30:$INDEX_ALLOCATION\\f", "C:\\d:$I30:$INDEX_ALLOCATION\\f", NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_volumes_that_cannot_be_kept_are_left_out),
        cmocka_unit_test(test_devices_become_letters),
        cmocka_unit_test(test_prefixes_of_drives_go),
        cmocka_unit_test(test_shares_become_unc),
        cmocka_unit_test(test_without_volumes_devices_stay),
        cmocka_unit_test(test_streams_are_cut_off),
        cmocka_unit_test(test_other_colons_stay),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
