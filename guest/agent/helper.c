/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/mem.h"

#define HELPER_KEEP_MAX 8
#define HELPER_FD_BASE 3
#define HELPER_PIPE_SIZE (256 * 1024)

/*
 * Closed for good, not only on exec: a helper that holds the write end of another
 * request's pipe would keep that one from ever seeing its end of file.
 */
static int helper_close_others(int *const keep[], size_t n_keep, int *result_fd)
{
	int *fds[HELPER_KEEP_MAX + 1];
	int high[HELPER_KEEP_MAX + 1];
	size_t n = 0;

	for (size_t i = 0; i < n_keep; i++)
		if (*keep[i] >= 0)
			fds[n++] = keep[i];
	fds[n++] = result_fd;
	/* First out of the way: a source may have the number that another one is to get. */
	for (size_t i = 0; i < n; i++) {
		high[i] = fcntl(*fds[i], F_DUPFD_CLOEXEC, HELPER_FD_BASE + HELPER_KEEP_MAX + 1);
		if (high[i] < 0)
			return -errno;
	}
	for (size_t i = 0; i < n; i++) {
		*fds[i] = dup3(high[i], HELPER_FD_BASE + (int)i, O_CLOEXEC);
		if (*fds[i] < 0)
			return -errno;
	}
	if (syscall(SYS_close_range, HELPER_FD_BASE + (unsigned)n, UINT_MAX, 0))
		return -errno;
	return 0;
}

pid_t helper_fork(struct agent *a, struct proc *p, int *const keep[], size_t n_keep, int *result_fd,
		  struct err *e)
{
	auto_close int ours = -1, theirs = -1;
	int fds[2];
	pid_t pid;

	if (n_keep > HELPER_KEEP_MAX)
		return err_set(e, EINVAL, "too many descriptors for a helper");
	if (pipe2(fds, O_CLOEXEC))
		return err_errno(e, errno, "cannot start a helper: pipe");
	ours = fds[0];
	theirs = fds[1];
	fcntl(ours, F_SETFL, O_NONBLOCK);
	pid = proc_fork(a, p, false, e);
	if (!pid) {
		take_fd(&ours);
		*result_fd = take_fd(&theirs);
		if (helper_close_others(keep, n_keep, result_fd))
			_exit(126);
		return 0;
	}
	if (pid > 0)
		*result_fd = take_fd(&ours);
	return pid;
}

void helper_exit(int result_fd, const void *result, size_t n)
{
	_Static_assert(HELPER_RESULT_MAX <= 65536, "a pipe holds 64 KiB");
	_exit(n <= HELPER_RESULT_MAX && write(result_fd, result, n) == (ssize_t)n ? 0 : 126);
}

int helper_result(int result_fd, int status, void *result, size_t n, struct err *e)
{
	ssize_t k;

	do
		k = read(result_fd, result, n);
	while (k < 0 && errno == EINTR);
	if (k == (ssize_t)n)
		return 0;
	if (WIFSIGNALED(status))
		return err_set(e, EIO, "the helper process was killed by signal %d",
			       WTERMSIG(status));
	return err_set(e, EIO, "the helper process ended without an answer (status %d)",
		       WEXITSTATUS(status));
}

int helper_pipe(int *ours, int *theirs, bool we_read, struct err *e)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return err_errno(e, errno, "cannot start a helper: pipe");
	*ours = fds[we_read ? 0 : 1];
	*theirs = fds[we_read ? 1 : 0];
	fcntl(*ours, F_SETFL, O_NONBLOCK);
	/* Fewer turns for large transfers; the default does when the kernel says no. */
	(void)fcntl(*ours, F_SETPIPE_SZ, HELPER_PIPE_SIZE);
	return 0;
}
