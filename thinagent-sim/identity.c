/* The UUIDs of VMs and boots: derived from a name, derived for a copy, this machine's own, or random. */
#include "thinagent-sim/identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define KEPT_DIRECTORY "/var/lib/thinagent-sim"
#define KEPT_FILE      KEPT_DIRECTORY "/vm-uuid"

/* FNV-1a with 128 bits: spread widely enough for names, and the same on every machine. */
static void
hash_add(unsigned __int128 *hash, const void *data, size_t len)
{
    const unsigned __int128 prime = ((unsigned __int128)1 << 88) + 0x13b;
    const uint8_t *bytes = data;

    for (size_t i = 0; i < len; i++) {
        *hash ^= bytes[i];
        *hash *= prime;
    }
}

static unsigned __int128
hash_start(void)
{
    return (unsigned __int128)0x6c62272e07bb0142 << 64 | 0x62b821756295c58d;
}

static void
set_version(uint8_t uuid[GR_UUID_SIZE], unsigned version)
{
    uuid[6] = (uint8_t)((uuid[6] & 0x0f) | version << 4);
    uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
}

static void
hash_to_uuid(unsigned __int128 hash, uint8_t out[GR_UUID_SIZE])
{
    static const uint8_t nothing[16];

    hash_add(&hash, nothing, sizeof(nothing)); /* spreads the last bytes over all of it */
    for (size_t i = 0; i < GR_UUID_SIZE; i++)
        out[i] = (uint8_t)(hash >> (120 - 8 * i));
    set_version(out, 8);
}

void
identity_of_name(const char *what, const char *name, uint8_t out[GR_UUID_SIZE])
{
    unsigned __int128 hash = hash_start();

    hash_add(&hash, what, strlen(what) + 1);
    hash_add(&hash, name, strlen(name) + 1);
    hash_to_uuid(hash, out);
}

void
identity_of_copy(const uint8_t original[GR_UUID_SIZE], uint32_t copy, uint8_t out[GR_UUID_SIZE])
{
    unsigned __int128 hash = hash_start();
    char number[16];

    if (copy == 0) {
        memmove(out, original, GR_UUID_SIZE);
        return;
    }
    snprintf(number, sizeof(number), "%u", copy);
    hash_add(&hash, original, GR_UUID_SIZE);
    hash_add(&hash, number, strlen(number));
    hash_to_uuid(hash, out);
}

void
identity_random(uint8_t out[GR_UUID_SIZE])
{
    if (getrandom(out, GR_UUID_SIZE, 0) != GR_UUID_SIZE) {
        perror("thinagent-sim: getrandom");
        exit(1);
    }
    set_version(out, 4);
}

/* Reads a file that holds one UUID and perhaps a newline. */
static bool
read_uuid(const char *path, uint8_t out[GR_UUID_SIZE])
{
    char text[GR_UUID_TEXT] = "";
    FILE *file = fopen(path, "re");
    bool found;

    if (!file)
        return false;
    found = fgets(text, sizeof(text), file) && gr_uuid_parse(text, out);
    fclose(file);
    return found;
}

void
identity_of_machine(uint8_t out[GR_UUID_SIZE])
{
    char text[GR_UUID_TEXT];
    FILE *file;

    if (read_uuid("/sys/class/dmi/id/product_uuid", out) || read_uuid(KEPT_FILE, out))
        return;
    identity_random(out);
    mkdir(KEPT_DIRECTORY, 0755);
    file = fopen(KEPT_FILE, "we");
    if (file) {
        fprintf(file, "%s\n", gr_uuid_format(out, text));
        fclose(file);
    }
}

void
identity_of_boot(uint8_t out[GR_UUID_SIZE])
{
    if (!read_uuid("/proc/sys/kernel/random/boot_id", out))
        identity_random(out);
}
