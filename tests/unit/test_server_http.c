/* SPDX-License-Identifier: Apache-2.0 */
/* Reading requests: what is accepted, what is refused, and that cuts make no difference. */
#include "unit/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/http.h"

#define BODY_MAX 1000u

static struct http_reader *reader_create(void)
{
	struct http_reader *r = calloc(1, sizeof(*r));

	assert_non_null(r);
	http_reader_init(r, BODY_MAX);
	return r;
}

static void reader_destroy(struct http_reader *r)
{
	http_reader_fini(r);
	free(r);
}

/*
 * Feeds in pieces of @piece bytes up to the end of a request or an error.  Return: the last
 * event; @used: bytes taken.
 */
static int feed(struct http_reader *r, const char *text, size_t n, size_t piece, size_t *used)
{
	int rc = HTTP_EV_MORE;
	size_t k;

	for (*used = 0; rc == HTTP_EV_MORE || rc == HTTP_EV_HEAD; *used += k) {
		size_t len = n - *used < piece ? n - *used : piece;

		rc = http_reader_feed(r, (const uint8_t *)text + *used, len, &k);
		assert_true(k <= len);
		if (rc == HTTP_EV_MORE && !len)
			break;
	}
	return rc;
}

/* The same event for the whole text at once and byte by byte. */
static int event_of(const char *text, size_t n)
{
	struct http_reader *whole = reader_create(), *bytes = reader_create();
	size_t used[2];
	int rc = feed(whole, text, n, n, &used[0]);

	assert_int_equal(feed(bytes, text, n, 1, &used[1]), rc);
	if (rc == HTTP_EV_REQUEST) {
		assert_int_equal(used[0], used[1]);
		assert_int_equal(buf_len(&whole->request.body), buf_len(&bytes->request.body));
	} else if (rc < 0) {
		assert_true(whole->reason[0]);
		assert_string_equal(whole->reason, bytes->reason);
	}
	reader_destroy(whole);
	reader_destroy(bytes);
	return rc;
}

#define HEAD "POST /api HTTP/1.1\r\nHost: a\r\n"

static void a_request_and_the_next(void **state)
{
	static const char text[] = "POST /api/v1/rpc?a=1&b HTTP/1.1\r\nHost: localhost:5555\r\n"
				   "X-Empty:\r\nX-Space:  two words \t\r\nContent-Length: 5\r\n\r\n"
				   "helloGET /x HTTP/1.0\r\n\r\n";
	struct http_reader *r = reader_create();
	size_t used, next;

	(void)state;
	assert_false(http_reader_busy(r));
	assert_int_equal(feed(r, text, sizeof(text) - 1, 7, &used), HTTP_EV_REQUEST);
	assert_int_equal(r->request.method, HTTP_POST);
	assert_string_equal(r->request.path, "/api/v1/rpc");
	assert_string_equal(r->request.query, "a=1&b");
	assert_string_equal(http_header(&r->request, "host"), "localhost:5555");
	assert_string_equal(http_header(&r->request, "x-empty"), "");
	assert_string_equal(http_header(&r->request, "x-space"), "two words");
	assert_null(http_header(&r->request, "x-other"));
	assert_true(r->request.keep_alive);
	assert_int_equal(buf_len(&r->request.body), 5);
	assert_memory_equal(buf_data(&r->request.body), "hello", 5);
	assert_true(http_reader_busy(r));
	http_reader_next(r);
	assert_int_equal(feed(r, text + used, sizeof(text) - 1 - used, 3, &next), HTTP_EV_REQUEST);
	assert_int_equal(used + next, sizeof(text) - 1);
	assert_int_equal(r->request.method, HTTP_GET);
	assert_true(r->request.http_1_0);
	assert_false(r->request.keep_alive);
	assert_int_equal(buf_len(&r->request.body), 0);
	assert_string_equal(r->request.query, "");
	reader_destroy(r);
}

