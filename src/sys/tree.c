/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sandboxes make trees of any depth, and one descriptor a level would run out.  So what is
 * deeper than TREE_DEPTH_MAX is moved to the top of the tree, and the top is gone through
 * again.
 */
#include "sys/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TREE_DEPTH_MAX 64

struct tree_removal {
	int top; /* the directory that is removed */
	unsigned n; /* of the next name there */
	bool moved; /* something, since the top was last read */
};

static int tree_remove_at(struct tree_removal *r, int dirfd, const char *name, unsigned depth);

/* Across a mount it fails, so that a loop of mounts ends. */
static int tree_move_up(struct tree_removal *r, int dirfd, const char *name)
{
	char to[32];

	do {
		snprintf(to, sizeof(to), ".deep-%u", r->n++);
		if (!renameat2(dirfd, name, r->top, to, RENAME_NOREPLACE)) {
			r->moved = true;
			return 0;
		}
	} while (errno == EEXIST && r->n);
	return -errno;
}

/* Opens a directory, also one that its owner, who is not root, may not read or write. */
static int tree_open(int dirfd, const char *name)
{
	const int flags = O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(dirfd, name, O_RDONLY | flags), path;
	char self[32];

	if (fd >= 0) {
		fchmod(fd, 0700);
		return fd;
	}
	if (errno != EACCES)
		return -errno;
	path = openat(dirfd, name, O_PATH | flags);
	if (path < 0)
		return -errno;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", path);
	if (!chmod(self, 0700))
		fd = openat(path, ".", O_RDONLY | flags);
	fd = fd < 0 ? -errno : fd;
	close(path);
	return fd;
}

/* What is in @fd, which is taken. */
static int tree_empty(struct tree_removal *r, int fd, unsigned depth)
{
	DIR *dir = fdopendir(fd);
	struct dirent *d;
	int rc = 0;

	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	if (!depth)
		r->top = fd;
	do {
		if (!depth)
			r->moved = false;
		rewinddir(dir);
		while ((d = readdir(dir))) {
			int one;

			if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
				continue;
			one = tree_remove_at(r, fd, d->d_name, depth + 1);
			if (one && !rc)
				rc = one;
		}
	} while (!depth && r->moved && !rc);
	closedir(dir);
	return rc;
}

static int tree_remove_at(struct tree_removal *r, int dirfd, const char *name, unsigned depth)
{
	int fd, rc;

	if (!unlinkat(dirfd, name, 0) || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	if (!unlinkat(dirfd, name, AT_REMOVEDIR) || errno == ENOENT)
		return 0;
	if (depth == TREE_DEPTH_MAX)
		return tree_move_up(r, dirfd, name);
	fd = tree_open(dirfd, name);
	if (fd < 0)
		return fd;
	rc = tree_empty(r, fd, depth);
	if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT && !rc)
		rc = -errno;
	return rc;
}

int tree_remove(int dirfd, const char *path)
{
	struct tree_removal r = { .top = -1 };

	return tree_remove_at(&r, dirfd, path, 0);
}
