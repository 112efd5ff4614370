/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "codec/sandboxfile.h"
#include "project/edit.h"

static struct err err;
static char result[8192];

static const char *take(struct buf *b)
{
	size_t n = buf_len(b) < sizeof(result) ? buf_len(b) : sizeof(result) - 1;

	if (n)
		memcpy(result, buf_data(b), n);
	result[n] = '\0';
	buf_fini(b);
	return result;
}

/* Adds "new: {image: x}" and returns the file. */
static const char *add(const char *text)
{
	struct buf body = BUF_INIT, out = BUF_INIT;
	int rc;

	err_clear(&err);
	assert_int_equal(edit_put_text(&body, "image", "x", NULL), 0);
	/* An empty buffer has no bytes. */
	rc = edit_add(*text ? text : NULL, strlen(text), "new", &body, &out, &err);
	buf_fini(&body);
	if (rc) {
		assert_int_equal(-rc, err.code);
		assert_int_equal(buf_len(&out), 0);
		return NULL;
	}
	return take(&out);
}

static const char *drop(const char *text, const char *name)
{
	struct buf out = BUF_INIT;

	err_clear(&err);
	if (edit_remove(*text ? text : NULL, strlen(text), name, &out, &err)) {
		assert_true(err.code);
		return NULL;
	}
	return take(&out);
}

static void adds(const char *text, const char *expected)
{
	const char *now = add(text);

	if (!now)
		fail_msg("%s", err.msg);
	assert_string_equal(now, expected);
}

static void drops(const char *text, const char *name, const char *expected)
{
	const char *now = drop(text, name);

	if (!now)
		fail_msg("%s", err.msg);
	assert_string_equal(now, expected);
}

#define NEW "  new:\n    image: x\n"

static void test_add_to_nothing(void **state)
{
	(void)state;
	adds("", "sandboxes:\n" NEW);
	adds("# mine\n", "# mine\nsandboxes:\n" NEW);
	adds("# mine", "# mine\nsandboxes:\n" NEW);
	adds("---\n", "---\nsandboxes:\n" NEW);
	adds("sandboxes:\n", "sandboxes:\n" NEW);
	adds("sandboxes:", "sandboxes:\n" NEW);
	adds("sandboxes: # all\n# b\n", "sandboxes: # all\n" NEW "# b\n");
	adds("sandboxes: {}\n", "sandboxes:\n" NEW);
	adds("sandboxes: {}  # none\nmeta: {}\n", "sandboxes:  # none\n" NEW "meta: {}\n");
	adds("sandboxes: ~", "sandboxes:\n" NEW);
	adds("sandboxes: null\n", "sandboxes:\n" NEW);
	adds("meta:\n  description: y\n", "meta:\n  description: y\n\nsandboxes:\n" NEW);
	adds("sandboxes:\n\nmeta: {}\n", "sandboxes:\n" NEW "\nmeta: {}\n");
}

static void test_add_behind(void **state)
{
	(void)state;
	adds("sandboxes:\n  a:\n    image: y", "sandboxes:\n  a:\n    image: y\n" NEW);
	adds("sandboxes:\n    a:\n       image: y   # why\n",
	     "sandboxes:\n    a:\n       image: y   # why\n    new:\n       image: x\n");
	adds("sandboxes:\n  a: {image: y}\n\n# the end\n",
	     "sandboxes:\n  a: {image: y}\n" NEW "\n# the end\n");
	adds("sandboxes:\n  a: {image: y}\n  # off: {image: z}\n\n# about\nmeta: {}\n",
	     "sandboxes:\n  a: {image: y}\n  # off: {image: z}\n" NEW "\n# about\nmeta: {}\n");
	adds("sandboxes:\n  a: {image: y}\n\n  # two\n  b: {image: y}\n\nmeta: {}\n",
	     "sandboxes:\n  a: {image: y}\n\n  # two\n  b: {image: y}\n\n" NEW "\nmeta: {}\n");
	adds("sandboxes:\n  a: {image: y}\r\n", "sandboxes:\n  a: {image: y}\r\n" NEW);
	adds("sandboxes:\r\n  a: {image: y}\r\n",
	     "sandboxes:\r\n  a: {image: y}\r\n  new:\r\n    image: x\r\n");
	adds("\xef\xbb\xbf# \xc3\xa4\nsandboxes:\n  a: {image: y} # \xe2\x82\xac\n",
	     "\xef\xbb\xbf# \xc3\xa4\nsandboxes:\n  a: {image: y} # \xe2\x82\xac\n" NEW);
}

