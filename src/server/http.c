/* SPDX-License-Identifier: Apache-2.0 */
#include "server/http.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

/* Chunk headers and trailers: at most this, and this many times the content. */
#define HTTP_CHUNK_COST 65536u
#define HTTP_CHUNK_FACTOR 8u

static int http_fail(struct http_reader *r, int status, const char *reason)
{
	r->reason = reason;
	return -status;
}

/* ---- llhttp's callbacks ------------------------------------------------------- */

static struct http_reader *http_of(llhttp_t *p)
{
	return container_of(p, struct http_reader, parser);
}

static int http_on_url(llhttp_t *p, const char *at, size_t len)
{
	struct http_reader *r = http_of(p);

	if (len > HTTP_TARGET_MAX) {
		r->fault = 414;
		r->reason = "the request target is too long";
		return -1;
	}
	r->request.path = at;
	r->request.query = at + len; /* made two strings when the head is complete */
	return 0;
}

static int http_on_field(llhttp_t *p, const char *at, size_t len)
{
	struct http_reader *r = http_of(p);
	struct http_request *q = &r->request;

	(void)len;
	if (r->in_body)
		return 0; /* a trailer */
	if (q->n_headers == HTTP_HEADERS_MAX) {
		r->fault = 431;
		r->reason = "too many header lines (limit 64)";
		return -1;
	}
	q->headers[q->n_headers].name = at;
	q->headers[q->n_headers++].value = "";
	return 0;
}

static int http_on_value(llhttp_t *p, const char *at, size_t len)
{
	struct http_reader *r = http_of(p);

	if (!r->in_body && r->request.n_headers && len)
		r->request.headers[r->request.n_headers - 1].value = at;
	return 0;
}

static int http_on_head(llhttp_t *p)
{
	struct http_reader *r = http_of(p);

	r->in_body = true;
	/* Another protocol is offered, never spoken: the request is an ordinary one. */
	p->upgrade = 0;
	return 0;
}

static int http_on_body(llhttp_t *p, const char *at, size_t len)
{
	struct http_reader *r = http_of(p);
	int rc = buf_append(&r->request.body, at, len);

	r->content_bytes += len;
	if (!rc)
		return 0;
	r->fault = rc == -ENOBUFS ? 413 : 503;
	r->reason = rc == -ENOBUFS ? "the request body is too large"
				   : "the server is out of memory: try again later";
	return -1;
}

static int http_on_complete(llhttp_t *p)
{
	http_of(p)->complete = true;
	return HPE_PAUSED;
}

static const llhttp_settings_t *http_settings(void)
{
	static llhttp_settings_t s;

	if (s.on_url)
		return &s;
	llhttp_settings_init(&s);
	s.on_header_field = http_on_field;
	s.on_header_value = http_on_value;
	s.on_headers_complete = http_on_head;
	s.on_body = http_on_body;
	s.on_message_complete = http_on_complete;
	s.on_url = http_on_url;
	return &s;
}

/* ---- the head ----------------------------------------------------------------- */

/*
 * Takes one byte of the head.  Return: 1 at its end, 0, or minus a status.  llhttp reads
 * some of these leniently, and so do other parsers, each in its own way.
 */
static int http_head_byte(struct http_reader *r, uint8_t c)
{
	uint8_t last = r->head_len ? r->head[r->head_len - 1] : 0;
	size_t column = r->head_len - r->line_start;

	if ((c < 0x20 && c != '\r' && c != '\n' && c != '\t') || c == 0x7f)
		return http_fail(r, 400, "the request head has a control character");
	if (last == '\r' && c != '\n')
		return http_fail(r, 400, "the request head has a bare CR");
	if (c == '\n' && last != '\r')
		return http_fail(r, 400, "the request head has a bare LF: lines end in CRLF");
	if (!column && (c == ' ' || c == '\t'))
		return http_fail(r, 400, "a line of the request head begins with white space");
	if (!column && c == ':' && r->line_start)
		return http_fail(r, 400, "a header has no name");
	if (r->head_len == HTTP_HEAD_MAX)
		return http_fail(r, 431, "the request head is too large (limit 16 KiB)");
	r->head[r->head_len++] = c;
	if (c != '\n')
		return 0;
	if (column == 1) { /* CRLF alone */
		if (r->line_start)
			return 1;
		r->head_len = 0; /* an empty line before the request (RFC 9112 §2.2) */
		if (++r->empty_lines > 4)
			return http_fail(r, 400, "empty lines instead of a request");
		return 0;
	}
	r->line_start = r->head_len;
	return 0;
}

