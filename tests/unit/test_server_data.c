/* SPDX-License-Identifier: Apache-2.0 */
/* What the server makes of data: keys, calls, schemas, lines of output, files, UTF-8. */
#include "unit/test.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/checked.h"
#include "base/mem.h"
#include "codec/jsonrpc.h"
#include "codec/token.h"
#include "codec/utf8.h"
#include "server/api.h"
#include "server/file_info.h"
#include "server/lines.h"
#include "server/rich.h"

/* ---- keys ---------------------------------------------------------------------------- */

#define SECRET "0123456789abcdef0123456789abcdef"

/* Made by another implementation of HS256. */
#define KEY_TEAM \
	"msb_eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9." \
	"eyJleHAiOjIwMDAsImlhdCI6MTAwMCwibmFtZXNwYWNlIjoidGVhbS1hIn0." \
	"isKCCU4oYwojoSv2wk55pLC86phbcy1mfZH9OrA9xvw"
#define KEY_PLAIN \
	"msb_eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjIwMDB9.W2vvTktxnQeKr-MmK0bfAuSYdl5ORWkAm5PH7bX6Sec"

static int check(const char *key, int64_t now, struct token_claims *c)
{
	return token_check(SECRET, strlen(SECRET), key, now, c);
}

static void keys_of_others_are_read(void **state)
{
	struct token_claims c;

	(void)state;
	assert_int_equal(check(KEY_TEAM, 1500, &c), 0);
	assert_int_equal(c.expires, 2000);
	assert_int_equal(c.issued, 1000);
	assert_string_equal(c.ns, "team-a");
	assert_int_equal(check(KEY_PLAIN, 1500, &c), 0);
	assert_string_equal(c.ns, "*");
}

static void a_key_expires(void **state)
{
	struct token_claims c;

	(void)state;
	assert_int_equal(check(KEY_PLAIN, 2000 + TOKEN_LEEWAY_S, &c), 0);
	assert_int_equal(check(KEY_PLAIN, 2001 + TOKEN_LEEWAY_S, &c), -ETIME);
}

static void keys_signed_with_the_secret_may_still_be_wrong(void **state)
{
	static const char *const keys[] = {
		/* alg none; crit; exp a string; namespace a number; no exp */
		"msb_eyJhbGciOiJub25lIn0.eyJleHAiOjIwMDB9.bXtHCKifqp2s6bjlL5TMRJt7Ndg9dXxkvl0d1t-"
		"Ilgc",
		"msb_eyJhbGciOiJIUzI1NiIsImNyaXQiOlsieCJdfQ.eyJleHAiOjIwMDB9."
		"8k29PvIHdocgRsxlQ49HFsPQxy5GkgLZozhaKKe3fWM",
		"msb_eyJhbGciOiJIUzI1NiJ9.eyJleHAiOiIyMDAwIn0."
		"iNzrl-IINzmrn3d0eGcZAXlSKjask0PrueTQ623SqYo",
		"msb_eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjIwMDAsIm5hbWVzcGFjZSI6NX0."
		"U15rE4Pix4KvwkIIxEI8r1UuM_xPJpZyIjQigCT6vjU",
		"msb_eyJhbGciOiJIUzI1NiJ9.eyJpYXQiOjF9.8qyse0JLixG9thMOf1jep3wQ1ROvil2lE6AtZ5axlX4",
	};
	struct token_claims c;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		assert_int_equal(check(keys[i], 1500, &c), -EACCES);
}

static void every_changed_character_breaks_a_key(void **state)
{
	char key[] = KEY_TEAM;
	struct token_claims c;

	(void)state;
	for (size_t i = 0; key[i]; i++) {
		char was = key[i];

		key[i] = was == 'A' ? 'B' : 'A';
		assert_int_equal(check(key, 1500, &c), -EACCES);
		key[i] = '\0';
		assert_int_equal(check(key, 1500, &c), -EACCES);
		key[i] = was;
	}
	assert_int_equal(check(KEY_TEAM "=", 1500, &c), -EACCES);
	assert_int_equal(check(KEY_TEAM ".", 1500, &c), -EACCES);
	assert_int_equal(check(KEY_TEAM "A", 1500, &c), -EACCES);
	assert_int_equal(token_check("another secret of no use", 24, KEY_TEAM, 1500, &c), -EACCES);
}

