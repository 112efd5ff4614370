/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_BASE64_H
#define MSB_CODEC_BASE64_H

/* Base64 with padding (RFC 4648 §4). */

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Length of the text of @n bytes, without a NUL. */
#define BASE64_LEN(n) (((n) + 2) / 3 * 4)

/* Appends the text of @p to @b. Return: as of buf_append(). */
int base64_encode(struct buf *b, const void *p, size_t n);

/*
 * Appends the bytes that @text stands for to @b.  Strict: no white space, the padding is
 * there, and its unused bits are zero.  Return: 0, -EINVAL, or as of buf_append(); on
 * failure @b is as it was.
 */
int base64_decode(struct buf *b, const char *text, size_t n);

#endif