static void test_add_behind_a_script(void **state)
{
	(void)state;
	adds("sandboxes:\n  a:\n    image: y\n    scripts:\n      start: |\n        x\n"
	     "        # not a comment\n\n\nmeta: {}\n",
	     "sandboxes:\n  a:\n    image: y\n    scripts:\n      start: |\n        x\n"
	     "        # not a comment\n" NEW "\n\nmeta: {}\n");
	/* Here the empty lines are the script's. */
	adds("sandboxes:\n  a:\n    image: y\n    scripts:\n      start: |+\n        x\n\n\nmeta: "
	     "{}\n",
	     "sandboxes:\n  a:\n    image: y\n    scripts:\n      start: |+\n        x\n\n\n" NEW
	     "meta: {}\n");
}

static void test_add_refused(void **state)
{
	(void)state;
	assert_null(add("sandboxes: {a: {image: y}}\n"));
	assert_int_equal(err.code, ENOTSUP);
	assert_string_equal(err.msg, "'sandboxes' is written in braces; edit the file by hand");
	assert_null(add("{sandboxes: {}}\n"));
	assert_int_equal(err.code, ENOTSUP);
	assert_null(add("sandboxes:\n  new: {image: y}\n"));
	assert_int_equal(err.code, EEXIST);
	assert_null(add("sandboxes:\n  a: {image: y}\n...\n# x\n...\n---\n"));
	assert_null(add("sandboxes: &s\n  a: {image: y}\nx-o: *s\n"));
	assert_int_equal(err.code, ENOTSUP);
	assert_null(add("x: [\n"));
	assert_int_equal(err.code, EINVAL);
	assert_null(add("- a\n"));
	assert_int_equal(err.code, ENOTSUP);
}

#define A "  a:\n    image: y # why\n"
#define B "  # about b\n  b: {image: y}\n"
#define C "  c:\n    image: z\n    scripts:\n      start: |\n        x\n        # in it\n"

static void test_remove(void **state)
{
	(void)state;
	drops("sandboxes:\n" A, "a", "sandboxes:\n");
	drops("sandboxes:\n" A B C, "a", "sandboxes:\n" B C);
	drops("sandboxes:\n" A B C, "b", "sandboxes:\n" A "  # about b\n" C);
	drops("sandboxes:\n" A B C, "c", "sandboxes:\n" A B);
	drops("sandboxes:\n" A "\n" B "\n" C, "b", "sandboxes:\n" A "\n  # about b\n\n" C);
	drops("sandboxes:\n" A "\n" C "\n" NEW, "c", "sandboxes:\n" A "\n" NEW);
	drops("sandboxes:\n" A "\n" C "\n# end\nmeta: {}\n", "c",
	      "sandboxes:\n" A "\n# end\nmeta: {}\n");
	drops("sandboxes:\n  a: {image: y}", "a", "sandboxes:\n");
	drops("x-b: &b {image: y}\nsandboxes:\n  a: *b\n  b: {<<: *b}\n", "a",
	      "x-b: &b {image: y}\nsandboxes:\n  b: {<<: *b}\n");
}

static void test_remove_refused(void **state)
{
	(void)state;
	assert_null(drop("sandboxes:\n" A, "b"));
	assert_int_equal(err.code, ENOENT);
	assert_null(drop("", "b"));
	assert_int_equal(err.code, ENOENT);
	assert_null(drop("sandboxes: {a: {image: y}}\n", "a"));
	assert_int_equal(err.code, ENOTSUP);
	assert_null(drop("sandboxes:\n  a: &a {image: y}\n  b: *a\n", "a"));
	assert_int_equal(err.code, ENOTSUP);
	assert_null(drop("sandboxes:\n  ? a\n  : {image: y}\n", "a"));
	assert_int_equal(err.code, ENOTSUP);
}

/* What was added is removed without a trace. */
static void test_there_and_back(void **state)
{
	static const char *const texts[] = {
		"sandboxes:\n" A,
		"sandboxes:\n" A B,
		"sandboxes:\n" A "\n" B "\n# end\n",
		"sandboxes:\n" A "\n" B "\n\nmeta: {}\n",
		"meta: {}\nsandboxes:\n" A B C "\n\n",
		"sandboxes:\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		char now[8192];

		assert_non_null(add(texts[i]));
		strcpy(now, result);
		drops(now, "new", texts[i]);
	}
}

