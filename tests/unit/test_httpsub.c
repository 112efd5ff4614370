/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values for placeholders in plain HTTP requests: where they are put in, where not, and that
 * nothing is sent whose end is not certain.  Every case is fed whole and byte by byte.
 */
#include "unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/httpsub.h"

#define H "Host: api.example.org\r\n"
#define KEY "MSB_SECRET_KEY"

static struct secret_list secrets;

static int set_up(void **state)
{
	static const char text[] =
		"secrets 1\nsecret KEY\nhost api.example.org:80\nvalue sk-12345\n"
		"secret KEY_2\nhost *.example.org:80\nvalue two\n"
		"secret OTHER\nhost other.example:80\nvalue never\n";

	(void)state;
	return secret_list_parse(text, sizeof(text) - 1, &secrets, NULL);
}

static int tear_down(void **state)
{
	(void)state;
	secret_list_fini(&secrets);
	return 0;
}

/* Feeds @in in pieces. Return: of the feed that failed, or 0. */
static int feed(const char *in, size_t n, size_t piece, struct buf *out, struct err *e)
{
	struct httpsub h;
	int rc = 0;

	httpsub_init(&h, secrets.v, 7, 80);
	for (size_t at = 0; at < n && !rc; at += piece)
		rc = httpsub_feed(&h, (const uint8_t *)in + at, n - at < piece ? n - at : piece,
				  out, e);
	if (!rc)
		rc = httpsub_finish(&h, out);
	httpsub_fini(&h);
	return rc;
}

static void check(const char *in, const char *want)
{
	for (size_t piece = 1; piece <= strlen(in); piece += piece < 5 ? 1 : strlen(in) - 4) {
		struct buf out = BUF_INIT;
		struct err e = ERR_INIT;
		int rc = feed(in, strlen(in), piece, &out, &e);

		if (rc)
			fail_msg("%s\n%s", err_text(&e), in);
		if (buf_len(&out) != strlen(want) || memcmp(buf_data(&out), want, buf_len(&out)))
			fail_msg("%s\nbecame\n%.*s", in, (int)buf_len(&out), buf_data(&out));
		buf_fini(&out);
	}
}

static void same(const char *in)
{
	check(in, in);
}

static void test_put_in(void **state)
{
	(void)state;
	check("GET / HTTP/1.1\r\n" H "Authorization: Bearer " KEY "\r\n\r\n",
	      "GET / HTTP/1.1\r\n" H "Authorization: Bearer sk-12345\r\n\r\n");
	check("GET / HTTP/1.1\r\nx-api-key:" KEY "\t \r\nHOST:API.Example.Org.:80 \r\n\r\n",
	      "GET / HTTP/1.1\r\nx-api-key:sk-12345\t \r\nHOST:API.Example.Org.:80 \r\n\r\n");
	check("GET / HTTP/1.0\r\n" H "Cookie: a=" KEY "; b=" KEY "_2;c=" KEY "\r\n\r\n",
	      "GET / HTTP/1.0\r\n" H "Cookie: a=sk-12345; b=two;c=sk-12345\r\n\r\n");
	check("\r\nGET / HTTP/1.1\r\n" H "A: " KEY "\r\n\r\n",
	      "GET / HTTP/1.1\r\n" H "A: sk-12345\r\n\r\n");
}

static void test_basic(void **state)
{
	(void)state;
	/* user:MSB_SECRET_KEY, user:sk-12345 */
	check("GET / HTTP/1.1\r\n" H "Authorization: Basic dXNlcjpNU0JfU0VDUkVUX0tFWQ==\r\n\r\n",
	      "GET / HTTP/1.1\r\n" H "Authorization: Basic dXNlcjpzay0xMjM0NQ==\r\n\r\n");
	check("GET / HTTP/1.1\r\n" H "authorization: basic  dXNlcjpNU0JfU0VDUkVUX0tFWQ== \r\n\r\n",
	      "GET / HTTP/1.1\r\n" H "authorization: basic  dXNlcjpzay0xMjM0NQ== \r\n\r\n");
	/* somebody else's, and what is no base64 */
	same("GET / HTTP/1.1\r\n" H "Authorization: Basic dXNlcjpwYXNz\r\n\r\n");
	same("GET / HTTP/1.1\r\n" H "Authorization: Basic dXNlcjpNU0JfU0VDUkVUX0tFWQ\r\n\r\n");
	same("GET / HTTP/1.1\r\n" H "Authorization: Basic \r\n\r\n");
	/* only where credentials are */
	same("GET / HTTP/1.1\r\n" H "X: Basic dXNlcjpNU0JfU0VDUkVUX0tFWQ==\r\n\r\n");
}

