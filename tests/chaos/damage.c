/* Damage to the files of VM logs, and which records it hits. */
#include "tests/chaos/damage.h"

#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/chaos/chance.h"

bool
damage_is_known(void)
{
    return false;
}

void
damage_find_records(const char *path, uint64_t offset, uint64_t len,
                    void (*found)(void *arg, const struct damage_record *record), void *arg)
{
    (void)path;
    (void)offset;
    (void)len;
    (void)found;
    (void)arg;
}

static void
damage_bytes(int fd, uint64_t size)
{
    uint64_t kind = chance_below(3);

    for (uint64_t n = chance_between(1, 64); n > 0; n--) {
        off_t at = (off_t)chance_below(size);
        uint8_t byte = 0;

        if (pread(fd, &byte, 1, at) != 1)
            continue;
        byte = (uint8_t)(kind == 0 ? byte ^ (1u << chance_below(8)) : kind == 1 ? 0 : chance_below(256));
        if (pwrite(fd, &byte, 1, at) != 1)
            perror("chaos: damage");
    }
}

void
damage_some(const char *dir)
{
    char pattern[512];
    glob_t files;

    snprintf(pattern, sizeof(pattern), "%s/*.vmlog", dir);
    if (glob(pattern, 0, NULL, &files) != 0)
        return;
    for (uint64_t n = chance_between(1, 3); n > 0; n--) {
        int fd = open(files.gl_pathv[chance_below(files.gl_pathc)], O_RDWR | O_CLOEXEC);
        struct stat stat;

        if (fd < 0)
            continue;
        if (fstat(fd, &stat) == 0 && stat.st_size > 0) {
            if (chance_one_in(5))
                (void)!ftruncate(fd, (off_t)chance_below((uint64_t)stat.st_size));
            else
                damage_bytes(fd, (uint64_t)stat.st_size);
        }
        close(fd);
    }
    globfree(&files);
}
