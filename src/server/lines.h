/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_LINES_H
#define MSB_SERVER_LINES_H

/*
 * What a program printed, as the API shows it: an array of {stream, text}, one entry a
 * line without its newline, in the order in which lines were complete.  Bytes that are
 * no UTF-8 become U+FFFD.  It is kept as bytes and becomes an array at the end: as JSON
 * values, lines take ten times the memory and more.  Beyond @max bytes, or when the pool that several share is used
 * up, nothing more is kept, and `truncated` is set.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

struct lines_pool {
	size_t used, max; /* bytes kept by all that share it */
};

struct lines {
	struct lines_pool *pool;
	struct buf ended; /* each: 'e' or 'o', its bytes, a newline */
	struct buf partial[2]; /* stdout, stderr */
	size_t kept, max; /* bytes */
	bool truncated;
	bool failed; /* out of memory */
};

void lines_init(struct lines *l, size_t max, struct lines_pool *pool);
void lines_fini(struct lines *l);

/* @err: standard error, else standard output. */
void lines_add(struct lines *l, bool err, const void *p, size_t n);

/* Adds a line of our own, which always finds room. @text without a newline. */
void lines_say(struct lines *l, bool err, const char *text);

/* Ends the last lines and hands the array over; NULL if memory was out. */
json_t *lines_take(struct lines *l);

#endif