/* Ends name and value of each header, and the target, with a NUL in place. */
static void http_head_split(struct http_reader *r)
{
	struct http_request *q = &r->request;

	for (unsigned i = 0; i < q->n_headers; i++) {
		char *name = (char *)q->headers[i].name, *value = (char *)q->headers[i].value;

		name[strcspn(name, ":\r")] = '\0';
		if (!*value)
			continue;
		value[strcspn(value, "\r")] = '\0';
		for (size_t n = strlen(value); n && (value[n - 1] == ' ' || value[n - 1] == '\t');)
			value[--n] = '\0';
	}
	if (q->path) {
		char *query;

		*(char *)q->query = '\0';
		query = strchr(q->path, '?');
		if (query)
			*query++ = '\0';
		q->query = query ? query : "";
	}
}

static unsigned http_count(const struct http_request *q, const char *name)
{
	unsigned n = 0;

	for (unsigned i = 0; i < q->n_headers; i++)
		n += !strcasecmp(q->headers[i].name, name);
	return n;
}

/* The absolute form of a target (RFC 9112 §3.2.2) means its path. Return: is there one? */
static bool http_strip_authority(struct http_request *q)
{
	const char *p = q->path;

	if (!p)
		return false;
	if (!strncasecmp(p, "http://", 7))
		p = strchr(p + 7, '/');
	else if (!strncasecmp(p, "https://", 8))
		p = strchr(p + 8, '/');
	q->path = p ? p : "/";
	return *q->path == '/' || !strcmp(q->path, "*");
}

