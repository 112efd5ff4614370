/* SPDX-License-Identifier: Apache-2.0 */
/* Published ports as text: what is meant, and what is refused with which words. */
#include "unit/test.h"

#include <errno.h>
#include <stdio.h>

#include "codec/publish.h"

static void test_golden(void **state)
{
	static const struct {
		const char *text, *first, *last;
		size_t n;
	} v[] = {
		{ "8000:80", "127.0.0.1:8000:80/tcp", NULL, 1 },
		{ "8000", "127.0.0.1:8000:8000/tcp", NULL, 1 },
		{ "53:53/udp", "127.0.0.1:53:53/udp", NULL, 1 },
		{ "53/udp", "127.0.0.1:53:53/udp", NULL, 1 },
		{ "8000:80/tcp", "127.0.0.1:8000:80/tcp", NULL, 1 },
		{ "0:8000", "127.0.0.1:0:8000/tcp", NULL, 1 },
		{ "65535:1", "127.0.0.1:65535:1/tcp", NULL, 1 },
		{ "0080:080", "127.0.0.1:80:80/tcp", NULL, 1 },
		{ "0.0.0.0:8000:80", "0.0.0.0:8000:80/tcp", NULL, 1 },
		{ "192.168.1.5:0:80/udp", "192.168.1.5:0:80/udp", NULL, 1 },
		{ "[::1]:8000:80", "[::1]:8000:80/tcp", NULL, 1 },
		{ "[::]:1:2/udp", "[::]:1:2/udp", NULL, 1 },
		{ "[FE80::0:1]:1:2", "[fe80::1]:1:2/tcp", NULL, 1 },
		{ "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535:65535/udp", NULL, NULL, 0 },
		{ "[fdff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535:65535/udp",
		  "[fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535:65535/udp", NULL, 1 },
		{ "8000-8010:9000-9010", "127.0.0.1:8000:9000/tcp", "127.0.0.1:8010:9010/tcp", 11 },
		{ "8000-8001", "127.0.0.1:8000:8000/tcp", "127.0.0.1:8001:8001/tcp", 2 },
		{ "[::1]:1-3:4-6/udp", "[::1]:1:4/udp", "[::1]:3:6/udp", 3 },
		{ "7-7:8", "127.0.0.1:7:8/tcp", NULL, 1 },
		{ "0:10-12", "127.0.0.1:0:10/tcp", "127.0.0.1:0:12/tcp", 3 },
		{ "1-128", "127.0.0.1:1:1/tcp", "127.0.0.1:128:128/tcp", 128 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(*v); i++) {
		struct publish_list l = { .n = 0 }, again = { .n = 0 };
		char text[PUBLISH_TEXT_MAX];
		struct err e = ERR_INIT;

		if (!v[i].n) {
			assert_int_equal(publish_add(&l, v[i].text, &e), -EINVAL);
			continue;
		}
		assert_int_equal(publish_add(&l, v[i].text, &e), 0);
		assert_int_equal(l.n, v[i].n);
		publish_format(&l.v[0], text);
		assert_string_equal(text, v[i].first);
		assert_int_equal(publish_add(&again, text, &e), 0);
		assert_memory_equal(&again.v[0], &l.v[0], sizeof(l.v[0]));
		publish_format(&l.v[l.n - 1], text);
		assert_string_equal(text, v[i].last ? v[i].last : v[i].first);
	}
}

static void test_refused(void **state)
{
	static const struct {
		const char *text, *words;
	} v[] = {
		{ "", "give HOST:GUEST" },
		{ "x", "give HOST:GUEST" },
		{ "80:", "give HOST:GUEST" },
		{ ":80", "give HOST:GUEST" },
		{ "-1", "give HOST:GUEST" },
		{ "+80:80", "give HOST:GUEST" },
		{ " 80", "give HOST:GUEST" },
		{ "80 ", "give HOST:GUEST" },
		{ "65536", "give HOST:GUEST" },
		{ "99999999999999999999:1", "give HOST:GUEST" },
		{ "80-", "give HOST:GUEST" },
		{ "-80", "give HOST:GUEST" },
		{ "9-8", "give HOST:GUEST" },
		{ "0-8", "give HOST:GUEST" },
		{ "1-2-3", "give HOST:GUEST" },
		{ "127.0.0.1::80", "give HOST:GUEST" },
		{ "0", "cannot be 0" },
		{ "80:0", "cannot be 0" },
		{ "80/sctp", "tcp or udp" },
		{ "80/", "tcp or udp" },
		{ "80/TCP", "tcp or udp" },
		{ "80/tcp/udp", "tcp or udp" },
		{ "80/tc", "tcp or udp" },
		{ "::1:80:80", "too many colons" },
		{ "1:2:3:4", "too many colons" },
		{ "[::1]:80", "give HOST:GUEST" },
		{ "[::1:80:80", "too many colons" },
		{ "localhost:80:80", "names cannot be bound" },
		{ "[127.0.0.1]:80:80", "neither IPv4 nor IPv6" },
		{ "[fe80::1%eth0]:80:80", "neither IPv4 nor IPv6" },
		{ "1.2.3:80:80", "neither IPv4 nor IPv6" },
		{ "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]:1:1", "too long" },
		{ "224.0.0.1:80:80", "multicast" },
		{ "255.255.255.255:80:80/udp", "multicast" },
		{ "[ff02::1]:80:80/udp", "multicast" },
		{ "1-3:1-2", "same length" },
		{ "1:1-2", "same length" },
		{ "1-2:1", "same length" },
		{ "1-129", "at most 128" },
		{ "1-65535", "at most 128" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(*v); i++) {
		struct publish_list l = { .n = 0 };
		struct err e = ERR_INIT;

		assert_true(publish_add(&l, v[i].text, &e) < 0);
		assert_non_null(strstr(err_text(&e), v[i].words));
		assert_int_equal(l.n, 0);
	}
}

static void test_together(void **state)
{
	struct publish_list l = { .n = 0 };
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(publish_add(&l, "8000:80", &e), 0);
	assert_int_equal(publish_add(&l, "8000:80/udp", &e), 0);
	assert_int_equal(publish_add(&l, "[::1]:8000:80", &e), 0);
	assert_int_equal(publish_add(&l, "0.0.0.0:8000:80", &e), 0);
	assert_int_equal(publish_add(&l, "8001:80", &e), 0);
	/* Chosen ports never collide. */
	assert_int_equal(publish_add(&l, "0:80", &e), 0);
	assert_int_equal(publish_add(&l, "0:80", &e), 0);
	assert_int_equal(l.n, 7);
	/* The second of the range is there: nothing of it is added. */
	assert_int_equal(publish_add(&l, "7999-8000:1-2", &e), -EINVAL);
	assert_non_null(strstr(err_text(&e), "given twice"));
	assert_int_equal(l.n, 7);
	err_clear(&e);
	assert_int_equal(publish_add(&l, "1-121", &e), 0);
	assert_int_equal(l.n, PUBLISH_MAX);
	assert_int_equal(publish_add(&l, "9000", &e), -E2BIG);
	assert_int_equal(l.n, PUBLISH_MAX);
}

static void test_local(void **state)
{
	static const struct {
		const char *text;
		bool local;
	} v[] = {
		{ "80", true },
		{ "127.9.9.9:80:80", true },
		{ "0.0.0.0:80:80", false },
		{ "10.0.0.1:80:80", false },
		{ "[::1]:80:80", true },
		{ "[::]:80:80", false },
		{ "[fe80::1]:1:1", false },
		{ "[7f00::]:1:1", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(*v); i++) {
		struct publish_list l = { .n = 0 };

		assert_int_equal(publish_add(&l, v[i].text, NULL), 0);
		assert_int_equal(publish_is_local(&l.v[0]), v[i].local);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_golden),
		TEST(test_refused),
		TEST(test_together),
		TEST(test_local),
	};

	return test_run(tests);
}
