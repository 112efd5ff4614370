/* SPDX-License-Identifier: Apache-2.0 */
/* Attributes: of a file, of its file system, and those that have names of their own. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/volume_wire.h"
#include "volume/host.h"
#include "volume/share.h"

#define XATTR_LIST_LIMIT 65536u

static int attr_reply(struct share *s, struct inode *i, struct reply *a)
{
	struct fuse_attr_out out = { .attr_valid = SHARE_VALID_S };
	int fd = table_fd(&s->table, i), rc;
	struct statx st;

	if (fd < 0)
		return fd;
	rc = host_stat(fd, &st);
	if (rc)
		return rc;
	share_attr(s, &st, &out.attr);
	return reply_bytes(a, &out, sizeof(out));
}

int op_lookup(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	struct fuse_entry_out out;
	int rc = share_look(s, i, r->name, &out, NULL);

	/* That there is nothing may be taken for granted for a while, too. */
	if (rc == -ENOENT)
		out = (struct fuse_entry_out){ .entry_valid = SHARE_VALID_S };
	else if (rc)
		return rc;
	return reply_bytes(a, &out, sizeof(out));
}

int op_getattr(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	(void)r;
	return attr_reply(s, i, a);
}

/* Set-id programs of a guest on a host are nobody's wish; of directories they are harmless. */
static int attr_mode(struct share *s, struct inode *i, uint32_t mode)
{
	char path[HOST_FD_PATH_MAX];
	uint32_t now, set_ids = S_ISUID | (i->type == S_IFDIR ? 0 : S_ISGID);
	struct statx st;
	int fd = table_fd(&s->table, i), rc;

	if (fd < 0)
		return fd;
	rc = host_stat(fd, &st);
	if (rc)
		return rc;
	now = st.stx_mode;
	if (mode & set_ids & ~now)
		return -EPERM;
	return chmod(host_fd_path(fd, path), mode & 07777) ? -errno : 0;
}

static int attr_owner(struct share *s, struct inode *i, const struct fuse_setattr_in *in)
{
	uint32_t uid = in->valid & FATTR_UID ? in->uid : UINT32_MAX;
	uint32_t gid = in->valid & FATTR_GID ? in->gid : UINT32_MAX;
	int fd = table_fd(&s->table, i), rc;
	struct statx st;

	if (fd < 0)
		return fd;
	rc = host_stat(fd, &st);
	if (!rc)
		rc = share_ids_in(s, &st, &uid, &gid);
	if (rc || (uid == UINT32_MAX && gid == UINT32_MAX))
		return rc;
	return fchownat(fd, "", uid, gid, AT_EMPTY_PATH) ? -errno : 0;
}

static int attr_size(struct share *s, struct inode *i, const struct fuse_setattr_in *in)
{
	struct handle *h = in->valid & FATTR_FH ? table_handle(&s->table, in->fh) : NULL;
	auto_close int own = -1;
	uint64_t before;
	int fd = table_fd(&s->table, i), rc = 0;

	if (i->type != S_IFREG)
		return -EINVAL;
	if (in->size > INT64_MAX)
		return -EFBIG;
	if (!h || h->inode != i || (h->flags & O_ACCMODE) == O_RDONLY) {
		own = fd < 0 ? fd : host_reopen(fd, O_WRONLY);
		fd = own;
	} else {
		fd = h->fd;
	}
	if (fd < 0)
		return fd;
	before = share_blocks(s, fd);
	if (ftruncate(fd, (off_t)in->size))
		rc = -errno;
	share_charge(s, fd, before);
	return rc;
}

static int attr_times(struct share *s, struct inode *i, const struct fuse_setattr_in *in)
{
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };
	char path[HOST_FD_PATH_MAX];
	int fd = table_fd(&s->table, i);

	if (fd < 0)
		return fd;
	if (in->valid & FATTR_ATIME_NOW)
		ts[0].tv_nsec = UTIME_NOW;
	else if (in->valid & FATTR_ATIME)
		ts[0] = (struct timespec){ (time_t)in->atime, in->atimensec };
	if (in->valid & FATTR_MTIME_NOW)
		ts[1].tv_nsec = UTIME_NOW;
	else if (in->valid & FATTR_MTIME)
		ts[1] = (struct timespec){ (time_t)in->mtime, in->mtimensec };
	return utimensat(AT_FDCWD, host_fd_path(fd, path), ts, 0) ? -errno : 0;
}

int op_setattr(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	const struct fuse_setattr_in *in = &r->a.setattr;
	int rc = 0;

	if ((in->valid & FATTR_ATIME && in->atimensec > 999999999) ||
	    (in->valid & FATTR_MTIME && in->mtimensec > 999999999))
		return -EINVAL;
	/* Before the mode: it takes set-id bits away. */
	if (in->valid & (FATTR_UID | FATTR_GID))
		rc = attr_owner(s, i, in);
	if (!rc && in->valid & FATTR_MODE)
		rc = attr_mode(s, i, in->mode);
	if (!rc && in->valid & FATTR_SIZE)
		rc = attr_size(s, i, in);
	if (!rc && in->valid & (FATTR_ATIME | FATTR_MTIME))
		rc = attr_times(s, i, in);
	return rc ? rc : attr_reply(s, i, a);
}