static void keys_made_here_are_read_here(void **state)
{
	struct token_claims c = { .expires = 5000, .issued = 1, .ns = "x", .id = "0123abcd" }, d;
	char *key;

	(void)state;
	assert_int_equal(token_make(SECRET, strlen(SECRET), &c, &key), 0);
	assert_int_equal(check(key, 10, &d), 0);
	assert_string_equal(d.ns, "x");
	assert_string_equal(d.id, "0123abcd");
	assert_int_equal(d.expires, 5000);
	free(key);
	assert_int_equal(token_make("", 0, &c, &key), -EINVAL);
	assert_true(token_equal("abc", "abd", 2) && !token_equal("abc", "abd", 3));
}

/* ---- UTF-8 --------------------------------------------------------------------------- */

static void bad_sequences_are_replaced(void **state)
{
	static const char *const rows[][2] = {
		{ "", "" },
		{ "a\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80z",
		  "a\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80z" },
		{ "\xff", "\xef\xbf\xbd" },
		{ "a\xc3", "a\xef\xbf\xbd" },
		{ "\xe2\x82", "\xef\xbf\xbd" }, /* the longest prefix is one */
		{ "\xe2\x82z", "\xef\xbf\xbdz" },
		{ "\xf0\x9f\x98", "\xef\xbf\xbd" },
		{ "\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd" }, /* overlong */
		{ "\xe0\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
		{ "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" }, /* a surrogate */
		{ "\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
		{ "\xf5", "\xef\xbf\xbd" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct buf b = BUF_INIT;

		assert_int_equal(utf8_clean(&b, rows[i][0], strlen(rows[i][0])), 0);
		assert_int_equal(buf_len(&b), strlen(rows[i][1]));
		assert_memory_equal(buf_data(&b) ? (const char *)buf_data(&b) : "", rows[i][1],
				    strlen(rows[i][1]));
		buf_fini(&b);
	}
}

static void whatever_comes_out_is_json(void **state)
{
	uint32_t random = 1;
	uint8_t bytes[64];

	(void)state;
	for (unsigned round = 0; round < 20000; round++) {
		struct buf b = BUF_INIT;
		json_t *j;

		for (size_t i = 0; i < sizeof(bytes); i++) {
			random = random * 1664525 + 1013904223;
			bytes[i] = (uint8_t)(random >> 24) | (round & 1 ? 0x80 : 0);
		}
		assert_int_equal(utf8_clean(&b, bytes, sizeof(bytes)), 0);
		j = json_stringn((const char *)buf_data(&b), buf_len(&b));
		assert_non_null(j);
		json_decref(j);
		buf_fini(&b);
	}
}

/* ---- lines ---------------------------------------------------------------------------- */

static void expect_lines(struct lines *l, const char *want)
{
	json_t *a = lines_take(l), *v;
	char got[1024] = "";
	size_t i;

	assert_non_null(a);
	json_array_foreach(a, i, v)
	{
		strcat(got, json_string_value(json_object_get(v, "stream")));
		strcat(got, ":");
		strcat(got, json_string_value(json_object_get(v, "text")));
		strcat(got, "|");
	}
	json_decref(a);
	assert_string_equal(got, want);
	lines_fini(l);
}

static void lines_come_in_the_order_of_their_ends(void **state)
{
	struct lines_pool pool = { .max = 100000 };
	struct lines l;

	(void)state;
	lines_init(&l, 10000, &pool);
	lines_add(&l, false, "a", 1);
	lines_add(&l, true, "e1\ne2", 5);
	lines_add(&l, false, "b\n\nc", 4);
	lines_add(&l, false, "\xe2", 1);
	lines_add(&l, false, "\x82\xac", 2);
	expect_lines(&l, "stderr:e1|stdout:ab|stdout:|stdout:c\xe2\x82\xac|stderr:e2|");
	lines_init(&l, 10000, &pool);
	expect_lines(&l, "");
}

static void lines_are_bounded(void **state)
{
	struct lines_pool pool = { .max = 100000 };
	struct lines l;
	json_t *a;

	(void)state;
	lines_init(&l, 1000, &pool);
	for (unsigned i = 0; i < 1000; i++)
		lines_add(&l, false, "\n", 1);
	assert_true(l.truncated);
	a = lines_take(&l);
	assert_true(json_array_size(a) > 5 && json_array_size(a) < 50);
	json_decref(a);
	lines_fini(&l);
	lines_init(&l, 1000, &pool);
	lines_add(&l, false, "short\n", 6);
	assert_false(l.truncated);
	for (unsigned i = 0; i < 100; i++)
		lines_add(&l, true, "0123456789", 10);
	assert_true(l.truncated);
	assert_true(l.kept <= 1000);
	lines_fini(&l);
}

/* ---- results --------------------------------------------------------------------------- */

/* A REPL_RESULT that announces @size bytes, and @n that come. */
static void add_result(struct rich *r, const char *mime, uint64_t size, const char *note,
		       const void *data, size_t n)
{
	struct frame_repl_result m = { .mime = frame_str_of(mime),
				       .size = size,
				       .note = frame_str_of(note) };
	struct buf b = BUF_INIT;
	struct frame f;

	assert_int_equal(frame_encode(&b, 1, FRAME_REPL_RESULT, 0, &m), 0);
	assert_true(frame_parse(buf_data(&b), buf_len(&b), &f) > 0);
	assert_int_equal(rich_add(r, &f), 0);
	for (size_t at = 0; at < n; at += 30000)
		rich_add_data(r, (const char *)data + at, min_u64(30000, n - at));
	buf_fini(&b);
}

static void expect_results(struct rich *r, const char *want)
{
	json_t *a = rich_take(r);
	char *got;

	assert_non_null(a);
	got = json_dumps(a, JSON_COMPACT);
	assert_string_equal(got, want);
	free(got);
	json_decref(a);
	rich_fini(r);
	assert_int_equal(r->pool->used, 0);
}

static void results_are_text_or_base64(void **state)
{
	struct lines_pool pool = { .max = 100000 };
	struct rich r;

	(void)state;
	rich_init(&r, &pool);
	expect_results(&r, "[]");
	rich_init(&r, &pool);
	add_result(&r, "text/plain", 3, "", "\xc3\xbc\n", 3);
	add_result(&r, "image/png", 5, "", "\x89PNG\r", 5);
	add_result(&r, "image/svg+xml", 2, "", "a\xff", 2);
	add_result(&r, "application/json", 2, "", "{}", 2);
	add_result(&r, "image/png", 0, "left out", "", 0);
	add_result(&r, "text/html", 0, "", "", 0);
	expect_results(
		&r,
		"[{\"mime\":\"text/plain\",\"encoding\":\"utf-8\",\"data\":\"\xc3\xbc\\n\"},"
		"{\"mime\":\"image/png\",\"encoding\":\"base64\",\"data\":\"iVBORw0=\"},"
		"{\"mime\":\"image/svg+xml\",\"encoding\":\"utf-8\",\"data\":\"a\xef\xbf\xbd\"},"
		"{\"mime\":\"application/json\",\"encoding\":\"utf-8\",\"data\":\"{}\"},"
		"{\"mime\":\"image/png\",\"encoding\":\"base64\",\"note\":\"left "
		"out\",\"data\":\"\"},"
		"{\"mime\":\"text/html\",\"encoding\":\"utf-8\",\"data\":\"\"}]");
}

static void a_guest_cannot_spoil_results(void **state)
{
	struct lines_pool pool = { .max = 100000 };
	struct frame bad = { .type = FRAME_REPL_RESULT, .len = 3, .body = (const uint8_t *)"abc" };
	struct rich r;

	(void)state;
	rich_init(&r, &pool);
	rich_add_data(&r, "nobody's", 8);
	add_result(&r, "no type", 1, "", "x", 1);
	add_result(&r, "text/plain", 2, "", "more than announced", 19);
	add_result(&r, "text/plain", 9, "", "less", 4);
	assert_int_equal(rich_add(&r, &bad), -EPROTO);
	rich_add_data(&r, "nobody's", 8);
	expect_results(&r, "[{\"mime\":\"text/"
			   "plain\",\"encoding\":\"utf-8\",\"data\":\"mo\"},{\"mime\":\"text/"
			   "plain\",\"encoding\":\"utf-8\",\"note\":"
			   "\"lost: 9 bytes were announced, 4 came\",\"data\":\"\"}]");
}

static void results_are_bounded(void **state)
{
	static const char left_out[] = "{\"mime\":\"a/b\",\"encoding\":\"base64\",\"note\":\"left "
				       "out: %llu bytes, there is "
				       "no room for them\",\"data\":\"\"}";
	struct lines_pool pool = { .max = 5000 };
	auto_free char *text = malloc(FRAME_RESULTS_BYTES);
	char want[1024], first[256];
	struct rich r;
	json_t *a;

	(void)state;
	/* By the pool, and by what one call may have, in which the small one still fits. */
	for (unsigned i = 0; i < 2; i++) {
		unsigned long long size = i ? FRAME_RESULTS_BYTES + 1 : 5000;

		rich_init(&r, &pool);
		add_result(&r, "a/b", size, "", "xxx", 3);
		add_result(&r, "a/b", 1, "", "x", 1);
		snprintf(first, sizeof(first), left_out, size);
		snprintf(want, sizeof(want),
			 "[%s,{\"mime\":\"a/b\",\"encoding\":\"base64\",\"data\":\"eA==\"}]",
			 first);
		expect_results(&r, want);
		pool.max = 100u << 20;
	}
	/* By the JSON that it becomes: control characters are six times as long there. */
	memset(text, 1, FRAME_RESULTS_BYTES);
	for (unsigned i = 0; i < 2; i++) {
		rich_init(&r, &pool);
		add_result(&r, i ? "text/plain" : "image/png", FRAME_RESULTS_BYTES, "", text,
			   FRAME_RESULTS_BYTES);
		a = rich_take(&r);
		assert_int_equal(i, json_object_get(json_array_get(a, 0), "note") != NULL);
		json_decref(a);
		rich_fini(&r);
	}
	assert_int_equal(pool.used, 0);
}

static void lines_share_a_pool(void **state)
{
	struct lines_pool pool = { .max = 100 };
	struct lines a, b;

	(void)state;
	lines_init(&a, 1000, &pool);
	lines_init(&b, 1000, &pool);
	lines_add(&a, false, "0123456789012345678901234567890123456789", 40);
	lines_add(&b, false, "0123456789012345678901234567890123456789", 40);
	assert_false(a.truncated || b.truncated);
	lines_add(&b, true, "0123456789012345678901234567890123456789", 40);
	assert_true(b.truncated);
	lines_say(&b, true, "and so on");
	expect_lines(&b, "stderr:and so on|stdout:0123456789012345678901234567890123456789|");
	assert_int_equal(pool.used, 40);
	lines_fini(&a);
	assert_int_equal(pool.used, 0);
}

/* ---- calls ------------------------------------------------------------------------------ */

static int code_of(const char *text)
{
	struct jsonrpc_message m;
	struct jsonrpc_call c;
	char reason[256];
	int code = jsonrpc_parse(text, strlen(text), &m, reason, sizeof(reason));

	if (code)
		return code;
	jsonrpc_call_at(&m, 0, &c);
	code = c.error;
	jsonrpc_message_fini(&m);
	return code;
}

/* A call with a list of @n numbers, each of which is a value and so is what is around them. */
static int code_of_list(size_t n)
{
	static const char head[] = "{\"jsonrpc\":\"2.0\",\"method\":\"m,[:{\",\"params\":{\"l\":[1";
	char *text = malloc(sizeof(head) + 2 * n + 3);
	size_t len = sizeof(head) - 1;
	int code;

	assert_non_null(text);
	memcpy(text, head, len);
	for (size_t i = 1; i < n; i++) {
		memcpy(text + len, ",1", 2);
		len += 2;
	}
	strcpy(text + len, "]}}");
	code = code_of(text);
	free(text);
	return code;
}

/* Memory for them is a hundred times the text. */
static void values_are_counted(void **state)
{
	const size_t others = 10; /* 3 brackets, 4 colons, 2 commas, the value itself */

	(void)state;
	assert_int_equal(code_of_list(1), 0);
	assert_int_equal(code_of_list(JSONRPC_VALUES_MAX - others + 1), 0);
	assert_int_equal(code_of_list(JSONRPC_VALUES_MAX - others + 2), JSONRPC_PARSE);
}

static void requests_are_checked(void **state)
{
	static const struct {
		const char *text;
		int code;
	} rows[] = {
		{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\"}", 0 },
		{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1.5,\"params\":null}", 0 },
		{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"more\":[]}", 0 },
		{ "", JSONRPC_PARSE },
		{ "{", JSONRPC_PARSE },
		{ "{\"a\":1,\"a\":2}", JSONRPC_PARSE },
		{ "{\"a\":\"\xff\"}", JSONRPC_PARSE },
		{ "{\"a\":01}", JSONRPC_PARSE },
		{ "{} {}", JSONRPC_PARSE },
		{ "{\"a\":\"\\u0000\"}", JSONRPC_PARSE },
		{ "1", JSONRPC_PARSE }, /* jansson wants an object or array */
		{ "[]", JSONRPC_INVALID },
		{ "[1]", JSONRPC_INVALID },
		{ "{}", JSONRPC_INVALID },
		{ "{\"jsonrpc\":2.0,\"method\":\"m\"}", JSONRPC_INVALID },
		{ "{\"jsonrpc\":\"1.0\",\"method\":\"m\"}", JSONRPC_INVALID },
		{ "{\"jsonrpc\":\"2.0\",\"method\":1}", JSONRPC_INVALID },
		{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":[]}", JSONRPC_INVALID },
		{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":[1]}", JSONRPC_BAD_PARAMS },
		{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":\"x\"}", JSONRPC_BAD_PARAMS },
	};
	char deep[300];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (code_of(rows[i].text) != rows[i].code)
			fail_msg("%d: %s", code_of(rows[i].text), rows[i].text);
	memset(deep, '[', sizeof(deep));
	deep[sizeof(deep) - 1] = '\0';
	assert_int_equal(code_of(deep), JSONRPC_PARSE);
}

/* ---- schemas -------------------------------------------------------------------------------- */

static void expect_params(const char *method, const char *text, const char *error)
{
	json_t *j = json_loads(text, 0, NULL);
	const struct api_method *m = api_find_method(method);
	struct err e = ERR_INIT;
	int rc;

	assert_non_null(j);
	assert_non_null(m);
	rc = schema_check(m->params, j, "params", &e);
	if (rc != (error ? -EINVAL : 0) || (error && !strstr(err_text(&e), error)))
		fail_msg("%s: %s", text, err_text(&e));
	json_decref(j);
}

static void parameters_are_checked_against_the_schema(void **state)
{
	(void)state;
	expect_params("sandbox.stop", "{\"sandbox\":\"a-b_C1\",\"namespace\":null,\"more\":1}",
		      NULL);
	expect_params("sandbox.stop", "{}", "params.sandbox is missing");
	expect_params("sandbox.stop", "{\"sandbox\":null}", "params.sandbox must be a string");
	expect_params("sandbox.stop", "{\"sandbox\":\"\"}", "params.sandbox must not be empty");
	expect_params("sandbox.stop", "{\"sandbox\":\"../x\"}", "must begin with a letter");
	expect_params("sandbox.stop", "{\"sandbox\":\"a/b\"}", "letters, digits");
	expect_params("sandbox.stop", "{\"sandbox\":\"-a\"}", "must begin with");
	expect_params("sandbox.stop", "{\"sandbox\":\"\xc3\xbc\"}", "letters, digits");
	expect_params("sandbox.stop",
		      "{\"sandbox\":"
		      "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}",
		      "limit 63 bytes");
	expect_params("sandbox.list", "{\"namespace\":\"*\"}", NULL);
	expect_params("sandbox.stop", "{\"sandbox\":\"a\",\"namespace\":\"*\"}", "letters, digits");
	expect_params("sandbox.start",
		      "{\"sandbox\":\"a\",\"config\":{\"memory\":512.0,\"cpus\":1.0,\"volumes\":["
		      "\"a:/b\"],"
		      "\"ports\":null,\"scripts\":{},\"exec\":\"x\",\"envs\":[\"A=1\",\"B=\"]}}",
		      NULL);
	expect_params("sandbox.start", "{\"sandbox\":\"a\",\"config\":null,\"timeout\":0.5}", NULL);
	expect_params("sandbox.start", "{\"sandbox\":\"a\",\"config\":{\"cpus\":1.5}}",
		      "params.config.cpus must be a whole number");
	expect_params("sandbox.start", "{\"sandbox\":\"a\",\"config\":{\"cpus\":0}}", "at least 1");
	expect_params("sandbox.start", "{\"sandbox\":\"a\",\"config\":{\"cpus\":17}}", "at most 16");
	expect_params("sandbox.start", "{\"sandbox\":\"a\",\"config\":{\"envs\":[\"A=1\",\"=x\"]}}",
		      "params.config.envs[1] must be KEY=VALUE");
	expect_params("sandbox.start", "{\"sandbox\":\"a\",\"config\":{\"workdir\":\"x\"}}",
		      "params.config.workdir must be an absolute path");
	expect_params("sandbox.start", "{\"sandbox\":\"a\",\"config\":{\"volumes\":[\"\"]}}",
		      "params.config.volumes[0] must not be empty");
	expect_params("sandbox.start", "{\"sandbox\":\"a\",\"config\":{\"scripts\":{\"a\":\"b\"}}}",
		      "not supported yet");
	expect_params("sandbox.start", "{\"sandbox\":\"a\",\"config\":{\"image\":5}}",
		      "params.config.image must be a string");
	expect_params("sandbox.start", "{\"sandbox\":\"a\",\"config\":{\"x\":5}}",
		      "has no member 'x'");
	expect_params("sandbox.repl.run",
		      "{\"sandbox\":\"a\",\"language\":\"python\",\"code\":\"1\",\"timeout\":0}",
		      "params.timeout must be more than 0");
	expect_params("sandbox.command.run",
		      "{\"sandbox\":\"a\",\"command\":\"x\",\"args\":[\"a\",1]}",
		      "params.args[1] must be a string");
}

/* Whatever can go wrong has a row in the schema. */
static void every_error_code_is_described(void **state)
{
	static const int codes[] = { JSONRPC_PARSE,      JSONRPC_INVALID,  JSONRPC_NO_METHOD,
				     JSONRPC_BAD_PARAMS, JSONRPC_INTERNAL, RPC_NOT_FOUND,
				     RPC_SANDBOX_FAILED, RPC_NOT_RUN,      RPC_TIMED_OUT,
				     RPC_LIMIT,          RPC_DENIED,       RPC_FILE_FAILED };
	json_t *j = json_loads(api_document, JSON_REJECT_DUPLICATES, NULL);
	size_t rows = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		assert_int_equal(api_find_error(codes[i])->code, codes[i]);
	while (api_errors[rows].code)
		rows++;
	assert_int_equal(rows, ARRAY_SIZE(codes));
	assert_int_equal(json_object_size(
				 json_object_get(json_object_get(j, "components"), "errors")),
			 rows);
	json_decref(j);
}

/* ---- files ---------------------------------------------------------------------------- */

static void file_is(json_t *info, const char *want)
{
	char *text = json_dumps(info, JSON_COMPACT | JSON_ENSURE_ASCII);

	assert_string_equal(text, want);
	free(text);
	json_decref(info);
}

static void a_file_is_told_as_json(void **state)
{
	struct frame_file_done d = {
		.mode = S_IFREG | 04750,
		.uid = 1,
		.gid = UINT32_MAX,
		.size = 7,
		.mtime_ns = 1500000000,
		.target = frame_str_of("not of a file"),
	};

	(void)state;
	file_is(file_info("/a/b\xff", &d),
		"{\"name\":\"b\\uFFFD\",\"path\":\"/a/b\\uFFFD\",\"type\":\"file\",\"mode\":2536,"
		"\"uid\":1,\"gid\":4294967295,\"size\":7,\"mtime\":1.5}");
	d = (struct frame_file_done){ .mode = S_IFLNK | 0777, .size = UINT64_MAX };
	d.target = frame_str_of("x\xfe");
	file_is(file_info("/l//", &d),
		"{\"name\":\"l\",\"path\":\"/l//\",\"type\":\"symlink\",\"mode\":511,"
		"\"uid\":0,\"gid\":0,\"size\":9223372036854775807,\"mtime\":0.0,"
		"\"target\":\"x\\uFFFD\"}");
	file_is(json_pack("[o, o]", file_info_error("/\xff", ENOENT), file_info_error("/", 60000)),
		"[{\"errno\":\"ENOENT\",\"path\":\"/\\uFFFD\"},{\"errno\":\"EIO\",\"path\":\"/"
		"\"}]");
}

static void every_type_of_file_has_a_name(void **state)
{
	static const struct {
		uint32_t mode;
		const char *name;
	} types[] = { { S_IFREG, "file" },    { S_IFDIR, "directory" },
		      { S_IFLNK, "symlink" }, { S_IFIFO, "fifo" },
		      { S_IFSOCK, "socket" }, { S_IFBLK, "block" },
		      { S_IFCHR, "char" },    { 0, "file" } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		struct frame_dirent d = { .name = frame_str_of("n"), .mode = types[i].mode };
		json_t *info = file_info_entry(i % 2 ? "/" : "/dir/", &d);

		assert_string_equal(json_string_value(json_object_get(info, "type")), types[i].name);
		assert_string_equal(json_string_value(json_object_get(info, "path")),
				    i % 2 ? "/n" : "/dir/n");
		json_decref(info);
	}
}

static void the_root_has_a_name(void **state)
{
	struct frame_file_done d = { .mode = S_IFDIR };
	json_t *info = file_info("/", &d);

	(void)state;
	assert_string_equal(json_string_value(json_object_get(info, "name")), "/");
	json_decref(info);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(keys_of_others_are_read),
		TEST(a_key_expires),
		TEST(keys_signed_with_the_secret_may_still_be_wrong),
		TEST(every_changed_character_breaks_a_key),
		TEST(keys_made_here_are_read_here),
		TEST(bad_sequences_are_replaced),
		TEST(whatever_comes_out_is_json),
		TEST(lines_come_in_the_order_of_their_ends),
		TEST(lines_are_bounded),
		TEST(lines_share_a_pool),
		TEST(results_are_text_or_base64),
		TEST(a_guest_cannot_spoil_results),
		TEST(results_are_bounded),
		TEST(values_are_counted),
		TEST(requests_are_checked),
		TEST(parameters_are_checked_against_the_schema),
		TEST(every_error_code_is_described),
		TEST(a_file_is_told_as_json),
		TEST(every_type_of_file_has_a_name),
		TEST(the_root_has_a_name),
	};

	return test_run(tests);
}
