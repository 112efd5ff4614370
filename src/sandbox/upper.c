/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: The disk of a sandbox that is kept
 *
 * Purpose: upper.ext4 in the sandbox's directory holds what its guest wrote, with a journal:
 * what was synced is there after a kill -9 of any process, and the guest's kernel puts the
 * file system right at the next mount.
 *
 * Two machines never write to one disk: its lock (flock) is one of the file's open
 * description, which the VM process inherits.  A supervisor that was killed thus leaves
 * the disk locked until its VM is really gone, and the next one waits for that.
 *
 * Trust boundary: the directory may have come with somebody's files (a project that was cloned).
 * The disk must be a regular file of ours, not a link; what is in it harms the guest alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/sandbox_config.h"
#include "image/rootimage.h"
#include "sandbox/internal.h"
#include "sys/lock.h"

#define UPPER_LOCK_MS 15000u

/* Under another name until it is whole. */
static int upper_make(struct supervisor *s, struct err *e)
{
	auto_close int fd = -1;
	int rc;

	unlinkat(s->dirfd, SANDBOX_UPPER_FILE ".tmp", 0);
	fd = openat(s->dirfd, SANDBOX_UPPER_FILE ".tmp",
		    O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(e, errno, "cannot make the sandbox's disk in %s", s->dir_path);
	rc = rootimage_make_upper(fd, s->cfg.disk_bytes, true, e);
	if (!rc &&
	    (fsync(fd) < 0 ||
	     renameat(s->dirfd, SANDBOX_UPPER_FILE ".tmp", s->dirfd, SANDBOX_UPPER_FILE) < 0 ||
	     fsync(s->dirfd) < 0))
		rc = err_errno(e, errno, "write it");
	if (rc)
		unlinkat(s->dirfd, SANDBOX_UPPER_FILE ".tmp", 0);
	return rc ? err_wrap(e, "cannot make the sandbox's disk in %s", s->dir_path) : 0;
}

static int upper_open_file(struct supervisor *s)
{
	return openat(s->dirfd, SANDBOX_UPPER_FILE,
		      O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

int upper_open(struct supervisor *s, int *out, struct err *e)
{
	auto_close int fd = upper_open_file(s);
	struct stat st;
	int rc;

	if (fd < 0 && errno == ENOENT) {
		rc = upper_make(s, e);
		if (rc)
			return rc;
		fd = upper_open_file(s);
	}
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, errno, "cannot open %s/" SANDBOX_UPPER_FILE, s->dir_path);
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1)
		return err_set(e, EPERM,
			       "%s/" SANDBOX_UPPER_FILE " is not a plain file of this user",
			       s->dir_path);
	if (!st.st_size || st.st_size % ROOTIMAGE_BLOCK)
		return err_set(e, EUCLEAN,
			       "%s/" SANDBOX_UPPER_FILE " is damaged: its size is %lld bytes",
			       s->dir_path, (long long)st.st_size);
	rc = lock_wait(fd, LOCK_EX, UPPER_LOCK_MS);
	if (rc == -EBUSY)
		return err_set(e, EBUSY, "%s/" SANDBOX_UPPER_FILE " is in use by another process",
			       s->dir_path);
	if (rc)
		return err_errno(e, -rc, "cannot lock %s/" SANDBOX_UPPER_FILE, s->dir_path);
	s->cfg.disk_bytes = (uint64_t)st.st_size;
	*out = take_fd(&fd);
	return 0;
}
