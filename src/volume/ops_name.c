/* SPDX-License-Identifier: Apache-2.0 */
/* Names: making, removing, moving them. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "volume/host.h"
#include "volume/quota.h"
#include "volume/share.h"

#define NAME_INODE_BYTES 4096u /* what a new name may take at least */

/* The descriptor of @i, which has to be a directory that may grow. */
static int name_dir(struct share *s, struct inode *i, bool grows)
{
	if (i->type != S_IFDIR)
		return -ENOTDIR;
	if (grows && !share_has_room(s, NAME_INODE_BYTES))
		return -ENOSPC;
	return table_fd(&s->table, i);
}

/* The answer about what was just made as @name in @dir; its owner is the requester. */
static int name_made(struct share *s, const struct request *r, struct inode *dir, const char *name,
		     bool new_inode, struct reply *a)
{
	struct fuse_entry_out out;
	int dirfd = table_fd(&s->table, dir), fd, rc;

	if (dirfd < 0)
		return dirfd;
	fd = host_open_entry(dirfd, name);
	if (fd < 0)
		return fd;
	if (new_inode) {
		rc = share_give(s, dir, fd, r);
		if (rc) {
			close(fd);
			return rc;
		}
		share_charge(s, fd, 0);
	}
	rc = share_enter(s, dir, name, fd, &out, NULL);
	return rc ? rc : reply_bytes(a, &out, sizeof(out));
}

int op_symlink(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	int fd = name_dir(s, i, true);

	if (fd < 0)
		return fd;
	if (symlinkat(r->name2, fd, r->name))
		return -errno;
	return name_made(s, r, i, r->name, true, a);
}

int op_mknod(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	uint32_t mode = r->a.mknod.mode;
	int fd = name_dir(s, i, true);

	if (fd < 0)
		return fd;
	/* A device of the guest is none on the host.  Sockets and fifos work inside the guest. */
	if (!S_ISREG(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode))
		return -EPERM;
	if (mode & (S_ISUID | S_ISGID))
		return -EPERM;
	if (mknodat(fd, r->name, mode, 0))
		return -errno;
	return name_made(s, r, i, r->name, true, a);
}

int op_mkdir(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	int fd = name_dir(s, i, true);

	if (fd < 0)
		return fd;
	if (mkdirat(fd, r->name, r->a.mkdir.mode & 01777))
		return -errno;
	return name_made(s, r, i, r->name, true, a);
}

/* Before @name goes: the guest may still hold what it is. */
static void name_lose(struct share *s, int dirfd, const char *name)
{
	auto_close int fd = host_open_entry(dirfd, name);
	struct inode *i;
	struct statx st;

	if (fd < 0 || host_stat(fd, &st))
		return;
	i = table_known(&s->table, &st);
	quota_unlink(s, i, &st);
	if (i)
		table_unlink(&s->table, i);
}

static int name_remove(struct share *s, const struct request *r, struct inode *i, int flags)
{
	int fd = name_dir(s, i, false);
	uint64_t used = s->used;

	if (fd < 0)
		return fd;
	table_pin(&s->table, i);
	name_lose(s, fd, r->name);
	table_unpin(&s->table, i);
	if (!unlinkat(fd, r->name, flags))
		return 0;
	s->used = used;
	return -errno;
}

int op_unlink(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	(void)a;
	return name_remove(s, r, i, 0);
}

int op_rmdir(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	(void)a;
	return name_remove(s, r, i, AT_REMOVEDIR);
}

/* What the guest knows as @name in @dirfd, or NULL. */
static struct inode *name_known(struct share *s, int dirfd, const char *name)
{
	auto_close int fd = host_open_entry(dirfd, name);
	struct statx st;

	return fd < 0 || host_stat(fd, &st) ? NULL : table_known(&s->table, &st);
}

static int name_move(struct share *s, const struct request *r, struct inode *from, struct inode *to)
{
	uint32_t flags = r->a.rename.flags;
	int from_fd = name_dir(s, from, false), to_fd = name_dir(s, to, false);
	struct inode *moved, *other;
	uint64_t used = s->used;

	if (from_fd < 0 || to_fd < 0)
		return from_fd < 0 ? from_fd : to_fd;
	from_fd = from->fd;
	moved = name_known(s, from_fd, r->name);
	other = flags & RENAME_EXCHANGE ? name_known(s, to_fd, r->name2) : NULL;
	/* Two names of one file: nothing happens, nothing is lost. */
	if (!flags && name_known(s, to_fd, r->name2) != moved)
		name_lose(s, to_fd, r->name2);
	if (syscall(SYS_renameat2, from_fd, r->name, to_fd, r->name2, flags)) {
		s->used = used;
		return -errno;
	}
	if (moved)
		table_move(&s->table, moved, to, r->name2);
	if (other)
		table_move(&s->table, other, from, r->name);
	return 0;
}

int op_rename(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	struct inode *to = table_find(&s->table, r->a.rename.newdir);
	int rc;

	(void)a;
	if (!to)
		return -ESTALE;
	if (r->a.rename.flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	table_pin(&s->table, i);
	table_pin(&s->table, to);
	rc = name_move(s, r, i, to);
	table_unpin(&s->table, to);
	table_unpin(&s->table, i);
	return rc;
}

int op_link(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	struct inode *old = table_find(&s->table, r->a.link.oldnodeid);
	char path[HOST_FD_PATH_MAX];
	int dirfd, fd, rc = 0;

	if (!old)
		return -ESTALE;
	table_pin(&s->table, i);
	dirfd = name_dir(s, i, true);
	fd = table_fd(&s->table, old);
	if (dirfd < 0 || fd < 0)
		rc = dirfd < 0 ? dirfd : fd;
	else if (linkat(AT_FDCWD, host_fd_path(fd, path), i->fd, r->name, AT_SYMLINK_FOLLOW))
		rc = -errno;
	table_unpin(&s->table, i);
	return rc ? rc : name_made(s, r, i, r->name, false, a);
}
