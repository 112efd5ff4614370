/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets as text: what is meant, what is refused, and that no message tells a value. */
#include "unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/secret.h"

static void test_parse(void **state)
{
	static const struct {
		const char *text, *name, *what, *host;
		enum secret_from from;
		uint16_t port;
		unsigned n_hosts;
	} v[] = {
		{ "KEY@api.example.org", "KEY", "KEY", "api.example.org", SECRET_FROM_ENV, 80, 1 },
		{ "_k1=env:OTHER@api.example.org:8080,*.b.example", "_k1", "OTHER",
		  "api.example.org", SECRET_FROM_ENV, 8080, 2 },
		{ "KEY=file:/run/a@b=c/key@*.example.org", "KEY", "/run/a@b=c/key", "x.example.org",
		  SECRET_FROM_FILE, 80, 1 },
		{ "KEY@db.:9000-9010", "KEY", "KEY", "db", SECRET_FROM_ENV, 9005, 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(*v); i++) {
		struct secret s = { .value = NULL };
		struct secret_source from;
		struct err e = ERR_INIT;
		char env[SECRET_ENV_MAX], want[SECRET_ENV_MAX];

		assert_int_equal(secret_parse(v[i].text, &s, &from, &e), 0);
		assert_string_equal(s.name, v[i].name);
		assert_int_equal(from.from, v[i].from);
		assert_int_equal(from.len, strlen(v[i].what));
		assert_memory_equal(from.what, v[i].what, from.len);
		assert_int_equal(s.n_hosts, v[i].n_hosts);
		assert_true(secret_is_for(&s, v[i].host, v[i].port));
		assert_false(secret_is_for(&s, v[i].host, 81));
		assert_false(secret_is_for(&s, "example.com", v[i].port));
		snprintf(want, sizeof(want), "%s=MSB_SECRET_%s", v[i].name, v[i].name);
		assert_string_equal(secret_env(&s, env), want);
		secret_fini(&s);
	}
}

static void test_refused(void **state)
{
	static const char *const v[] = {
		"",
		"KEY",
		"@h.example",
		"KEY@",
		"KEY@,",
		"KEY@a.example,",
		"KEY@@",
		"1K@a.example",
		"K-Y@a.example",
		"K Y@a.example",
		"KEY=hunter2@a.example",
		"KEY=@a.example",
		"KEY=env:@a.example",
		"KEY=file:@a.example",
		"KEY@10.0.0.1",
		"KEY@public",
		"KEY@[2001:db8::1]:80",
		"KEY@a.example:443",
		"KEY@a.example:1-65535",
		"KEY@a.example:53",
		"KEY@a.example:0",
		"KEY@a..example",
		"KEY@a.example:80 x",
		"KEY@db",
		"KEY@a.example/path",
		"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA@a.example",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(*v); i++) {
		struct secret s = { .value = NULL };
		struct secret_source from;
		struct err e = ERR_INIT;

		if (!secret_parse(v[i], &s, &from, &e))
			fail_msg("'%s' was taken", v[i]);
		assert_null(strstr(err_text(&e), "hunter2"));
		secret_fini(&s);
	}
}

static void test_values(void **state)
{
	static const char *const bad[] = { "", " x", "x ", "a\nb", "a\r", "a\tb", "\x7f" };
	char large[SECRET_VALUE_MAX + 1];
	struct err e = ERR_INIT;

	(void)state;
	memset(large, 'v', sizeof(large));
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct secret s = { .name = "K" };

		assert_int_equal(secret_set_value(&s, bad[i], strlen(bad[i]), &e), -EINVAL);
		assert_null(s.value);
	}
	struct secret s = { .name = "K" };

	assert_int_equal(secret_set_value(&s, "a\0b", 3, &e), -EINVAL);
	assert_int_equal(secret_set_value(&s, large, sizeof(large), &e), -EINVAL);
	assert_int_equal(secret_set_value(&s, large, SECRET_VALUE_MAX, &e), 0);
	secret_fini(&s);
	assert_null(s.value);
}

/* A list as msb-net gets it comes back the same, and a broken one is refused. */
static void test_text(void **state)
{
	static const char text[] = "secrets 1\nsecret A\nhost a.example:80\nhost *.b.example:1-2\n"
				   "value sk-1 2\nsecret B_2\nhost db.:80\nvalue \xc3\xbc\n";
	static const char *const bad[] = {
		"",
		"secrets 1",
		"secrets 2\n",
		"secrets 1\nsecret A\n",
		"secrets 1\nsecret A\nvalue x\n",
		"secrets 1\nhost a.example:80\n",
		"secrets 1\nsecret A\nsecret B\n",
		"secrets 1\nsecret A\nhost a.example:80\nvalue x",
		"secrets 1\nsecret A\nhost a.example:80\nvalue \n",
		"secrets 1\nsecret A\nhost a.example:80\nvalue x\nsecret A\nhost a.example:80\n"
		"value y\n",
		"secrets 1\n\n",
	};
	struct secret_list l = { .v = NULL };
	struct buf out = BUF_INIT;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(secret_list_parse(text, sizeof(text) - 1, &l, &e), 0);
	assert_int_equal(l.n, 2);
	assert_string_equal(l.v[0].value, "sk-1 2");
	assert_int_equal(l.v[0].n_hosts, 2);
	assert_int_equal(secret_list_format(&l, &out), 0);
	assert_int_equal(buf_len(&out), sizeof(text) - 1);
	assert_memory_equal(buf_data(&out), text, sizeof(text) - 1);
	buf_fini(&out);
	secret_list_fini(&l);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(secret_list_parse(bad[i], strlen(bad[i]), &l, &e), -EINVAL);
}

/* The largest list fits into what msb-net takes. */
static void test_bounds(void **state)
{
	struct secret_list l = { .v = NULL };
	char value[SECRET_VALUE_MAX], host[NETRULE_NAME_MAX + 8], name[16];
	struct buf out = BUF_INIT;
	struct err e = ERR_INIT;
	int rc = 0;

	(void)state;
	memset(value, 'v', sizeof(value));
	for (unsigned i = 0; i <= SECRETS_MAX && !rc; i++) {
		struct secret s = { .value = NULL };

		snprintf(name, sizeof(name), "NAME_%u", i);
		assert_int_equal(secret_set_name(&s, name, strlen(name), &e), 0);
		for (unsigned h = 0; h < SECRET_HOSTS_MAX; h++) {
			int n = snprintf(host, sizeof(host), "h%u", h);

			for (; n + 2 < (int)NETRULE_NAME_MAX; n += 2)
				memcpy(host + n, ".a", 2);
			memcpy(host + n, ":60000", 7);
			assert_int_equal(secret_add_host(&s, host, strlen(host), &e), 0);
		}
		assert_int_equal(secret_add_host(&s, "a.example", 9, &e), -E2BIG);
		assert_int_equal(secret_set_value(&s, value, sizeof(value), &e), 0);
		rc = secret_list_add(&l, &s, &e);
		assert_int_equal(rc, i < SECRETS_MAX ? 0 : -E2BIG);
	}
	assert_int_equal(secret_list_format(&l, &out), 0);
	assert_true(buf_len(&out) <= SECRET_TEXT_MAX);
	buf_fini(&out);
	secret_list_fini(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_parse), TEST(test_refused), TEST(test_values),
		TEST(test_text),  TEST(test_bounds),
	};

	return test_run(tests);
}
