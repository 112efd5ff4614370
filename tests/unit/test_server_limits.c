/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of keys, the audit log, lines of logs, and descriptors. */
#include "unit/test.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "codec/token.h"
#include "server/audit.h"
#include "server/box.h"
#include "server/internal.h"
#include "server/logs.h"
#include "server/quota.h"

#define SECRET "0123456789abcdef0123456789abcdef"
#define SECOND 1000000000ull

/* ---- claims ------------------------------------------------------------------------- */

static void limits_are_in_the_key(void **state)
{
	struct token_claims c = { .expires = 2000, .issued = 1, .ns = "team", .id = "id1" }, got;
	char *key;

	(void)state;
	c.limits = (struct token_limits){ .sandboxes = 5, .memory_mib = 4096, .rate = UINT32_MAX };
	assert_int_equal(token_make(SECRET, strlen(SECRET), &c, &key), 0);
	assert_int_equal(token_check(SECRET, strlen(SECRET), key, 1000, &got), 0);
	assert_memory_equal(&got.limits, &c.limits, sizeof(c.limits));
	assert_string_equal(got.id, "id1");
	free(key);
	c.limits = (struct token_limits){ .memory_mib = 1 };
	assert_int_equal(token_make(SECRET, strlen(SECRET), &c, &key), 0);
	assert_int_equal(token_check(SECRET, strlen(SECRET), key, 1000, &got), 0);
	assert_memory_equal(&got.limits, &c.limits, sizeof(c.limits));
	free(key);
	/* They could not be accounted for. */
	c.id[0] = '\0';
	assert_int_equal(token_make(SECRET, strlen(SECRET), &c, &key), -EINVAL);
}

/* Keys of another implementation, signed with the secret. */
static void wrong_limits_are_no_licence(void **state)
{
	static const char *const keys[] = {
		/* "rate":0; "rate":"5"; "max_memory":-1; "max_sandboxes":4294967296; 1.5; no jti */
		"msb_eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjIwMDAsImp0aSI6ImEiLCJyYXRlIjowfQ."
		"wZ9es0J8hGYHw1aIyD9XHITN7ua5P9ZMmangRebI8kg",
		"msb_eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjIwMDAsImp0aSI6ImEiLCJyYXRlIjoiNSJ9."
		"xzkrYy7B8w3f3VElmzhLfTFYzmHqh5rDfR0JhHg56Ls",
		"msb_eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjIwMDAsImp0aSI6ImEiLCJtYXhfbWVtb3J5IjotMX0."
		"Wt4zrXByJQh-x-3c2ZDF-OUzlNjPR4ezbveGWw5W6FA",
		"msb_eyJhbGciOiJIUzI1NiJ9."
		"eyJleHAiOjIwMDAsImp0aSI6ImEiLCJtYXhfc2FuZGJveGVzIjo0Mjk0OTY3Mjk2fQ."
		"BBQMgVkDzJF16JBnWUbPBolmI1vpU0WJ63Lrem9iLTM",
		"msb_eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjIwMDAsImp0aSI6ImEiLCJyYXRlIjoxLjV9."
		"6t9nqUuBP1zbViW9EjVj4cE_xC9XEVfqPji79VL2jXI",
		"msb_eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjIwMDAsInJhdGUiOjV9."
		"6IrbOpG4VRLmCXpTReg1ecVkMzbxLLt1VNdcPNG2Q_0",
	};
	static const char good[] =
		"msb_eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjIwMDAsImp0aSI6ImEiLCJyYXRlIjo1fQ."
		"PLzBSyZy7bjw5busUAasIAlvSO6tYrshRUh0eG6In4A";
	struct token_claims c;

	(void)state;
	assert_int_equal(token_check(SECRET, strlen(SECRET), good, 1000, &c), 0);
	assert_int_equal(c.limits.rate, 5);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		assert_int_equal(token_check(SECRET, strlen(SECRET), keys[i], 1000, &c), -EACCES);
}

/* ---- the bucket ----------------------------------------------------------------------- */

