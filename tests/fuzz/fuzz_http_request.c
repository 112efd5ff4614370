/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of a connection: the reader never takes more than it was given, keeps its limits,
 * and comes to the same requests however the bytes are cut, and whether bodies are
 * gathered or streamed.  The first byte of the input says how.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "server/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BODY_MAX 4096u
#define REQUESTS_MAX 16u

struct outcome {
	unsigned requests;
	int end; /* 0 or the error */
	uint64_t hash;
};

static void mix(struct outcome *o, const void *p, size_t n)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < n; i++)
		o->hash = (o->hash ^ b[i]) * 1099511628211u;
}

static void look(struct outcome *o, const struct http_request *q)
{
	assert(q->n_headers <= HTTP_HEADERS_MAX);
	assert(*q->path == '/' || !strcmp(q->path, "*"));
	mix(o, &q->method, 1);
	mix(o, q->path, strlen(q->path));
	mix(o, q->query, strlen(q->query));
	for (unsigned i = 0; i < q->n_headers; i++) {
		assert(q->headers[i].name[0] && !strpbrk(q->headers[i].name, " :\r\n"));
		assert(!strpbrk(q->headers[i].value, "\r\n"));
		mix(o, q->headers[i].name, strlen(q->headers[i].name));
		mix(o, q->headers[i].value, strlen(q->headers[i].value));
	}
}

static void take(struct outcome *o, struct http_request *q)
{
	assert(buf_len(&q->body) <= BODY_MAX);
	mix(o, buf_data(&q->body), buf_len(&q->body));
	buf_consume(&q->body, buf_len(&q->body));
}

static struct outcome run(struct http_reader *r, const uint8_t *p, size_t n, size_t piece,
			  bool stream)
{
	struct outcome o = { 0 }, body = { 0 };
	size_t at = 0, used;
	int rc;

	while (o.requests < REQUESTS_MAX) {
		size_t len = n - at < piece ? n - at : piece;

		rc = http_reader_feed(r, p + at, len, &used);
		assert(used <= len);
		at += used;
		if (rc < 0) {
			assert(r->reason[0] && rc <= -400);
			o.end = rc;
			break;
		}
		if (rc == HTTP_EV_HEAD) {
			if (stream)
				http_reader_stream(r);
		} else if (stream && r->in_body) {
			/* A broken one must leave the hash of what came before it. */
			take(&body, &r->request);
		}
		if (rc == HTTP_EV_REQUEST) {
			o.requests++;
			look(&o, &r->request);
			take(&body, &r->request);
			mix(&o, &body.hash, sizeof(body.hash));
			body.hash = 0;
			http_reader_next(r);
		} else if (rc == HTTP_EV_MORE) {
			assert(used == len);
			if (at == n)
				break;
		}
	}
	return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct http_reader r;
	struct outcome whole, cut, stream;
	size_t piece;

	if (!size)
		return 0;
	piece = data[0] ? data[0] : 1;
	http_reader_init(&r, BODY_MAX);
	whole = run(&r, data + 1, size - 1, size, false);
	http_reader_next(&r);
	cut = run(&r, data + 1, size - 1, piece, false);
	http_reader_next(&r);
	stream = run(&r, data + 1, size - 1, piece, true);
	/* How much of a broken body was looked at may differ; what was read before may not. */
	assert(whole.requests == cut.requests && whole.hash == cut.hash);
	assert(!whole.end == !cut.end);
	assert(stream.requests >= whole.requests);
	if (whole.end != -413)
		assert(stream.hash == whole.hash && !stream.end == !whole.end);
	http_reader_fini(&r);
	return 0;
}
