/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 that is cut, base64, SHA-1, queries. */
#include "unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/base64.h"
#include "codec/query.h"
#include "codec/sha1.h"
#include "codec/utf8.h"

/* ---- UTF-8 ------------------------------------------------------------------------------ */

static void prefixes_and_what_is_missing(void **state)
{
	static const struct {
		const char *text;
		size_t good;
		bool partial;
	} rows[] = {
		{ "", 0, false },
		{ "abc", 3, false },
		{ "a\xc3\xbc", 3, false },
		{ "a\xc3", 1, true },
		{ "\xe2", 0, true },
		{ "\xe2\x82", 0, true },
		{ "\xe2\x82\xac", 3, false },
		{ "\xf0\x9f\x98", 0, true },
		{ "\xff", 0, false },
		{ "a\x80", 1, false },
		{ "\xc0", 0, false }, /* never begins anything */
		{ "\xf5", 0, false },
		{ "\xe0\x80", 0, false }, /* overlong */
		{ "\xed\xa0", 0, false }, /* a surrogate */
		{ "\xf4\x90", 0, false }, /* beyond U+10FFFF */
		{ "a\xe2\x82 b", 1, false }, /* broken in the middle */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const uint8_t *p = (const uint8_t *)rows[i].text;
		bool partial;
		size_t good = utf8_prefix(p, strlen(rows[i].text), &partial);

		if (good != rows[i].good || partial != rows[i].partial)
			fail_msg("row %zu: %zu %d", i, good, partial);
	}
}

static void text_in_pieces(void **state)
{
	static const char good[] = "a\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80z";
	static const char *const bad[] = { "\xc3z", "\xe2\x82z", "\xf0\x9f\x98z", "\xed\xa0",
					   "\x80" };

	(void)state;
	for (size_t piece = 1; piece < sizeof(good); piece++) {
		struct utf8_check c = { .n = 0 };

		for (size_t at = 0; at < sizeof(good) - 1; at += piece) {
			size_t n = sizeof(good) - 1 - at < piece ? sizeof(good) - 1 - at : piece;

			assert_true(utf8_check_add(&c, (const uint8_t *)good + at, n));
			assert_true(utf8_check_add(&c, NULL, 0));
		}
		assert_int_equal(c.n, 0);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct utf8_check c = { .n = 0 };
		bool ok = true;

		for (const char *p = bad[i]; *p && ok; p++)
			ok = utf8_check_add(&c, (const uint8_t *)p, 1);
		assert_false(ok);
	}
}

/* ---- base64, SHA-1 ------------------------------------------------------------------------ */

