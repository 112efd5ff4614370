/* SPDX-License-Identifier: Apache-2.0 */
/* Open files, and their bytes. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/volume_wire.h"
#include "volume/host.h"
#include "volume/quota.h"
#include "volume/share.h"

#define FILE_COPY_MAX (64ull << 20) /* of one COPY_FILE_RANGE: others wait meanwhile */

/*
 * O_APPEND is done at each write: pages of a mapping are written through any handle of the
 * file, to their own places.
 */
#define FILE_OPEN_FLAGS (O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC)

static struct handle *file_handle(struct share *s, uint64_t fh, bool dir)
{
	struct handle *h = table_handle(&s->table, fh);

	return h && (h->inode->type == S_IFDIR) == dir ? h : NULL;
}

/*
 * Are the guest's pages of before still those of the file?  If neither it nor anybody else
 * wrote to it since it was opened last; else the guest drops them.
 */
static uint32_t file_keep_cache(struct inode *i, int fd)
{
	struct statx st;
	bool same;

	if (host_stat(fd, &st))
		return 0;
	same = i->open_size == st.stx_size && i->open_mtime.tv_sec == st.stx_mtime.tv_sec &&
	       i->open_mtime.tv_nsec == st.stx_mtime.tv_nsec &&
	       i->open_ctime.tv_sec == st.stx_ctime.tv_sec &&
	       i->open_ctime.tv_nsec == st.stx_ctime.tv_nsec;
	i->open_size = st.stx_size;
	i->open_mtime = st.stx_mtime;
	i->open_ctime = st.stx_ctime;
	return same ? FOPEN_KEEP_CACHE : 0;
}

int op_open(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	uint32_t flags = r->a.open.flags;
	struct fuse_open_out out = { 0 };
	int fd = table_fd(&s->table, i), rc;
	uint64_t before;

	if (i->type != S_IFREG) /* fifos and sockets are the guest's kernel's own matter */
		return i->type == S_IFDIR ? -EISDIR : -ENXIO;
	if (fd < 0)
		return fd;
	before = flags & O_TRUNC ? share_blocks(s, fd) : 0;
	fd = host_reopen(fd, (int)flags & FILE_OPEN_FLAGS);
	if (fd < 0)
		return fd;
	if (flags & O_TRUNC)
		share_charge(s, fd, before);
	out.open_flags = file_keep_cache(i, fd);
	rc = table_open(&s->table, i, fd, flags, &out.fh);
	return rc ? rc : reply_bytes(a, &out, sizeof(out));
}

/* A file that is there already, for a CREATE that takes it. */
static int file_open_existing(struct share *s, struct inode *dir, const char *name, uint32_t flags,
			      int *path_fd)
{
	auto_close int fd = host_open_entry(dir->fd, name);
	struct statx st;
	uint64_t before;
	int rc, out;

	if (fd < 0)
		return fd;
	rc = host_stat(fd, &st);
	if (rc)
		return rc;
	if (!S_ISREG(st.stx_mode))
		return S_ISDIR(st.stx_mode) ? -EISDIR : S_ISLNK(st.stx_mode) ? -ELOOP : -ENXIO;
	before = s->quota ? st.stx_blocks : 0;
	out = host_reopen(fd, (int)flags & FILE_OPEN_FLAGS);
	if (out >= 0 && flags & O_TRUNC)
		share_charge(s, out, before);
	*path_fd = out < 0 ? -1 : take_fd(&fd);
	return out;
}

static int file_create(struct share *s, const struct request *r, struct inode *dir, int *path_fd)
{
	const struct fuse_create_in *in = &r->a.create;
	int fd, rc;

	if (!share_has_room(s, 1))
		return -ENOSPC;
	fd = host_create_entry(dir->fd, r->name,
			       ((int)in->flags & FILE_OPEN_FLAGS & ~O_TRUNC) | O_NONBLOCK | O_NOCTTY,
			       in->mode & 01777);
	if (fd == -EEXIST && !(in->flags & O_EXCL))
		return file_open_existing(s, dir, r->name, in->flags, path_fd);
	if (fd < 0)
		return fd;
	rc = share_give(s, dir, fd, r);
	*path_fd = rc ? rc : host_reopen(fd, O_PATH);
	if (*path_fd < 0) {
		close(fd);
		return *path_fd;
	}
	return fd;
}

int op_create(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out = { 0 };
	struct inode *made;
	int dirfd, fd, path_fd = -1, rc;

	if (r->a.create.mode & (S_ISUID | S_ISGID))
		return -EPERM;
	if (i->type != S_IFDIR)
		return -ENOTDIR;
	dirfd = table_fd(&s->table, i);
	if (dirfd < 0)
		return dirfd;
	table_pin(&s->table, i);
	fd = file_create(s, r, i, &path_fd);
	rc = fd < 0 ? fd : share_enter(s, i, r->name, path_fd, &out.entry, &made);
	table_unpin(&s->table, i);
	if (rc) {
		close_fd(&fd);
		return rc;
	}
	file_keep_cache(made, fd);
	rc = table_open(&s->table, made, fd, r->a.create.flags, &out.open.fh);
	if (!rc)
		rc = reply_bytes(a, &out, sizeof(out));
	if (rc) /* the guest never hears of it */
		table_forget(&s->table, made, 1);
	return rc;
}

