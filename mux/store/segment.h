/* Segments: the format of the files in which VM logs are kept.
 *
 * A segment is a run of records, appended, each at a multiple of 8 bytes. It needs no index and no other
 * segment to be read: it begins with its header, the VM's streams and how far each solution is in them; then
 * come frames, each with all that is known of it, and later positions. A record:
 *
 *     0  u64 checksum  XXH3 of all that follows, seeded with the segment's seed plus the record's offset
 *     8  u32 mark      XXH3 of size, seeded likewise, its lower half: tells where a record begins
 *    12  u32 size      of the record in bytes, this header included, padding not
 *    16  u8 kind, then what the kind has; fixed fields at their natural alignment, little-endian
 *
 * After damage the reader goes on at the next place where mark and checksum are right. The seed is random and
 * no guest knows it, so nothing that a guest sends can look like a record. It is in the file's name, too, so
 * that no single damage costs a whole segment. */
#ifndef GIMUX_STORE_SEGMENT_H
#define GIMUX_STORE_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/delimited.h"
#include "proto/guest_record.h"

#define SEGMENT_SIZE       ((size_t)1024 * 1024)     /* bytes after which the next segment is begun */
#define SEGMENT_MAX        ((size_t)4 * 1024 * 1024) /* bytes: a longer file is not ours */
#define SEGMENT_NUMBER_MAX ((UINT64_C(1) << 48) - 1) /* of a file of one VM */
#define SEGMENT_NAME_MAX   96                        /* of a file, its NUL included */
#define SEGMENT_TEXT_MAX   96                        /* a driver's build, a guest's OS */
#define SEGMENT_SOLUTION   64                        /* the name of one, its NUL included */

/* What a file's name says: <vm uuid>.<number, 12 hex digits>.<seed, 16 hex digits>.vmlog */
struct segment_name {
    uint8_t vm_uuid[GR_UUID_SIZE];
    uint64_t number; /* ascending within a VM; at most SEGMENT_NUMBER_MAX */
    uint64_t seed;
};

bool segment_name_parse(const char *file, struct segment_name *name);
char *segment_name_format(const struct segment_name *name, char out[SEGMENT_NAME_MAX]);

/* A mark says that all before it was synced when it was written. */
enum segment_kind { SEGMENT_HEADER = 1, SEGMENT_STREAM, SEGMENT_POSITION, SEGMENT_FRAME, SEGMENT_MARK };

/* One driver of one VM for one boot. */
struct segment_stream {
    uint8_t boot_id[GR_UUID_SIZE];
    uint16_t driver;
    bool ended;
    uint32_t id;    /* the number in its frames */
    uint64_t start; /* struct stream's */
    uint64_t last;  /* start - 1, or up to where records before this one say what became of every sequence */
    char build[SEGMENT_TEXT_MAX];
    char guest_os[SEGMENT_TEXT_MAX];
};

/* How far a solution is in a stream; the highest of all records counts. One whose solution is "" says that
 * the stream has come to `settled`, and that all positions up to there stand before it: what others say
 * beyond that, in a write that was torn, counts for nothing. */
struct segment_position {
    uint8_t boot_id[GR_UUID_SIZE];
    uint16_t driver;
    uint64_t settled; /* as in struct vmlog_progress, what is in an open gap not counted */
    uint64_t acked;
    uint64_t delivered;
    uint64_t filtered;
    uint64_t gapped;
    char solution[SEGMENT_SOLUTION];
};

/* One entry of a VM log and its frame. */
struct segment_frame {
    uint8_t boot_id[GR_UUID_SIZE];
    uint16_t driver;
    uint8_t cls;
    uint32_t id; /* of the stream */
    uint64_t sequence;
    uint32_t count;
    uint32_t record_bytes;
    uint32_t key;
    uint16_t key_len;
    uint32_t len;
    const uint8_t *data; /* len bytes, at most DELIMITED_PREFIX_MAX + DELIMITED_FRAME_MAX; the caller's */
};

/* Bytes that a record takes, padding included. */
#define SEGMENT_HEADER_SIZE   ((size_t)56)
#define SEGMENT_STREAM_SIZE   ((size_t)248)
#define SEGMENT_POSITION_SIZE ((size_t)144)
#define SEGMENT_MARK_SIZE     ((size_t)24)
size_t segment_frame_size(size_t len);

/* Each writes one record, which will stand at that offset of the segment, and returns the bytes it takes. */
size_t segment_put_header(uint8_t *out, const struct segment_name *name);
size_t segment_put_stream(uint8_t *out, uint64_t seed, uint64_t offset, const struct segment_stream *stream);
size_t segment_put_position(uint8_t *out, uint64_t seed, uint64_t offset,
                            const struct segment_position *position);
size_t segment_put_mark(uint8_t *out, uint64_t seed, uint64_t offset);
size_t segment_put_frame(uint8_t *out, uint64_t seed, uint64_t offset, const struct segment_frame *frame);

struct segment_record {
    enum segment_kind kind;
    uint64_t offset; /* in the segment */
    size_t size;     /* padding included */
    union {
        struct segment_name header;
        struct segment_stream stream;
        struct segment_position position;
        struct segment_frame frame; /* its data points into the buffer */
    } of;
};

/* Reads a buffer that holds the segment's bytes from `base` on. */
struct segment_reader {
    const uint8_t *buf;
    size_t len;
    uint64_t base; /* a multiple of 8 */
    uint64_t seed;
    size_t at;       /* where to go on */
    size_t good;     /* behind the last good record */
    size_t skipped;  /* bytes that were no record, with a good one behind them */
    unsigned damage; /* how many such runs */
};

/* The next good record. Returns false if there is none in the buffer: what is behind `good` is a torn tail,
 * or more is damaged. */
bool segment_next(struct segment_reader *reader, struct segment_record *record);

/* How many bytes of the segment that was written last are to be believed: where, behind the last mark, the
 * first record is damaged. What follows there may stand on the disk though what comes before it does not, and
 * nobody was told that it is safe. Without a mark, all of it. */
size_t segment_believable(const uint8_t *buf, size_t len, uint64_t seed);

#endif
