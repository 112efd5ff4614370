/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/envfile.h"
#include "codec/manifest.h"
#include "project/project.h"
#include "sys/file.h"
#include "sys/tree.h"

static char dir[64];
static struct err err;

static int make_dir(void **state)
{
	strcpy(dir, "/tmp/msb-project-XXXXXX");
	assert_non_null(mkdtemp(dir));
	return test_setup(state);
}

static int remove_dir(void **state)
{
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(tree_remove(AT_FDCWD, dir), 0);
	return test_teardown(state);
}

static void put(const char *name, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(file_write_at(AT_FDCWD, path, text, strlen(text), 0644, false, NULL), 0);
}

static void make(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(mkdir(path, 0755), 0);
}

static int load(const char *arg, struct project *p)
{
	int rc;

	err_clear(&err);
	*p = (struct project){ .dir = NULL };
	rc = project_locate(arg, p, &err);
	return rc ? rc : project_load(p, NULL, &err);
}

static void test_locate(void **state)
{
	struct project p;
	char path[256];

	(void)state;
	make("sub");
	put("sub/Sandboxfile", "sandboxes: {a: {image: x}}");
	put("sub/other", "sandboxes: {b: {image: x}}");
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(load(NULL, &p), -ENOENT);
	assert_string_equal(err.msg,
			    "there is no Sandboxfile: `msb init` makes one, -f says where it is");
	project_fini(&p);
	assert_int_equal(load("sub", &p), 0);
	assert_string_equal(p.path, "sub/Sandboxfile");
	snprintf(path, sizeof(path), "%s/sub", dir);
	assert_string_equal(p.dir, path);
	assert_non_null(sandboxfile_find(p.file, "a"));
	project_fini(&p);
	assert_int_equal(load("sub/", &p), 0);
	assert_string_equal(p.path, "sub/Sandboxfile");
	project_fini(&p);
	assert_int_equal(load("sub/other", &p), 0);
	assert_string_equal(p.name, "other");
	assert_string_equal(p.dir, path);
	assert_non_null(sandboxfile_find(p.file, "b"));
	project_fini(&p);
	assert_int_equal(chdir("sub"), 0);
	assert_int_equal(load("other", &p), 0);
	assert_string_equal(p.dir, path);
	project_fini(&p);
	assert_int_equal(load("none/other", &p), -ENOENT);
	assert_int_equal(load("", &p), -EINVAL);
	assert_int_equal(load("other/", &p), -EINVAL);
}

