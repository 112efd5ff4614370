/* SPDX-License-Identifier: Apache-2.0 */
#include "server/lines.h"

#include <string.h>

#include "codec/utf8.h"

/* An entry costs this besides its text: a program that prints newlines only is bounded too. */
#define LINES_ENTRY_COST 64u

void lines_init(struct lines *l, size_t max, struct lines_pool *pool)
{
	*l = (struct lines){ .array = json_array(), .max = max, .pool = pool };
	buf_init(&l->partial[0], 0);
	buf_init(&l->partial[1], 0);
	l->failed = !l->array;
}

void lines_fini(struct lines *l)
{
	json_decref(l->array);
	l->array = NULL;
	l->pool->used -= l->kept;
	l->kept = 0;
	buf_fini(&l->partial[0]);
	buf_fini(&l->partial[1]);
}

static void lines_end(struct lines *l, bool err)
{
	struct buf *b = &l->partial[err], clean = BUF_INIT;
	json_t *text, *entry = json_object();

	l->failed |= utf8_clean(&clean, buf_data(b), buf_len(b)) != 0;
	text = json_stringn(buf_len(&clean) ? (const char *)buf_data(&clean) : "", buf_len(&clean));
	buf_fini(&clean);
	buf_consume(b, buf_len(b));
	if (!entry ||
	    json_object_set_new(entry, "stream", json_string(err ? "stderr" : "stdout")) ||
	    json_object_set_new(entry, "text", text) || json_array_append_new(l->array, entry))
		l->failed = true;
}

void lines_add(struct lines *l, bool err, const void *bytes, size_t n)
{
	const char *p = bytes;

	while (n && !l->failed) {
		const char *nl = memchr(p, '\n', n);
		size_t len = nl ? (size_t)(nl - p) : n;
		size_t cost = len + (nl ? LINES_ENTRY_COST : 0);

		if (cost > l->max - l->kept || cost > l->pool->max - l->pool->used) {
			l->truncated = true;
			return;
		}
		l->kept += cost;
		l->pool->used += cost;
		if (len && buf_append(&l->partial[err], p, len))
			l->failed = true;
		if (nl)
			lines_end(l, err);
		p += len + (nl ? 1 : 0);
		n -= len + (nl ? 1 : 0);
	}
}

void lines_say(struct lines *l, bool err, const char *text)
{
	if (buf_len(&l->partial[err]))
		lines_end(l, err);
	if (buf_append(&l->partial[err], text, strlen(text)))
		l->failed = true;
	lines_end(l, err);
}

json_t *lines_take(struct lines *l)
{
	json_t *a;

	for (unsigned err = 0; err < 2; err++)
		if (buf_len(&l->partial[err]))
			lines_end(l, err);
	if (l->failed)
		return NULL;
	a = l->array;
	l->array = NULL;
	return a;
}
