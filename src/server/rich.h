/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_RICH_H
#define MSB_SERVER_RICH_H

/*
 * What a call of an interpreter showed beside its output, as the API shows it: an array of
 * {mime, encoding, data}, with a note where data is missing.  Text types (frame_mime_is_text()) as
 * text, bytes that are no UTF-8 as U+FFFD; the others in base64.
 *
 * It all comes from the guest.  An entry whose type is none is dropped; one that passes
 * FRAME_RESULTS_BYTES with those before it, or RICH_WRITTEN_MAX as the JSON that it becomes,
 * or for which the pool has no room, or of which less comes than was announced, has a note
 * instead of its data.
 */

#include <jansson.h>
#include <stdbool.h>

#include "codec/frame.h"
#include "server/lines.h"

/* Base64 of FRAME_RESULTS_BYTES fits; text of nothing but control characters does not. */
#define RICH_WRITTEN_MAX (12u << 20)

struct rich {
	struct lines_pool *pool;
	json_t *array; /* owned */
	json_t *entry; /* owned: its data are still coming; NULL = none */
	struct buf data; /* of it */
	uint64_t size; /* announced for it */
	bool text; /* so is its data to be shown */
	bool dropped; /* there was no room for it */
	size_t kept; /* bytes of the pool */
	uint64_t bytes; /* of data, of all entries */
	uint64_t written; /* bytes of the data as JSON has them */
	bool failed; /* out of memory */
};

void rich_init(struct rich *r, struct lines_pool *pool);
void rich_fini(struct rich *r);

/* A REPL_RESULT. Return: 0, or -EPROTO if it is malformed. */
int rich_add(struct rich *r, const struct frame *f);

/* DATA of STREAM_RESULT. */
void rich_add_data(struct rich *r, const void *p, size_t n);

/* Ends the last entry and hands the array over; NULL if memory was out. */
json_t *rich_take(struct rich *r);

#endif
