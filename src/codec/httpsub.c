/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Theory of operation
 *
 * Purpose
 *   A sandbox has placeholders in the place of secrets.  Towards a host that may have the
 *   values they are put into the fields of its requests' heads, and nowhere else: not into
 *   the target, which ends up in logs and caches, not into bodies, which may be stored and
 *   read back, and not into fields that frame and route a request or that servers are known
 *   to write down.
 *
 * Spec
 *   RFC 9112 (HTTP/1.1) and RFC 9110, as strictly as a sender has to keep to them: lines end
 *   in CR LF, names are tokens with the colon right behind them, no folded lines, one Host, one
 *   Content-Length of digits, or a Transfer-Encoding of "chunked" alone.  What a lenient server
 *   could take for something else is refused, since a body that it takes for longer than we do
 *   would hold a head of ours with a value in it ("request smuggling").  The other way round a
 *   placeholder stays one.
 *
 * States
 *   A head is gathered to its end, judged as a whole, and then passed on.  Bodies pass as they
 *   come.  What does not begin like a request of HTTP/1, or is one no more (CONNECT, Upgrade),
 *   is opaque from there on: it passes as it is, to the end of the connection.
 *
 * Who gets what
 *   A secret is put in only if the request's own Host names a host of that secret, with the
 *   port of the connection if it names one, and its target is a path.  The address has been judged by the owner.  So a server that
 *   houses several names gets no value for another of them.  TRACE, whose answer is the
 *   request itself, gets none.
 *
 * Trust boundary
 *   All bytes are the guest's, which is hostile.  Every length is bounded; the messages of
 *   errors hold none of the bytes.
 */
#include "codec/httpsub.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "codec/base64.h"

#define HTTPSUB_METHOD_MAX 32u
#define HTTPSUB_DIGITS_MAX 15u /* of a length, decimal or hexadecimal: fits in 64 bits by far */

struct httpsub_field {
	const char *all; /* the line without its CR LF */
	size_t all_len;
	const char *name, *value; /* the value with no space around it */
	size_t name_len, value_len;
};

/* What a head says. */
struct httpsub_request {
	const char *line; /* the request line, without its CR LF */
	size_t line_len;
	size_t method_len;
	bool path; /* the target is a path: Host says whose */
	bool http10, chunked, upgrade;
	unsigned n_host, n_length, n_encoding;
	uint64_t length;
	char host[NETRULE_NAME_MAX + 1]; /* "" = none, or one that is no name of ours */
};

void httpsub_init(struct httpsub *h, const struct secret *secrets, uint32_t mask, uint16_t port)
{
	*h = (struct httpsub){ .secrets = secrets, .mask = mask, .port = port };
	buf_init_secret(&h->head, HTTPSUB_HEAD_MAX);
}

void httpsub_fini(struct httpsub *h)
{
	buf_fini(&h->head);
}

/* ---- characters ------------------------------------------------------------------- */

static bool httpsub_is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_';
}

/* tchar of RFC 9110 §5.6.2 */
static bool httpsub_is_token(char c)
{
	return httpsub_is_word(c) || (c && strchr("!#$%&'*+-.^`|~", c));
}

static bool httpsub_is(const char *p, size_t n, const char *word)
{
	return n == strlen(word) && !strncasecmp(p, word, n);
}

static bool httpsub_starts(const char *p, size_t n, const char *word)
{
	return n >= strlen(word) && !strncasecmp(p, word, strlen(word));
}

/* No control characters but tabs: a CR or NUL is an end of line to some. */
static bool httpsub_is_text(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (((uint8_t)p[i] < 0x20 && p[i] != '\t') || p[i] == 0x7f)
			return false;
	return true;
}

/* ---- putting values in ---------------------------------------------------------------- */

static const struct secret *httpsub_secret(const struct httpsub *h, uint32_t mask, const char *name,
					   size_t len)
{
	for (unsigned i = 0; i < SECRETS_MAX; i++)
		if (mask & 1u << i && strlen(h->secrets[i].name) == len &&
		    !memcmp(h->secrets[i].name, name, len))
			return &h->secrets[i];
	return NULL;
}

