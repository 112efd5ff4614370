/* SPDX-License-Identifier: Apache-2.0 */
#include "server/systemd.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

#define SYSTEMD_FIRST_FD 3

static long systemd_number(const char *name)
{
	const char *v = getenv(name);
	char *end;
	long n = v ? strtol(v, &end, 10) : -1;

	return v && *v && !*end ? n : -1;
}

int systemd_sockets(int fds[SYSTEMD_FDS_MAX], struct err *e)
{
	long pid = systemd_number("LISTEN_PID"), n = systemd_number("LISTEN_FDS");

	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	if (pid != getpid() || n < 1)
		return 0;
	if (n > SYSTEMD_FDS_MAX)
		return err_set(e, EINVAL, "socket activation: %ld sockets, at most %d", n,
			       SYSTEMD_FDS_MAX);
	for (int i = 0; i < n; i++) {
		int fd = SYSTEMD_FIRST_FD + i, listens = 0, flags = fcntl(fd, F_GETFL);
		socklen_t len = sizeof(listens);

		if (flags < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ||
		    fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
		    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0 || !listens)
			return err_set(
				e, EINVAL,
				"socket activation: descriptor %d is no listening stream socket",
				fd);
		fds[i] = fd;
	}
	return (int)n;
}

void systemd_notify(const char *state)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	const char *path = getenv("NOTIFY_SOCKET");
	size_t n = path ? strlen(path) : 0;
	auto_close int fd = -1;

	if (!n || n >= sizeof(sa.sun_path) || (*path != '/' && *path != '@'))
		return;
	memcpy(sa.sun_path, path, n);
	if (*path == '@')
		sa.sun_path[0] = '\0'; /* an abstract one */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&sa,
			     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
		log_warn("event=notify-failed reason=\"%s\"", strerror(errno));
}
