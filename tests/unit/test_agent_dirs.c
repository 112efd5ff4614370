/* SPDX-License-Identifier: Apache-2.0 */
/* Directories that an image's configuration names, in a tree that means no good. */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/dirs.h"
#include "base/mem.h"
#include "sys/tree.h"

struct fixture {
	char dir[64]; /* with "root" and "outside" in it */
	int top, root;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	test_setup(state);
	assert_non_null(f);
	umask(0); /* as the agent has it */
	snprintf(f->dir, sizeof(f->dir), "/tmp/msb-test-dirs-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->top = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(f->top, "root", 0755), 0);
	assert_int_equal(mkdirat(f->top, "outside", 0755), 0);
	f->root = openat(f->top, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->top >= 0 && f->root >= 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close(f->root);
	close(f->top);
	assert_int_equal(tree_remove(AT_FDCWD, f->dir), 0);
	free(f);
	return test_teardown(state);
}

static int make(const struct fixture *f, const char *path, struct err *e)
{
	return dirs_make(f->root, path, getuid(), getgid(), e);
}

/* Below the tree, or beside it: never followed. Return: the mode; 0 = it is not there. */
static mode_t mode_of(const struct fixture *f, const char *path)
{
	struct stat st;

	return fstatat(f->top, path, &st, AT_SYMLINK_NOFOLLOW) ? 0 : st.st_mode;
}

static void what_is_missing_is_made(void **state)
{
	const struct fixture *f = *state;

	assert_int_equal(make(f, "/a/b/c", NULL), 0);
	assert_int_equal(mode_of(f, "root/a"), S_IFDIR | 0755);
	assert_int_equal(mode_of(f, "root/a/b"), S_IFDIR | 0755);
	assert_int_equal(mode_of(f, "root/a/b/c"), S_IFDIR | 0755);
	assert_int_equal(make(f, "//a//d/", NULL), 0);
	assert_int_equal(mode_of(f, "root/a/d"), S_IFDIR | 0755);
	assert_int_equal(make(f, "/./x/../../../y/.", NULL), 0);
	assert_int_equal(mode_of(f, "root/y"), S_IFDIR | 0755);
	assert_int_equal(mode_of(f, "y"), 0);
}

static void what_is_there_stays_as_it_is(void **state)
{
	const struct fixture *f = *state;

	assert_int_equal(mkdirat(f->root, "a", 0700), 0);
	assert_int_equal(make(f, "/a", NULL), 1);
	assert_int_equal(make(f, "/", NULL), 1);
	assert_int_equal(make(f, "/a/b", NULL), 0);
	assert_int_equal(mode_of(f, "root/a"), S_IFDIR | 0700);
	/* Also its owner: whom it was to get does not matter. */
	assert_int_equal(dirs_make(f->root, "/a/b", 4321, 4321, NULL), 1);
}

/* The last one alone belongs to the user. */
static void the_owner_gets_the_last_one(void **state)
{
	const struct fixture *f = *state;
	struct stat st;

	if (getuid())
		skip();
	assert_int_equal(dirs_make(f->root, "/own/er", 4321, 8765, NULL), 0);
	assert_int_equal(fstatat(f->root, "own", &st, 0), 0);
	assert_int_equal(st.st_uid, 0);
	assert_int_equal(fstatat(f->root, "own/er", &st, 0), 0);
	assert_int_equal(st.st_uid, 4321);
	assert_int_equal(st.st_gid, 8765);
}

static void links_do_not_lead_out(void **state)
{
	const struct fixture *f = *state;
	auto_close int all = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	char absolute[96];

	snprintf(absolute, sizeof(absolute), "%s/outside", f->dir);
	assert_int_equal(mkdirat(f->root, "in", 0755), 0);
	assert_int_equal(symlinkat("../outside", f->root, "up"), 0);
	assert_int_equal(symlinkat(absolute, f->root, "away"), 0);
	assert_int_equal(symlinkat("/in", f->root, "inside"), 0);
	assert_int_equal(symlinkat("..", f->root, "parent"), 0);
	assert_int_equal(symlinkat("loop", f->root, "loop"), 0);
	/* "/" and ".." are the tree's own: there is nothing behind these. */
	assert_int_equal(make(f, "/up/x", NULL), -EEXIST);
	assert_int_equal(make(f, "/away/x", NULL), -EEXIST);
	assert_int_equal(make(f, "/away", NULL), -EEXIST);
	assert_int_equal(make(f, "/loop/x", NULL), -ELOOP);
	assert_int_equal(mode_of(f, "outside/x"), 0);
	assert_int_equal(make(f, "/parent/made", NULL), 0);
	assert_int_equal(mode_of(f, "root/made"), S_IFDIR | 0755);
	assert_int_equal(mode_of(f, "made"), 0);
	assert_int_equal(make(f, "/../outside/y", NULL), 0);
	assert_int_equal(mode_of(f, "outside/y"), 0);
	assert_int_equal(mode_of(f, "root/outside/y"), S_IFDIR | 0755);
	/* One that stays inside is followed. */
	assert_int_equal(make(f, "/inside/x", NULL), 0);
	assert_int_equal(mode_of(f, "root/in/x"), S_IFDIR | 0755);
	/* What the kernel's links lead to has no path: they are not followed at all. */
	snprintf(absolute, sizeof(absolute), "/proc/self/fd/%d/z", f->top);
	assert_int_equal(dirs_make(all, absolute, 0, 0, NULL), -ELOOP);
	assert_int_equal(mode_of(f, "z"), 0);
}

static void what_is_in_the_way_is_said(void **state)
{
	const struct fixture *f = *state;
	char name[DIRS_PATH_MAX + 8];
	struct err e = ERR_INIT;

	assert_int_equal(mknodat(f->root, "file", S_IFREG | 0644, 0), 0);
	/* Not opened: nobody will ever write to it. */
	assert_int_equal(mknodat(f->root, "fifo", S_IFIFO | 0644, 0), 0);
	assert_int_equal(make(f, "/file", NULL), -ENOTDIR);
	assert_int_equal(make(f, "/fifo/x", NULL), -ENOTDIR);
	assert_int_equal(make(f, "/file/x", &e), -ENOTDIR);
	assert_non_null(strstr(err_text(&e), "/file/x: /file"));
	assert_int_equal(make(f, "relative", NULL), -EINVAL);
	assert_int_equal(make(f, "", NULL), -EINVAL);
	memset(name, 'n', sizeof(name));
	name[0] = '/';
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(make(f, name, NULL), -EINVAL);
	name[300] = '\0';
	assert_int_equal(make(f, name, NULL), -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_missing_is_made, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_there_stays_as_it_is, setup, teardown),
		cmocka_unit_test_setup_teardown(the_owner_gets_the_last_one, setup, teardown),
		cmocka_unit_test_setup_teardown(links_do_not_lead_out, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_in_the_way_is_said, setup, teardown),
	};

	return test_run(tests);
}
