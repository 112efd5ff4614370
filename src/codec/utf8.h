/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_UTF8_H
#define MSB_CODEC_UTF8_H

/* UTF-8 (RFC 3629) from bytes that may be anything. */

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

#endif
