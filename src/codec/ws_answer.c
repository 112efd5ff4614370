/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/ws_answer.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

enum {
	WS_ANSWER_STATUS,
	WS_ANSWER_FIELDS,
	WS_ANSWER_CHUNK, /* the line before one */
	WS_ANSWER_CHUNK_END, /* the empty line after one */
	WS_ANSWER_TRAILERS,
	/* from here on bytes, not lines */
	WS_ANSWER_CHUNK_DATA,
	WS_ANSWER_LENGTH,
	WS_ANSWER_TO_END,
	WS_ANSWER_DONE,
};

/* A part of a line. */
struct ws_text {
	const char *p;
	size_t n;
};

void ws_answer_init(struct ws_answer *a, size_t head_max, size_t body_max)
{
	*a = (struct ws_answer){ .reason = "", .head_left = head_max };
	buf_init(&a->body, body_max);
}

void ws_answer_fini(struct ws_answer *a)
{
	buf_fini(&a->line);
	buf_fini(&a->body);
}

static int ws_answer_bad(struct ws_answer *a, const char *reason)
{
	a->reason = reason;
	return -EBADMSG;
}

/* ---- text ---- */

static bool ws_text_is(struct ws_text t, const char *word)
{
	return t.n == strlen(word) && !strncasecmp(t.p, word, t.n);
}

static struct ws_text ws_text_trim(struct ws_text t)
{
	while (t.n && (*t.p == ' ' || *t.p == '\t')) {
		t.p++;
		t.n--;
	}
	while (t.n && (t.p[t.n - 1] == ' ' || t.p[t.n - 1] == '\t'))
		t.n--;
	return t;
}

/* Takes what stands before the first @c, or all. */
static struct ws_text ws_text_split(struct ws_text *t, char c)
{
	const char *at = memchr(t->p, c, t->n);
	struct ws_text first = { t->p, at ? (size_t)(at - t->p) : t->n };

	t->p += first.n + (at != NULL);
	t->n -= first.n + (at != NULL);
	return first;
}

/* Is @word in a list with commas? */
static bool ws_text_lists(struct ws_text t, const char *word)
{
	while (t.n)
		if (ws_text_is(ws_text_trim(ws_text_split(&t, ',')), word))
			return true;
	return false;
}

static int ws_text_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : 16;
}

/* A number with nothing around it, below 2^60. */
static bool ws_text_number(struct ws_text t, unsigned base, uint64_t *out)
{
	uint64_t v = 0;

	for (size_t i = 0; i < t.n; i++) {
		unsigned digit = (unsigned)ws_text_digit(t.p[i]);

		if (digit >= base || v >> 56)
			return false;
		v = v * base + digit;
	}
	*out = v;
	return t.n;
}

/* ---- the head ---- */

static int ws_answer_status(struct ws_answer *a, struct ws_text line)
{
	struct ws_text version = ws_text_split(&line, ' '), code = ws_text_split(&line, ' ');
	uint64_t status;

	if (version.n != 8 || memcmp(version.p, "HTTP/1.", 7) || ws_text_digit(version.p[7]) > 9 ||
	    code.n != 3 || !ws_text_number(code, 10, &status) || status < 100)
		return ws_answer_bad(a, "it does not begin as an answer of HTTP/1.1 does");
	a->status = (unsigned)status;
	a->upgrade = a->connection = a->extras = a->chunked = a->has_length = false;
	a->accepts = 0;
	a->state = WS_ANSWER_FIELDS;
	return 0;
}

static int ws_answer_length(struct ws_answer *a, struct ws_text value)
{
	uint64_t length;

	if (!ws_text_number(value, 10, &length) || (a->has_length && length != a->length))
		return ws_answer_bad(a, "its length is none");
	a->has_length = true;
	a->length = length;
	return 0;
}

static int ws_answer_field(struct ws_answer *a, struct ws_text line)
{
	struct ws_text value = line, name = ws_text_split(&value, ':');

	if (name.n == line.n || !name.n || memchr(name.p, ' ', name.n) ||
	    memchr(name.p, '\t', name.n))
		return ws_answer_bad(a, "a line of its head is none");
	value = ws_text_trim(value);
	if (ws_text_is(name, "content-length"))
		return ws_answer_length(a, value);
	if (ws_text_is(name, "transfer-encoding")) {
		if (a->chunked || !ws_text_is(value, "chunked"))
			return ws_answer_bad(a, "its body is coded in an unknown way");
		a->chunked = true;
	} else if (ws_text_is(name, "upgrade")) {
		a->upgrade = ws_text_is(value, "websocket");
	} else if (ws_text_is(name, "connection")) {
		a->connection |= ws_text_lists(value, "upgrade");
	} else if (ws_text_is(name, "sec-websocket-extensions") ||
		   ws_text_is(name, "sec-websocket-protocol")) {
		a->extras = true;
	} else if (ws_text_is(name, "sec-websocket-accept") && !a->accepts++) {
		if (value.n >= sizeof(a->accept) || memchr(value.p, '\0', value.n))
			value.n = 0;
		memcpy(a->accept, value.p, value.n);
		a->accept[value.n] = '\0';
	}
	return 0;
}