static void chunks_are_put_together(void **state)
{
	static const char text[] = HEAD "Transfer-Encoding: Chunked\r\n\r\n"
					"5;ext=1\r\nhello\r\n1\r\n \r\nA\r\n0123456789\r\n0\r\n"
					"Trailer: x\r\n\r\n";

	for (size_t piece = 1; piece < sizeof(text); piece++) {
		struct http_reader *r = reader_create();
		size_t used;

		assert_int_equal(feed(r, text, sizeof(text) - 1, piece, &used), HTTP_EV_REQUEST);
		assert_int_equal(used, sizeof(text) - 1);
		assert_int_equal(buf_len(&r->request.body), 16);
		assert_memory_equal(buf_data(&r->request.body), "hello 0123456789", 16);
		assert_null(http_header(&r->request, "trailer"));
		reader_destroy(r);
	}
	(void)state;
}

struct row {
	const char *text;
	int event;
};

static void what_is_accepted(void **state)
{
	static const struct row rows[] = {
		{ "GET / HTTP/1.1\r\nHost: a\r\n\r\n", HTTP_EV_REQUEST },
		{ "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", HTTP_EV_REQUEST },
		{ "GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n", HTTP_EV_REQUEST },
		{ "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", HTTP_EV_REQUEST },
		{ "GET / HTTP/1.0\r\n\r\n", HTTP_EV_REQUEST },
		{ HEAD "Content-Length: 0\r\n\r\n", HTTP_EV_REQUEST },
		{ HEAD "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
		  HTTP_EV_REQUEST },
		{ HEAD "Content-Length: 1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nx",
		  HTTP_EV_REQUEST },
		{ HEAD "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", HTTP_EV_REQUEST },
		{ HEAD "Content-Length: 3\r\n\r\nab", HTTP_EV_MORE },
		{ HEAD "X: 1\r\n", HTTP_EV_MORE },
		{ HEAD "X: \xc3\xbc\r\n\r\n", HTTP_EV_REQUEST },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (event_of(rows[i].text, strlen(rows[i].text)) != rows[i].event)
			fail_msg("not accepted: %s", rows[i].text);
}

static void what_is_refused(void **state)
{
	static const struct row rows[] = {
		/* two lengths, or none that is certain (RFC 9112 §6.3) */
		{ HEAD "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", -400 },
		{ HEAD "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", -400 },
		{ HEAD "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", -400 },
		{ HEAD "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", -400 },
		{ HEAD "Content-Length: 5, 5\r\n\r\nhello", -400 },
		{ HEAD "Content-Length: +5\r\n\r\nhello", -400 },
		{ HEAD "Content-Length: -1\r\n\r\n", -400 },
		{ HEAD "Content-Length: 0x5\r\n\r\nhello", -400 },
		{ HEAD "Content-Length: 5 5\r\n\r\nhello", -400 },
		{ HEAD "Content-Length: 99999999999999999999999\r\n\r\n", -400 },
		{ HEAD "Content-Length: 1001\r\n\r\n", -413 },
		{ HEAD "Transfer-Encoding: gzip, chunked\r\n\r\n", -501 },
		{ HEAD "Transfer-Encoding: identity\r\n\r\n", -400 },
		{ HEAD "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", -400 },
		{ HEAD "Transfer-Encoding: xchunked\r\n\r\n", -400 },
		{ "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", -501 },
		/* chunks */
		{ HEAD "Transfer-Encoding: chunked\r\n\r\nzz\r\n", -400 },
		{ HEAD "Transfer-Encoding: chunked\r\n\r\n-1\r\n", -400 },
		{ HEAD "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", -400 },
		{ HEAD "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", -400 },
		{ HEAD "Transfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n", -400 },
		{ HEAD "Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n", -400 },
		/* lines */
		{ "GET / HTTP/1.1\nHost: a\n\n", -400 },
		{ "GET / HTTP/1.1\r\nHost: a\n\r\n", -400 },
		{ HEAD "X: a\rb\r\n\r\n", -400 },
		{ HEAD "X: a\r\n folded\r\n\r\n", -400 },
		{ HEAD "X: a\r\n\tfolded\r\n\r\n", -400 },
		{ HEAD " X: a\r\n\r\n", -400 },
		{ HEAD "X : a\r\n\r\n", -400 },
		{ HEAD ": a\r\n\r\n", -400 },
		{ HEAD "X\r\n\r\n", -400 },
		{ HEAD "X\x01: a\r\n\r\n", -400 },
		{ HEAD "X: a\x01\r\n\r\n", -400 },
		{ HEAD "X: a\x7f\r\n\r\n", -400 },
		/* the request line */
		{ "GET /\r\n\r\n", -400 },
		{ "GET / HTTP/0.9\r\nHost: a\r\n\r\n", -505 },
		{ "GET / HTTP/2.0\r\nHost: a\r\n\r\n", -505 },
		{ "GET / HTTP/1.2\r\nHost: a\r\n\r\n", -400 },
		{ "GET / http/1.1\r\nHost: a\r\n\r\n", -400 },
		{ "get / HTTP/1.1\r\nHost: a\r\n\r\n", -400 },
		{ "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", -400 },
		{ "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", -400 },
		{ "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", -400 },
		{ "GET x HTTP/1.1\r\nHost: a\r\n\r\n", -400 },
		{ "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", -400 },
		{ "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", -400 },
		{ "\r\n\r\n\r\n\r\n\r\n\r\n\r\n", -400 },
		{ "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", -400 },
		/* the host */
		{ "GET / HTTP/1.1\r\n\r\n", -400 },
		{ "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", -400 },
		{ "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", -400 },
		{ HEAD "Expect: something\r\n\r\n", -417 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int event = event_of(rows[i].text, strlen(rows[i].text));

		if (event != rows[i].event)
			fail_msg("%d, not %d: %s", event, rows[i].event, rows[i].text);
	}
	assert_int_equal(event_of("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", 31), -400);
}

static void every_limit_is_kept(void **state)
{
	struct http_reader *r = reader_create();
	char *text = malloc(1 << 20);
	size_t n, used;

	(void)state;
	assert_non_null(text);
	/* one header too long */
	n = (size_t)sprintf(text, HEAD "X: ");
	memset(text + n, 'a', HTTP_HEAD_MAX);
	assert_int_equal(event_of(text, n + HTTP_HEAD_MAX), -431);
	/* too many */
	n = (size_t)sprintf(text, HEAD);
	for (unsigned i = 0; i < HTTP_HEADERS_MAX; i++)
		n += (size_t)sprintf(text + n, "X%u: 1\r\n", i);
	n += (size_t)sprintf(text + n, "\r\n");
	assert_int_equal(event_of(text, n), -431);
	/* the target */
	n = (size_t)sprintf(text, "GET /");
	memset(text + n, 'a', HTTP_TARGET_MAX);
	n += HTTP_TARGET_MAX;
	n += (size_t)sprintf(text + n, " HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_int_equal(event_of(text, n), -414);
	/* a body in chunks */
	n = (size_t)sprintf(text, HEAD "Transfer-Encoding: chunked\r\n\r\n3e9\r\n");
	memset(text + n, 'a', 1001);
	assert_int_equal(event_of(text, n + 1001), -413);
	/* what chunks cost besides their content */
	n = (size_t)sprintf(text, HEAD "Transfer-Encoding: chunked\r\n\r\n1;");
	memset(text + n, 'e', 200000);
	assert_int_equal(feed(r, text, n + 200000, 4096, &used), -400);
	assert_true(used < 100000);
	http_reader_next(r);
	n = (size_t)sprintf(text, HEAD "Transfer-Encoding: chunked\r\n\r\n0\r\n");
	for (unsigned i = 0; i < 20000; i++)
		n += (size_t)sprintf(text + n, "A: b\r\n");
	assert_true(feed(r, text, n, 4096, &used) < 0);
	assert_true(used < 100000);
	free(text);
	reader_destroy(r);
}

static void a_body_that_is_waited_for_is_said(void **state)
{
	static const char text[] = HEAD "Content-Length: 2\r\nExpect: 100-Continue\r\n\r\n";
	struct http_reader *r = reader_create();
	size_t used;

	(void)state;
	assert_int_equal(http_reader_feed(r, (const uint8_t *)text, sizeof(text) - 1, &used),
			 HTTP_EV_HEAD);
	assert_true(r->request.expects_continue && r->request.has_body);
	assert_int_equal(used, sizeof(text) - 1);
	assert_int_equal(http_reader_feed(r, (const uint8_t *)"ok", 2, &used), HTTP_EV_REQUEST);
	reader_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_request_and_the_next), TEST(chunks_are_put_together),
		TEST(what_is_accepted),       TEST(what_is_refused),
		TEST(every_limit_is_kept),    TEST(a_body_that_is_waited_for_is_said),
	};

	return test_run(tests);
}
