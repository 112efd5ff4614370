/* SPDX-License-Identifier: Apache-2.0 */
/* What of the C library needs no server: addresses, .env, base64, errors, options, giving up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <signal.h>
#include <unistd.h>
#include <cmocka.h>

#include "capi/internal.h"

/* ---- .env ---- */

static void expect_env(const char *text, const char *value)
{
	char *v = capi_env_value(text, strlen(text), "MSB_API_KEY");

	if (value) {
		assert_non_null(v);
		assert_string_equal(v, value);
	} else {
		assert_null(v);
	}
	free(v);
}

static void test_env_file(void **state)
{
	(void)state;
	expect_env("MSB_API_KEY=k", "k");
	expect_env("OTHER=1\n  MSB_API_KEY = k \r\nX=2\n", "k");
	expect_env("export MSB_API_KEY=k\n", "k");
	expect_env("MSB_API_KEY='k' # ours", "k");
	expect_env("MSB_API_KEY=\"a b\"x", "a b");
	expect_env("MSB_API_KEY='open", "'open");
	expect_env("MSB_API_KEY=k # comment", "k");
	expect_env("MSB_API_KEY=k#no comment", "k#no comment");
	expect_env("MSB_API_KEY=a=b", "a=b");
	expect_env("MSB_API_KEY=", "");
	expect_env("MSB_API_KEY=a\nMSB_API_KEY=b\n", "b");
	expect_env("# MSB_API_KEY=k", NULL);
	expect_env("MSB_API_KEYS=k", NULL);
	expect_env("MSB_API_KEY", NULL);
	expect_env("", NULL);
}

/* ---- addresses ---- */

static void expect_url(const char *url, const char *base, const char *unix_path)
{
	struct capi_endpoint e;
	struct msb_error *err = NULL;
	int rc = capi_endpoint_init(&e, url, "", &err);

	if (base) {
		assert_int_equal(rc, 0);
		assert_null(err);
		assert_string_equal(e.base, base);
		if (unix_path)
			assert_string_equal(e.unix_path, unix_path);
		else
			assert_null(e.unix_path);
	} else {
		assert_int_equal(rc, MSB_ERR_ARGUMENT);
		assert_non_null(strstr(msb_error_message(err), "http://HOST[:PORT]"));
		msb_error_free(err);
	}
	capi_endpoint_fini(&e);
}

static void test_addresses(void **state)
{
	(void)state;
	expect_url("http://h:5555", "http://h:5555", NULL);
	expect_url("https://h///", "https://h", NULL);
	expect_url("HTTP://h/prefix/", "HTTP://h/prefix", NULL);
	expect_url("http://[::1]:80", "http://[::1]:80", NULL);
	expect_url("unix:///run/msb.sock", "http://localhost", "/run/msb.sock");
	expect_url("unix://host/s", NULL, NULL);
	expect_url("unix://", NULL, NULL);
	expect_url("h:80", NULL, NULL);
	expect_url("http:///x", NULL, NULL);
	expect_url("http://h:65536", NULL, NULL);
	expect_url("http://h:x", NULL, NULL);
	expect_url("http://u@h", NULL, NULL);
	expect_url("http://u:p@h", NULL, NULL);
	expect_url("http://h?x", NULL, NULL);
	expect_url("http://h#x", NULL, NULL);
	expect_url("http://h\n", NULL, NULL);
	expect_url("http://h\x7f", NULL, NULL);
	expect_url("ftp://h", NULL, NULL);
	expect_url("file:///etc/passwd", NULL, NULL);
}

/* ---- base64 ---- */

static void test_base64(void **state)
{
	static const char *const bad[] = { "A",    "AA",    "AAA",     "A===", "====",
					   "AA=A", "AAAA=", "AB==",    "AAB=", "AA\n=",
					   "AA-_", "=AAA",  "AA==AAAA" };
	uint8_t bytes[300], *back;
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + 3);
	for (size_t n = 0; n <= sizeof(bytes); n++) {
		char *text = capi_base64_encode(bytes, n);

		assert_int_equal(capi_base64_decode(text, strlen(text), &back, &len), 0);
		assert_int_equal(len, n);
		assert_memory_equal(back, bytes, n);
		assert_int_equal(back[n], 0);
		free(back);
		free(text);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(capi_base64_decode(bad[i], strlen(bad[i]), &back, &len), -EINVAL);
	assert_int_equal(capi_base64_decode("/+8=", 4, &back, &len), 0);
	assert_int_equal(len, 2);
	assert_memory_equal(back, "\xff\xef", 2);
	free(back);
}

/* ---- errors ---- */

