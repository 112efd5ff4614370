/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/signals.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* Of Linux; glibc's own SIGRTMIN is a number at run time, and other libraries have another one. */
#define SIGNALS_RTMIN 34
#define SIGNALS_LAST 64

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

/* Digits up to @max. Return: -1 if it is anything else. */
static int signals_digits(const char *s, int max)
{
	int n = 0;

	if (!*s)
		return -1;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -1;
		n = n * 10 + (*s - '0');
		if (n > max)
			return -1;
	}
	return n;
}

unsigned signals_number(const char *name)
{
	int n = signals_digits(name, SIGNALS_LAST);

	if (n >= 0)
		return (unsigned)n;
	if (!strncmp(name, "SIG", 3))
		name += 3;
	for (n = 1; n < SIGNALS_RTMIN; n++) {
		const char *is = sigabbrev_np(n);

		if (is && !strcmp(is, name))
			return (unsigned)n;
	}
	if (!strcmp(name, "RTMIN"))
		return SIGNALS_RTMIN;
	if (!strcmp(name, "RTMAX"))
		return SIGNALS_LAST;
	if (!strncmp(name, "RTMIN+", 6) || !strncmp(name, "RTMAX-", 6)) {
		n = signals_digits(name + 6, SIGNALS_LAST - SIGNALS_RTMIN);
		if (n >= 0)
			return (unsigned)(name[5] == '+' ? SIGNALS_RTMIN + n : SIGNALS_LAST - n);
	}
	return 0;
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
