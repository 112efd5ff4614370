/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_HTTP_H
#define MSB_SERVER_HTTP_H

/*
 * DOC: Reading HTTP/1.1 requests
 *
 * Purpose: bytes of a connection in, whole requests out.  Pure: no descriptor, no clock.
 *
 * Spec: RFC 9112.  The head is gathered here, bounded and checked byte by byte, and then
 * parsed by llhttp in one piece; the body goes through llhttp as it comes.
 *
 * Trust boundary: a client is hostile until its key was checked, and careless after that.
 * Whatever two parsers might read differently is refused (request smuggling): bare CR or
 * LF, NUL, folded header lines, an empty header name, a space before the colon, both
 * Content-Length and Transfer-Encoding, two Content-Lengths, a coding other than chunked,
 * no Host or two, a request line without version.
 *
 * States: head -> (HTTP_EV_HEAD) -> body -> (HTTP_EV_REQUEST) -> reset by http_reader_next().
 * After an error only http_reader_fini() may follow.  A body is gathered whole, or, after
 * http_reader_stream(), taken out of request.body by the owner as it comes; then it may be
 * of any size.
 *
 * Limits: HTTP_HEAD_MAX, HTTP_HEADERS_MAX, body_max (of a body that is gathered), and what
 * chunks may cost besides their content (chunk sizes, extensions, trailers).
 */

#include <llhttp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define HTTP_HEAD_MAX (16u * 1024)
#define HTTP_HEADERS_MAX 64u
#define HTTP_TARGET_MAX (8u * 1024)

struct http_header {
	const char *name, *value; /* NUL-terminated, without white space around */
};

struct http_request {
	uint8_t method; /* enum llhttp_method */
	bool keep_alive;
	bool http_1_0;
	bool expects_continue; /* the client waits for "100 Continue" before its body */
	bool has_body;
	const char *path, *query; /* of the target, undecoded; query "" if there is none */
	struct http_header headers[HTTP_HEADERS_MAX];
	unsigned n_headers;
	struct buf body; /* valid with HTTP_EV_REQUEST; of a stream: what was not taken yet */
};

enum http_event {
	HTTP_EV_MORE = 0, /* all was taken, more is needed */
	HTTP_EV_HEAD = 1, /* the head is complete: everything but the body is valid */
	HTTP_EV_REQUEST = 2, /* the request is complete */
};

struct http_reader {
	struct http_request request;
	llhttp_t parser;
	uint8_t head[HTTP_HEAD_MAX + 1];
	size_t head_len, line_start, body_max;
	uint64_t wire_bytes; /* of the body, with what chunks cost */
	uint64_t content_bytes; /* of the body, without that */
	uint64_t length; /* as announced; 0 with chunks */
	unsigned empty_lines; /* before the request line */
	bool in_body, complete, chunked, streamed;
	int fault; /* HTTP status of an error found in a callback */
	const char *reason; /* of the error, for the client */
};

/* @body_max: largest body accepted, bytes. */
void http_reader_init(struct http_reader *r, size_t body_max);
void http_reader_fini(struct http_reader *r);

/* Makes ready for the next request on the connection. */
void http_reader_next(struct http_reader *r);

/**
 * http_reader_feed() - take bytes
 * @used: how many of them were taken; the rest is to be given again
 *
 * Return: enum http_event, or minus the HTTP status of an error; r->reason then says
 * what is wrong.
 */
int http_reader_feed(struct http_reader *r, const uint8_t *p, size_t n, size_t *used);

/*
 * After HTTP_EV_HEAD: the body may be of any size, and its owner takes it out of
 * request.body.  It never feeds more bytes at once than body_max leaves room for.
 */
void http_reader_stream(struct http_reader *r);

/* Will the body be refused for its announced length?  (The next feed does it.) */
bool http_reader_too_large(const struct http_reader *r);

/* Has something of a request come that is not complete? */
bool http_reader_busy(const struct http_reader *r);

/* The value of a header, or NULL; @name in lower case. */
const char *http_header(const struct http_request *q, const char *name);

/* Does a header that is a list (RFC 9110 §5.6.1) have @token, in any case? */
bool http_header_has(const struct http_request *q, const char *name, const char *token);

/* The reason phrase of a status. */
const char *http_status_text(int status);

#endif
