/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/test.h"

#include <errno.h>

#include "codec/recipe.h"

#define START "name x\npackage bash\n"

static int parse(const char *s, struct recipe *r, struct err *e)
{
	return recipe_parse(s, strlen(s), r, e);
}

static void test_whole(void **state)
{
	static const char text[] = "# comment\n"
				   "name my-image # behind a word\n"
				   "package bash g++ libc6\n"
				   "package python3.11\n"
				   "omit debconf\n"
				   "exclude /usr/share/doc/*\n"
				   "include /usr/share/doc/*/copyright\n"
				   "dir 1777 /tmp /var/tmp\n"
				   "link /usr/bin/python python3\n"
				   "file 0640 /etc/shadow <<END\n"
				   "root:*:\n"
				   "# no comment\n"
				   "\n"
				   "END\n"
				   "join 0644 /etc/all /etc/some/*\n"
				   "python-bytecode /usr/bin/python3 /usr/lib/python3*\n"
				   "library-cache\n"
				   "entrypoint /bin/sh -c\n"
				   "cmd \"a b\" \"q\\\"\\\\\\n\\t\" \"\"\n"
				   "env A=1 \"B=x y\"\n"
				   "workdir /root\nuser 1:2\nstop-signal SIGINT\nlabel a=b\n";
	struct err e = ERR_INIT;
	struct recipe r;

	(void)state;
	assert_int_equal(parse(text, &r, &e), 0);
	assert_string_equal(r.name, "my-image");
	assert_int_equal(strlist_count(r.packages), 4);
	assert_string_equal(r.packages[1], "g++");
	assert_string_equal(r.omit[0], "debconf");
	assert_int_equal(r.n_steps, 5);
	assert_int_equal(r.steps[0].mode, 01777);
	assert_string_equal(r.steps[1].path, "/var/tmp");
	assert_int_equal(r.steps[2].kind, RECIPE_LINK);
	assert_string_equal(r.steps[2].arg, "python3");
	assert_string_equal(r.steps[3].arg, "root:*:\n# no comment\n\n");
	assert_int_equal(r.steps[3].arg_len, strlen(r.steps[3].arg));
	assert_int_equal(r.steps[4].kind, RECIPE_JOIN);
	assert_true(r.ld_cache);
	assert_string_equal(r.bytecode_dirs[0], "/usr/lib/python3*");
	assert_string_equal(r.config.entrypoint[1], "-c");
	assert_string_equal(r.config.cmd[0], "a b");
	assert_string_equal(r.config.cmd[1], "q\"\\\n\t");
	assert_string_equal(r.config.cmd[2], "");
	assert_string_equal(r.config.env[1], "B=x y");
	assert_string_equal(r.config.user, "1:2");
	/* The last rule that matches decides. */
	assert_true(recipe_keeps(&r, "/usr/bin/x"));
	assert_false(recipe_keeps(&r, "/usr/share/doc/bash/README"));
	assert_true(recipe_keeps(&r, "/usr/share/doc/bash/copyright"));
	recipe_fini(&r);
}

static void test_errors(void **state)
{
	static const struct {
		const char *text, *message;
	} v[] = {
		{ "", "has no line 'name" },
		{ "name x\n", "takes no package" },
		{ "package bash\n", "has no line 'name" },
		{ START "nonsense\n", "line 3: unknown statement: 'nonsense'" },
		{ START "link /a\n", "line 3: too few or too many words after: 'link'" },
		{ START "library-cache x\n", "line 3: too few" },
		{ START "dir 0999 /a\n", "line 3: expected permissions" },
		{ START "dir 0755 a\n", "line 3: expected an absolute path" },
		{ START "dir 0755 /a/../b\n", "line 3: expected a path without" },
		{ START "dir 0755 /a//b\n", "line 3: expected a path without" },
		{ START "file 0644 /a <<END\nEN\n", "line 3: the content has no last line: 'END'" },
		{ START "file 0644 /a END\n", "line 3: expected <<END" },
		{ START "env A\n", "line 3: expected NAME=value: 'A'" },
		{ START "cmd \"a\n", "line 3: a quote is not closed" },
		{ START "cmd \"a\"b\n", "line 3: a blank is missing" },
		{ START "cmd \"\\x\"\n", "line 3: unknown escape" },
		{ START "package -o=x\n", "line 3: not the name of a Debian package: '-o=x'" },
		{ START "package bash-\n", "line 3: not the name" },
		{ START "exclude usr\n", "line 3: expected a pattern" },
		{ "name ../x\npackage bash\n", "line 1: a name has" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(*v); i++) {
		struct recipe r = { .name = "untouched" };
		struct err e = ERR_INIT;

		assert_int_equal(parse(v[i].text, &r, &e), -EINVAL);
		if (!strstr(e.msg, v[i].message))
			fail_msg("'%s' is not in '%s'", v[i].message, e.msg);
		assert_string_equal(r.name, "untouched");
	}
}

static void test_match(void **state)
{
	static const struct {
		const char *pattern, *path;
		bool match;
	} v[] = {
		{ "/a", "/a", true },         { "/a", "/ab", false },     { "/a*", "/a", true },
		{ "/a*", "/a/b/c", true },    { "/*/c", "/a/b/c", true }, { "/*/c", "/c", false },
		{ "/a?c", "/abc", true },     { "/a?c", "/ac", false },   { "*", "", true },
		{ "/*a*b", "/xaab", true },   { "/*a*b", "/xba", false }, { "/**x", "/x", true },
		{ "/*.py", "/a.pyc", false },
	};
	char pattern[2001], path[20001];

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(*v); i++)
		assert_int_equal(recipe_match(v[i].pattern, v[i].path), v[i].match);
	/* The classic that takes exponential time where each star is tried again. */
	for (size_t i = 0; i < sizeof(pattern) - 1; i++)
		pattern[i] = i % 2 ? 'a' : '*';
	pattern[sizeof(pattern) - 1] = '\0';
	pattern[sizeof(pattern) - 2] = 'b';
	memset(path, 'a', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_false(recipe_match(pattern, path));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_whole),
		TEST(test_errors),
		TEST(test_match),
	};

	return test_run(tests);
}
