/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/utf8.h"

#include <string.h>

/* RFC 3629 §4: what the second byte may be, after a first one that asks for more. */
static unsigned utf8_expect(uint8_t c, uint8_t *low, uint8_t *high)
{
	*low = 0x80;
	*high = 0xbf;
	if (c >= 0xc2 && c <= 0xdf)
		return 2;
	if (c >= 0xe0 && c <= 0xef) {
		if (c == 0xe0)
			*low = 0xa0; /* no overlong form */
		if (c == 0xed)
			*high = 0x9f; /* no surrogate */
		return 3;
	}
	if (c >= 0xf0 && c <= 0xf4) {
		if (c == 0xf0)
			*low = 0x90;
		if (c == 0xf4)
			*high = 0x8f; /* up to U+10FFFF */
		return 4;
	}
	return 0;
}

unsigned utf8_next(const uint8_t *p, size_t n, unsigned *bad)
{
	uint8_t low, high;
	unsigned want;

	*bad = 1;
	if (!n)
		return 0;
	if (p[0] < 0x80)
		return 1;
	want = utf8_expect(p[0], &low, &high);
	for (unsigned i = 1; i < want; i++) {
		if (i >= n || p[i] < low || p[i] > high) {
			*bad = i;
			return 0;
		}
		low = 0x80;
		high = 0xbf;
	}
	return want;
}

int utf8_clean(struct buf *b, const void *bytes, size_t n)
{
	const uint8_t *p = bytes;
	size_t from = 0, i = 0;
	unsigned bad;
	int rc;

	while (i < n) {
		unsigned len = utf8_next(p + i, n - i, &bad);

		if (len) {
			i += len;
			continue;
		}
		if ((rc = buf_append(b, p + from, i - from)) ||
		    (rc = buf_append(b, "\xef\xbf\xbd", 3)))
			return rc;
		i += bad;
		from = i;
	}
	return i > from ? buf_append(b, p + from, i - from) : 0;
}

bool utf8_is_partial(const uint8_t *p, size_t n)
{
	uint8_t low, high;

	if (!n || utf8_expect(p[0], &low, &high) <= n)
		return false;
	for (size_t i = 1; i < n; i++) {
		if (p[i] < low || p[i] > high)
			return false;
		low = 0x80;
		high = 0xbf;
	}
	return true;
}

size_t utf8_prefix(const uint8_t *p, size_t n, bool *partial)
{
	unsigned len, bad;
	size_t i = 0;

	while ((len = utf8_next(p + i, n - i, &bad)))
		i += len;
	*partial = utf8_is_partial(p + i, n - i);
	return i;
}

bool utf8_check_add(struct utf8_check *c, const uint8_t *p, size_t n)
{
	bool partial;
	unsigned bad;
	size_t len;

	for (; c->n && n; p++, n--) {
		c->held[c->n++] = *p;
		if (utf8_next(c->held, c->n, &bad))
			c->n = 0;
		else if (!utf8_is_partial(c->held, c->n))
			return false;
	}
	if (!n)
		return true;
	len = utf8_prefix(p, n, &partial);
	if (len == n)
		return true;
	if (!partial)
		return false;
	c->n = (unsigned)(n - len);
	memcpy(c->held, p + len, n - len);
	return true;
}
