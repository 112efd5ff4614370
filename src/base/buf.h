/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_BASE_BUF_H
#define MSB_BASE_BUF_H

/*
 * A byte queue: append at the end, consume from the start.
 *
 * The memory grows as needed up to a limit that the owner sets, because the
 * bytes usually come from somebody who is not trusted.  Consuming never copies;
 * the space in front is reclaimed when the next append needs it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct buf {
	uint8_t *mem;
	size_t start, end, cap; /* bytes [start, end) of mem are queued */
	size_t max; /* largest number of queued bytes; 0 = no limit */
	bool secret; /* memory is overwritten before it is given back, also when it grows */
};

#define BUF_INIT \
	{ \
		.mem = NULL \
	}

void buf_init(struct buf *b, size_t max);
void buf_init_secret(struct buf *b, size_t max); /* for what must not stay in memory */
void buf_fini(struct buf *b);

static inline size_t buf_len(const struct buf *b)
{
	return b->end - b->start;
}

static inline const uint8_t *buf_data(const struct buf *b)
{
	return b->start ? b->mem + b->start : b->mem; /* never NULL + 0 */
}

/*
 * Makes room for @n more bytes. *@out points at them; buf_commit() queues them.
 * Return: 0, -ENOBUFS (limit) or -ENOMEM.
 */
int buf_reserve(struct buf *b, size_t n, uint8_t **out);
void buf_commit(struct buf *b, size_t n);

int buf_append(struct buf *b, const void *p, size_t n);

/* Drops the first @n queued bytes (at most those there are). */
void buf_consume(struct buf *b, size_t n);

/* Drops everything and gives the memory back. */
void buf_reset(struct buf *b);

#endif