static void base64_of_the_specification(void **state)
{
	static const char *const rows[][2] = {
		{ "", "" },
		{ "f", "Zg==" },
		{ "fo", "Zm8=" },
		{ "foo", "Zm9v" },
		{ "foob", "Zm9vYg==" },
		{ "fooba", "Zm9vYmE=" },
		{ "foobar", "Zm9vYmFy" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf text = BUF_INIT, bytes = BUF_INIT;

		assert_int_equal(base64_encode(&text, rows[i][0], strlen(rows[i][0])), 0);
		assert_int_equal(buf_len(&text), strlen(rows[i][1]));
		assert_int_equal(buf_len(&text), BASE64_LEN(strlen(rows[i][0])));
		assert_memory_equal(buf_data(&text), rows[i][1], buf_len(&text));
		assert_int_equal(base64_decode(&bytes, rows[i][1], strlen(rows[i][1])), 0);
		assert_int_equal(buf_len(&bytes), strlen(rows[i][0]));
		assert_memory_equal(buf_data(&bytes), rows[i][0], buf_len(&bytes));
		buf_fini(&text);
		buf_fini(&bytes);
	}
}

static void base64_is_strict(void **state)
{
	static const char *const bad[] = { "Z",    "Zg",   "Zg=",  "Zg= =",    "Zh==",
					   "Zm9=", "=m9v", "Z=9v", "Zg==Zg==", "Zm9v\n",
					   "Zm-_", "====", "Z===" };
	struct buf bytes = BUF_INIT;

	(void)state;
	assert_int_equal(buf_append(&bytes, "kept", 4), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (base64_decode(&bytes, bad[i], strlen(bad[i])) != -EINVAL)
			fail_msg("accepted: %s", bad[i]);
	assert_int_equal(base64_decode(&bytes, "AA\0A", 4), -EINVAL);
	assert_int_equal(buf_len(&bytes), 4);
	buf_fini(&bytes);
}

static void sha1_of_the_specification(void **state)
{
	static const struct {
		const char *text, *hex;
	} rows[] = {
		{ "", "da39a3ee5e6b4b0d3255bfef95601890afd80709" },
		{ "abc", "a9993e364706816aba3e25717850c26c9cd0d89d" },
		{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		  "84983e441c3bd26ebaae4aa1f95129e5e54670f1" },
		{ "0123456701234567012345670123456701234567012345670123456701234567",
		  "e0c094e867ef46c350ef54a7f59dd60bed92ae83" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t out[SHA1_BYTES];
		char hex[2 * SHA1_BYTES + 1];

		sha1(rows[i].text, strlen(rows[i].text), out);
		for (size_t k = 0; k < SHA1_BYTES; k++)
			snprintf(hex + 2 * k, 3, "%02x", out[k]);
		assert_string_equal(hex, rows[i].hex);
	}
}

/* ---- queries -------------------------------------------------------------------------------- */

static const char *const known[] = { "path", "mode", "on", NULL };

static void queries_are_decoded(void **state)
{
	struct err e = ERR_INIT;
	struct query q;
	uint64_t n = 7;
	bool on = false;

	(void)state;
	assert_int_equal(query_parse(&q, "path=%2Fa%20b+c%C3%bc%2B&&mode=644&on=true&", known, &e),
			 0);
	assert_string_equal(query_get(&q, "path"), "/a b c\xc3\xbc+");
	assert_int_equal(query_u64(&q, "mode", 8, 07777, &n, &e), 0);
	assert_int_equal(n, 0644);
	assert_int_equal(query_bool(&q, "on", &on, &e), 0);
	assert_true(on);
	assert_int_equal(query_parse(&q, "p%61th=a=b", known, &e), 0);
	assert_string_equal(query_get(&q, "path"), "a=b");
	assert_int_equal(query_parse(&q, "", known, &e), 0);
	assert_null(query_get(&q, "path"));
	assert_int_equal(query_u64(&q, "mode", 8, 07777, &n, &e), 0);
	assert_int_equal(n, 0644); /* as it was */
}

static void bad_queries_are_refused(void **state)
{
	static const char *const bad[] = { "path",     "path=a&path=b", "other=1",  "=1",
					   "path=%",   "path=%4",       "path=%zz", "path=%00",
					   "path%00=", "path=a&mode" };
	struct query q;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err e = ERR_INIT;

		if (query_parse(&q, bad[i], known, &e) != -EINVAL || !e.msg[0])
			fail_msg("accepted: %s", bad[i]);
	}
}

static void numbers_have_their_limits(void **state)
{
	static const struct {
		const char *text;
		unsigned base;
		uint64_t max;
		int rc;
		uint64_t n;
	} rows[] = {
		{ "mode=0", 10, 5, 0, 0 },
		{ "mode=5", 10, 5, 0, 5 },
		{ "mode=6", 10, 5, -EINVAL, 0 },
		{ "mode=007", 8, 07777, 0, 7 },
		{ "mode=7777", 8, 07777, 0, 07777 },
		{ "mode=10000", 8, 07777, -EINVAL, 0 },
		{ "mode=8", 8, 07777, -EINVAL, 0 },
		{ "mode=", 10, 5, -EINVAL, 0 },
		{ "mode=-1", 10, 5, -EINVAL, 0 },
		{ "mode=+1", 10, 5, -EINVAL, 0 },
		{ "mode=1x", 10, 5, -EINVAL, 0 },
		{ "mode=18446744073709551615", 10, UINT64_MAX, 0, UINT64_MAX },
		{ "mode=18446744073709551616", 10, UINT64_MAX, -EINVAL, 0 },
		{ "mode=9223372036854775808", 10, INT64_MAX, -EINVAL, 0 },
		{ "mode=99999999999999999999999", 10, UINT64_MAX, -EINVAL, 0 },
	};
	struct query q;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err e = ERR_INIT;
		uint64_t n = 0;
		bool on;

		assert_int_equal(query_parse(&q, rows[i].text, known, &e), 0);
		if (query_u64(&q, "mode", rows[i].base, rows[i].max, &n, &e) != rows[i].rc ||
		    n != rows[i].n)
			fail_msg("%s: %llu", rows[i].text, (unsigned long long)n);
		assert_int_equal(query_parse(&q, "on=yes", known, &e), 0);
		assert_int_equal(query_bool(&q, "on", &on, &e), -EINVAL);
	}
}

static void long_queries_are_refused(void **state)
{
	struct err e = ERR_INIT;
	char text[QUERY_TEXT_MAX + 10];
	struct query q;

	(void)state;
	memset(text, 'a', sizeof(text));
	memcpy(text, "path=", 5);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(query_parse(&q, text, known, &e), -EINVAL);
	text[8000] = '\0';
	assert_int_equal(query_parse(&q, text, known, &e), 0);
	assert_int_equal(strlen(query_get(&q, "path")), 8000 - 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(prefixes_and_what_is_missing), TEST(text_in_pieces),
		TEST(base64_of_the_specification),  TEST(base64_is_strict),
		TEST(sha1_of_the_specification),    TEST(queries_are_decoded),
		TEST(bad_queries_are_refused),      TEST(numbers_have_their_limits),
		TEST(long_queries_are_refused),
	};

	return test_run(tests);
}
