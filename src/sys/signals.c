/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/signals.h"

#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

int signals_watch(struct loop *l, struct loop_watch *w, const int *signals, size_t n, struct err *e)
{
	auto_close int fd = -1;
	sigset_t set;
	int rc;

	sigemptyset(&set);
	for (size_t i = 0; i < n; i++) {
		sigaddset(&set, signals[i]);
		signal(signals[i], SIG_DFL);
	}
	signal(SIGPIPE, SIG_IGN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return err_errno(e, errno, "signalfd");
	rc = loop_watch_add(l, w, fd, EPOLLIN);
	if (rc)
		return err_errno(e, -rc, "signalfd");
	return take_fd(&fd);
}

int signals_next(int fd)
{
	struct signalfd_siginfo si;

	return read(fd, &si, sizeof(si)) == sizeof(si) ? (int)si.ssi_signo : 0;
}

static volatile sig_atomic_t signals_stop;

static void signals_on_stop(int sig)
{
	(void)sig;
	signals_stop = 1;
}

const volatile sig_atomic_t *signals_stop_flag(sigset_t *while_waiting)
{
	struct sigaction stop = { .sa_handler = signals_on_stop };
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	sigset_t block;

	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
	sigaction(SIGXFSZ, &ignore, NULL);
	sigemptyset(&block);
	sigaddset(&block, SIGTERM);
	sigaddset(&block, SIGINT);
	sigprocmask(SIG_BLOCK, &block, while_waiting);
	return &signals_stop;
}