static void test_not_a_file(void **state)
{
	struct project p;
	char path[256];

	(void)state;
	snprintf(path, sizeof(path), "%s/fifo", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(load(path, &p), -EINVAL);
	assert_non_null(strstr(err.msg, "is not a regular file"));
	project_fini(&p);
	/* A link is followed: the file is the user's own choice. */
	put("real", "sandboxes: {a: {image: x}}");
	snprintf(path, sizeof(path), "%s/Sandboxfile", dir);
	assert_int_equal(symlink("real", path), 0);
	assert_int_equal(load(dir, &p), 0);
	project_fini(&p);
}

static void test_volumes(void **state)
{
	struct volume_list l;
	struct project p;
	char path[256];

	(void)state;
	make("proj");
	make("proj/src");
	make("outside");
	put("proj/Sandboxfile", "sandboxes:\n"
				"  good:\n    image: x\n"
				"    volumes: [./src:/src:ro, cache:/c, ../outside:/o, /usr:/u]\n"
				"    tmpfs: [/t]\n"
				"  gone: {image: x, volumes: [./none:/n]}\n"
				"  link: {image: x, volumes: [./link:/n]}\n"
				"  deep: {image: x, volumes: [./link/x:/n]}\n"
				"  dots: {image: x, volumes: [./src/../link:/n]}\n");
	snprintf(path, sizeof(path), "%s/proj/link", dir);
	assert_int_equal(symlink("../outside", path), 0);
	make("outside/x");
	snprintf(path, sizeof(path), "%s/proj", dir);
	assert_int_equal(load(path, &p), 0);
	assert_int_equal(project_volumes(&p, sandboxfile_find(p.file, "good"), &l, &err), 0);
	assert_int_equal(l.n, 5);
	snprintf(path, sizeof(path), "%s/proj/src", dir);
	assert_string_equal(l.v[0].source, path);
	assert_true(l.v[0].readonly);
	assert_string_equal(l.v[1].source, "cache");
	snprintf(path, sizeof(path), "%s/outside", dir);
	assert_string_equal(l.v[2].source, path);
	assert_string_equal(l.v[3].source, "/usr");
	assert_int_equal(l.v[4].kind, VOLUME_TMPFS);
	volume_list_fini(&l);
	assert_int_equal(project_volumes(&p, sandboxfile_find(p.file, "gone"), &l, &err), -ENOENT);
	snprintf(path, sizeof(path), "%s/proj/Sandboxfile:6:30: volumes: ./none does not exist",
		 dir);
	assert_memory_equal(err.msg, path, strlen(path));
	err_clear(&err);
	assert_int_equal(project_volumes(&p, sandboxfile_find(p.file, "link"), &l, &err), -EPERM);
	assert_non_null(strstr(err.msg, "leads out of the project"));
	assert_int_equal(project_volumes(&p, sandboxfile_find(p.file, "deep"), &l, &err), -EPERM);
	assert_int_equal(project_volumes(&p, sandboxfile_find(p.file, "dots"), &l, &err), 0);
	volume_list_fini(&l);
	project_fini(&p);
}

static void test_envs(void **state)
{
	struct project p;
	char **envs;

	(void)state;
	put("one.env", "A=1\nB='two words' # yes\nexport C=\"x\\ty\"\n");
	put("two.env", "\n# comment\nA = 2\nD=\nE=a#b # c\r\n");
	put("bad.env", "A=1\nB\n");
	put("Sandboxfile", "sandboxes:\n"
			   "  a: {image: x, env_file: [one.env, two.env], envs: [B=3, Z=9]}\n"
			   "  b: {image: x, env_file: bad.env}\n"
			   "  c: {image: x, env_file: no.env}\n"
			   "  d: {image: x}\n");
	assert_int_equal(load(dir, &p), 0);
	assert_int_equal(project_envs(&p, sandboxfile_find(p.file, "a"), &envs, &err), 0);
	assert_int_equal(strlist_count(envs), 6);
	assert_string_equal(envs[0], "A=2");
	assert_string_equal(envs[1], "B=3");
	assert_string_equal(envs[2], "C=x\ty");
	assert_string_equal(envs[3], "D=");
	assert_string_equal(envs[4], "E=a#b");
	assert_string_equal(envs[5], "Z=9");
	strlist_free(envs);
	assert_int_equal(project_envs(&p, sandboxfile_find(p.file, "b"), &envs, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "Sandboxfile:3:27: env_file: bad.env: line 2: expected "
					"NAME=value"));
	err_clear(&err);
	assert_int_equal(project_envs(&p, sandboxfile_find(p.file, "c"), &envs, &err), -ENOENT);
	assert_non_null(strstr(err.msg, ":4:27: env_file: cannot read no.env: "));
	assert_int_equal(project_envs(&p, sandboxfile_find(p.file, "d"), &envs, &err), 0);
	assert_null(envs[0]);
	strlist_free(envs);
	project_fini(&p);
}

static void test_secrets(void **state)
{
	struct secret_list l = { .v = NULL };
	char path[256], long_value[SECRET_VALUE_MAX + 2];
	struct project p;

	(void)state;
	make("sec");
	put("outside-key", "no");
	put("sec/key", "from-file\r\n");
	memset(long_value, 'x', sizeof(long_value) - 1);
	long_value[sizeof(long_value) - 1] = '\0';
	put("sec/long", long_value);
	snprintf(path, sizeof(path), "%s/sec/link", dir);
	assert_int_equal(symlink("../outside-key", path), 0);
	snprintf(path, sizeof(path), "%s/sec/fifo", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	put("sec/Sandboxfile", "sandboxes:\n"
			       "  a: {image: x, secrets: {K: {file: key, hosts: [a.b]},"
			       " E: {env: MSB_TEST_SECRET, hosts: [a.b, c.d]}}}\n"
			       "  link: {image: x, secrets: {K: {file: link, hosts: [a.b]}}}\n"
			       "  fifo: {image: x, secrets: {K: {file: fifo, hosts: [a.b]}}}\n"
			       "  long: {image: x, secrets: {K: {file: long, hosts: [a.b]}}}\n"
			       "  gone: {image: x, secrets: {K: {file: gone, hosts: [a.b]}}}\n"
			       "  none: {image: x, secrets: {K: {hosts: [a.b]}}}\n");
	snprintf(path, sizeof(path), "%s/sec", dir);
	assert_int_equal(load(path, &p), 0);
	setenv("MSB_TEST_SECRET", "from-env", 1);
	unsetenv("K");
	assert_int_equal(project_secrets(&p, sandboxfile_find(p.file, "a"), &l, &err), 0);
	assert_int_equal(l.n, 2);
	assert_string_equal(l.v[0].name, "K");
	assert_string_equal(l.v[0].value, "from-file");
	assert_string_equal(l.v[1].value, "from-env");
	assert_int_equal(l.v[1].n_hosts, 2);
	secret_list_fini(&l);
	assert_int_equal(project_secrets(&p, sandboxfile_find(p.file, "link"), &l, &err), -EPERM);
	assert_non_null(strstr(err.msg, ":3:30: secrets: link leads out of the project"));
	err_clear(&err);
	assert_int_equal(project_secrets(&p, sandboxfile_find(p.file, "fifo"), &l, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "fifo is not a regular file"));
	err_clear(&err);
	assert_int_equal(project_secrets(&p, sandboxfile_find(p.file, "long"), &l, &err), -EINVAL);
	assert_null(strstr(err.msg, "xxx"));
	err_clear(&err);
	assert_int_equal(project_secrets(&p, sandboxfile_find(p.file, "gone"), &l, &err), -ENOENT);
	err_clear(&err);
	assert_int_equal(project_secrets(&p, sandboxfile_find(p.file, "none"), &l, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "the environment variable K is not set"));
	assert_int_equal(l.n, 0);
	project_fini(&p);
}

static void test_envfile(void **state)
{
	static const struct {
		const char *text, *message;
	} bad[] = {
		{ "A", "line 1: expected NAME=value" },
		{ "\n=x", "line 2: no name stands before the '='" },
		{ "a b=x", "line 1: the name of a variable has no blanks and no quotes" },
		{ "a='x", "line 1: a quote is not closed" },
		{ "a=\"x\\",
		  "line 1: unknown escape: there are \\n, \\r, \\t, \\\", \\\\ and \\$" },
		{ "a=\"x\"y", "line 1: something stands behind the closing quote" },
		{ "a='x'#y", "line 1: something stands behind the closing quote" },
	};
	static const char whole[] = "a=$HOME\nexport=1\nb=''";
	char **list = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		err_clear(&err);
		assert_int_equal(envfile_parse(bad[i].text, strlen(bad[i].text), &list, &err),
				 -EINVAL);
		assert_string_equal(err.msg, bad[i].message);
		assert_null(list);
	}
	err_clear(&err);
	assert_int_equal(envfile_parse("a=\0", 3, &list, &err), -EINVAL);
	assert_int_equal(envfile_parse(whole, strlen(whole), &list, NULL), 0);
	assert_string_equal(list[0], "a=$HOME");
	assert_string_equal(list[1], "export=1");
	assert_string_equal(list[2], "b=");
	strlist_free(list);
}

#define IN_DIR(fn) cmocka_unit_test_setup_teardown(fn, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(test_locate), IN_DIR(test_not_a_file), IN_DIR(test_volumes),
		IN_DIR(test_envs),   IN_DIR(test_secrets),    TEST(test_envfile),
	};

	return test_run(tests);
}