static void test_values(void **state)
{
	static const char *const values[] = {
		"plain",
		"yes",
		"12",
		"1.5",
		"0x1f",
		"",
		" x",
		"a: b",
		"a #b",
		"-",
		"- a",
		"*a",
		"{a}",
		"\"q\"",
		"back\\slash",
		"tab\there",
		"two\nlines",
		"two\nl\n",
		"nl\n\n",
		"\nfirst",
		" in\ndent",
		"trail \nx",
		"\r\n",
		"\xc3\xa4",
		"\xc2\x85x\ny",
		"a\n\nb\n",
		"#!/bin/sh\n#x",
		"\x01",
		"x\n  indented",
		"~",
		"null",
		".5",
		"a\n \nb",
		"%x",
		"a:b",
		"8080:80",
		"1:20",
		"\t",
		"x\n\ty",
		"'single'",
		".",
		"..",
		"./x",
		".:/src:ro",
		".inf",
		"x:",
		"x: y",
		"a,b",
		"user@host",
		"@x",
		"=",
		"<<",
		"2026-01-01",
		"+1",
		"x =y",
		"!x",
		"\xc2\x80\n.",
		"\xe2\x80\xa8x",
		"\xef\xbb\xbf",
		"\xef\xbf\xbf",
		"\xf0\x9f\x90\x8d\nx",
	};
	static const char old[] = "sandboxes:\n   \"12\":\n     image: y\n";
	struct buf body = BUF_INIT, out = BUF_INIT;
	struct sandboxfile *f;
	const struct sandboxfile_sandbox *s;
	char text[256];

	(void)state;
	assert_int_equal(edit_put_text(&body, "image", "x", NULL), 0);
	assert_int_equal(edit_put_word(&body, "memory", "512", NULL), 0);
	assert_int_equal(edit_put_list(&body, "command", values, ARRAY_SIZE(values), NULL), 0);
	assert_int_equal(edit_put_map(&body, "scripts", NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		snprintf(text, sizeof(text), "s%zu", i);
		assert_int_equal(edit_put_pair(&body, text, values[i], NULL), 0);
	}
	assert_int_equal(edit_put_list(&body, "depends_on", (const char *const[]){ "12" }, 1, NULL),
			 0);
	assert_int_equal(edit_add(old, strlen(old), "n", &body, &out, &err), 0);
	assert_int_equal(sandboxfile_parse((const char *)buf_data(&out), buf_len(&out), "F", &f,
					   NULL, &err),
			 0);
	s = sandboxfile_find(f, "n");
	assert_int_equal(s->command.n, ARRAY_SIZE(values));
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		assert_string_equal(s->command.v[i], values[i]);
		assert_string_equal(s->scripts.v[i].text, values[i]);
	}
	sandboxfile_free(f);
	buf_fini(&body);
	buf_fini(&out);
	assert_int_equal(edit_put_text(&body, "user", "\xff", &err), -EINVAL);
	assert_int_equal(edit_put_pair(&body, "\xff", "x", NULL), -EINVAL);
	buf_fini(&body);
}

static void test_layout_of_a_sandbox(void **state)
{
	static const char *const ports[] = { "8080:80", "53:53/udp" }, *const envs[] = { "A=1" };
	struct buf body = BUF_INIT, out = BUF_INIT;

	(void)state;
	assert_int_equal(edit_put_text(&body, "image", "microsandbox/python:3.11", NULL), 0);
	assert_int_equal(edit_put_word(&body, "memory", "2G", NULL), 0);
	assert_int_equal(edit_put_list(&body, "ports", ports, 2, NULL), 0);
	assert_int_equal(edit_put_list(&body, "envs", envs, 1, NULL), 0);
	assert_int_equal(edit_put_map(&body, "scripts", NULL), 0);
	assert_int_equal(edit_put_pair(&body, "start", "one\ntwo\n", NULL), 0);
	assert_int_equal(edit_put_pair(&body, "test", "pytest -q", NULL), 0);
	assert_int_equal(edit_add("sandboxes:\n", 11, "web", &body, &out, NULL), 0);
	buf_fini(&body);
	assert_string_equal(take(&out), "sandboxes:\n"
					"  web:\n"
					"    image: microsandbox/python:3.11\n"
					"    memory: 2G\n"
					"    ports:\n"
					"      - \"8080:80\"\n"
					"      - \"53:53/udp\"\n"
					"    envs:\n"
					"      - A=1\n"
					"    scripts:\n"
					"      start: |\n"
					"        one\n"
					"        two\n"
					"      test: pytest -q\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_add_to_nothing), TEST(test_add_behind), TEST(test_add_behind_a_script),
		TEST(test_add_refused),    TEST(test_remove),     TEST(test_remove_refused),
		TEST(test_there_and_back), TEST(test_values),     TEST(test_layout_of_a_sandbox),
	};

	return test_run(tests);
}
