/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Our own directories are two or three deep; a loop of mounts must still end. */
#define TREE_DEPTH_MAX 64

static int tree_remove_at(int dirfd, const char *name, unsigned depth)
{
	struct dirent *d;
	int fd, rc = 0;
	DIR *dir;

	if (!unlinkat(dirfd, name, 0) || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	if (depth == TREE_DEPTH_MAX)
		return -ELOOP;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while ((d = readdir(dir))) {
		int one;

		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
			continue;
		one = tree_remove_at(fd, d->d_name, depth + 1);
		if (one && !rc)
			rc = one;
	}
	closedir(dir);
	if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT && !rc)
		rc = -errno;
	return rc;
}

int tree_remove(int dirfd, const char *path)
{
	return tree_remove_at(dirfd, path, 0);
}
