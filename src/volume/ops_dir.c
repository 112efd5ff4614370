/* SPDX-License-Identifier: Apache-2.0 */
/* Directories, read entry by entry. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "codec/volume_wire.h"
#include "volume/dirbuf.h"
#include "volume/host.h"
#include "volume/share.h"

#define DIR_REPLY_MAX (64u * 1024)

int op_opendir(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	struct fuse_open_out out = { 0 };
	int fd = table_fd(&s->table, i), rc;

	(void)r;
	if (i->type != S_IFDIR)
		return -ENOTDIR;
	fd = fd < 0 ? fd : host_reopen(fd, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	rc = table_open(&s->table, i, fd, O_RDONLY, &out.fh);
	return rc ? rc : reply_bytes(a, &out, sizeof(out));
}

static bool dir_is_dot(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

/*
 * Puts one entry at @to, which has @room.  Return: bytes taken; 0: no room; or -ENOENT for one
 * that has gone meanwhile.
 */
static int dir_put(struct share *s, struct inode *dir, const struct dirbuf_entry *d, bool plus,
		   uint8_t *to, size_t room)
{
	size_t name = strlen(d->name), head = plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
	size_t size = FUSE_DIRENT_ALIGN(head + name);
	struct fuse_dirent ent = {
		.ino = d->ino,
		.off = d->next,
		.namelen = (uint32_t)name,
		.type = d->type,
	};
	struct fuse_entry_out entry = { 0 };
	int rc = 0;

	if (name > REQUEST_NAME_MAX)
		return -ENOENT;
	if (size > room)
		return 0;
	/* "." and ".." the guest knows; they are not given out. */
	if (plus && !dir_is_dot(d->name))
		rc = share_look(s, dir, d->name, &entry, NULL);
	if (rc == -ENFILE || rc == -ENOMEM || rc == -EACCES) {
		entry = (struct fuse_entry_out){ 0 };
		rc = 0; /* by its name it is still there */
	}
	if (rc)
		return -ENOENT;
	memset(to, 0, size);
	if (plus)
		memcpy(to, &entry, sizeof(entry));
	memcpy(to + head - FUSE_NAME_OFFSET, &ent, FUSE_NAME_OFFSET);
	memcpy(to + head, d->name, name);
	return (int)size;
}

static int dir_read(struct share *s, const struct request *r, struct inode *i, struct reply *a,
		    bool plus)
{
	const struct fuse_read_in *in = &r->a.read;
	struct handle *h = table_handle(&s->table, in->fh);
	size_t size = in->size < DIR_REPLY_MAX ? in->size : DIR_REPLY_MAX;
	uint64_t at = in->offset;
	struct dirbuf_entry d;
	int rc;

	if (!h || i->type != S_IFDIR || h->inode != i)
		return -EBADF;
	if (in->offset > INT64_MAX)
		return -EINVAL;
	if (!reply_room(a, size))
		return -ENOMEM;
	for (a->len = 0;;) {
		rc = dirbuf_read(&h->dir, h->fd, at, &d);
		if (rc <= 0)
			return rc < 0 && !a->len ? rc : 0;
		rc = dir_put(s, i, &d, plus, a->body + a->len, size - a->len);
		if (!rc) {
			dirbuf_unread(h->dir);
			return a->len ? 0 : -EINVAL;
		}
		if (rc > 0)
			a->len += (size_t)rc;
		at = d.next;
	}
}

int op_readdir(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	return dir_read(s, r, i, a, false);
}

int op_readdirplus(struct share *s, const struct request *r, struct inode *i, struct reply *a)
{
	return dir_read(s, r, i, a, true);
}