/* Appends @p with the values of @mask's secrets for their placeholders. */
static int httpsub_put(struct httpsub *h, uint32_t mask, const char *p, size_t n, struct buf *out)
{
	static const char mark[] = SECRET_PLACEHOLDER;
	const char *at = p, *end = p + n, *from = p;
	int rc = 0;

	while (!rc && (at = memmem(at, (size_t)(end - at), mark, sizeof(mark) - 1))) {
		const char *name = at + sizeof(mark) - 1, *stop = name;
		const struct secret *s;

		while (stop < end && httpsub_is_word(*stop))
			stop++;
		/* A word that only ends like one is none. */
		s = at > p && httpsub_is_word(at[-1])
			    ? NULL
			    : httpsub_secret(h, mask, name, (size_t)(stop - name));
		if (s) {
			rc = buf_append(out, from, (size_t)(at - from));
			rc = rc ? rc : buf_append(out, s->value, s->value_len);
			h->used |= 1u << (s - h->secrets);
			from = stop;
		}
		at = stop;
	}
	return rc ? rc : buf_append(out, from, (size_t)(end - from));
}

/* The credentials of "Basic" are base64 (RFC 7617): what stands behind the word and its space. */
static int httpsub_put_basic(struct httpsub *h, uint32_t mask, const char *p, size_t n,
			     struct buf *out)
{
	struct buf plain, with;
	uint32_t used = h->used;
	int rc;

	buf_init_secret(&plain, HTTPSUB_HEAD_MAX);
	buf_init_secret(&with, HTTPSUB_HEAD_OUT_MAX / 2);
	h->used = 0;
	rc = base64_decode(&plain, p, n);
	if (!rc)
		rc = httpsub_put(h, mask, (const char *)buf_data(&plain), buf_len(&plain), &with);
	if (rc == -EINVAL || (!rc && !h->used)) /* no base64, or none of ours in it */
		rc = buf_append(out, p, n);
	else if (!rc)
		rc = base64_encode(out, buf_data(&with), buf_len(&with));
	h->used |= used;
	buf_fini(&plain);
	buf_fini(&with);
	return rc;
}

/*
 * Fields that keep their placeholders: those that say where a request ends and whose it is, and
 * those that servers write into logs and answers.
 */
