/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

#define BUF_MIN_CAP 4096u

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){ .max = max };
}

void buf_init_secret(struct buf *b, size_t max)
{
	*b = (struct buf){ .max = max, .secret = true };
}

static void buf_free(struct buf *b)
{
	if (b->secret && b->mem)
		explicit_bzero(b->mem, b->cap);
	free(b->mem);
}

void buf_fini(struct buf *b)
{
	buf_free(b);
	*b = (struct buf)BUF_INIT;
}

void buf_reset(struct buf *b)
{
	buf_free(b);
	*b = (struct buf){ .max = b->max, .secret = b->secret };
}

int buf_reserve(struct buf *b, size_t n, uint8_t **out)
{
	size_t len = buf_len(b), need, cap;
	uint8_t *mem;

	if (!checked_add(len, n, &need) || (b->max && need > b->max))
		return -ENOBUFS;
	if (b->cap - b->end < n && need <= b->cap) {
		memmove(b->mem, b->mem + b->start, len);
		b->start = 0;
		b->end = len;
	} else if (b->cap - b->end < n) {
		for (cap = b->cap ? b->cap : BUF_MIN_CAP; cap < need;)
			if (!checked_mul(cap, (size_t)2, &cap))
				return -ENOMEM;
		mem = malloc(cap);
		if (!mem)
			return -ENOMEM;
		if (len)
			memcpy(mem, b->mem + b->start, len);
		buf_free(b);
		b->mem = mem;
		b->cap = cap;
		b->start = 0;
		b->end = len;
	}
	*out = b->end ? b->mem + b->end : b->mem; /* never NULL + 0 */
	return 0;
}

void buf_commit(struct buf *b, size_t n)
{
	b->end += n;
}

int buf_append(struct buf *b, const void *p, size_t n)
{
	uint8_t *to;
	int rc;

	if (!n)
		return 0; /* there may be no memory yet to point into */
	rc = buf_reserve(b, n, &to);
	if (rc)
		return rc;
	memcpy(to, p, n);
	buf_commit(b, n);
	return 0;
}

void buf_consume(struct buf *b, size_t n)
{
	size_t len = buf_len(b);

	b->start += n < len ? n : len;
	if (b->start == b->end)
		b->start = b->end = 0;
}
