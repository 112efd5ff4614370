/* SPDX-License-Identifier: Apache-2.0 */
/* What the store takes of the disk. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "image/store_internal.h"

/* Files of one folder; those that go away meanwhile do not count. */
static int usage_folder(struct store *s, const char *name, uint64_t *bytes, uint32_t *n,
			struct err *e)
{
	int fd = openat(s->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *d;
	struct stat st;

	if (!list) {
		close_fd(&fd);
		return errno == ENOENT ? 0 : err_errno(e, errno, "read %s/%s", s->path, name);
	}
	while ((d = readdir(list))) {
		if (d->d_name[0] == '.' ||
		    fstatat(dirfd(list), d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISREG(st.st_mode))
			continue;
		*bytes += (uint64_t)st.st_blocks * 512;
		++*n;
	}
	closedir(list);
	return 0;
}

int store_measure(struct store *s, struct store_usage *out, struct err *e)
{
	struct store_usage u = { .blobs = 0 };
	uint32_t other = 0;
	int rc = 0;

	if (s->dir >= 0) {
		rc = usage_folder(s, "blobs/sha256", &u.blobs, &u.n_blobs, e);
		if (!rc)
			rc = usage_folder(s, "rootfs", &u.rootfs, &u.n_rootfs, e);
		if (!rc)
			rc = usage_folder(s, "partial", &u.unfinished, &other, e);
		if (!rc)
			rc = usage_folder(s, "tmp", &u.unfinished, &other, e);
	}
	if (!rc)
		*out = u;
	return rc;
}