int op_read(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	const struct fuse_read_in *in = &r->a.read;
	struct handle *h = file_handle(s, in->fh, false);
	uint32_t size = in->size < VOLUME_WRITE_MAX ? in->size : VOLUME_WRITE_MAX;
	ssize_t n;

	(void)i;
	if (!h)
		return -EBADF;
	if (in->offset > INT64_MAX)
		return -EINVAL;
	if (!reply_room(a, size))
		return -ENOMEM;
	n = pread(h->fd, a->body, size, (off_t)in->offset);
	if (n < 0)
		return -errno;
	a->len = (size_t)n;
	return 0;
}

/* Does the quota allow a write of @n bytes at @at? */
static bool file_room(const struct share *s, int fd, uint64_t at, size_t n)
{
	struct statx st;

	if (share_has_room(s, n))
		return true;
	/* Over what has its place already. */
	return !host_stat(fd, &st) && at <= st.stx_size && n <= st.stx_size - at &&
	       st.stx_blocks * 512 >= st.stx_size;
}

int op_write(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	const struct fuse_write_in *in = &r->a.write;
	struct handle *h = file_handle(s, in->fh, false);
	bool append = in->flags & O_APPEND && !(in->write_flags & FUSE_WRITE_CACHE);
	struct iovec iov = { .iov_base = (void *)(uintptr_t)r->data, .iov_len = r->data_len };
	struct fuse_write_out out = { 0 };
	uint64_t before;
	ssize_t n;

	(void)i;
	if (!h)
		return -EBADF;
	if (in->offset > INT64_MAX - VOLUME_WRITE_MAX)
		return -EFBIG;
	if (s->quota && !file_room(s, h->fd, in->offset, r->data_len))
		return -ENOSPC;
	before = share_blocks(s, h->fd);
	n = append ? pwritev2(h->fd, &iov, 1, -1, RWF_APPEND)
		   : pwrite(h->fd, r->data, r->data_len, (off_t)in->offset);
	if (n < 0)
		return -errno;
	share_charge(s, h->fd, before);
	out.size = (uint32_t)n;
	return reply_bytes(a, &out, sizeof(out));
}

int op_release(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	struct handle *h = table_handle(&s->table, r->a.release.fh);

	(void)i;
	(void)a;
	if (!h)
		return -EBADF;
	quota_close(s, h->inode);
	table_close(&s->table, h);
	return 0;
}

int op_fsync(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	struct handle *h = table_handle(&s->table, r->a.fsync.fh);
	int rc;

	(void)i;
	(void)a;
	if (!h)
		return -EBADF;
	rc = r->a.fsync.fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(h->fd) : fsync(h->fd);
	return rc ? -errno : 0;
}

int op_fallocate(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	const struct fuse_fallocate_in *in = &r->a.fallocate;
	struct handle *h = file_handle(s, in->fh, false);
	uint64_t before;
	int rc = 0;

	(void)i;
	(void)a;
	if (!h)
		return -EBADF;
	if (in->mode &
	    ~(uint32_t)(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if (in->offset > INT64_MAX || in->length > INT64_MAX - in->offset)
		return -EFBIG;
	if (!(in->mode & FALLOC_FL_PUNCH_HOLE) && !share_has_room(s, in->length))
		return -ENOSPC;
	before = share_blocks(s, h->fd);
	if (fallocate(h->fd, (int)in->mode, (off_t)in->offset, (off_t)in->length))
		rc = -errno;
	share_charge(s, h->fd, before);
	return rc;
}

int op_lseek(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	const struct fuse_lseek_in *in = &r->a.lseek;
	struct handle *h = file_handle(s, in->fh, false);
	struct fuse_lseek_out out;
	off_t at;

	(void)i;
	if (!h)
		return -EBADF;
	if (in->offset > INT64_MAX || (in->whence != SEEK_DATA && in->whence != SEEK_HOLE))
		return -EINVAL;
	at = lseek(h->fd, (off_t)in->offset, (int)in->whence);
	if (at < 0)
		return -errno;
	out.offset = (uint64_t)at;
	return reply_bytes(a, &out, sizeof(out));
}

int op_copy(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	const struct fuse_copy_file_range_in *in = &r->a.copy;
	struct handle *from = file_handle(s, in->fh_in, false),
		      *to = file_handle(s, in->fh_out, false);
	uint64_t len = in->len < FILE_COPY_MAX ? in->len : FILE_COPY_MAX, before;
	struct fuse_write_out out = { 0 };
	off64_t at_in, at_out;
	ssize_t n;

	(void)i;
	if (!from || !to)
		return -EBADF;
	if (in->flags || in->off_in > INT64_MAX - FILE_COPY_MAX ||
	    in->off_out > INT64_MAX - FILE_COPY_MAX)
		return -EINVAL;
	if (!share_has_room(s, len))
		return -ENOSPC;
	at_in = (off64_t)in->off_in;
	at_out = (off64_t)in->off_out;
	before = share_blocks(s, to->fd);
	n = copy_file_range(from->fd, &at_in, to->fd, &at_out, (size_t)len, 0);
	if (n < 0)
		return errno == EXDEV ? -EOPNOTSUPP : -errno;
	share_charge(s, to->fd, before);
	out.size = (uint32_t)n;
	return reply_bytes(a, &out, sizeof(out));
}