static int http_head_check(struct http_reader *r)
{
	struct http_request *q = &r->request;
	const char *coding = http_header(q, "transfer-encoding");
	const char *expect = http_header(q, "expect");

	if (r->parser.http_major != 1 || r->parser.http_minor > 1)
		return http_fail(r, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
	q->method = r->parser.method;
	q->http_1_0 = r->parser.http_minor == 0;
	if (http_count(q, "host") != 1 && !(q->http_1_0 && !http_count(q, "host")))
		return http_fail(r, 400, "a request needs exactly one Host header");
	if (!http_strip_authority(q))
		return http_fail(r, 400, "the request target must be a path");
	if (http_count(q, "content-length") > 1 || (coding && http_count(q, "content-length")))
		return http_fail(r, 400, "the length of the body is given twice");
	if (coding && (q->http_1_0 || http_count(q, "transfer-encoding") > 1 ||
		       strcasecmp(coding, "chunked")))
		return http_fail(r, 501, "the only transfer coding supported is chunked");
	if (expect && strcasecmp(expect, "100-continue"))
		return http_fail(r, 417, "the only expectation supported is 100-continue");
	r->chunked = coding != NULL;
	r->length = coding ? 0 : r->parser.content_length;
	if (!coding && !http_count(q, "content-length"))
		r->length = 0;
	q->has_body = r->chunked || r->length;
	q->expects_continue = expect && q->has_body && !q->http_1_0;
	q->keep_alive = llhttp_should_keep_alive(&r->parser);
	return HTTP_EV_HEAD;
}

/* METHOD SP TARGET SP VERSION (RFC 9112 §3), with just these spaces. */
static bool http_request_line_ok(const struct http_reader *r)
{
	const uint8_t *end = memchr(r->head, '\r', r->head_len);
	unsigned spaces = 0;

	for (const uint8_t *p = r->head; p < end; p++)
		spaces += *p == ' ' || *p == '\t';
	return spaces == 2;
}

static int http_head_parse(struct http_reader *r)
{
	llhttp_errno_t rc;

	if (!http_request_line_ok(r))
		return http_fail(r, 400, "the request line must be METHOD TARGET HTTP/1.1");
	rc = llhttp_execute(&r->parser, (char *)r->head, r->head_len);

	if (r->fault)
		return -r->fault;
	if ((rc != HPE_OK && rc != HPE_PAUSED) || !r->in_body)
		return http_fail(r, 400, "the request head is malformed");
	http_head_split(r);
	return http_head_check(r);
}

/* ---- the reader ---------------------------------------------------------------- */

void http_reader_init(struct http_reader *r, size_t body_max)
{
	memset(&r->request, 0, sizeof(r->request));
	buf_init(&r->request.body, body_max);
	r->body_max = body_max;
	http_reader_next(r);
}

void http_reader_fini(struct http_reader *r)
{
	buf_fini(&r->request.body);
}

void http_reader_next(struct http_reader *r)
{
	struct buf body = r->request.body;

	buf_reset(&body);
	memset(&r->request, 0, sizeof(r->request));
	r->request.body = body;
	r->request.query = "";
	llhttp_init(&r->parser, HTTP_REQUEST, http_settings());
	r->head_len = r->line_start = 0;
	r->wire_bytes = r->content_bytes = r->length = 0;
	r->empty_lines = 0;
	r->in_body = r->complete = r->chunked = r->streamed = false;
	r->fault = 0;
	r->reason = "";
}

static int http_feed_head(struct http_reader *r, const uint8_t *p, size_t n, size_t *used)
{
	for (*used = 0; *used < n;) {
		int rc = http_head_byte(r, p[(*used)++]);

		if (rc < 0)
			return rc;
		if (rc)
			return http_head_parse(r);
	}
	return HTTP_EV_MORE;
}

static int http_feed_body(struct http_reader *r, const uint8_t *p, size_t n, size_t *used)
{
	llhttp_errno_t rc;

	if (r->complete || !r->request.has_body)
		return HTTP_EV_REQUEST;
	if (http_reader_too_large(r))
		return http_fail(r, 413, "the request body is too large");
	if (!n)
		return HTTP_EV_MORE;
	rc = llhttp_execute(&r->parser, (const char *)p, n);
	if (r->fault)
		return -r->fault;
	if (rc == HPE_OK)
		*used = n;
	else if (rc == HPE_PAUSED && r->complete)
		*used = (size_t)(llhttp_get_error_pos(&r->parser) - (const char *)p);
	else
		return http_fail(r, 400, "the request body is malformed");
	r->wire_bytes += *used;
	if (r->wire_bytes / HTTP_CHUNK_FACTOR >
	    HTTP_CHUNK_COST / HTTP_CHUNK_FACTOR + r->content_bytes)
		return http_fail(r, 400, "the chunks of the request body are too small");
	return r->complete ? HTTP_EV_REQUEST : HTTP_EV_MORE;
}

int http_reader_feed(struct http_reader *r, const uint8_t *p, size_t n, size_t *used)
{
	*used = 0;
	return r->in_body ? http_feed_body(r, p, n, used) : http_feed_head(r, p, n, used);
}

void http_reader_stream(struct http_reader *r)
{
	r->streamed = true;
}

bool http_reader_too_large(const struct http_reader *r)
{
	return !r->streamed && r->length > r->body_max;
}

bool http_reader_busy(const struct http_reader *r)
{
	return r->head_len > 0;
}

const char *http_header(const struct http_request *q, const char *name)
{
	for (unsigned i = 0; i < q->n_headers; i++)
		if (!strcasecmp(q->headers[i].name, name))
			return q->headers[i].value;
	return NULL;
}

static bool http_list_has(const char *list, const char *token)
{
	size_t len = strlen(token);

	for (const char *p = list; *p; p += *p == ',') {
		size_t n;

		p += strspn(p, " \t");
		n = strcspn(p, ",");
		p += n;
		while (n && (p[-1] == ' ' || p[-1] == '\t')) {
			p--;
			n--;
		}
		if (n == len && !strncasecmp(p - n, token, n))
			return true;
		p += strspn(p, " \t");
	}
	return false;
}

bool http_header_has(const struct http_request *q, const char *name, const char *token)
{
	for (unsigned i = 0; i < q->n_headers; i++)
		if (!strcasecmp(q->headers[i].name, name) &&
		    http_list_has(q->headers[i].value, token))
			return true;
	return false;
}

const char *http_status_text(int status)
{
	switch (status) {
	case 100:
		return "Continue";
	case 101:
		return "Switching Protocols";
	case 200:
		return "OK";
	case 202:
		return "Accepted";
	case 204:
		return "No Content";
	case 400:
		return "Bad Request";
	case 401:
		return "Unauthorized";
	case 403:
		return "Forbidden";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 406:
		return "Not Acceptable";
	case 408:
		return "Request Timeout";
	case 409:
		return "Conflict";
	case 411:
		return "Length Required";
	case 413:
		return "Content Too Large";
	case 414:
		return "URI Too Long";
	case 417:
		return "Expectation Failed";
	case 426:
		return "Upgrade Required";
	case 429:
		return "Too Many Requests";
	case 431:
		return "Request Header Fields Too Large";
	case 500:
		return "Internal Server Error";
	case 501:
		return "Not Implemented";
	case 503:
		return "Service Unavailable";
	case 505:
		return "HTTP Version Not Supported";
	default:
		return "Error";
	}
}
