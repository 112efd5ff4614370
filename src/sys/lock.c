/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/lock.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/time.h>

#include "sys/loop.h"

#define LOCK_TICK_MS 250

static void lock_alarm(int sig)
{
	(void)sig;
}

int lock_wait(int fd, int operation, unsigned timeout_ms)
{
	/* Again and again: an alarm that comes just before the call waits would be lost. */
	const struct itimerval tick = { .it_interval.tv_usec = LOCK_TICK_MS * 1000,
					.it_value.tv_usec = LOCK_TICK_MS * 1000 };
	const struct itimerval none = { .it_value.tv_sec = 0 };
	const struct sigaction alarm_action = { .sa_handler = lock_alarm }; /* no SA_RESTART */
	uint64_t end = loop_now_ns() + (uint64_t)timeout_ms * 1000000;
	struct sigaction old_action;
	sigset_t set, old_set;
	int rc;

	if (!flock(fd, operation | LOCK_NB))
		return 0;
	if (errno != EWOULDBLOCK)
		return -errno;
	if (!timeout_ms)
		return -EBUSY;
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	sigaction(SIGALRM, &alarm_action, &old_action);
	sigprocmask(SIG_UNBLOCK, &set, &old_set);
	setitimer(ITIMER_REAL, &tick, NULL);
	do
		rc = flock(fd, operation) ? -errno : 0;
	while (rc == -EINTR && loop_now_ns() < end);
	setitimer(ITIMER_REAL, &none, NULL);
	sigprocmask(SIG_SETMASK, &old_set, NULL);
	sigaction(SIGALRM, &old_action, NULL);
	return rc == -EINTR ? -EBUSY : rc;
}