int op_readlink(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	int fd = table_fd(&s->table, i);
	ssize_t n;

	(void)r;
	if (fd < 0)
		return fd;
	if (!reply_room(a, PATH_MAX))
		return -ENOMEM;
	n = readlinkat(fd, "", (char *)a->body, PATH_MAX);
	if (n < 0)
		return -errno;
	a->len = (size_t)n;
	return 0;
}

int op_statfs(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	int fd = table_fd(&s->table, i);
	struct fuse_statfs_out out = { 0 };
	struct statfs st;

	(void)r;
	if (fd < 0)
		return fd;
	if (fstatfs(fd, &st))
		return -errno;
	out.st.blocks = st.f_blocks;
	out.st.bfree = st.f_bfree;
	out.st.bavail = st.f_bavail;
	out.st.files = st.f_files;
	out.st.ffree = st.f_ffree;
	out.st.bsize = (uint32_t)st.f_bsize;
	out.st.frsize = (uint32_t)(st.f_frsize ? st.f_frsize : st.f_bsize);
	out.st.namelen = (uint32_t)st.f_namelen;
	if (s->quota && out.st.frsize) {
		uint64_t left = s->quota > s->used ? (s->quota - s->used) / out.st.frsize : 0;

		if (out.st.bavail > left)
			out.st.bavail = left;
		if (out.st.bfree > out.st.bavail)
			out.st.bfree = out.st.bavail;
		out.st.blocks = out.st.bfree + s->used / out.st.frsize;
	}
	return reply_bytes(a, &out, sizeof(out));
}

/* ---- extended attributes: user.* alone -------------------------------------- */

/*
 * security.*, trusted.* and system.* mean something to the host.  EOPNOTSUPP is what a file
 * system without them answers.
 */
static int xattr_check(const char *name)
{
	return strncmp(name, "user.", 5) || !name[5] ? -EOPNOTSUPP : 0;
}

int op_setxattr(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	char path[HOST_FD_PATH_MAX];
	int fd = table_fd(&s->table, i), rc = xattr_check(r->name);

	(void)a;
	if (rc || fd < 0)
		return rc ? rc : fd;
	if (!share_has_room(s, r->data_len))
		return -ENOSPC;
	return setxattr(host_fd_path(fd, path), r->name, r->data, r->data_len,
			(int)(r->a.setxattr.flags & (XATTR_CREATE | XATTR_REPLACE)))
		       ? -errno
		       : 0;
}

/* @n: what the call said; @size: room that the guest has, 0 = it asks how much it takes. */
static int xattr_reply(ssize_t n, uint32_t size, struct reply *a)
{
	struct fuse_getxattr_out out = { 0 };

	if (n < 0)
		return -errno;
	if (size) {
		a->len = (size_t)n;
		return 0;
	}
	out.size = (uint32_t)n;
	return reply_bytes(a, &out, sizeof(out));
}

int op_getxattr(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	char path[HOST_FD_PATH_MAX];
	uint32_t size = r->a.getxattr.size;
	int fd = table_fd(&s->table, i), rc = xattr_check(r->name);

	if (rc || fd < 0)
		return rc ? rc : fd;
	if (size > XATTR_SIZE_MAX)
		size = XATTR_SIZE_MAX;
	if (size && !reply_room(a, size))
		return -ENOMEM;
	return xattr_reply(getxattr(host_fd_path(fd, path), r->name, size ? a->body : NULL, size),
			   size, a);
}

int op_listxattr(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	static char all[XATTR_LIST_LIMIT]; /* one thread */
	char path[HOST_FD_PATH_MAX];
	uint32_t size = r->a.getxattr.size;
	int fd = table_fd(&s->table, i);
	ssize_t n, kept = 0;

	if (fd < 0)
		return fd;
	n = listxattr(host_fd_path(fd, path), all, sizeof(all));
	if (n < 0)
		return -errno;
	for (ssize_t at = 0; at < n;) {
		ssize_t len = (ssize_t)strnlen(all + at, (size_t)(n - at)) + 1;

		if (at + len > n)
			break;
		if (!xattr_check(all + at)) {
			memmove(all + kept, all + at, (size_t)len);
			kept += len;
		}
		at += len;
	}
	if (!size)
		return xattr_reply(kept, 0, a);
	return (size_t)kept > size ? -ERANGE : reply_bytes(a, all, (size_t)kept);
}

int op_removexattr(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	char path[HOST_FD_PATH_MAX];
	int fd = table_fd(&s->table, i), rc = xattr_check(r->name);

	(void)a;
	if (rc || fd < 0)
		return rc ? rc : fd;
	return removexattr(host_fd_path(fd, path), r->name) ? -errno : 0;
}
