/* SPDX-License-Identifier: Apache-2.0 */
/* A container's first process: this program splits in a pid namespace of its own. */
#include "unit/test.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/init.h"

static int out[2]; /* what the program tells the test */

static void tell(char c)
{
	if (write(out[1], &c, 1) != 1)
		_exit(99);
}

/* The signal that ends the program, once it said that it waits for it. */
static void wait_for_term(void)
{
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	tell('w');
	sigwait(&set, &sig);
	tell('t');
	_exit(7);
}

/* Leaves an orphan that ends at once, and waits until nobody can find it any more. */
static void make_orphan(void)
{
	int ids[2];
	pid_t child, orphan;

	if (pipe(ids) < 0)
		_exit(98);
	child = fork();
	if (!child) {
		orphan = fork();
		if (!orphan) {
			pause();
			_exit(0);
		}
		_exit(write(ids[1], &orphan, sizeof(orphan)) == sizeof(orphan) ? 0 : 97);
	}
	if (read(ids[0], &orphan, sizeof(orphan)) != sizeof(orphan) ||
	    waitpid(child, NULL, 0) != child)
		_exit(96);
	kill(orphan, SIGKILL);
	while (!kill(orphan, 0)) /* a zombie still answers */
		usleep(1000);
	tell(errno == ESRCH ? 'o' : '?');
}

static void program(const char *what)
{
	const char *listen = getenv("LISTEN_PID");

	tell(listen && atoi(listen) == getpid() && getpid() != 1 ? 'l' : '?');
	if (*what == 'k')
		raise(SIGKILL);
	make_orphan();
	wait_for_term();
}

/* Return: pid of the first process of a new pid namespace, which splits. */
static pid_t start(const char *what)
{
	pid_t first;
	sigset_t set;
	int sig, status;

	assert_int_equal(pipe(out), 0);
	first = fork();
	if (first) {
		close(out[1]);
		return first;
	}
	/* The test signals us; PID 1 of the namespace is meant. */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (unshare(CLONE_NEWUSER | CLONE_NEWPID))
		_exit(90);
	first = fork(); /* it is PID 1 */
	if (!first) {
		if (!init_is_first())
			_exit(91);
		setenv("LISTEN_PID", "1", 1);
		if (init_split(&status, NULL))
			_exit(status);
		program(what);
	}
	close(out[1]);
	while (waitpid(first, &status, WNOHANG) == 0) {
		sigwait(&set, &sig);
		if (sig == SIGTERM)
			kill(first, SIGTERM);
	}
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 92);
}

static char hear(void)
{
	char c = 0;

	return read(out[0], &c, 1) == 1 ? c : 0;
}

static int end_of(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	close(out[0]);
	return WEXITSTATUS(status);
}

static void test_orphans_signals_and_status(void **state)
{
	pid_t pid = start("serve");

	(void)state;
	assert_int_equal(hear(), 'l');
	assert_int_equal(hear(), 'o');
	assert_int_equal(hear(), 'w');
	kill(pid, SIGTERM);
	assert_int_equal(hear(), 't');
	/* No descriptor of the program is left open in the first process. */
	assert_int_equal(hear(), 0);
	assert_int_equal(end_of(pid), 7);
}

static void test_a_killed_program_is_said(void **state)
{
	pid_t pid = start("kill");

	(void)state;
	assert_int_equal(hear(), 'l');
	assert_int_equal(end_of(pid), 128 + SIGKILL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_orphans_signals_and_status),
		TEST(test_a_killed_program_is_said),
	};

	return test_run(tests);
}
