/* SPDX-License-Identifier: Apache-2.0 */
/* Directories of sandboxes that are kept: their locks, and what may lie in them. */
#include "unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "lib/keep.h"
#include "sys/lock.h"
#include "sys/tree.h"

static char parent[64];

static int setup(void **state)
{
	test_setup(state);
	snprintf(parent, sizeof(parent), "/tmp/msb-test-keep-XXXXXX");
	assert_non_null(mkdtemp(parent));
	return 0;
}

static int teardown(void **state)
{
	assert_int_equal(tree_remove(AT_FDCWD, parent), 0);
	return test_teardown(state);
}

static int lock_parent(void)
{
	int fd = -1;

	assert_int_equal(keep_lock(parent, false, &fd, NULL), 0);
	return fd;
}

/* A process that has the directory locked, as a supervisor has. */
static pid_t hold(const char *name, int operation)
{
	char path[128], byte;
	int fds[2];
	pid_t pid;

	snprintf(path, sizeof(path), "%s/%s", parent, name);
	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (!pid) {
		int fd;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fd = open(path, O_RDONLY | O_DIRECTORY);

		if (flock(fd, operation | LOCK_NB) || write(fds[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &byte, 1), 1);
	close(fds[0]);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* A process that ends another one when we wait for the lock that it has. */
static pid_t end_soon(pid_t pid)
{
	pid_t killer = fork();

	if (!killer) {
		test_wait_until_it_waits(getppid());
		kill(pid, SIGKILL);
		_exit(0);
	}
	return killer;
}

static void a_directory_is_made_once_and_kept(void **state)
{
	auto_close int p = lock_parent();
	auto_close int dir = -1;
	struct err e = ERR_INIT;
	struct stat st;

	(void)state;
	assert_int_equal(keep_claim(p, "app", false, &dir, &e), -ENOENT);
	assert_int_equal(keep_claim(p, "app", true, &dir, NULL), 0);
	assert_int_equal(mkdirat(dir, "log", 0700), 0);
	close_fd(&dir);
	assert_int_equal(keep_claim(p, "app", true, &dir, NULL), 0);
	assert_int_equal(fstatat(dir, "log", &st, 0), 0);
}

static void what_runs_is_neither_claimed_nor_removed(void **state)
{
	auto_close int p = lock_parent();
	auto_close int dir = -1;
	struct err e = ERR_INIT;
	pid_t pid;

	(void)state;
	assert_int_equal(mkdirat(p, "app", 0700), 0);
	pid = hold("app", LOCK_EX);
	assert_int_equal(keep_claim(p, "app", true, &dir, &e), -EBUSY);
	assert_int_equal(keep_remove(p, "app", NULL), -EBUSY);
	assert_int_equal(keep_open(p, "app", &dir, NULL), 0);
	assert_int_equal(keep_running(dir), 1);
	assert_int_equal(keep_wait(dir, 300, NULL), -EBUSY);
	end(pid);
	assert_int_equal(keep_wait(dir, 10000, NULL), 0);
	assert_int_equal(keep_running(dir), 0);
	assert_int_equal(keep_remove(p, "app", NULL), 0);
	assert_int_equal(keep_remove(p, "app", NULL), -ENOENT);
}

/* The end of the holder is an event, not something that is looked for. */
static void a_lock_is_waited_for(void **state)
{
	auto_close int p = lock_parent();
	auto_close int dir = -1;
	pid_t pid, killer;

	(void)state;
	assert_int_equal(mkdirat(p, "app", 0700), 0);
	pid = hold("app", LOCK_EX);
	assert_int_equal(keep_open(p, "app", &dir, NULL), 0);
	killer = end_soon(pid);
	assert_int_equal(lock_wait(dir, LOCK_EX, 60000), 0);
	end(killer);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* Who looks whether it runs has its lock for a moment, and is no supervisor. */
static void who_looks_is_waited_for(void **state)
{
	auto_close int p = lock_parent();
	auto_close int dir = -1;
	pid_t pid, killer;

	(void)state;
	assert_int_equal(mkdirat(p, "app", 0700), 0);
	pid = hold("app", LOCK_SH);
	killer = end_soon(pid);
	assert_int_equal(keep_claim(p, "app", false, &dir, NULL), 0);
	assert_int_equal(keep_running(dir), 1);
	end(killer);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void links_are_not_followed(void **state)
{
	auto_close int p = lock_parent();
	auto_close int dir = -1;
	char path[128];

	(void)state;
	assert_int_equal(symlinkat("/tmp", p, "app"), 0);
	assert_int_equal(keep_claim(p, "app", true, &dir, NULL), -ENOTDIR);
	assert_int_equal(keep_remove(p, "app", NULL), -ENOTDIR);
	snprintf(path, sizeof(path), "%s/app", parent);
	assert_int_equal(keep_lock(path, true, &dir, NULL), -ENOTDIR);
	assert_int_equal(dir, -1);
}

static void nobody_listens_where_nobody_is(void **state)
{
	auto_close int p = lock_parent();
	auto_close int dir = -1;
	struct box_state st;
	int fd = -1;

	(void)state;
	assert_int_equal(keep_claim(p, "app", true, &dir, NULL), 0);
	assert_int_equal(keep_connect(dir, &fd, NULL), -ECONNREFUSED);
	assert_int_equal(keep_state(dir, &st, NULL), -ENOENT);
}

static void note_name(void *ctx, const char *name, int dirfd)
{
	(void)dirfd;
	strcat(ctx, name);
}

static void all_are_found_in_order(void **state)
{
	auto_close int p = lock_parent();
	char names[64] = "";

	(void)state;
	mkdirat(p, "c", 0700);
	mkdirat(p, "a", 0700);
	mkdirat(p, ".hidden", 0700);
	assert_int_equal(symlinkat("a", p, "b"), 0);
	assert_int_equal(keep_each(p, note_name, names, NULL), 0);
	assert_string_equal(names, "ac");
}

#define KEEP_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		KEEP_TEST(a_directory_is_made_once_and_kept),
		KEEP_TEST(what_runs_is_neither_claimed_nor_removed),
		KEEP_TEST(a_lock_is_waited_for),
		KEEP_TEST(who_looks_is_waited_for),
		KEEP_TEST(links_are_not_followed),
		KEEP_TEST(nobody_listens_where_nobody_is),
		KEEP_TEST(all_are_found_in_order),
	};

	return test_run(tests);
}
