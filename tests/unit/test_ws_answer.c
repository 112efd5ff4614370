/* SPDX-License-Identifier: Apache-2.0 */
/* The answer to a WebSocket's handshake: what is one, what says why not, and what is neither. */
#include "unit/test.h"

#include <errno.h>
#include <stdio.h>

#include "codec/ws_answer.h"

#define HEAD_MAX 400u
#define BODY_MAX 20u
#define KEY "dGhlIHNhbXBsZSBub25jZQ==" /* RFC 6455 §1.3 */
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

struct outcome {
	int rc; /* the last; of ws_answer_end(), if there was no end before */
	unsigned status;
	bool fits;
	size_t used;
	char body[BODY_MAX + 1];
};

static void run_in_pieces(const char *text, size_t n, size_t piece, struct outcome *o)
{
	struct ws_answer a;
	size_t used;

	*o = (struct outcome){ .rc = WS_ANSWER_MORE };
	ws_answer_init(&a, HEAD_MAX, BODY_MAX);
	while (o->used < n && !o->rc) {
		size_t len = n - o->used < piece ? n - o->used : piece;

		o->rc = ws_answer_feed(&a, (const uint8_t *)text + o->used, len, &used);
		assert_true(used <= len);
		assert_true(o->rc || used == len);
		o->used += used;
	}
	if (o->rc == -EBADMSG)
		assert_true(a.reason[0]);
	if (!o->rc)
		o->rc = ws_answer_end(&a);
	o->status = a.status;
	o->fits = o->rc == WS_ANSWER_SWITCHED && ws_answer_fits(&a, KEY);
	assert_true(buf_len(&a.body) <= BODY_MAX);
	if (buf_len(&a.body))
		memcpy(o->body, buf_data(&a.body), buf_len(&a.body));
	ws_answer_fini(&a);
}

/* The same however it is cut. */
static struct outcome run(const char *text, size_t n)
{
	struct outcome whole, cut;

	run_in_pieces(text, n, n, &whole);
	for (size_t piece = 1; piece < 5; piece++) {
		run_in_pieces(text, n, piece, &cut);
		assert_int_equal(cut.rc, whole.rc);
		assert_int_equal(cut.fits, whole.fits);
		if (whole.rc < 0)
			continue;
		assert_int_equal(cut.used, whole.used);
		assert_int_equal(cut.status, whole.status);
		assert_string_equal(cut.body, whole.body);
	}
	return whole;
}

#define RUN(text) run(text, sizeof(text) - 1)
#define SWITCH "HTTP/1.1 101 Switching Protocols\r\n"
#define FIELDS "Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define ACCEPTED "Sec-WebSocket-Accept: " ACCEPT "\r\n"

static void what_is_a_websocket(void **state)
{
	struct outcome o = RUN(SWITCH FIELDS ACCEPTED "\r\n\x81\x01x");

	(void)state;
	assert_int_equal(o.rc, WS_ANSWER_SWITCHED);
	assert_true(o.fits);
	assert_int_equal(o.used, sizeof(SWITCH FIELDS ACCEPTED "\r\n") - 1);
	assert_true(RUN("HTTP/1.1 101\nupGRADE:WebSocket\nCONNECTION: keep-alive ,\tupgrade\n"
			"X: y\nsec-websocket-accept:\t" ACCEPT " \n\n")
			    .fits);
	assert_true(RUN("HTTP/1.1 103 Early Hints\r\nLink: x\r\nUpgrade: no\r\n\r\n" SWITCH FIELDS
				ACCEPTED "\r\n")
			    .fits);
}

static void what_is_another(void **state)
{
	static const char *const heads[] = {
		SWITCH FIELDS "\r\n",
		SWITCH FIELDS "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOp=\r\n\r\n",
		SWITCH FIELDS "Sec-WebSocket-Accept: " ACCEPT "=\r\n\r\n",
		SWITCH FIELDS "Sec-WebSocket-Accept:\r\n\r\n",
		SWITCH FIELDS ACCEPTED ACCEPTED "\r\n",
		SWITCH FIELDS ACCEPTED "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
		SWITCH FIELDS ACCEPTED "Sec-WebSocket-Protocol: x\r\n\r\n",
		SWITCH "Connection: Upgrade\r\n" ACCEPTED "\r\n",
		SWITCH "Upgrade: websocket\r\n" ACCEPTED "\r\n",
		SWITCH "Upgrade: websocket\r\nConnection: Upgraded\r\n" ACCEPTED "\r\n",
		SWITCH "Upgrade: h2c\r\nConnection: Upgrade\r\n" ACCEPTED "\r\n",
		/* what an interim answer said does not count */
		"HTTP/1.1 103 x\r\n" FIELDS ACCEPTED "\r\n" SWITCH "\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		struct outcome o = run(heads[i], strlen(heads[i]));

		assert_int_equal(o.rc, WS_ANSWER_SWITCHED);
		if (o.fits)
			fail_msg("row %zu fits", i);
	}
}

