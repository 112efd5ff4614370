/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/test.h"

#include <errno.h>

#include "codec/reference.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static int parse(const char *s, struct reference *r)
{
	return reference_parse(s, strlen(s), r, NULL);
}

static void test_valid(void **state)
{
	static const struct {
		const char *s, *registry, *path, *tag, *digest;
	} v[] = {
		{ "python", "", "python", "", "" },
		{ "python:3.11", "", "python", "3.11", "" },
		{ "microsandbox/python", "", "microsandbox/python", "", "" },
		{ "docker.io/library/x:y", "docker.io", "library/x", "y", "" },
		{ "localhost/x", "localhost", "x", "", "" },
		{ "localhost:5000/a/b_c__d.e-f--g", "localhost:5000", "a/b_c__d.e-f--g", "", "" },
		{ "[::1]:5000/x", "[::1]:5000", "x", "", "" },
		{ "x@sha256:" HEX, "", "x", "", "sha256:" HEX },
		{ "x:T_1.-@sha256:" HEX, "", "x", "T_1.-", "sha256:" HEX },
		{ "sha256:" HEX, "", "", "", "sha256:" HEX },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(*v); i++) {
		struct reference r;

		assert_int_equal(parse(v[i].s, &r), 0);
		assert_string_equal(r.registry, v[i].registry);
		assert_string_equal(r.path, v[i].path);
		assert_string_equal(r.tag, v[i].tag);
		assert_string_equal(r.digest, v[i].digest);
	}
}

static void test_invalid(void **state)
{
	static const char *const v[] = {
		"",
		"Python",
		"a b",
		"/a",
		"a/",
		"a//b",
		"../x",
		"./x",
		".a/x",
		"a..b/x",
		"-a.b/x",
		"a-.b/x",
		"a/../b",
		"..",
		".",
		"a:",
		"a:-x",
		"a@sha256:12",
		"a@md5:" HEX,
		"-a",
		"a-",
		"a__-b",
		"a..b",
		"a___b",
		"a.b/",
		"a.b:x/c",
		"a:b:c",
		"[::1/x",
		"[]:1/x",
		":80/x",
		"host.x:123456/x",
		"a\nb",
		"\xc3\xa4",
		"sha256:" HEX "0/..",
		"a@sha256:" HEX "x",
	};
	char longest[600];

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(*v); i++) {
		struct reference r = { .path = "untouched" };
		struct err e = ERR_INIT;

		assert_int_equal(reference_parse(v[i], strlen(v[i]), &r, &e), -EINVAL);
		assert_string_equal(r.path, "untouched");
		assert_null(strchr(e.msg, '\n'));
	}
	memset(longest, 'a', sizeof(longest));
	for (size_t n = 230; n < sizeof(longest); n++) {
		struct reference r;

		assert_int_equal(reference_parse(longest, n, &r, NULL), n < 240 ? 0 : -EINVAL);
	}
}

static void test_candidates(void **state)
{
	char n[REFERENCE_CANDIDATES][REFERENCE_MAX];
	struct reference r;

	(void)state;
	parse("python", &r);
	assert_int_equal(reference_candidates(&r, n), 3);
	assert_string_equal(n[0], "python:latest");
	assert_string_equal(n[1], "docker.io/library/python:latest");
	assert_string_equal(n[2], "microsandbox/python:latest");
	parse("microsandbox/python:x", &r);
	assert_int_equal(reference_candidates(&r, n), 2);
	assert_string_equal(n[0], "microsandbox/python:x");
	assert_string_equal(n[1], "docker.io/microsandbox/python:x");
	/* A full reference asks for that registry's image and for no other. */
	parse("docker.io/python", &r);
	assert_int_equal(reference_candidates(&r, n), 1);
	assert_string_equal(n[0], "docker.io/library/python:latest");
	parse("sha256:" HEX, &r);
	assert_int_equal(reference_candidates(&r, n), 0);
}

static void test_recipe_names(void **state)
{
	static const struct {
		const char *s, *recipe;
	} v[] = {
		{ "python", "python" },
		{ "python:latest", "python" },
		{ "microsandbox/python", "python" },
		{ "python:3.12", NULL },
		{ "docker.io/library/python", NULL },
		{ "other/python", NULL },
		{ "python@sha256:" HEX, NULL },
		{ "sha256:" HEX, NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(*v); i++) {
		struct reference r;
		const char *got;

		assert_int_equal(parse(v[i].s, &r), 0);
		got = reference_recipe(&r);
		if (v[i].recipe)
			assert_string_equal(got, v[i].recipe);
		else
			assert_null(got);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_valid),
		TEST(test_invalid),
		TEST(test_candidates),
		TEST(test_recipe_names),
	};

	return test_run(tests);
}
