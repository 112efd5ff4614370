/* SPDX-License-Identifier: Apache-2.0 */
#include "volume/host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HOST_RETRIES 16

static const char *host_fd_dir = "/fd";

void host_set_fd_dir(const char *dir)
{
	host_fd_dir = dir;
}

const char *host_fd_path(int fd, char path[HOST_FD_PATH_MAX])
{
	snprintf(path, HOST_FD_PATH_MAX, "%s/%d", host_fd_dir, fd);
	return path;
}

static int host_openat2(int dirfd, const char *name, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)flags | O_NOFOLLOW | O_CLOEXEC,
		.mode = mode,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
	};
	long fd;

	/* EAGAIN: something was renamed meanwhile, and the kernel is not sure. */
	for (int i = 0; i < HOST_RETRIES; i++) {
		fd = syscall(SYS_openat2, dirfd, name, &how, sizeof(how));
		if (fd >= 0)
			return (int)fd;
		if (errno != EAGAIN && errno != EINTR)
			break;
	}
	return -errno;
}

int host_open_root(const char *path)
{
	struct open_how how = {
		.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_NO_SYMLINKS,
	};
	long fd = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

int host_open_entry(int dirfd, const char *name)
{
	return host_openat2(dirfd, name, O_PATH, 0);
}

int host_create_entry(int dirfd, const char *name, int flags, mode_t mode)
{
	return host_openat2(dirfd, name, flags | O_CREAT | O_EXCL, mode);
}

int host_stat(int fd, struct statx *st)
{
	return statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
		     STATX_BASIC_STATS | STATX_BTIME, st)
		       ? -errno
		       : 0;
}

int host_reopen(int fd, int flags)
{
	char path[HOST_FD_PATH_MAX];
	int out = open(host_fd_path(fd, path), flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	return out < 0 ? -errno : out;
}