static void expect_answer(int status, const char *body, int kind, int code, const char *message)
{
	struct msb_error *err = NULL;
	json_t *result = NULL;
	int rc = capi_decode(status, body, strlen(body), &result, &err);

	assert_int_equal(rc, kind);
	assert_int_equal(msb_error_kind(err), kind);
	assert_int_equal(msb_error_code(err), code);
	if (message)
		assert_string_equal(msb_error_message(err), message);
	if (!kind)
		assert_non_null(result);
	json_decref(result);
	msb_error_free(err);
	/* Nobody has to want to know. */
	assert_int_equal(capi_decode(status, body, strlen(body), NULL, NULL), kind);
}

static void test_answers(void **state)
{
	(void)state;
	expect_answer(200, "{\"result\":1}", 0, 0, "");
	expect_answer(200, "{\"result\":null}", 0, 0, "");
	expect_answer(200, "{\"error\":null,\"result\":1}", 0, 0, "");
	expect_answer(200, "", MSB_ERR_INVALID_RESPONSE, 0, "the server's answer is no JSON: ''");
	expect_answer(200, "{}", MSB_ERR_INVALID_RESPONSE, 0, NULL);
	expect_answer(200, "[]", MSB_ERR_INVALID_RESPONSE, 0, NULL);
	expect_answer(200, "1", MSB_ERR_INVALID_RESPONSE, 0, NULL);
	expect_answer(200, "{\"error\":{\"code\":1}}", MSB_ERR_INVALID_RESPONSE, 0, NULL);
	expect_answer(200, "{\"error\":7}", MSB_ERR_INVALID_RESPONSE, 0, NULL);
	expect_answer(500, "", MSB_ERR_SERVER, 0, "HTTP status 500");
	expect_answer(502, " \xff<b> ", MSB_ERR_SERVER, 0, "\xef\xbf\xbd<b>");
	expect_answer(404, "{\"error\":\"x\",\"code\":4001}", MSB_ERR_NOT_FOUND, 4001, "x");
	expect_answer(401, "{\"error\":\"x\",\"code\":null}", MSB_ERR_UNAUTHORIZED, 0, "x");
	expect_answer(500, "{\"error\":{\"code\":-32002,\"message\":\"m\"}}",
		      MSB_ERR_SANDBOX_FAILED, -32002, "m");
	expect_answer(500, "{\"error\":{\"code\":99999999999,\"message\":\"m\"}}", MSB_ERR_SERVER,
		      0, "m");
	expect_answer(500, "{\"error\":{\"code\":\"x\",\"message\":\"m\"}}", MSB_ERR_SERVER, 0, "m");
}

static void test_data_of_errors(void **state)
{
	static const char late[] =
		"{\"error\":{\"code\":-32004,\"message\":\"m\",\"data\":{\"output\":["
		"{\"stream\":\"stdout\",\"text\":\"a\"},5,{\"stream\":\"stdout\"},"
		"{\"stream\":\"stderr\",\"text\":\"e\"},"
		"{\"stream\":\"stdout\",\"text\":\"b\"}]}}}";
	static const char file[] = "{\"error\":{\"code\":-32007,\"message\":\"m\","
				   "\"data\":{\"errno\":\"ENOENT\",\"path\":\"/x\"}}}";
	struct msb_error *err;
	size_t len;

	(void)state;
	assert_int_equal(capi_decode(500, late, strlen(late), NULL, &err), MSB_ERR_COMMAND_TIMEOUT);
	assert_string_equal(msb_error_stdout(err, &len), "a\nb");
	assert_int_equal(len, 3);
	assert_string_equal(msb_error_stderr(err, NULL), "e");
	assert_null(msb_error_errno_name(err));
	msb_error_free(err);
	assert_int_equal(capi_decode(404, file, strlen(file), NULL, &err), MSB_ERR_FILE);
	assert_string_equal(msb_error_errno_name(err), "ENOENT");
	assert_string_equal(msb_error_data(err), "{\"errno\":\"ENOENT\",\"path\":\"/x\"}");
	assert_string_equal(msb_error_stdout(err, &len), "");
	assert_int_equal(len, 0);
	msb_error_free(err);
	/* No error has all the accessors. */
	assert_int_equal(msb_error_kind(NULL), MSB_OK);
	assert_string_equal(msb_error_message(NULL), "");
	assert_null(msb_error_data(NULL));
	msb_error_free(NULL);
	capi_no_memory(&err);
	assert_int_equal(msb_error_kind(err), MSB_ERR_NO_MEMORY);
	msb_error_free(err);
	msb_error_free(err); /* the one that is not freed */
}

static void test_names_of_kinds(void **state)
{
	(void)state;
	assert_string_equal(msb_kind_name(MSB_OK), "ok");
	assert_string_equal(msb_kind_name(MSB_ERR_FILE), "file");
	assert_string_equal(msb_kind_name(12345), "unknown");
	for (int k = MSB_ERR_ARGUMENT; k <= MSB_ERR_CANCELLED; k++)
		assert_string_not_equal(msb_kind_name(k), "unknown");
	for (int k = MSB_ERR_SERVER; k <= MSB_ERR_FILE; k++)
		assert_string_not_equal(msb_kind_name(k), "unknown");
}

