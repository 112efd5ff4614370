/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/mem.h"

int file_write_all(int fd, const void *p, size_t len)
{
	const uint8_t *at = p;

	while (len) {
		ssize_t n = write(fd, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

int file_read_at(int dirfd, const char *name, size_t max, char **out, size_t *len, struct err *e)
{
	/* O_NONBLOCK: a FIFO in the file's place must not hold us up. */
	auto_close int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	auto_free char *mem = NULL;
	struct stat st;
	size_t n = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, errno, "cannot read %s", name);
	if (!S_ISREG(st.st_mode))
		return err_set(e, EINVAL, "%s is not a regular file", name);
	if ((uint64_t)st.st_size > max)
		return err_set(e, EFBIG, "%s is too large (%lld bytes, limit %zu)", name,
			       (long long)st.st_size, max);
	mem = malloc((size_t)st.st_size + 1);
	if (!mem)
		return err_errno(e, ENOMEM, "cannot read %s", name);
	while (n < (size_t)st.st_size) {
		ssize_t k = read(fd, mem + n, (size_t)st.st_size - n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_errno(e, errno, "cannot read %s", name);
		if (!k)
			break;
		n += (size_t)k;
	}
	mem[n] = '\0';
	*out = take_ptr(&mem);
	*len = n;
	return 0;
}

int file_write_at(int dirfd, const char *name, const void *p, size_t len, mode_t mode, bool durable,
		  struct err *e)
{
	auto_close int fd = -1;
	char tmp[NAME_MAX + 8];
	int rc;

	if (snprintf(tmp, sizeof(tmp), "%s.tmp", name) >= (int)sizeof(tmp))
		return err_errno(e, ENAMETOOLONG, "cannot write %s", name);
	/* What a killed writer left; and a FIFO there would hold us up. */
	unlinkat(dirfd, tmp, 0);
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return err_errno(e, errno, "cannot write %s", name);
	rc = file_write_all(fd, p, len);
	if (!rc && durable && fsync(fd) < 0)
		rc = -errno;
	if (!rc && renameat(dirfd, tmp, dirfd, name) < 0)
		rc = -errno;
	if (!rc && durable && fsync(dirfd) < 0)
		rc = -errno;
	if (rc) {
		unlinkat(dirfd, tmp, 0);
		return err_errno(e, -rc, "cannot write %s", name);
	}
	return 0;
}