static void a_bucket_holds_what_one_second_may_have(void **state)
{
	struct quota_bucket b = { 0 };
	uint64_t now = 77 * SECOND, wait;

	(void)state;
	for (int i = 0; i < 10; i++)
		assert_int_equal(quota_bucket_take(&b, 10, now), 0);
	wait = quota_bucket_take(&b, 10, now);
	assert_int_equal(wait, SECOND / 10);
	/* Who is refused pays nothing: the wait stays true. */
	assert_int_equal(quota_bucket_take(&b, 10, now), wait);
	assert_int_equal(quota_bucket_take(&b, 10, now + wait - 1), 1);
	assert_int_equal(quota_bucket_take(&b, 10, now + wait), 0);
	assert_int_not_equal(quota_bucket_take(&b, 10, now + wait), 0);
	/* A long silence fills it, and no more than that. */
	now += 1000 * SECOND;
	for (int i = 0; i < 10; i++)
		assert_int_equal(quota_bucket_take(&b, 10, now), 0);
	assert_int_not_equal(quota_bucket_take(&b, 10, now), 0);
}

static void over_time_the_rate_is_kept(void **state)
{
	static const uint32_t rates[] = { 1, 3, 7, 1000, 1000000, UINT32_MAX };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
		struct quota_bucket b = { 0 };
		uint64_t step = SECOND / 1000, passed = 0;

		for (uint64_t t = 0; t < 10000; t++)
			for (int k = 0; k < 3; k++)
				passed += !quota_bucket_take(&b, rates[i], SECOND + t * step);
		/* 10 s and one full bucket, of at most 3 in each step */
		if (rates[i] <= 1000)
			assert_in_range(passed, 10ull * rates[i], 11ull * rates[i] + 1);
		else
			assert_int_equal(passed, 30000);
	}
}

static void keys_do_not_share_a_bucket(void **state)
{
	struct principal a = { .key = "a", .limits.rate = 2 }, b = { .key = "b", .limits.rate = 2 };
	struct principal unlimited = { .key = "c" };
	static struct quotas q;
	char name[TOKEN_ID_SIZE];

	(void)state;
	quotas_init(&q);
	assert_int_equal(quota_take_request(&q, &a, SECOND), 0);
	assert_int_equal(quota_take_request(&q, &a, SECOND), 0);
	assert_int_equal(quota_take_request(&q, &a, SECOND), 1);
	assert_int_equal(quota_take_request(&q, &b, SECOND), 0);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(quota_take_request(&q, &unlimited, SECOND), 0);
	/* Those of many keys do not stay for ever. */
	for (unsigned i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "key-%u", i);
		strcpy(b.key, name);
		assert_int_equal(quota_take_request(&q, &b, (3 + i) * SECOND), 0);
	}
	for (unsigned i = 0, n = 0; i < QUOTA_CHAINS; i++, n = 0) {
		list_for_each (pos, tmp, &q.chains[i])
			n++;
		assert_true(n <= 2);
	}
	quotas_fini(&q);
}

static void a_keys_sandboxes_are_counted(void **state)
{
	struct box boxes[3] = { { .key = "a", .memory_mib = 512 },
				{ .key = "a", .memory_mib = 256 },
				{ .key = "b", .memory_mib = 9999 } };
	struct principal a = { .key = "a", .limits = { .sandboxes = 3, .memory_mib = 1024 } };
	static struct server s;
	struct err e = ERR_INIT;
	json_t *data = NULL;

	(void)state;
	list_init(&s.boxes);
	for (size_t i = 0; i < ARRAY_SIZE(boxes); i++)
		list_append(&s.boxes, &boxes[i].link);
	assert_int_equal(quota_check_sandbox(&s, &a, 256, &data, &e), 0);
	assert_int_equal(quota_check_sandbox(&s, &a, 257, &data, &e), -EDQUOT);
	assert_string_equal(json_string_value(json_object_get(data, "limit")), "memory");
	assert_int_equal(json_integer_value(json_object_get(data, "max")), 1024);
	assert_non_null(strstr(err_text(&e), "1024 MiB"));
	json_decref(data);
	err_clear(&e);
	a.limits.sandboxes = 2;
	assert_int_equal(quota_check_sandbox(&s, &a, 1, &data, &e), -EDQUOT);
	assert_string_equal(json_string_value(json_object_get(data, "limit")), "sandboxes");
	assert_int_equal(json_integer_value(json_object_get(data, "max")), 2);
	json_decref(data);
	a.limits = (struct token_limits){ 0 };
	assert_int_equal(quota_check_sandbox(&s, &a, UINT64_MAX / 2, &data, NULL), 0);
}

