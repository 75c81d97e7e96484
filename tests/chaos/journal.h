/* The journal between powercut.so, inside gimuxd, and cut.c: what was done to the files of one directory,
 * with what was there before, so that it can be undone as a power cut may undo it.
 *
 * It is a file of JOURNAL_SIZE bytes, mapped shared, which survives a kill -9: a header and entries. An entry
 * is complete once the header's `used` includes it, and is written before what it tells of is done, so that
 * an entry of something that was never done undoes nothing. Beside it lies a hard link, named by its inode
 * number, of each file that was written, so that files can be reached whatever became of their names. */
#ifndef GIMUX_CHAOS_JOURNAL_H
#define GIMUX_CHAOS_JOURNAL_H

#include <stdint.h>

#define JOURNAL_SIZE  ((uint64_t)256 << 20)
#define JOURNAL_MAGIC UINT64_C(0x6c616e72756f6a31)
#define JOURNAL_NAME  "journal"
#define JOURNAL_TEXT  128 /* of a file's name, NUL included */

struct journal_head {
    uint64_t magic;
    uint64_t used; /* bytes, this header included */
};

enum journal_kind {
    JOURNAL_WRITE = 1, /* `length` bytes at `offset`; `before` bytes that were there follow the entry */
    JOURNAL_TRUNCATE,  /* to `offset` bytes; the `before` bytes that were cut off follow */
    JOURNAL_SYNC,      /* what was written to the file before is on the disk */
    JOURNAL_CREATE,    /* of `name` */
    JOURNAL_UNLINK,    /* of `name` */
    JOURNAL_RENAME,    /* of `name` to `other`, which was the name of inode `replaced` (0: of none) */
    JOURNAL_DIRSYNC,   /* the names as they were before are on the disk */
};

struct journal_entry {
    uint32_t size; /* of the whole entry, a multiple of 8 */
    uint32_t kind; /* enum journal_kind */
    uint64_t inode;
    uint64_t offset;
    uint64_t length;
    uint64_t before;
    uint64_t old_size; /* of the file */
    uint64_t replaced;
    char name[JOURNAL_TEXT];
    char other[JOURNAL_TEXT];
};

#endif
