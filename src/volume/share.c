/* SPDX-License-Identifier: Apache-2.0 */
#include "volume/share.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/log.h"
#include "base/mem.h"
#include "codec/volume_wire.h"
#include "volume/host.h"
#include "volume/quota.h"

#define SHARE_BACKGROUND 64
#define SHARE_PAGE 4096u

/*
 * What is agreed upon with the guest's kernel.  Not: WRITEBACK_CACHE and CACHE_SYMLINKS,
 * with which it would not see changes of the host; POSIX_LOCKS and FLOCK_LOCKS, so that locks
 * are the guest's own; POSIX_ACL.  HANDLE_KILLPRIV_V2: the host's kernel drops set-id bits at a
 * write, because we lack CAP_FSETID; and the guest's need not ask for security.capability
 * at each.
 */
#define SHARE_FLAGS \
	(FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_AUTO_INVAL_DATA | \
	 FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | \
	 FUSE_HANDLE_KILLPRIV_V2 | FUSE_MAX_PAGES)

#define REPLY_HEAD (VOLUME_WIRE_HEADER + sizeof(struct fuse_out_header))

uint8_t *reply_room(struct reply *a, size_t size)
{
	uint8_t *p;

	if (buf_reserve(a->out, REPLY_HEAD + size, &p))
		return NULL;
	a->body = p + REPLY_HEAD;
	return a->body;
}

int reply_bytes(struct reply *a, const void *p, size_t n)
{
	if (!reply_room(a, n))
		return -ENOMEM;
	memcpy(a->body, p, n);
	a->len = n;
	return 0;
}

static int reply_finish(struct reply *a, uint16_t volume, uint64_t unique, int rc)
{
	size_t n = rc < 0 ? 0 : a->len;
	struct fuse_out_header h = {
		.len = (uint32_t)(sizeof(h) + n),
		.error = rc < 0 ? rc : 0,
		.unique = unique,
	};
	uint8_t *p;
	int failed = buf_reserve(a->out, REPLY_HEAD + n, &p);

	if (failed)
		return failed;
	volume_wire_put(p, (struct volume_wire){ h.len, volume, VOLUME_WIRE_FUSE });
	memcpy(p + VOLUME_WIRE_HEADER, &h, sizeof(h));
	buf_commit(a->out, REPLY_HEAD + n);
	return 0;
}

/* ---- attributes and ids -------------------------------------------------- */

void share_attr(const struct share *s, const struct statx *st, struct fuse_attr *out)
{
	*out = (struct fuse_attr){
		.ino = st->stx_ino,
		.size = st->stx_size,
		.blocks = st->stx_blocks,
		.atime = (uint64_t)st->stx_atime.tv_sec,
		.mtime = (uint64_t)st->stx_mtime.tv_sec,
		.ctime = (uint64_t)st->stx_ctime.tv_sec,
		.atimensec = st->stx_atime.tv_nsec,
		.mtimensec = st->stx_mtime.tv_nsec,
		.ctimensec = st->stx_ctime.tv_nsec,
		.mode = st->stx_mode,
		.nlink = st->stx_nlink,
		.uid = st->stx_uid,
		.gid = st->stx_gid,
		.rdev = (uint32_t)makedev(st->stx_rdev_major, st->stx_rdev_minor),
		.blksize = st->stx_blksize,
	};
	if (s->identity)
		return;
	out->uid = st->stx_uid == s->own_uid ? s->guest_uid : SHARE_NOBODY;
	out->gid = st->stx_gid == s->own_gid ? s->guest_gid : SHARE_NOBODY;
}

int share_ids_in(const struct share *s, const struct statx *st, uint32_t *uid, uint32_t *gid)
{
	struct fuse_attr now;

	if (s->identity)
		return 0;
	/* There is one id: what the file has already may be asked for, and nothing else. */
	share_attr(s, st, &now);
	if ((*uid != UINT32_MAX && *uid != now.uid) || (*gid != UINT32_MAX && *gid != now.gid))
		return -EPERM;
	*uid = *gid = UINT32_MAX;
	return 0;
}