/* ---- the audit log ------------------------------------------------------------------------ */

static void a_line_says_who_did_what(void **state)
{
	struct principal who = { .ns = "team", .key = "0123", .peer = "[::1]:4711" };
	struct audit_entry x = {
		.who = &who,
		.ns = "team",
		.method = "sandbox.start",
		.sandbox = "box",
		.duration_ns = 1234567,
	};
	char line[AUDIT_LINE_MAX];
	size_t n = audit_format(&x, 1764301234005, line, sizeof(line));

	(void)state;
	assert_int_equal(line[n - 1], '\n');
	line[n - 1] = '\0';
	assert_string_equal(line, "{\"time\":\"2025-11-28T03:40:34.005Z\",\"key\":\"0123\","
				  "\"namespace\":\"team\",\"peer\":\"[::1]:4711\","
				  "\"method\":\"sandbox.start\",\"sandbox\":\"box\","
				  "\"outcome\":\"ok\",\"duration_ms\":1.23}");
	x.outcome = AUDIT_ERROR;
	x.code = -32001;
	x.who = NULL;
	x.sandbox = NULL;
	x.reason = "it was \"idle\"\n";
	n = audit_format(&x, 0, line, sizeof(line));
	line[n - 1] = '\0';
	assert_string_equal(line, "{\"time\":\"1970-01-01T00:00:00.000Z\",\"key\":null,"
				  "\"namespace\":\"team\",\"peer\":null,"
				  "\"method\":\"sandbox.start\",\"sandbox\":null,"
				  "\"outcome\":\"error\",\"code\":-32001,"
				  "\"reason\":\"it was \\\"idle\\\"\\n\",\"duration_ms\":1.23}");
	/* One that does not fit is no line at all. */
	assert_int_equal(audit_format(&x, 0, line, n), n);
	assert_int_equal(audit_format(&x, 0, line, n - 1), 0);
}

static char audit_dir[] = "/tmp/msb-test-audit-XXXXXX";

static off_t audit_file(const char *name, mode_t *mode)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", audit_dir, name);
	if (lstat(path, &st) < 0)
		return -1;
	if (mode)
		*mode = st.st_mode;
	return st.st_size;
}

static void the_log_is_private_and_bounded(void **state)
{
	struct audit_entry x = { .ns = "team", .method = "sandbox.stop", .sandbox = "box" };
	char path[64], old[64], other[64];
	struct audit a = AUDIT_INIT;
	struct err e = ERR_INIT;
	uint64_t lines = 0;
	mode_t mode;
	FILE *f;

	(void)state;
	assert_non_null(mkdtemp(audit_dir));
	snprintf(path, sizeof(path), "%s/log", audit_dir);
	snprintf(old, sizeof(old), "%s/log.old", audit_dir);
	snprintf(other, sizeof(other), "%s/other", audit_dir);
	f = fopen(path, "w");
	fputs("what is there stays\n", f);
	fclose(f);
	chmod(path, 0644);
	assert_int_equal(audit_open(&a, path, &e), 0);
	assert_int_not_equal(audit_file("log", &mode), -1);
	assert_int_equal(mode & 0777, 0600);
	do {
		audit_write(&a, &x);
		lines++;
		assert_true(audit_file("log", NULL) <= (off_t)AUDIT_FILE_MAX);
	} while (audit_file("log.old", NULL) < 0);
	assert_true(lines > 10000 && audit_file("log", &mode) < (off_t)AUDIT_LINE_MAX);
	assert_int_equal(mode & 0777, 0600);
	assert_true(audit_file("log.old", NULL) > (off_t)(AUDIT_FILE_MAX - AUDIT_LINE_MAX));
	audit_close(&a);
	/* No other kind of file. */
	assert_int_equal(symlink(path, other), 0);
	assert_true(audit_open(&a, other, &e) < 0);
	audit_close(&a);
	unlink(other);
	err_clear(&e);
	assert_int_equal(mkfifo(other, 0600), 0);
	assert_true(audit_open(&a, other, &e) < 0);
	audit_close(&a);
	unlink(other);
	unlink(path);
	unlink(old);
	rmdir(audit_dir);
}