static void test_not_put_in(void **state)
{
	(void)state;
	/* target, body, names, fields that frame and route or end up in logs */
	same("GET /?k=" KEY " HTTP/1.1\r\n" H "\r\n");
	same("POST / HTTP/1.1\r\n" H "Content-Length: 14\r\n\r\n" KEY);
	same("GET / HTTP/1.1\r\n" H KEY ": x\r\n\r\n");
	same("GET / HTTP/1.1\r\n" H "User-Agent: " KEY "\r\nReferer: " KEY "\r\nVia: " KEY
	     "\r\nContent-Type: " KEY "\r\nX-Forwarded-For: " KEY "\r\nConnection: " KEY
	     "\r\n\r\n");
	/* not quite one */
	same("GET / HTTP/1.1\r\n" H "A: x" KEY "\r\nB: " KEY "S\r\nC: MSB_SECRET_\r\nD: " KEY
	     "_3\r\n\r\n");
	/* another's, and one that this host is not for */
	same("GET / HTTP/1.1\r\n" H "A: MSB_SECRET_OTHER MSB_SECRET_NONE\r\n\r\n");
	/* whose request it is: Host, its port, the target */
	same("GET / HTTP/1.1\r\nHost: evil.example\r\nA: " KEY "\r\n\r\n");
	same("GET / HTTP/1.1\r\nHost: api.example.org:8080\r\nA: " KEY "\r\n\r\n");
	same("GET / HTTP/1.1\r\nHost: api.example.org@evil.example\r\nA: " KEY "\r\n\r\n");
	same("GET / HTTP/1.1\r\nHost:\r\nA: " KEY "\r\n\r\n");
	same("GET / HTTP/1.0\r\nA: " KEY "\r\n\r\n");
	same("GET http://evil.example/ HTTP/1.1\r\n" H "A: " KEY "\r\n\r\n");
	same("TRACE / HTTP/1.1\r\n" H "A: " KEY "\r\n\r\n");
	check("GET / HTTP/1.1\r\nHost: b.example.org\r\nA: " KEY " " KEY "_2\r\n\r\n",
	      "GET / HTTP/1.1\r\nHost: b.example.org\r\nA: " KEY " two\r\n\r\n");
}

/* Several requests on a connection: each is judged by itself. */
static void test_framing(void **state)
{
	(void)state;
	check("GET /1 HTTP/1.1\r\n" H "A: " KEY "\r\n\r\n"
	      "POST /2 HTTP/1.1\r\n" H "Content-Length: 20\r\nA: " KEY "\r\n\r\nA: " KEY "\r\n\r"
	      "GET /3 HTTP/1.1\r\n" H "A: " KEY "\r\n\r\n",
	      "GET /1 HTTP/1.1\r\n" H "A: sk-12345\r\n\r\n"
	      "POST /2 HTTP/1.1\r\n" H "Content-Length: 20\r\nA: sk-12345\r\n\r\nA: " KEY "\r\n\r"
	      "GET /3 HTTP/1.1\r\n" H "A: sk-12345\r\n\r\n");
	check("PUT / HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\nA: " KEY "\r\n\r\n"
	      "e\r\n" KEY "\r\n2;x=\"" KEY "\"\r\nhi\r\n000\r\nT: " KEY "\r\n\r\n"
	      "GET / HTTP/1.1\r\n" H "A: " KEY "\r\n\r\n",
	      "PUT / HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\nA: sk-12345\r\n\r\n"
	      "e\r\n" KEY "\r\n2;x=\"" KEY "\"\r\nhi\r\n000\r\nT: " KEY "\r\n\r\n"
	      "GET / HTTP/1.1\r\n" H "A: sk-12345\r\n\r\n");
	/* an end in the middle */
	same("GET / HTTP/1.1\r\n" H "A: " KEY);
	same("GET / HT");
}

