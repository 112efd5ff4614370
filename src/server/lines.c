/* SPDX-License-Identifier: Apache-2.0 */
#include "server/lines.h"

#include <string.h>

#include "codec/utf8.h"

/* An entry counts as this besides its text, which is about what it is in the answer. */
#define LINES_ENTRY_COST 64u

void lines_init(struct lines *l, size_t max, struct lines_pool *pool)
{
	*l = (struct lines){ .max = max, .pool = pool };
	buf_init(&l->ended, 0);
	buf_init(&l->partial[0], 0);
	buf_init(&l->partial[1], 0);
}

void lines_fini(struct lines *l)
{
	buf_fini(&l->ended);
	l->pool->used -= l->kept;
	l->kept = 0;
	buf_fini(&l->partial[0]);
	buf_fini(&l->partial[1]);
}

static void lines_end(struct lines *l, bool err)
{
	struct buf *b = &l->partial[err];

	if (buf_append(&l->ended, err ? "e" : "o", 1) ||
	    (buf_len(b) && buf_append(&l->ended, buf_data(b), buf_len(b))) ||
	    buf_append(&l->ended, "\n", 1))
		l->failed = true;
	buf_consume(b, buf_len(b));
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

/* Appends one entry. @streams: the two names, shared by all entries. */
static int lines_append(json_t *all, json_t *const streams[2], const char *p, size_t n)
{
	struct buf clean = BUF_INIT;
	json_t *entry = json_object();
	int rc = utf8_clean(&clean, p + 1, n - 1);

	if (!rc)
		rc = json_object_set(entry, "stream", streams[*p == 'e']);
	if (!rc)
		rc = json_object_set_new(entry, "text",
					 json_stringn(buf_len(&clean)
							      ? (const char *)buf_data(&clean)
							      : "",
						      buf_len(&clean)));
	buf_fini(&clean);
	if (!rc)
		return json_array_append_new(all, entry);
	json_decref(entry);
	return rc;
}

json_t *lines_take(struct lines *l)
{
	json_t *streams[2] = { json_string("stdout"), json_string("stderr") };
	json_t *all = json_array();
	const char *p;

	for (unsigned err = 0; err < 2; err++)
		if (buf_len(&l->partial[err]))
			lines_end(l, err);
	p = (const char *)buf_data(&l->ended);
	for (size_t left = buf_len(&l->ended); left && !l->failed;) {
		size_t n = (size_t)((const char *)memchr(p, '\n', left) - p);

		if (lines_append(all, streams, p, n))
			l->failed = true;
		p += n + 1;
		left -= n + 1;
	}
	buf_reset(&l->ended);
	json_decref(streams[0]);
	json_decref(streams[1]);
	if (!l->failed)
		return all;
	json_decref(all);
	return NULL;
}
