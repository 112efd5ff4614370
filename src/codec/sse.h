/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_SSE_H
#define MSB_CODEC_SSE_H

/*
 * Server-sent events, as they are received: bytes in pieces of any size become events.
 *
 * Spec: WHATWG HTML (2024), §9.2.6 "Interpreting an event stream".  Lines end with CR, LF or
 * both; a line without a colon is a field name; an event without data is none.  "id" and
 * "retry" are taken and not kept, since nothing reconnects here.  An event that the end of
 * the stream cuts off is not delivered.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define SSE_NAME_MAX 63 /* longer names of events are cut: nobody knows them */

struct sse_parser {
	struct buf line; /* the line that is not whole yet */
	struct buf data; /* of the event that is not whole yet, each line with a newline */
	char name[SSE_NAME_MAX + 1];
	bool after_cr, started;
	size_t max;
};

/*
 * Is given an event: @name is "message" if the stream does not say. @data is only lent.
 * Return: 0; anything else ends sse_feed(), which returns it.
 */
typedef int sse_event_fn(void *context, const char *name, const uint8_t *data, size_t len);

/* @max: largest line, and largest data of an event, in bytes. */
void sse_init(struct sse_parser *p, size_t max);
void sse_fini(struct sse_parser *p);

/*
 * Takes the next @n bytes and calls @fn for each event that they complete.
 * Return: 0, what @fn returned, -ENOBUFS (more than max) or -ENOMEM. After anything but 0 the
 * parser can only be freed.
 */
int sse_feed(struct sse_parser *p, const void *bytes, size_t n, sse_event_fn *fn, void *context);

#endif