static void what_says_why_not(void **state)
{
	struct outcome o = RUN("HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhellorest");

	(void)state;
	assert_int_equal(o.rc, WS_ANSWER_WHOLE);
	assert_int_equal(o.status, 404);
	assert_string_equal(o.body, "hello");
	o = RUN("HTTP/1.0 500\r\n\r\nto the end");
	assert_int_equal(o.rc, WS_ANSWER_WHOLE);
	assert_string_equal(o.body, "to the end");
	o = RUN("HTTP/1.1 502 x\r\nTransfer-Encoding: Chunked\r\nContent-Length: 3\r\n\r\n"
		"3;x=y\r\nhel\r\n 2 \r\nlo\r\n0\r\nX: y\r\n\r\n");
	assert_int_equal(o.rc, WS_ANSWER_WHOLE);
	assert_string_equal(o.body, "hello");
	o = RUN("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n");
	assert_int_equal(o.rc, WS_ANSWER_WHOLE);
	assert_int_equal(o.status, 200);
	o = RUN("HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n");
	assert_int_equal(o.rc, WS_ANSWER_WHOLE);
	o = RUN("HTTP/1.1 429 x\r\nContent-Length: 20\r\n\r\n01234567890123456789");
	assert_int_equal(o.rc, WS_ANSWER_WHOLE);
	assert_string_equal(o.body, "01234567890123456789");
}

static void what_is_cut_off(void **state)
{
	(void)state;
	assert_int_equal(RUN("").rc, -EPIPE);
	assert_int_equal(RUN("HTTP/1.1 101 x\r\n" FIELDS).rc, -EPIPE);
	assert_int_equal(RUN("HTTP/1.1 100 x\r\n\r\n").rc, -EPIPE);
	assert_int_equal(RUN("HTTP/1.1 404 x\r\nContent-Length: 5\r\n\r\nhell").rc, -EPIPE);
	assert_int_equal(
		RUN("HTTP/1.1 404 x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n").rc,
		-EPIPE);
}

#define CHUNKED "HTTP/1.1 404 x\r\nTransfer-Encoding: chunked\r\n\r\n"

static void what_is_no_answer(void **state)
{
	static const char *const texts[] = {
		"\r\n",
		"HTTP/2 101\r\n",
		"HTTP/1.1 99 x\r\n",
		"HTTP/1.1 099 x\r\n",
		"HTTP/1.1 1000 x\r\n",
		"HTTP/1.1 1x1 x\r\n",
		"HTTP/1.x 101 x\r\n",
		"http/1.1 101 x\r\n",
		"HTTP/1.1  101\r\n",
		"SSH-2.0-x\r\n",
		SWITCH "X\r\n",
		SWITCH ": x\r\n",
		SWITCH "X : y\r\n",
		SWITCH "X: y\r\n folded: z\r\n",
		"HTTP/1.1 404 x\r\nContent-Length: -1\r\n",
		"HTTP/1.1 404 x\r\nContent-Length:\r\n",
		"HTTP/1.1 404 x\r\nContent-Length: 5, 5\r\n",
		"HTTP/1.1 404 x\r\nContent-Length: 0x5\r\n",
		"HTTP/1.1 404 x\r\nContent-Length: 99999999999999999999\r\n",
		"HTTP/1.1 404 x\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
		"HTTP/1.1 404 x\r\nTransfer-Encoding: gzip\r\n",
		"HTTP/1.1 404 x\r\nTransfer-Encoding: gzip, chunked\r\n",
		"HTTP/1.1 404 x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
		CHUNKED "\r\n",
		CHUNKED "g\r\n",
		CHUNKED "-1\r\n",
		CHUNKED "10000000000000000\r\n",
		CHUNKED "1\r\nxy\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct outcome o = run(texts[i], strlen(texts[i]));

		if (o.rc != -EBADMSG)
			fail_msg("row %zu: %d", i, o.rc);
	}
}

/* @fmt, in which what is said again and again has its place. */
static void too_long(const char *start, const char *again)
{
	char text[2000];
	size_t n = (size_t)snprintf(text, sizeof(text), "%s", start), len = strlen(again);

	for (; n + len < sizeof(text); n += len)
		memcpy(text + n, again, len);
	assert_int_equal(run(text, n).rc, -ENOBUFS);
}

static void what_is_too_long(void **state)
{
	(void)state;
	too_long("HTTP/1.1 101 ", "x");
	too_long(SWITCH, "X: y\r\n");
	too_long("", "HTTP/1.1 100 Continue\r\n\r\n");
	too_long(CHUNKED "0", "0");
	too_long(CHUNKED "0\r\n", "X: y\r\n");
	too_long("HTTP/1.1 500 x\r\n\r\n", "x");
	too_long("HTTP/1.1 500 x\r\nContent-Length: 21\r\n\r\n", "x");
	too_long(CHUNKED, "1\r\nx\r\n");
	too_long(CHUNKED "fffffff\r\n", "x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_a_websocket), TEST(what_is_another),   TEST(what_says_why_not),
		TEST(what_is_cut_off),     TEST(what_is_no_answer), TEST(what_is_too_long),
	};

	return test_run(tests);
}
