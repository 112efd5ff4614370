/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/sse.h"

#include <errno.h>
#include <string.h>

void sse_init(struct sse_parser *p, size_t max)
{
	*p = (struct sse_parser){ .max = max };
	/* A byte order mark and the last newline are not counted. */
	buf_init(&p->line, max + 3);
	buf_init(&p->data, max + 1);
}

void sse_fini(struct sse_parser *p)
{
	buf_fini(&p->line);
	buf_fini(&p->data);
}

static int sse_dispatch(struct sse_parser *p, sse_event_fn *fn, void *context)
{
	size_t len = buf_len(&p->data);
	int rc = 0;

	if (len)
		rc = fn(context, p->name[0] ? p->name : "message", buf_data(&p->data), len - 1);
	buf_consume(&p->data, len);
	p->name[0] = '\0';
	return rc;
}

static int sse_field(struct sse_parser *p, const uint8_t *name, size_t name_len,
		     const uint8_t *value, size_t len)
{
	int rc;

	if (name_len == 4 && !memcmp(name, "data", 4)) {
		rc = buf_append(&p->data, value, len);
		return rc ? rc : buf_append(&p->data, "\n", 1);
	}
	if (name_len == 5 && !memcmp(name, "event", 5)) {
		len = len < SSE_NAME_MAX ? len : SSE_NAME_MAX;
		memcpy(p->name, value, len);
		p->name[len] = '\0';
	}
	return 0;
}

/* @n bytes at @s are a line without its end. */
static int sse_line(struct sse_parser *p, const uint8_t *s, size_t n, sse_event_fn *fn,
		    void *context)
{
	const uint8_t *colon;
	size_t name_len;

	if (!p->started && n >= 3 && !memcmp(s, "\xEF\xBB\xBF", 3)) {
		s += 3;
		n -= 3;
	}
	p->started = true;
	if (!n)
		return sse_dispatch(p, fn, context);
	colon = memchr(s, ':', n);
	if (!colon)
		return sse_field(p, s, n, s + n, 0);
	if (colon == s)
		return 0; /* a comment */
	name_len = (size_t)(colon - s);
	colon++;
	n -= name_len + 1;
	if (n && *colon == ' ') {
		colon++;
		n--;
	}
	return sse_field(p, s, name_len, colon, n);
}

int sse_feed(struct sse_parser *p, const void *bytes, size_t n, sse_event_fn *fn, void *context)
{
	const uint8_t *s = bytes, *end = s + n, *stop;
	int rc;

	while (s < end) {
		if (p->after_cr && *s == '\n')
			s++; /* the second half of CR LF */
		p->after_cr = false;
		for (stop = s; stop < end && *stop != '\n' && *stop != '\r'; stop++)
			;
		if (buf_len(&p->line) || stop == end) {
			rc = buf_append(&p->line, s, (size_t)(stop - s));
			if (rc)
				return rc;
		}
		if (stop == end)
			break;
		p->after_cr = *stop == '\r';
		if (buf_len(&p->line))
			rc = sse_line(p, buf_data(&p->line), buf_len(&p->line), fn, context);
		else if ((size_t)(stop - s) > p->line.max)
			rc = -ENOBUFS;
		else
			rc = sse_line(p, s, (size_t)(stop - s), fn, context);
		if (rc)
			return rc;
		buf_consume(&p->line, buf_len(&p->line));
		s = stop + 1;
	}
	return 0;
}
