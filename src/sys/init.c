/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/init.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

bool init_is_first(void)
{
	return getpid() == 1;
}

/* Reaps whoever ended. Return: did @child? */
static bool init_reap(pid_t child, int *status)
{
	bool ended = false;
	pid_t pid;
	int st;

	while ((pid = waitpid(-1, &st, WNOHANG)) > 0) {
		if (pid != child)
			continue;
		ended = true;
		*status = WIFSIGNALED(st) ? 128 + WTERMSIG(st) : WEXITSTATUS(st);
	}
	return ended;
}

static void init_serve(pid_t child, const sigset_t *set, int *status)
{
	*status = 1;
	/* A descriptor kept here would look to its other end as if the child were alive. */
	syscall(SYS_close_range, 3, ~0u, 0);
	while (!init_reap(child, status)) {
		int sig;

		do
			sig = sigwaitinfo(set, NULL);
		while (sig < 0 && errno == EINTR);
		if (sig > 0 && sig != SIGCHLD)
			kill(child, sig);
	}
}

/* systemd's protocol names the process that the sockets are for (sd_listen_fds(3)). */
static void init_rename_listener(pid_t parent)
{
	const char *pid = getenv("LISTEN_PID");
	char text[16];

	if (!pid || strtol(pid, NULL, 10) != parent)
		return;
	snprintf(text, sizeof(text), "%d", (int)getpid());
	setenv("LISTEN_PID", text, 1);
}

int init_split(int *status, struct err *e)
{
	static const int passed[] = { SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 };
	pid_t parent = getpid(), child;
	sigset_t set, old;

	/* Blocked before the fork: no signal falls between. */
	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(passed); i++)
		sigaddset(&set, passed[i]);
	signal(SIGCHLD, SIG_DFL);
	sigprocmask(SIG_BLOCK, &set, &old);
	child = fork();
	if (child < 0) {
		sigprocmask(SIG_SETMASK, &old, NULL);
		return err_errno(e, errno, "fork");
	}
	if (!child) {
		init_rename_listener(parent);
		sigprocmask(SIG_SETMASK, &old, NULL);
		return 0;
	}
	init_serve(child, &set, status);
	return 1;
}
