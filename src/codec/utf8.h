/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_UTF8_H
#define MSB_CODEC_UTF8_H

/* UTF-8 (RFC 3629) from bytes that may be anything. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/*
 * Length of the valid sequence at @p (1 to 4); 0 if there is none: then *@bad bytes are to
 * be replaced by one U+FFFD (the longest prefix of a sequence, or one byte).
 */
unsigned utf8_next(const uint8_t *p, size_t n, unsigned *bad);

/* Appends @p to @b, each bad sequence replaced by U+FFFD. Return: as of buf_append(). */
int utf8_clean(struct buf *b, const void *p, size_t n);

/* Is all of @p the beginning of one sequence, of which more is to come? */
bool utf8_is_partial(const uint8_t *p, size_t n);

/*
 * How many bytes at the start of @p are UTF-8.  The rest is no UTF-8, unless it is the
 * beginning of a sequence that the next bytes may complete; then *@partial is true.
 */
size_t utf8_prefix(const uint8_t *p, size_t n, bool *partial);

/* Text that comes in pieces, cut anywhere. Starts as zeroes. */
struct utf8_check {
	uint8_t held[4];
	unsigned n; /* bytes of a sequence that is not complete; 0 = it may end here */
};

/* Return: false if what came is no UTF-8. */
bool utf8_check_add(struct utf8_check *c, const uint8_t *p, size_t n);

#endif