int share_give(struct share *s, struct inode *dir, int fd, const struct request *r)
{
	struct statx st;
	uint32_t gid = r->h.gid;
	int dirfd = table_fd(&s->table, dir);

	if (!s->identity || (!r->h.uid && !r->h.gid))
		return 0;
	if (dirfd < 0 || host_stat(dirfd, &st))
		return dirfd < 0 ? dirfd : -EIO;
	if (st.stx_mode & S_ISGID)
		gid = UINT32_MAX;
	return fchownat(fd, "", r->h.uid, gid, AT_EMPTY_PATH) ? -errno : 0;
}

int share_enter(struct share *s, struct inode *dir, const char *name, int fd,
		struct fuse_entry_out *out, struct inode **inode)
{
	auto_close int own = fd;
	struct statx st;
	struct inode *i;
	int rc = host_stat(own, &st);

	if (!rc)
		rc = table_look(&s->table, dir, name, take_fd(&own), &st, &i);
	if (rc)
		return rc;
	*out = (struct fuse_entry_out){
		.nodeid = i->nodeid,
		.entry_valid = SHARE_VALID_S,
		.attr_valid = SHARE_VALID_S,
	};
	share_attr(s, &st, &out->attr);
	if (inode)
		*inode = i;
	return 0;
}

int share_look(struct share *s, struct inode *dir, const char *name, struct fuse_entry_out *out,
	       struct inode **inode)
{
	int dirfd = table_fd(&s->table, dir), fd;

	if (dirfd < 0)
		return dirfd;
	fd = host_open_entry(dirfd, name);
	return fd < 0 ? fd : share_enter(s, dir, name, fd, out, inode);
}

/* ---- dispatch ------------------------------------------------------------- */

static int share_start(const struct request *r, struct reply *a)
{
	const struct fuse_init_in *in = &r->a.init;
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = VOLUME_WRITE_MAX, /* the agent sets it for the mount */
		.flags = in->flags & SHARE_FLAGS,
		.max_background = SHARE_BACKGROUND,
		.congestion_threshold = SHARE_BACKGROUND * 3 / 4,
		.max_write = VOLUME_WRITE_MAX,
		.time_gran = 1,
		.max_pages = VOLUME_WRITE_MAX / SHARE_PAGE,
	};

	if (in->major > FUSE_KERNEL_VERSION)
		return reply_bytes(a, &out, sizeof(out)); /* the kernel tries again with ours */
	/* Linux 5.4; an older kernel's replies have other sizes. */
	if (in->major < FUSE_KERNEL_VERSION || in->minor < 31)
		return -EPROTO;
	if (in->minor < out.minor)
		out.minor = in->minor;
	return reply_bytes(a, &out, sizeof(out));
}

static void share_forget(struct share *s, uint64_t nodeid, uint64_t n)
{
	struct inode *i = table_find(&s->table, nodeid);

	if (i && i != s->table.root)
		quota_forget(s, i, n);
}

/* What has no inode of its own, or no answer. Return: was it one? */
static bool share_special(struct share *s, const struct request *r, struct reply *a, int *rc)
{
	switch (r->h.opcode) {
	case FUSE_INIT:
		*rc = share_start(r, a);
		return true;
	case FUSE_FORGET:
		a->none = true;
		share_forget(s, r->h.nodeid, r->a.forget.nlookup);
		return true;
	case FUSE_BATCH_FORGET:
		a->none = true;
		for (uint32_t i = 0; i < r->a.batch.count; i++) {
			struct fuse_forget_one one = request_forget(r, i);

			share_forget(s, one.nodeid, one.nlookup);
		}
		return true;
	case FUSE_INTERRUPT:
		*rc = -ENOSYS; /* nothing here is worth interrupting: do not ask again */
		return true;
	case FUSE_DESTROY:
		*rc = 0;
		return true;
	default:
		return false;
	}
}

