/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Which server runs
 *
 * <home>/server.pid is locked (fcntl) by the server as long as it lives; its lines are the
 * process id and the address.  Whether a server runs, and under which number, is asked of
 * the lock: the kernel says who holds it, so a file that a killed server left is never
 * believed, and no process that is not a server is ever signalled.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "server/internal.h"
#include "sys/file.h"

#define PIDFILE_MAX (PATH_MAX + 320)

static char *pidfile_path(const char *home)
{
	char *p;

	return asprintf(&p, "%s/" SERVER_PID_FILE, home) < 0 ? NULL : p;
}

/* Return: the process that holds the lock, 0 = nobody, or a negative errno. */
static int pidfile_holder(int fd)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_GETLK, &l) < 0)
		return -errno;
	return l.l_type == F_UNLCK ? 0 : l.l_pid;
}

int pidfile_take(const char *home, int *out, struct err *e)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	auto_free char *path = pidfile_path(home);
	auto_close int fd = -1;

	if (!path)
		return err_errno(e, ENOMEM, SERVER_PID_FILE);
	fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(e, errno, "cannot open %s", path);
	if (fcntl(fd, F_SETLK, &l) < 0) {
		if (errno == EACCES || errno == EAGAIN)
			return err_set(e, EBUSY,
				       "a server is running already (pid %d): see "
				       "`msb server status`",
				       pidfile_holder(fd));
		return err_errno(e, errno, "cannot lock %s", path);
	}
	*out = take_fd(&fd);
	return 0;
}

/* A path with a newline in it is left out: then it is as if an older server had written it. */
int pidfile_write(int fd, const char *address, const char *path, struct err *e)
{
	char text[PIDFILE_MAX];
	int n = snprintf(text, sizeof(text), "%d\n%s\n%s\n", getpid(), address,
			 strchr(path, '\n') ? "" : path);

	if (n >= (int)sizeof(text))
		return err_errno(e, ENAMETOOLONG, "%s", path);
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n)
		return err_errno(e, errno, "cannot write " SERVER_PID_FILE);
	return 0;
}

/* The file stays: removing it would let two servers lock two files of that name. */
void pidfile_release(const char *home, int *fd)
{
	(void)home;
	if (*fd >= 0 && ftruncate(*fd, 0) < 0) {
		/* The lock tells the truth all the same. */
	}
	close_fd(fd);
}

int server_find(const char *home, struct server_info *out, struct err *e)
{
	auto_free char *path = pidfile_path(home);
	auto_close int fd = -1;
	char text[PIDFILE_MAX];
	char *line;
	ssize_t n;
	int pid;

	if (!path)
		return err_errno(e, ENOMEM, SERVER_PID_FILE);
	fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT)
		return err_errno(e, errno, "cannot open %s", path);
	pid = fd < 0 ? 0 : pidfile_holder(fd);
	if (pid < 0)
		return err_errno(e, -pid, "cannot read the lock of %s", path);
	if (!pid)
		return err_set(e, ESRCH, "no server is running (for %s)", home);
	n = pread(fd, text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	line = strchr(text, '\n');
	out->pid = pid;
	snprintf(out->address, sizeof(out->address), "%.*s",
		 line ? (int)strcspn(line + 1, "\n") : 0, line ? line + 1 : "");
	line = line ? strchr(line + 1, '\n') : NULL;
	snprintf(out->path, sizeof(out->path), "%.*s", line ? (int)strcspn(line + 1, "\n") : 0,
		 line ? line + 1 : "");
	return 0;
}

int server_stop(const char *home, unsigned timeout_ms, struct err *e)
{
	struct server_info info, again;
	struct pollfd p = { .events = POLLIN };
	auto_close int pidfd = -1;
	int rc = server_find(home, &info, e);

	if (rc)
		return rc;
	pidfd = pidfd_open(info.pid, 0);
	/* Still the same: so the pidfd is of the server and not of a successor of its number. */
	if (pidfd < 0 || server_find(home, &again, NULL) || again.pid != info.pid)
		return err_set(e, ESRCH, "the server has just ended");
	if (pidfd_send_signal(pidfd, SIGTERM, NULL, 0) < 0)
		return err_errno(e, errno, "cannot signal the server (pid %d)", info.pid);
	p.fd = pidfd;
	do
		rc = poll(&p, 1, (int)timeout_ms);
	while (rc < 0 && errno == EINTR);
	if (rc == 1)
		return 0;
	return err_set(e, ETIMEDOUT, "the server (pid %d) was asked to end, and still runs",
		       info.pid);
}