/* ---- results ---- */

static int take_results(struct msb_execution **x, const char *results)
{
	json_t *o = json_pack("{s:s, s:s, s:[], s:o}", "status", "success", "language", "python",
			      "output", "results",
			      json_loads(results, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL));

	assert_non_null(o);
	return capi_execution_new(x, o, CAPI_REPL, NULL);
}

static void test_results(void **state)
{
	static const char *const bad[] = {
		"5",
		"[5]",
		"[{}]",
		"[{\"mime\":\"a\"}]",
		"[{\"mime\":\"a\",\"data\":5}]",
		"[{\"mime\":\"a\",\"data\":\"\",\"encoding\":\"x\"}]",
		"[{\"mime\":\"a\",\"data\":\"AP8=\",\"encoding\":\"base64\"},"
		"{\"mime\":\"a\",\"data\":\"A\",\"encoding\":\"base64\"}]",
		"[{\"mime\":\"a\",\"data\":\"\",\"note\":1}]"
	};
	const struct msb_result *r;
	struct msb_execution *x;

	(void)state;
	assert_int_equal(take_results(&x, "null"), 0);
	assert_int_equal(msb_execution_result_count(x), 0);
	assert_null(msb_execution_result(x, 0));
	msb_execution_free(x);
	assert_int_equal(take_results(&x,
				      "[{\"mime\":\"text/plain\",\"encoding\":\"utf-8\",\"data\":"
				      "\"a\\u0000b\"},{\"mime\":\"image/png\",\"encoding\":"
				      "\"base64\",\"data\":\"AP8=\"},{\"mime\":\"text/html\","
				      "\"data\":\"\",\"note\":\"too long\"}]"),
			 0);
	assert_int_equal(msb_execution_result_count(x), 3);
	r = msb_execution_result(x, 0);
	assert_string_equal(r->mime, "text/plain");
	assert_int_equal(r->len, 3);
	assert_memory_equal(r->data, "a\0b", 4);
	assert_null(r->note);
	r = msb_execution_result(x, 1);
	assert_int_equal(r->len, 2);
	assert_memory_equal(r->data, "\0\xff", 3);
	r = msb_execution_result(x, 2);
	assert_string_equal(r->note, "too long");
	assert_null(msb_execution_result(x, 3));
	msb_execution_free(x);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(take_results(&x, bad[i]), MSB_ERR_INVALID_RESPONSE);
}

/* ---- structures with options ---- */

struct newer {
	struct msb_config config;
	int more;
};

static void test_options(void **state)
{
	static const struct msb_server local = { .size = sizeof(local),
						 .url = "http://h",
						 .api_key = "" };
	struct newer newer = { .config = { .size = sizeof(newer), .image = "i" } };
	struct msb_config unset = { .size = 0, .image = "i" };
	struct {
		size_t size;
		const char *image;
	} older = { sizeof(older), "i" };
	struct msb_sandbox *sb;
	struct msb_error *err;

	(void)state;
	assert_int_equal(msb_sandbox_new(&sb, "sh", "x", &local, &unset, &err), MSB_ERR_ARGUMENT);
	assert_non_null(strstr(msb_error_message(err), "MSB_INIT"));
	msb_error_free(err);
	assert_int_equal(msb_sandbox_new(&sb, "sh", "x", &local, (void *)&older, NULL), 0);
	msb_sandbox_free(sb);
	assert_int_equal(msb_sandbox_new(&sb, "sh", "x", &local, &newer.config, NULL), 0);
	msb_sandbox_free(sb);
	newer.more = 1;
	assert_int_equal(msb_sandbox_new(&sb, "sh", "x", &local, &newer.config, &err),
			 MSB_ERR_ARGUMENT);
	assert_non_null(strstr(msb_error_message(err), "does not have"));
	msb_error_free(err);
}