/* ---- lines ----------------------------------------------------------------------------------- */

static void the_last_lines_of_a_text(void **state)
{
	static const struct {
		const char *text;
		unsigned ask, missing;
		const char *rest;
	} rows[] = {
		{ "", 3, 3, "" },
		{ "a", 1, 0, "a" },
		{ "a", 2, 1, "a" },
		{ "a\n", 1, 0, "a\n" },
		{ "a\nb", 1, 0, "b" },
		{ "a\nb\n", 1, 0, "b\n" },
		{ "a\nb\n\n", 1, 0, "\n" },
		{ "a\nb\n\n", 2, 0, "b\n\n" },
		{ "\n\n", 2, 0, "\n\n" },
		{ "\n\n", 3, 1, "\n\n" },
		{ "a\nb\nc", 2, 0, "b\nc" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		unsigned lines = rows[i].ask;
		size_t at = logs_last_lines(rows[i].text, strlen(rows[i].text), &lines);

		assert_string_equal(rows[i].text + at, rows[i].rest);
		assert_int_equal(lines, rows[i].missing);
	}
}

static void lines_are_text_without_their_ends(void **state)
{
	static const char text[] = "one\r\n\n\xfftwo\0end\r\r\nlast";
	json_t *lines = json_array();
	char *all;

	(void)state;
	assert_int_equal(logs_split(text, sizeof(text) - 1, lines), 0);
	all = json_dumps(lines, JSON_COMPACT | JSON_ENSURE_ASCII);
	assert_string_equal(all, "[\"one\",\"\",\"\\uFFFDtwo\\u0000end\",\"last\"]");
	free(all);
	json_decref(lines);
}

/* ---- descriptors ---------------------------------------------------------------------- */

static void descriptors_are_shared_out(void **state)
{
	static const struct {
		uint64_t limit;
		unsigned sandboxes, conns; /* conns 0: refused */
	} rows[] = {
		{ 0, 1, 0 },         { 131, 1, 0 },          { 132, 1, 64 },
		{ 133, 1, 65 },      { 131, 256, 0 },        { 132, 256, 64 },
		{ 1024, 256, 64 },   { 1152, 256, 64 },      { 1153, 256, 65 },
		{ 4096, 256, 3008 }, { 1 << 20, 256, 8192 }, { UINT64_MAX, 65536, 8192 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct err e = ERR_INIT;
		unsigned conns = 0;
		int rc = server_plan_descriptors(rows[i].limit, rows[i].sandboxes, &conns, &e);

		assert_int_equal(conns, rows[i].conns);
		assert_int_equal(rc, rows[i].conns ? 0 : -EMFILE);
	}
}

static void too_few_descriptors_are_explained(void **state)
{
	struct err e = ERR_INIT;
	unsigned conns;

	(void)state;
	assert_int_equal(server_plan_descriptors(100, 256, &conns, &e), -EMFILE);
	assert_non_null(strstr(err_text(&e), "may have 100 at once"));
	assert_non_null(strstr(err_text(&e), "at least 132, and 1152 for 256 sandboxes"));
	assert_non_null(strstr(err_text(&e), "ulimit -Hn"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(limits_are_in_the_key),
		TEST(wrong_limits_are_no_licence),
		TEST(a_bucket_holds_what_one_second_may_have),
		TEST(over_time_the_rate_is_kept),
		TEST(keys_do_not_share_a_bucket),
		TEST(a_keys_sandboxes_are_counted),
		TEST(a_line_says_who_did_what),
		TEST(the_log_is_private_and_bounded),
		TEST(the_last_lines_of_a_text),
		TEST(lines_are_text_without_their_ends),
		TEST(descriptors_are_shared_out),
		TEST(too_few_descriptors_are_explained),
	};

	return test_run(tests);
}
