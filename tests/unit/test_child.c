/* SPDX-License-Identifier: Apache-2.0 */
/* child.h without a jail.  The test program starts itself: see child_main(). */
#include "unit/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

/* A sanitizer's run-time has signal handlers, system calls and files of its own. */
#ifdef __SANITIZE_ADDRESS__
#define SANITIZED true
#else
#define SANITIZED false
#endif

static char self_path[4096];

/* Starts this program as "ROLE ARG"; @fds as of child_spec. */
static int spawn_role(const char *role, const char *arg, const struct child_fd *fds, size_t n,
		      bool session, struct child *out, struct err *e)
{
	char *argv[] = { self_path, (char *)role, (char *)arg, NULL };
	struct child_spec spec = {
		.path = self_path,
		.argv = argv,
		.fds = fds,
		.n_fds = n,
		.new_session = session,
		.die_with_parent = true,
	};

	return spawn_either(&spec, out, e);
}

/* Runs a role to its end with its stdout in @text. Return: its wait status. */
static int run_role(const char *role, const char *arg, char *text, size_t size)
{
	struct child c = CHILD_INIT;
	struct err e = ERR_INIT;
	size_t len = 0;
	ssize_t n;
	int p[2], status;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	if (spawn_role(role, arg, (struct child_fd[]){ { p[1], 1 } }, 1, true, &c, &e) < 0)
		fail_msg("%s", err_text(&e));
	close(p[1]);
	while ((n = read(p[0], text + len, size - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	close(p[0]);
	assert_int_equal(child_reap(&c, &status), 0);
	assert_int_equal(c.pidfd, -1);
	return status;
}

/* ---- roles ----------------------------------------------------------- */

static int role_fds(void)
{
	for (int fd = 0; fd < 1024; fd++) {
		struct stat st;

		if (fstat(fd, &st) < 0)
			continue;
		/* FD_CLOEXEC is gone and /dev/null is a character device. */
		printf("%d%s ", fd, S_ISCHR(st.st_mode) ? "n" : "");
	}
	return 0;
}

static int role_signals(void)
{
	sigset_t set;
	int bad = 0;

	sigprocmask(SIG_SETMASK, NULL, &set);
	for (int sig = 1; sig < 32; sig++) {
		struct sigaction sa;

		if (sigismember(&set, sig) == 1)
			bad++;
		if (sigaction(sig, NULL, &sa) == 0 && sa.sa_handler != SIG_DFL)
			bad++;
	}
	return bad;
}

/* Starts a sleeper that is to die with us, tells its pid, and waits to be killed. */
static int role_parent(void)
{
	struct child c = CHILD_INIT;

	if (spawn_role("sleep", "", (struct child_fd[]){ { 5, 5 } }, 1, false, &c, NULL) < 0)
		return 1;
	if (write(5, "x", 1) != 1)
		return 1;
	for (;;)
		pause();
}

static int role_preparer(void);

static int child_main(char **argv)
{
	const char *role = argv[1];

	if (!strcmp(role, "exit"))
		return atoi(argv[2]);
	if (!strcmp(role, "fds"))
		return role_fds();
	if (!strcmp(role, "signals"))
		return role_signals();
	if (!strcmp(role, "session"))
		return getsid(0) == getpid() ? 0 : 1;
	if (!strcmp(role, "env"))
		return environ[0] ? 1 : 0;
	if (!strcmp(role, "swap"))
		return write(7, "seven", 5) == 5 && write(8, "eight", 5) == 5 ? 0 : 1;
	if (!strcmp(role, "parent"))
		return role_parent();
	if (!strcmp(role, "preparer"))
		return role_preparer();
	if (!strcmp(role, "sleep"))
		for (;;)
			pause();
	if (!strcmp(role, "abort"))
		abort();
	return 99;
}

/* ---- tests ----------------------------------------------------------- */

static void test_status(void **state)
{
	char out[64], text[64];

	(void)state;
	assert_int_equal(WEXITSTATUS(run_role("exit", "3", out, sizeof(out))), 3);
	child_status_text(run_role("exit", "3", out, sizeof(out)), text, sizeof(text));
	assert_string_equal(text, "exited with status 3");
	child_status_text(run_role("abort", "", out, sizeof(out)), text, sizeof(text));
	assert_string_equal(text, "was killed by signal 6 (Aborted)");
}

static void test_exec_failure(void **state)
{
	char *argv[] = { (char *)"/nowhere/msb", NULL };
	struct child_spec spec = { .path = argv[0], .argv = argv };
	struct child c = CHILD_INIT;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(spawn_either(&spec, &c, &e), -ENOENT);
	assert_string_equal(err_text(&e), "cannot run /nowhere/msb: No such file or directory");
	assert_int_equal(c.pid, -1);
	/* It was reaped: nobody is left to wait for. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);

	err_clear(&e);
	spec.path = "/";
	assert_int_equal(spawn_either(&spec, &c, &e), -EACCES);
}

static void test_only_listed_fds(void **state)
{
	char out[256];
	int stray = open("/dev/null", O_RDONLY); /* without O_CLOEXEC, on purpose */

	(void)state;
	assert_true(stray >= 0);
	assert_int_equal(run_role("fds", "", out, sizeof(out)), 0);
	assert_string_equal(out, "0n 1 2n ");
	close(stray);
}

/* Sources and targets that overlap in both directions. */
static void test_fd_swap(void **state)
{
	struct child c = CHILD_INIT;
	struct err e = ERR_INIT;
	int a[2], b[2], status;
	char got[8] = "";

	(void)state;
	assert_int_equal(pipe2(a, O_CLOEXEC), 0);
	assert_int_equal(pipe2(b, O_CLOEXEC), 0);
	assert_int_equal(dup3(a[1], 8, O_CLOEXEC), 8);
	assert_int_equal(dup3(b[1], 7, O_CLOEXEC), 7);
	close(a[1]);
	close(b[1]);
	/* 8 (pipe a) becomes 7 and 7 (pipe b) becomes 8; 9 is a second use of a source. */
	if (spawn_role("swap", "", (struct child_fd[]){ { 8, 7 }, { 7, 8 }, { 7, 9 } }, 3, false,
		       &c, &e) < 0)
		fail_msg("%s", err_text(&e));
	close(7);
	close(8);
	assert_int_equal(child_reap(&c, &status), 0);
	assert_int_equal(status, 0);
	assert_int_equal(read(a[0], got, 5), 5);
	assert_memory_equal(got, "seven", 5);
	assert_int_equal(read(b[0], got, 5), 5);
	assert_memory_equal(got, "eight", 5);
	close(a[0]);
	close(b[0]);
}

static void test_bad_fds(void **state)
{
	struct child c = CHILD_INIT;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(spawn_role("exit", "0", (struct child_fd[]){ { 700, 3 } }, 1, false, &c,
				    &e),
			 -EBADF);
	err_clear(&e);
	assert_int_equal(spawn_role("exit", "0", (struct child_fd[]){ { 1, -1 } }, 1, false, &c, &e),
			 -EINVAL);
	err_clear(&e);
	assert_int_equal(spawn_role("exit", "0", (struct child_fd[]){ { 1, 3 }, { 2, 3 } }, 2,
				    false, &c, &e),
			 -EINVAL);
}

static void test_signals(void **state)
{
	struct sigaction ign = { .sa_handler = SIG_IGN }, old_int, old_pipe;
	char out[64];
	sigset_t block, old;

	(void)state;
	if (SANITIZED)
		skip();
	sigaction(SIGINT, &ign, &old_int);
	sigaction(SIGPIPE, &ign, &old_pipe);
	sigemptyset(&block);
	sigaddset(&block, SIGTERM);
	sigaddset(&block, SIGCHLD);
	sigprocmask(SIG_BLOCK, &block, &old);
	assert_int_equal(run_role("signals", "", out, sizeof(out)), 0);
	sigprocmask(SIG_SETMASK, &old, NULL);
	sigaction(SIGINT, &old_int, NULL);
	sigaction(SIGPIPE, &old_pipe, NULL);
}

static void test_session_and_env(void **state)
{
	char out[64];

	(void)state;
	assert_int_equal(run_role("session", "", out, sizeof(out)), 0);
	assert_int_equal(run_role("env", "", out, sizeof(out)), 0);
}

static void test_pidfd_tells_of_the_end(void **state)
{
	struct child c = CHILD_INIT;
	struct pollfd p = { .events = POLLIN };

	(void)state;
	assert_int_equal(spawn_role("sleep", "", NULL, 0, false, &c, NULL), 0);
	p.fd = c.pidfd;
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(kill(c.pid, SIGTERM), 0);
	assert_int_equal(poll(&p, 1, -1), 1);
	child_kill(&c);
	assert_int_equal(c.pid, -1);
	child_kill(&c); /* harmless */
}

/* The parent is killed with SIGKILL: its child must end too, which closes the pipe. */
static void test_dies_with_parent(void **state)
{
	struct child c = CHILD_INIT;
	struct err e = ERR_INIT;
	char x;
	int p[2];

	(void)state;
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	if (spawn_role("parent", "", (struct child_fd[]){ { p[1], 5 } }, 1, true, &c, &e) < 0)
		fail_msg("%s", err_text(&e));
	close(p[1]);
	assert_int_equal(read(p[0], &x, 1), 1); /* the grandchild is up */
	child_kill(&c);
	assert_int_equal(read(p[0], &x, 1), 0); /* and ends: the last writer is gone */
	close(p[0]);
}

/* ---- prepared, and not yet finished ------------------------------------ */

static const struct child_spec ahead = {
	.path = self_path,
	.new_session = true,
	.die_with_parent = true,
};

static void test_pending_holds_nothing_of_ours(void **state)
{
	struct child_pending pending;
	struct err e = ERR_INIT;
	int p[2];
	char x;

	(void)state;
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	if (child_prepare(&ahead, &pending, &e))
		fail_msg("%s", err_text(&e));
	/* It would be the last writer. */
	close(p[1]);
	assert_int_equal(read(p[0], &x, 1), 0);
	close(p[0]);
	child_abandon(&pending);
	child_abandon(&pending); /* harmless */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void test_too_many_arguments(void **state)
{
	static char fits[CHILD_ARGS_MAX - 16], more[CHILD_ARGS_MAX];
	char *argv[] = { self_path, (char *)"exit", fits, NULL };
	struct child_pending pending;
	struct child c = CHILD_INIT;
	struct err e = ERR_INIT;
	int status;

	(void)state;
	/* Together with argv[0] and "exit" as long as may be. */
	memset(fits, '0', CHILD_ARGS_MAX - strlen(self_path) - 1 - 5 - 1);
	assert_int_equal(child_prepare(&ahead, &pending, &e), 0);
	assert_int_equal(child_finish(&pending, argv, NULL, 0, &c, &e), 0);
	assert_int_equal(child_reap(&c, &status), 0);
	assert_int_equal(status, 0);

	memset(more, '0', sizeof(more) - 1);
	argv[2] = more;
	assert_int_equal(child_prepare(&ahead, &pending, &e), 0);
	assert_int_equal(child_finish(&pending, argv, NULL, 0, &c, &e), -E2BIG);
	assert_int_equal(c.pid, -1);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* Prepares a child that lives as long as we, tells its pid, and waits to be killed. */
static int role_preparer(void)
{
	struct child_pending pending;

	if (child_prepare(&ahead, &pending, NULL))
		return 1;
	if (write(5, &pending.child.pid, sizeof(pid_t)) != sizeof(pid_t))
		return 1;
	for (;;)
		pause();
}

static void test_pending_ends_with_parent(void **state)
{
	struct child c = CHILD_INIT;
	struct pollfd gone = { .events = POLLIN };
	struct err e = ERR_INIT;
	pid_t pid;
	int p[2];

	(void)state;
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	if (spawn_role("preparer", "", (struct child_fd[]){ { p[1], 5 } }, 1, true, &c, &e) < 0)
		fail_msg("%s", err_text(&e));
	assert_int_equal(read(p[0], &pid, sizeof(pid)), sizeof(pid));
	gone.fd = pidfd_open(pid, 0);
	assert_true(gone.fd >= 0);
	assert_int_equal(poll(&gone, 1, 0), 0);
	child_kill(&c);
	assert_int_equal(poll(&gone, 1, -1), 1);
	close(gone.fd);
	close(p[0]);
	close(p[1]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST_BOTH(test_status),           TEST_BOTH(test_exec_failure),
		TEST_BOTH(test_only_listed_fds),  TEST_BOTH(test_fd_swap),
		TEST_BOTH(test_bad_fds),          TEST_BOTH(test_signals),
		TEST_BOTH(test_session_and_env),  TEST_BOTH(test_pidfd_tells_of_the_end),
		TEST_BOTH(test_dies_with_parent), TEST(test_pending_holds_nothing_of_ours),
		TEST(test_too_many_arguments),    TEST(test_pending_ends_with_parent),
	};

	if (argc > 1) {
		if (readlink("/proc/self/exe", self_path, sizeof(self_path) - 1) < 0)
			return 98;
		return child_main(argv);
	}
	if (readlink("/proc/self/exe", self_path, sizeof(self_path) - 1) < 0)
		return 98;
	return test_run(tests);
}