static bool httpsub_is_shut(const struct httpsub_field *f)
{
	static const char *const names[] = {
		"Host",         "Connection",        "Proxy-Connection", "Keep-Alive", "TE",
		"Trailer",      "Transfer-Encoding", "Upgrade",          "Expect",     "Via",
		"Max-Forwards", "Forwarded",         "Referer",          "User-Agent", "Origin",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (httpsub_is(f->name, f->name_len, names[i]))
			return true;
	return httpsub_starts(f->name, f->name_len, "Content-") ||
	       httpsub_starts(f->name, f->name_len, "X-Forwarded-");
}

/* We stand in between (RFC 9110 §7.6.1), and know no other protocol for the connection. */
static bool httpsub_is_h2c(const struct httpsub_field *f)
{
	return httpsub_is(f->name, f->name_len, "HTTP2-Settings") ||
	       (httpsub_is(f->name, f->name_len, "Upgrade") &&
		httpsub_is(f->value, f->value_len, "h2c"));
}

static int httpsub_put_field(struct httpsub *h, uint32_t mask, const struct httpsub_field *f,
			     struct buf *out)
{
	size_t before = (size_t)(f->value - f->all), word = 0;
	int rc;

	if (httpsub_is_h2c(f))
		return 0;
	if (httpsub_is_shut(f))
		mask = 0;
	if (mask && httpsub_is(f->name, f->name_len, "Authorization") &&
	    httpsub_starts(f->value, f->value_len, "Basic ")) {
		word = 6;
		while (word < f->value_len && f->value[word] == ' ')
			word++;
	}
	rc = buf_append(out, f->all, before + word);
	if (!rc && word)
		rc = httpsub_put_basic(h, mask, f->value + word, f->value_len - word, out);
	else if (!rc)
		rc = httpsub_put(h, mask, f->value, f->value_len, out);
	before += f->value_len;
	rc = rc ? rc : buf_append(out, f->all + before, f->all_len - before);
	return rc ? rc : buf_append(out, "\r\n", 2);
}

/* ---- a head --------------------------------------------------------------------------- */

/* "METHOD target HTTP/1.x", all that a line has; -ENOMSG: something else. */
static int httpsub_request_line(struct httpsub_request *q)
{
	const char *p = q->line, *end = p + q->line_len, *target;
	size_t n;

	while (p < end && httpsub_is_token(*p))
		p++;
	q->method_len = (size_t)(p - q->line);
	if (!q->method_len || q->method_len > HTTPSUB_METHOD_MAX || p == end || *p != ' ')
		return -ENOMSG;
	target = ++p;
	while (p < end && *p != ' ')
		p++;
	n = (size_t)(end - p);
	if (p == target || n != 9 || memcmp(p, " HTTP/1.", 8) || (p[8] != '0' && p[8] != '1'))
		return -ENOMSG;
	q->path = *target == '/' || (*target == '*' && p - target == 1);
	q->http10 = p[8] == '0';
	return 0;
}

/* The line at *@at of a head, which ends in CR LF; -ENODATA: the empty one. */
static int httpsub_next_field(const char **at, const char *end, struct httpsub_field *f)
{
	const char *line = *at, *lf = memchr(line, '\n', (size_t)(end - line)), *p = line;

	if (!lf || lf == line || lf[-1] != '\r')
		return -EPROTO;
	f->all = line;
	f->all_len = (size_t)(lf - line) - 1;
	*at = lf + 1;
	if (!f->all_len)
		return -ENODATA;
	while (httpsub_is_token(*p))
		p++;
	f->name = line;
	f->name_len = (size_t)(p - line);
	if (!f->name_len || *p != ':' || !httpsub_is_text(line, f->all_len))
		return -EPROTO;
	lf--;
	for (p++; p < lf && (*p == ' ' || *p == '\t'); p++)
		;
	while (lf > p && (lf[-1] == ' ' || lf[-1] == '\t'))
		lf--;
	f->value = p;
	f->value_len = (size_t)(lf - p);
	return 0;
}

/* Host: a name, and the port of the connection if it has one. Anything else is nobody's. */
static void httpsub_host(const struct httpsub *h, struct httpsub_request *q, const char *p, size_t n)
{
	const char *colon = memchr(p, ':', n);
	size_t len = colon ? (size_t)(colon - p) : n;
	unsigned port = 0;

	q->host[0] = '\0';
	for (const char *d = colon ? colon + 1 : p + n; d < p + n; d++) {
		if (*d < '0' || *d > '9' || (port = port * 10 + (unsigned)(*d - '0')) > 65535)
			return;
	}
	if (colon && port != h->port)
		return;
	if (len && p[len - 1] == '.')
		len--;
	if (!len || len > NETRULE_NAME_MAX)
		return;
	for (size_t i = 0; i < len; i++) {
		char c = p[i];

		if (c >= 'A' && c <= 'Z')
			c |= 0x20;
		else if (!httpsub_is_word(c) && c != '-' && c != '.')
			len = 0;
		q->host[i] = c;
	}
	q->host[len] = '\0';
}

static int httpsub_length(struct httpsub_request *q, const char *p, size_t n)
{
	q->length = 0;
	for (size_t i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return -EPROTO;
		q->length = q->length * 10 + (uint64_t)(p[i] - '0');
	}
	return n && n <= HTTPSUB_DIGITS_MAX ? 0 : -EPROTO;
}

static int httpsub_note(const struct httpsub *h, struct httpsub_request *q,
			const struct httpsub_field *f, struct err *e)
{
	if (httpsub_is(f->name, f->name_len, "Host")) {
		httpsub_host(h, q, f->value, f->value_len);
		return q->n_host++ ? err_set(e, EPROTO, "more than one Host") : 0;
	}
	if (httpsub_is(f->name, f->name_len, "Content-Length")) {
		if (q->n_length++ || httpsub_length(q, f->value, f->value_len))
			return err_set(e, EPROTO, "Content-Length is not one number");
		return 0;
	}
	if (httpsub_is(f->name, f->name_len, "Transfer-Encoding")) {
		q->chunked = true;
		if (q->n_encoding++ || !httpsub_is(f->value, f->value_len, "chunked"))
			return err_set(e, EPROTO, "Transfer-Encoding is not 'chunked' alone");
		return 0;
	}
	if (httpsub_is(f->name, f->name_len, "Upgrade") && !httpsub_is_h2c(f))
		q->upgrade = true;
	return 0;
}

/* Reads a whole head; what it says is certain then. */
static int httpsub_read(const struct httpsub *h, const char *at, const char *end,
			struct httpsub_request *q, struct err *e)
{
	struct httpsub_field f;
	unsigned n = 0;
	int rc;

	while (!(rc = httpsub_next_field(&at, end, &f))) {
		if (++n > HTTPSUB_FIELDS_MAX)
			return err_set(e, EPROTO, "more than %u fields", HTTPSUB_FIELDS_MAX);
		rc = httpsub_note(h, q, &f, e);
		if (rc)
			return rc;
	}
	if (rc != -ENODATA)
		return err_set(e, EPROTO, "a line of the head is malformed");
	if (q->chunked && (q->n_length || q->http10))
		return err_set(e, EPROTO, "Transfer-Encoding in a request that has no place for it");
	if (!q->n_host && !q->http10)
		return err_set(e, EPROTO, "no Host");
	return 0;
}

/* Which secrets this request may get. */
static uint32_t httpsub_mask(const struct httpsub *h, const struct httpsub_request *q)
{
	uint32_t mask = 0;

	if (!q->path || !q->host[0] || httpsub_is(q->line, q->method_len, "TRACE") ||
	    httpsub_is(q->line, q->method_len, "TRACK") ||
	    httpsub_is(q->line, q->method_len, "CONNECT"))
		return 0;
	for (unsigned i = 0; i < SECRETS_MAX; i++)
		if (h->mask & 1u << i && secret_is_for(&h->secrets[i], q->host, h->port))
			mask |= 1u << i;
	return mask;
}

/* What follows the head. */
static void httpsub_begin_body(struct httpsub *h, const struct httpsub_request *q)
{
	if (q->upgrade || httpsub_is(q->line, q->method_len, "CONNECT")) {
		h->state = HTTPSUB_OPAQUE;
	} else if (q->chunked) {
		h->state = HTTPSUB_CHUNK_SIZE;
		h->trailer = 0;
	} else if (q->length) {
		h->state = HTTPSUB_BODY;
		h->left = q->length;
	}
}

static int httpsub_pass(struct httpsub *h, const struct httpsub_request *q, const char *at,
			const char *end, struct buf *out, struct err *e)
{
	const uint32_t mask = httpsub_mask(h, q);
	struct httpsub_field f;
	struct buf head;
	int rc;

	buf_init_secret(&head, HTTPSUB_HEAD_OUT_MAX);
	rc = buf_append(&head, q->line, q->line_len);
	rc = rc ? rc : buf_append(&head, "\r\n", 2);
	while (!rc && !(rc = httpsub_next_field(&at, end, &f)))
		rc = httpsub_put_field(h, mask, &f, &head);
	rc = rc == -ENODATA ? buf_append(&head, "\r\n", 2) : rc;
	if (rc)
		rc = rc == -ENOMEM ? err_errno(e, ENOMEM, "request")
				   : err_set(e, EPROTO, "the head is too large with its values");
	else if (buf_append(out, buf_data(&head), buf_len(&head)))
		rc = err_errno(e, ENOMEM, "request");
	buf_fini(&head);
	return rc;
}

/* The whole head is there. */
static int httpsub_head(struct httpsub *h, struct buf *out, struct err *e)
{
	const char *p = (const char *)buf_data(&h->head), *end = p + buf_len(&h->head);
	const char *lf = memchr(p, '\n', buf_len(&h->head)), *at = lf + 1;
	struct httpsub_request q = { .line = p, .line_len = (size_t)(lf - p) - 1 };
	int rc;

	/* It was looked at when it came. */
	if (httpsub_request_line(&q) || !httpsub_is_text(q.line, q.line_len) ||
	    memchr(q.line, '\t', q.line_len))
		return err_set(e, EPROTO, "the request line is malformed");
	rc = httpsub_read(h, at, end, &q, e);
	if (!rc)
		rc = httpsub_pass(h, &q, at, end, out, e);
	if (rc)
		return rc;
	h->requests++;
	httpsub_begin_body(h, &q);
	return 0;
}

static int httpsub_go_opaque(struct httpsub *h, struct buf *out, struct err *e)
{
	h->state = HTTPSUB_OPAQUE;
	return httpsub_finish(h, out) ? err_errno(e, ENOMEM, "request") : 0;
}

/* Is what there is of a first line no request of HTTP/1, whatever follows? */
static bool httpsub_is_foreign(const char *p, size_t n)
{
	size_t i = 0;

	while (i < n && httpsub_is_token(p[i]))
		i++;
	return i > HTTPSUB_METHOD_MAX || (i < n && (!i || p[i] != ' '));
}

/* A line of the head has come to its end. */
static int httpsub_head_line(struct httpsub *h, struct buf *out, struct err *e)
{
	const char *p = (const char *)buf_data(&h->head);
	const size_t n = buf_len(&h->head), len = n - h->line;
	struct httpsub_request q = { .line = p };
	bool cr = len > 1 && p[n - 2] == '\r';
	int rc;

	if (!h->line) {
		/* RFC 9112 §2.2: an empty line before a request is none of it. */
		if (len == 2 && cr) {
			buf_consume(&h->head, n);
			return 0;
		}
		q.line_len = n - 1 - cr;
		if (httpsub_request_line(&q))
			return httpsub_go_opaque(h, out, e);
	}
	if (!cr)
		return err_set(e, EPROTO, "a line of the head ends without CR");
	if (len > 2) {
		h->line = n;
		return 0;
	}
	h->line = 0;
	rc = httpsub_head(h, out, e);
	buf_consume(&h->head, n);
	return rc;
}

/* Return: how many bytes were taken, or a negative errno. */
static ssize_t httpsub_feed_head(struct httpsub *h, const uint8_t *p, size_t n, struct buf *out,
				 struct err *e)
{
	const uint8_t *lf = memchr(p, '\n', n);
	size_t take = lf ? (size_t)(lf - p) + 1 : n, first = HTTPSUB_METHOD_MAX + 2;
	int rc = 0;

	/* Whether it is HTTP at all is decided by its first bytes, however many have come. */
	if (!h->line && buf_len(&h->head) < first && take > first - buf_len(&h->head)) {
		take = first - buf_len(&h->head);
		lf = NULL;
	}
	if (take > HTTPSUB_HEAD_MAX - buf_len(&h->head))
		return err_set(e, EPROTO, "the head is larger than %u bytes", HTTPSUB_HEAD_MAX);
	if (buf_append(&h->head, p, take))
		return err_errno(e, ENOMEM, "request");
	if (lf)
		rc = httpsub_head_line(h, out, e);
	else if (!h->line &&
		 httpsub_is_foreign((const char *)buf_data(&h->head), buf_len(&h->head)) &&
		 !(buf_len(&h->head) == 1 && *buf_data(&h->head) == '\r'))
		rc = httpsub_go_opaque(h, out, e);
	return rc ? rc : (ssize_t)take;
}

/* ---- a body --------------------------------------------------------------------------- */

/* The line of a chunk's size, or of a trailer, is in h->head. */
static int httpsub_body_line(struct httpsub *h, struct err *e)
{
	const char *p = (const char *)buf_data(&h->head);
	const size_t n = buf_len(&h->head);
	size_t i = 0;

	if (n < 2 || p[n - 2] != '\r' || !httpsub_is_text(p, n - 2))
		return err_set(e, EPROTO, "a line of a chunked body is malformed");
	if (h->state == HTTPSUB_TRAILER) {
		if (n == 2)
			h->state = HTTPSUB_HEAD;
		return 0;
	}
	h->left = 0;
	for (; i < n - 2 && i <= HTTPSUB_DIGITS_MAX; i++) {
		static const char hex[] = "0123456789abcdef";
		const char *d =
			p[i] ? strchr(hex, p[i] >= 'A' && p[i] <= 'F' ? p[i] | 0x20 : p[i]) : NULL;

		if (!d)
			break;
		h->left = h->left << 4 | (uint64_t)(d - hex);
	}
	if (!i || i > HTTPSUB_DIGITS_MAX || (i < n - 2 && p[i] != ';'))
		return err_set(e, EPROTO, "the size of a chunk is malformed");
	h->state = h->left ? HTTPSUB_CHUNK : HTTPSUB_TRAILER;
	if (h->left)
		h->left += 2;
	return 0;
}

static ssize_t httpsub_feed_line(struct httpsub *h, const uint8_t *p, size_t n, struct buf *out,
				 struct err *e)
{
	const uint8_t *lf = memchr(p, '\n', n);
	size_t take = lf ? (size_t)(lf - p) + 1 : n;
	int rc = 0;

	if (take > HTTPSUB_CHUNK_LINE_MAX - buf_len(&h->head) && h->state == HTTPSUB_CHUNK_SIZE)
		return err_set(e, EPROTO, "the size of a chunk is malformed");
	if (h->state == HTTPSUB_TRAILER && (h->trailer += take) > HTTPSUB_TRAILER_MAX)
		return err_set(e, EPROTO, "the trailer is larger than %u bytes",
			       HTTPSUB_TRAILER_MAX);
	if (buf_append(&h->head, p, take))
		return err_errno(e, ENOMEM, "request");
	if (!lf)
		return (ssize_t)take;
	rc = httpsub_body_line(h, e);
	if (!rc && buf_append(out, buf_data(&h->head), buf_len(&h->head)))
		rc = err_errno(e, ENOMEM, "request");
	buf_consume(&h->head, buf_len(&h->head));
	return rc ? rc : (ssize_t)take;
}

/* Bytes of a body or chunk; of a chunk, the last two are CR LF. */
static ssize_t httpsub_feed_body(struct httpsub *h, const uint8_t *p, size_t n, struct buf *out,
				 struct err *e)
{
	const bool chunk = h->state == HTTPSUB_CHUNK;
	uint64_t most = chunk && h->left > 2 ? h->left - 2 : h->left;
	size_t take = n < most ? n : (size_t)most;

	if (chunk && h->left <= 2) {
		take = 1;
		if (*p != (h->left == 2 ? '\r' : '\n'))
			return err_set(e, EPROTO, "a chunk does not end where it should");
	}
	if (buf_append(out, p, take))
		return err_errno(e, ENOMEM, "request");
	h->left -= take;
	if (!h->left)
		h->state = chunk ? HTTPSUB_CHUNK_SIZE : HTTPSUB_HEAD;
	return (ssize_t)take;
}

int httpsub_feed(struct httpsub *h, const uint8_t *p, size_t n, struct buf *out, struct err *e)
{
	while (n) {
		ssize_t took;

		switch (h->state) {
		case HTTPSUB_HEAD:
			took = httpsub_feed_head(h, p, n, out, e);
			break;
		case HTTPSUB_CHUNK_SIZE:
		case HTTPSUB_TRAILER:
			took = httpsub_feed_line(h, p, n, out, e);
			break;
		case HTTPSUB_BODY:
		case HTTPSUB_CHUNK:
			took = httpsub_feed_body(h, p, n, out, e);
			break;
		default: /* HTTPSUB_OPAQUE */
			took = buf_append(out, p, n) ? err_errno(e, ENOMEM, "request") : (ssize_t)n;
		}
		if (took < 0)
			return (int)took;
		p += took;
		n -= (size_t)took;
	}
	return 0;
}

int httpsub_finish(struct httpsub *h, struct buf *out)
{
	int rc = buf_append(out, buf_data(&h->head), buf_len(&h->head));

	buf_consume(&h->head, buf_len(&h->head));
	h->line = 0;
	return rc;
}