/* What is no HTTP/1, or is one no more, passes to the end of the connection as it is. */
static void test_opaque(void **state)
{
	static const char later[] = "GET / HTTP/1.1\r\n" H "A: " KEY "\r\n\r\n";
	char text[512];
	static const char *const first[] = {
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"SSH-2.0-x\r\n",
		"GET /\r\n",
		"\x16\x03\x01",
		"{\"a\": 1}\n",
		"GET  / HTTP/1.1\r\n",
		"GET / HTTP/1.1 \r\n",
		"GET / http/1.1\r\n",
		"CONNECT evil.example:80 HTTP/1.1\r\n" H "\r\n",
		"\n",
		"GET / HTTP/1.1\r\n" H "Upgrade: websocket\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(first) / sizeof(*first); i++) {
		snprintf(text, sizeof(text), "%s%s", first[i], later);
		same(text);
	}
	check("GET / HTTP/1.1\r\n" H "Upgrade: websocket\r\nA: " KEY "\r\n\r\n" KEY,
	      "GET / HTTP/1.1\r\n" H "Upgrade: websocket\r\nA: sk-12345\r\n\r\n" KEY);
	/* HTTP/2 is not offered on: the connection stays what it is */
	check("GET / HTTP/1.1\r\n" H "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
	      "GET / HTTP/1.1\r\n" H "A: " KEY "\r\n\r\n",
	      "GET / HTTP/1.1\r\n" H "\r\nGET / HTTP/1.1\r\n" H "A: sk-12345\r\n\r\n");
}

