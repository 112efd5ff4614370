/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/base64.h"

#include <errno.h>
#include <string.h>

static const char base64_set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int base64_encode(struct buf *b, const void *bytes, size_t n)
{
	const uint8_t *p = bytes;
	uint8_t *to;
	int rc;

	if (!n)
		return 0;
	rc = n > SIZE_MAX / 2 ? -ENOBUFS : buf_reserve(b, BASE64_LEN(n), &to);
	if (rc)
		return rc;
	for (size_t i = 0; i < n; i += 3, to += 4) {
		size_t left = n - i;
		uint32_t v = (uint32_t)p[i] << 16;

		if (left > 1)
			v |= (uint32_t)p[i + 1] << 8;
		if (left > 2)
			v |= p[i + 2];
		to[0] = (uint8_t)base64_set[v >> 18];
		to[1] = (uint8_t)base64_set[v >> 12 & 63];
		to[2] = left > 1 ? (uint8_t)base64_set[v >> 6 & 63] : '=';
		to[3] = left > 2 ? (uint8_t)base64_set[v & 63] : '=';
	}
	buf_commit(b, BASE64_LEN(n));
	return 0;
}

static int base64_value(char c)
{
	const char *at = c ? strchr(base64_set, c) : NULL;

	return at ? (int)(at - base64_set) : -1;
}

/* Four characters, @pad of which are padding. Return: 0 or -EINVAL. */
static int base64_group(const char *text, size_t pad, uint8_t to[3])
{
	uint32_t v = 0;

	for (size_t i = 0; i < 4; i++) {
		int digit = i < 4 - pad ? base64_value(text[i]) : 0;

		if (digit < 0)
			return -EINVAL;
		v = v << 6 | (uint32_t)digit;
	}
	if ((pad == 1 && v & 0xff) || (pad == 2 && v & 0xffff))
		return -EINVAL;
	to[0] = (uint8_t)(v >> 16);
	to[1] = (uint8_t)(v >> 8);
	to[2] = (uint8_t)v;
	return 0;
}

int base64_decode(struct buf *b, const char *text, size_t n)
{
	size_t pad = 0, len = n / 4 * 3;
	uint8_t *to, group[3];
	int rc;

	if (n % 4)
		return -EINVAL;
	if (!n)
		return 0;
	while (pad < 2 && text[n - 1 - pad] == '=')
		pad++;
	rc = buf_reserve(b, len, &to);
	for (size_t i = 0; !rc && i < n; i += 4, to += 3) {
		rc = base64_group(text + i, i + 4 == n ? pad : 0, group);
		memcpy(to, group, sizeof(group));
	}
	if (!rc)
		buf_commit(b, len - pad);
	return rc;
}
