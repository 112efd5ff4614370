/* SPDX-License-Identifier: Apache-2.0 */
#include "image/guard.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

static const int guard_signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
static volatile pid_t guard_child;

/* The terminal signals the child itself; a second time does no harm. */
static void guard_forward(int sig)
{
	int saved = errno;

	if (guard_child > 0)
		kill(guard_child, sig);
	errno = saved;
}

static void guard_catch(bool on)
{
	for (size_t i = 0; i < ARRAY_SIZE(guard_signals); i++) {
		struct sigaction sa = { .sa_handler = on ? guard_forward : SIG_DFL }, old;

		/* What was ignored when we were started stays ignored, by the child too. */
		if (sigaction(guard_signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(guard_signals[i], &sa, NULL);
	}
}

int guard_run(int (*work)(void *arg), void *arg, void (*clean)(void))
{
	pid_t self = getpid(), pid;
	int status;

	/* What the child leaves behind becomes ours, to wait for. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	pid = fork();
	if (pid < 0)
		return work(arg);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != self)
			_exit(1);
		status = work(arg);
		fflush(NULL);
		_exit(status);
	}
	guard_child = pid;
	guard_catch(true);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	guard_child = 0;
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	/* Its helpers die with it; they hold locks until they have. */
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
	clean();
	guard_catch(false);
	raise(WTERMSIG(status));
	return 1;
}
