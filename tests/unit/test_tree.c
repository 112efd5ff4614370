/* SPDX-License-Identifier: Apache-2.0 */
/* Trees that are removed: as deep, and as little readable, as a guest may make them. */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/tree.h"

static char top[64];

static int setup(void **state)
{
	test_setup(state);
	snprintf(top, sizeof(top), "/tmp/msb-test-tree-XXXXXX");
	assert_non_null(mkdtemp(top));
	return 0;
}

static int teardown(void **state)
{
	assert_int_equal(tree_remove(AT_FDCWD, top), 0);
	assert_int_equal(access(top, F_OK), -1);
	return test_teardown(state);
}

/* @levels directories in one another, with a file, a link and a sibling in each. */
static void make_deep(int fd, unsigned levels)
{
	fd = dup(fd);
	for (unsigned i = 0; i < levels; i++) {
		int file, below;

		file = openat(fd, "file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		assert_true(file >= 0);
		close(file);
		assert_int_equal(symlinkat("/etc", fd, "link"), 0);
		assert_int_equal(mkdirat(fd, "other", 0700), 0);
		assert_int_equal(mkdirat(fd, "d", 0700), 0);
		below = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(below >= 0);
		close(fd);
		fd = below;
	}
	close(fd);
}

static int open_top(void)
{
	int fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void test_as_deep_as_can_be(void **state)
{
	int fd = open_top();

	(void)state;
	make_deep(fd, 3000);
	/* A name that is in the way of what is moved. */
	assert_int_equal(mkdirat(fd, "d/.deep-0", 0700), 0);
	assert_int_equal(tree_remove(fd, "d"), 0);
	assert_int_equal(faccessat(fd, "d", F_OK, 0), -1);
	assert_int_equal(faccessat(fd, "file", F_OK, 0), 0);
	assert_int_equal(tree_remove(fd, "nothing"), 0);
	close(fd);
	assert_int_equal(access("/etc", R_OK), 0);
}

static void remove_unreadable(void)
{
	int fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (mkdirat(fd, "a", 0700) || mkdirat(fd, "a/b", 0700) || mkdirat(fd, "a/b/c", 0700) ||
	    mkdirat(fd, "a/r", 0700) || mkdirat(fd, "a/r/c", 0700) || fchmodat(fd, "a/b", 0, 0) ||
	    fchmodat(fd, "a/r", 0500, 0) || fchmodat(fd, "a", 0500, 0))
		_exit(1);
	if (tree_remove(fd, "a"))
		_exit(2);
	_exit(faccessat(fd, "a", F_OK, 0) ? 0 : 3);
}

/* Root may do anything: an ordinary user removes what its owner made unreadable. */
static void test_modes_are_no_obstacle(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(chmod(top, 0777), 0);
	pid = fork();
	if (!pid) {
		if (!geteuid() && (setgid(65534) || setuid(65534)))
			_exit(4);
		remove_unreadable();
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_as_deep_as_can_be, setup, teardown),
		cmocka_unit_test_setup_teardown(test_modes_are_no_obstacle, setup, teardown),
	};

	return test_run(tests);
}