static void test_arguments_that_cannot_be_sent(void **state)
{
	static const struct msb_server local = { .size = sizeof(local),
						 .url = "http://h",
						 .api_key = "" };
	const char *const pairs[] = { "A=1", "=2", NULL }, *const texts[] = { "A=\xff", NULL };
	const char *const hosts[] = { "a.example", NULL };
	const struct msb_secret good = { sizeof(good), "A", "v", hosts };
	const struct msb_secret bad[] = {
		{ 0, "A", "v", hosts },
		{ sizeof(good), NULL, "v", hosts },
		{ sizeof(good), "A", NULL, hosts },
		{ sizeof(good), "A", "v", NULL },
		{ sizeof(good), "A", "v\xff", hosts },
		{ sizeof(good), "A", "v", texts },
	};
	struct msb_config c;
	struct msb_sandbox *sb;

	(void)state;
#define EXPECT_BAD(member, value) \
	do { \
		MSB_INIT(&c); \
		c.member = (value); \
		assert_int_equal(msb_sandbox_new(&sb, MSB_PYTHON, NULL, &local, &c, NULL), \
				 MSB_ERR_ARGUMENT); \
	} while (0)
	EXPECT_BAD(timeout, -1);
	EXPECT_BAD(timeout, NAN);
	EXPECT_BAD(timeout, HUGE_VAL);
	EXPECT_BAD(idle_timeout, -1);
	EXPECT_BAD(cpus, -1);
	EXPECT_BAD(cpus, NAN);
	EXPECT_BAD(image, "\xc3");
	EXPECT_BAD(envs, texts);
	EXPECT_BAD(scripts, pairs);
	EXPECT_BAD(scripts, texts);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		EXPECT_BAD(secrets, ((const struct msb_secret *const[]){ &good, &bad[i], NULL }));
	MSB_INIT(&c);
	c.secrets = (const struct msb_secret *const[]){ &good, NULL };
	assert_int_equal(msb_sandbox_new(&sb, MSB_PYTHON, NULL, &local, &c, NULL), 0);
	msb_sandbox_free(sb);
	assert_int_equal(msb_sandbox_new(&sb, NULL, NULL, &local, NULL, NULL), MSB_ERR_ARGUMENT);
	/* No image of its own, and none is given. */
	assert_int_equal(msb_sandbox_new(&sb, "sh", "x", &local, NULL, NULL), 0);
	assert_null(msb_sandbox_default_image(sb));
	assert_int_equal(msb_sandbox_start(sb, NULL, NULL, NULL), MSB_ERR_ARGUMENT);
	msb_sandbox_free(sb);
	assert_int_equal(msb_sandbox_new(&sb, "JavaScript", "x", &local, NULL, NULL), 0);
	assert_string_equal(msb_sandbox_language(sb), MSB_NODE);
	msb_sandbox_free(sb);
}

static void test_paths(void **state)
{
	static const struct msb_server local = {
		.size = sizeof(local), .url = "http://h", .api_key = "", .namespace_name = "t m"
	};
	struct msb_sandbox *sb;
	char *path;

	(void)state;
	assert_int_equal(msb_sandbox_new(&sb, MSB_PYTHON, "a/../b", &local, NULL, NULL), 0);
	path = capi_path_add(capi_sandbox_path(sb, "files"), "path", "/a b&c=\xc3\xa9?#%");
	assert_string_equal(path, "/api/v1/sandboxes/a%2F..%2Fb/files?namespace=t%20m"
				  "&path=%2Fa%20b%26c%3D%C3%A9%3F%23%25");
	free(path);
	msb_sandbox_free(sb);
}

/* ---- giving up ---- */

static struct msb_cancel *cancel_in_handler;

static void cancel_on_signal(int number)
{
	(void)number;
	msb_cancel_trigger(cancel_in_handler);
}

static void test_cancel(void **state)
{
	static const struct msb_server local = {
		/* Nobody is there; but what is cancelled before does not even look. */
		.size = sizeof(local),
		.url = "http://127.0.0.1:9",
		.api_key = "",
	};
	struct msb_cancel *c;
	struct msb_list *list;
	int fds[2];

	(void)state;
	assert_false(capi_cancelled(NULL));
	assert_int_equal(msb_cancel_new(&c, NULL), 0);
	assert_false(capi_cancelled(c));
	assert_int_equal(msb_list(&list, &local, c, NULL), MSB_ERR_UNREACHABLE);
	cancel_in_handler = c;
	signal(SIGUSR1, cancel_on_signal);
	raise(SIGUSR1);
	signal(SIGUSR1, SIG_DFL);
	assert_true(capi_cancelled(c));
	msb_cancel_trigger(c);
	assert_true(capi_cancelled(c));
	assert_int_equal(msb_list(&list, &local, c, NULL), MSB_ERR_CANCELLED);
	msb_cancel_free(c);

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(msb_cancel_from_fd(&c, fds[0], NULL), 0);
	assert_false(capi_cancelled(c));
	close(fds[1]); /* the other side is closed */
	assert_true(capi_cancelled(c));
	msb_cancel_free(c);
	assert_int_equal(close(fds[0]), 0); /* it is still ours */
	assert_int_equal(msb_cancel_from_fd(&c, -1, NULL), MSB_ERR_ARGUMENT);
	msb_cancel_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_env_file),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_base64),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_data_of_errors),
		cmocka_unit_test(test_names_of_kinds),
		cmocka_unit_test(test_results),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_arguments_that_cannot_be_sent),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_cancel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