static void ws_answer_head_done(struct ws_answer *a)
{
	if (a->status == 101)
		a->state = WS_ANSWER_DONE;
	else if (a->status < 200)
		a->state = WS_ANSWER_STATUS;
	else if (a->status == 204 || a->status == 304)
		a->state = WS_ANSWER_DONE;
	else if (a->chunked)
		a->state = WS_ANSWER_CHUNK;
	else if (a->has_length)
		a->state = a->length ? WS_ANSWER_LENGTH : WS_ANSWER_DONE;
	else
		a->state = WS_ANSWER_TO_END;
	a->left = a->length;
}

static int ws_answer_chunk(struct ws_answer *a, struct ws_text line)
{
	/* What follows a semicolon are extensions, which nobody has. */
	if (!ws_text_number(ws_text_trim(ws_text_split(&line, ';')), 16, &a->left))
		return ws_answer_bad(a, "the size of a part of its body is none");
	a->state = a->left ? WS_ANSWER_CHUNK_DATA : WS_ANSWER_TRAILERS;
	return 0;
}

static int ws_answer_line(struct ws_answer *a, struct ws_text line)
{
	switch (a->state) {
	case WS_ANSWER_STATUS:
		return ws_answer_status(a, line);
	case WS_ANSWER_FIELDS:
		if (line.n)
			return ws_answer_field(a, line);
		ws_answer_head_done(a);
		return 0;
	case WS_ANSWER_CHUNK:
		return ws_answer_chunk(a, line);
	case WS_ANSWER_CHUNK_END:
		a->state = WS_ANSWER_CHUNK;
		return line.n ? ws_answer_bad(a, "a part of its body is longer than it says") : 0;
	default: /* trailers */
		if (!line.n)
			a->state = WS_ANSWER_DONE;
		return 0;
	}
}

/* ---- bytes ---- */

/* Takes up to the end of a line. */
static int ws_answer_feed_line(struct ws_answer *a, const uint8_t *p, size_t n, size_t *used)
{
	const uint8_t *newline = memchr(p, '\n', n);
	size_t take = newline ? (size_t)(newline - p) + 1 : n;
	struct ws_text line;
	int rc;

	if (take > a->head_left)
		return -ENOBUFS;
	rc = buf_append(&a->line, p, take);
	if (rc)
		return rc;
	a->head_left -= take;
	*used += take;
	if (!newline)
		return 0;
	line = (struct ws_text){ (const char *)buf_data(&a->line), buf_len(&a->line) - 1 };
	if (line.n && line.p[line.n - 1] == '\r')
		line.n--;
	rc = ws_answer_line(a, line);
	buf_consume(&a->line, buf_len(&a->line));
	return rc;
}

static int ws_answer_feed_body(struct ws_answer *a, const uint8_t *p, size_t n, size_t *used)
{
	size_t take = a->state != WS_ANSWER_TO_END && a->left < n ? (size_t)a->left : n;
	int rc = buf_append(&a->body, p, take);

	if (rc)
		return rc;
	*used += take;
	if (a->state == WS_ANSWER_TO_END)
		return 0;
	a->left -= take;
	if (!a->left)
		a->state = a->state == WS_ANSWER_LENGTH ? WS_ANSWER_DONE : WS_ANSWER_CHUNK_END;
	return 0;
}

int ws_answer_feed(struct ws_answer *a, const uint8_t *p, size_t n, size_t *used)
{
	int rc = 0;

	*used = 0;
	while (a->state != WS_ANSWER_DONE && *used < n && !rc) {
		if (a->state < WS_ANSWER_CHUNK_DATA)
			rc = ws_answer_feed_line(a, p + *used, n - *used, used);
		else
			rc = ws_answer_feed_body(a, p + *used, n - *used, used);
	}
	if (rc || a->state != WS_ANSWER_DONE)
		return rc;
	return a->status == 101 ? WS_ANSWER_SWITCHED : WS_ANSWER_WHOLE;
}

int ws_answer_end(struct ws_answer *a)
{
	return a->state == WS_ANSWER_TO_END ? WS_ANSWER_WHOLE : -EPIPE;
}

bool ws_answer_fits(const struct ws_answer *a, const char *key)
{
	char accept[WS_ACCEPT_SIZE];

	return a->status == 101 && a->upgrade && a->connection && !a->extras && a->accepts == 1 &&
	       ws_accept(key, accept) && !strcmp(a->accept, accept);
}