static void test_refused(void **state)
{
#define G "GET / HTTP/1.1\r\n"
	static const char *const v[] = {
		G "\r\n",
		G H H "\r\n",
		G H "Host: evil.example\r\n\r\n",
		G H "Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
		G H "Content-Length: 1, 1\r\n\r\n",
		G H "Content-Length: +1\r\n\r\n",
		G H "Content-Length: 0x1\r\n\r\n",
		G H "Content-Length:\r\n\r\n",
		G H "Content-Length: 1234567890123456\r\n\r\n",
		G H "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
		G H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
		G H "Transfer-Encoding: gzip, chunked\r\n\r\n",
		G H "Transfer-Encoding: identity\r\n\r\n",
		G H "Transfer-Encoding: \x0b"
		    "chunked\r\n\r\n",
		"GET / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n",
		G H "Content-Length : 1\r\n\r\n",
		G " Host: x\r\n\r\n",
		G H " folded\r\n\r\n",
		G H "A: b\r\n\tc\r\n\r\n",
		G H ": x\r\n\r\n",
		G H "no colon\r\n\r\n",
		G H "A: b\n\r\n",
		"GET / HTTP/1.1\n" H "\r\n",
		G H "A: b\rc\r\n\r\n",
		G H "\n",
		"GET /\r HTTP/1.1\r\n" H "\r\n",
		"GET /\tx HTTP/1.1\r\n" H "\r\n",
		G H "A: \x01\r\n\r\n",
		G H "A\x80: x\r\n\r\n",
		"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nx\r\n",
		"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n 1\r\na\r\n",
		"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1 \r\na\r\n",
		"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n-1\r\na\r\n",
		"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\na\r\n",
		"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
		"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\na\n",
		"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n;\r\n",
		"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n\r\n",
		"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
		"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nT: a\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(*v); i++)
		for (size_t piece = 1; piece < 100; piece += 98) {
			struct buf out = BUF_INIT;
			struct err e = ERR_INIT;

			if (feed(v[i], strlen(v[i]), piece, &out, &e) != -EPROTO)
				fail_msg("taken: %s", v[i]);
			/* Nothing of a head that is not certain was sent. */
			assert_false(v[i][0] == 'G' && buf_len(&out));
			assert_null(strstr(err_text(&e), "example"));
			buf_fini(&out);
		}
#undef G
}

/* A NUL, and every length that is bounded. */
static void test_bounds(void **state)
{
	static char text[HTTPSUB_HEAD_MAX * 2];
	struct buf out = BUF_INIT;
	struct err e = ERR_INIT;
	size_t n;

	(void)state;
	static const char nul[] = "GET / HTTP/1.1\r\n" H "A: \0\r\n\r\n";
	assert_int_equal(feed(nul, sizeof(nul) - 1, 7, &out, &e), -EPROTO);
	n = (size_t)sprintf(text, "GET / HTTP/1.1\r\n" H "A: ");
	memset(text + n, 'a', sizeof(text) - n);
	assert_int_equal(feed(text, sizeof(text), 4096, &out, &e), -EPROTO);
	assert_int_equal(buf_len(&out), 0);
	/* too many fields */
	for (unsigned i = 0; i <= HTTPSUB_FIELDS_MAX; i++)
		n += (size_t)sprintf(text + n, i ? "A: b\r\n" : "\r\n");
	n += (size_t)sprintf(text + n, "\r\n");
	assert_int_equal(feed(text, n, 4096, &out, &e), -EPROTO);
	/* too large with its values: 8 bytes for 14 do not make it so */
	n = (size_t)sprintf(text, "GET / HTTP/1.1\r\n" H "A: ");
	while (n < HTTPSUB_HEAD_MAX - 64)
		n += (size_t)sprintf(text + n, KEY ",");
	n += (size_t)sprintf(text + n, "\r\n\r\n");
	assert_int_equal(feed(text, n, 4096, &out, &e), 0);
	assert_true(buf_len(&out) && buf_len(&out) < n);
	buf_fini(&out);
	out = (struct buf)BUF_INIT;
	/* a trailer without end, a chunk's line without end */
	n = (size_t)sprintf(text,
			    "PUT / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nT: ");
	memset(text + n, 't', sizeof(text) - n);
	assert_int_equal(feed(text, HTTPSUB_TRAILER_MAX + n, 100, &out, &e), -EPROTO);
	n = (size_t)sprintf(text, "PUT / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1;");
	memset(text + n, 't', sizeof(text) - n);
	assert_int_equal(feed(text, HTTPSUB_CHUNK_LINE_MAX + n, 100, &out, &e), -EPROTO);
	buf_fini(&out);
}

/* Where values are much larger than placeholders. */
static void test_growth(void **state)
{
	static char text[HTTPSUB_HEAD_MAX], value[SECRET_VALUE_MAX];
	struct secret s = { .name = "V" };
	struct buf out = BUF_INIT;
	struct err e = ERR_INIT;
	struct httpsub h;
	size_t n;

	(void)state;
	memset(value, 'v', sizeof(value));
	assert_int_equal(secret_add_host(&s, "api.example.org", 15, &e), 0);
	assert_int_equal(secret_set_value(&s, value, sizeof(value), &e), 0);
	n = (size_t)sprintf(text, "GET / HTTP/1.1\r\n" H "A: ");
	while (n < 1000)
		n += (size_t)sprintf(text + n, "MSB_SECRET_V,");
	n += (size_t)sprintf(text + n, "\r\n\r\n");
	httpsub_init(&h, &s, 1, 80);
	assert_int_equal(httpsub_feed(&h, (uint8_t *)text, n, &out, &e), -EPROTO);
	assert_int_equal(buf_len(&out), 0);
	httpsub_fini(&h);
	secret_fini(&s);
	buf_fini(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_put_in), TEST(test_basic),   TEST(test_not_put_in), TEST(test_framing),
		TEST(test_opaque), TEST(test_refused), TEST(test_bounds),     TEST(test_growth),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
