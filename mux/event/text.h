/* Texts of guests made fit for protobuf: UTF-16LE or UTF-8, possibly malformed, to valid UTF-8 without NUL.
 */
#ifndef GIMUX_EVENT_TEXT_H
#define GIMUX_EVENT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of output that a text of len bytes of input needs at most, its NUL included. */
#define TEXT_ROOM(len) ((size_t)(len)*3 + 1)

/* Both write at most TEXT_ROOM(len) bytes to out, end them with NUL, and return their number without the NUL.
 * What cannot be said becomes U+FFFD and sets *lossy, which is otherwise left alone: an unpaired surrogate, a
 * last odd byte, U+0000; in UTF-8 each byte that is not part of a well-formed sequence (overlong forms,
 * surrogates and numbers over 0x10FFFF are not well-formed). `in` may be NULL if len is 0. */
size_t text_from_utf16le(const uint8_t *in, size_t len, char *out, bool *lossy);
size_t text_from_utf8(const uint8_t *in, size_t len, char *out, bool *lossy);

/* What nearly all texts are: ASCII from U+0001 on. Both write exactly the text's len / 2 or len bytes to out,
 * and no NUL. False if the text is something else: then these bytes are anything. */
bool text_copy_utf16le(const uint8_t *in, size_t len, char *out);
bool text_copy_utf8(const uint8_t *in, size_t len, char *out);

#define TEXT_SHOWN_MAX 600 /* bytes, NUL included */

/* A text that a peer says (UTF-16LE or UTF-8), for logs and for others: valid UTF-8 with a NUL in the `cap`
 * bytes of out, at most TEXT_SHOWN_MAX. What does not fit is left out, by whole characters. */
void text_show(const uint8_t *said, size_t len, bool utf16, char *out, size_t cap);

#endif