static share_op *const share_ops[] = {
	[FUSE_LOOKUP] = op_lookup,
	[FUSE_GETATTR] = op_getattr,
	[FUSE_SETATTR] = op_setattr,
	[FUSE_READLINK] = op_readlink,
	[FUSE_SYMLINK] = op_symlink,
	[FUSE_MKNOD] = op_mknod,
	[FUSE_MKDIR] = op_mkdir,
	[FUSE_UNLINK] = op_unlink,
	[FUSE_RMDIR] = op_rmdir,
	[FUSE_RENAME] = op_rename,
	[FUSE_LINK] = op_link,
	[FUSE_OPEN] = op_open,
	[FUSE_READ] = op_read,
	[FUSE_WRITE] = op_write,
	[FUSE_STATFS] = op_statfs,
	[FUSE_RELEASE] = op_release,
	[FUSE_FSYNC] = op_fsync,
	[FUSE_SETXATTR] = op_setxattr,
	[FUSE_GETXATTR] = op_getxattr,
	[FUSE_LISTXATTR] = op_listxattr,
	[FUSE_REMOVEXATTR] = op_removexattr,
	[FUSE_OPENDIR] = op_opendir,
	[FUSE_READDIR] = op_readdir,
	[FUSE_RELEASEDIR] = op_release,
	[FUSE_FSYNCDIR] = op_fsync,
	[FUSE_CREATE] = op_create,
	[FUSE_FALLOCATE] = op_fallocate,
	[FUSE_READDIRPLUS] = op_readdirplus,
	[FUSE_RENAME2] = op_rename,
	[FUSE_LSEEK] = op_lseek,
	[FUSE_COPY_FILE_RANGE] = op_copy,
};

/* The mount of a read-only share refuses them too; in a reduced jail there is none. */
static bool share_op_writes(const struct request *r)
{
	switch (r->h.opcode) {
	case FUSE_SETATTR:
	case FUSE_SYMLINK:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_RENAME:
	case FUSE_RENAME2:
	case FUSE_LINK:
	case FUSE_WRITE:
	case FUSE_SETXATTR:
	case FUSE_REMOVEXATTR:
	case FUSE_CREATE:
	case FUSE_FALLOCATE:
	case FUSE_COPY_FILE_RANGE:
		return true;
	case FUSE_OPEN:
		return (r->a.open.flags & O_ACCMODE) != O_RDONLY || r->a.open.flags & O_TRUNC;
	default:
		return false;
	}
}

static int share_dispatch(struct share *s, const struct request *r, struct reply *a)
{
	share_op *op = r->h.opcode < ARRAY_SIZE(share_ops) ? share_ops[r->h.opcode] : NULL;
	struct inode *i;

	if (!op)
		return -ENOSYS;
	if (s->readonly && share_op_writes(r))
		return -EROFS;
	i = table_find(&s->table, r->h.nodeid);
	return i ? op(s, r, i, a) : -ESTALE;
}

int share_serve(struct share *s, const struct request *r, int rc, struct buf *out)
{
	struct reply a = { .out = out };

	if (r->h.opcode == FUSE_FORGET || r->h.opcode == FUSE_BATCH_FORGET)
		a.none = true;
	if (!rc && !share_special(s, r, &a, &rc))
		rc = share_dispatch(s, r, &a);
	/* Errors of FUSE are between -1 and -511. */
	if (rc < -511)
		rc = -EIO;
	return a.none ? 0 : reply_finish(&a, s->number, r->h.unique, rc);
}

int share_init(struct share *s, uint16_t number, const struct share_options *o, struct budget *b,
	       struct err *e)
{
	auto_close int fd = host_open_root(o->path);
	struct statx st;
	int rc;

	*s = (struct share){
		.number = number,
		.readonly = o->readonly,
		.identity = o->identity,
		.quota = o->quota,
		.own_uid = geteuid(),
		.own_gid = getegid(),
	};
	if (fd < 0)
		return err_errno(e, -fd, "volume %u: open %s", number, o->path);
	rc = host_stat(fd, &st);
	if (rc)
		return err_errno(e, -rc, "volume %u", number);
	if (!S_ISDIR(st.stx_mode) && !S_ISREG(st.stx_mode))
		return err_set(e, EINVAL, "volume %u is neither a directory nor a file", number);
	rc = table_init(&s->table, b, take_fd(&fd), e);
	return rc || !s->quota ? rc : quota_scan(s, e);
}

void share_fini(struct share *s)
{
	table_fini(&s->table);
}
