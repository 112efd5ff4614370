/* SPDX-License-Identifier: Apache-2.0 */
#include "server/rich.h"

#include <errno.h>
#include <stdio.h>

#include "codec/base64.h"
#include "codec/utf8.h"

/* An entry costs this besides its data, as in lines.c. */
#define RICH_ENTRY_COST (2 * FRAME_NAME_MAX)

void rich_init(struct rich *r, struct lines_pool *pool)
{
	*r = (struct rich){ .pool = pool, .array = json_array() };
	buf_init(&r->data, 0);
	r->failed = !r->array;
}

void rich_fini(struct rich *r)
{
	json_decref(r->array);
	json_decref(r->entry);
	r->array = r->entry = NULL;
	if (r->pool)
		r->pool->used -= r->kept;
	r->kept = 0;
	buf_fini(&r->data);
}

static bool rich_charge(struct rich *r, uint64_t n)
{
	if (n > r->pool->max - r->pool->used)
		return false;
	r->kept += (size_t)n;
	r->pool->used += (size_t)n;
	return true;
}

static json_t *rich_text(const void *p, size_t n)
{
	struct buf clean = BUF_INIT;
	json_t *text = NULL;

	if (!utf8_clean(&clean, p, n))
		text = json_stringn(buf_len(&clean) ? (const char *)buf_data(&clean) : "",
				    buf_len(&clean));
	buf_fini(&clean);
	return text;
}

static json_t *rich_base64(const struct buf *data)
{
	struct buf b = BUF_INIT;
	json_t *text = NULL;

	if (!base64_encode(&b, buf_data(data), buf_len(data)))
		text = json_stringn(buf_len(&b) ? (const char *)buf_data(&b) : "", buf_len(&b));
	buf_fini(&b);
	return text;
}

static void rich_note(struct rich *r, json_t *text)
{
	r->failed |= json_object_set_new(r->entry, "note", text) != 0;
}

/* What JSON makes of the data: a control character is \u0000 there. */
static uint64_t rich_written(const struct rich *r)
{
	const uint8_t *p = buf_data(&r->data);
	size_t n = buf_len(&r->data);
	uint64_t sum = n;

	if (!r->text)
		return BASE64_LEN((uint64_t)n);
	for (size_t i = 0; i < n; i++) {
		if (p[i] < 0x20)
			sum += 5;
		else if (p[i] == '"' || p[i] == '\\')
			sum += 1;
	}
	return sum;
}

/* The entry has all the data that will come. */
static void rich_end(struct rich *r)
{
	if (!r->entry || r->failed)
		return;
	r->dropped |= rich_written(r) > RICH_WRITTEN_MAX - r->written;
	if (r->dropped)
		rich_note(r, json_sprintf("left out: %llu bytes, there is no room for them",
					  (unsigned long long)r->size));
	else if (buf_len(&r->data) != r->size)
		rich_note(r, json_sprintf("lost: %llu bytes were announced, %zu came",
					  (unsigned long long)r->size, buf_len(&r->data)));
	if (r->dropped || buf_len(&r->data) != r->size)
		buf_consume(&r->data, buf_len(&r->data));
	r->written += rich_written(r);
	r->failed |= json_object_set_new(r->entry, "data",
					 r->text ? rich_text(buf_data(&r->data), buf_len(&r->data))
						 : rich_base64(&r->data)) != 0;
	r->failed |= json_array_append_new(r->array, r->entry) != 0;
	r->entry = NULL;
	buf_reset(&r->data);
}

int rich_add(struct rich *r, const struct frame *f)
{
	struct frame_repl_result m;

	rich_end(r);
	if (frame_decode(f, &m, sizeof(m)))
		return -EPROTO;
	if (r->failed || !frame_mime_valid(&m.mime) || !rich_charge(r, RICH_ENTRY_COST))
		return 0;
	r->text = frame_mime_is_text(&m.mime);
	r->size = m.size;
	r->dropped = m.size > FRAME_RESULTS_BYTES - r->bytes || !rich_charge(r, m.size);
	if (!r->dropped)
		r->bytes += m.size;
	r->entry = json_object();
	r->failed |=
		!r->entry || json_object_set_new(r->entry, "mime",
						 json_stringn((const char *)m.mime.p, m.mime.len));
	r->failed |= json_object_set_new(r->entry, "encoding",
					 json_string(r->text ? "utf-8" : "base64")) != 0;
	if (m.note.len)
		rich_note(r, rich_text(m.note.p, m.note.len));
	return 0;
}

void rich_add_data(struct rich *r, const void *p, size_t n)
{
	if (!r->entry || r->dropped || r->failed)
		return;
	/* More than announced is no entry's. */
	if (n > r->size - buf_len(&r->data))
		n = (size_t)(r->size - buf_len(&r->data));
	r->failed |= buf_append(&r->data, p, n) != 0;
}

json_t *rich_take(struct rich *r)
{
	json_t *a = r->array;

	rich_end(r);
	if (r->failed)
		return NULL;
	r->array = NULL;
	return a;
}
