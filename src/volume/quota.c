/* SPDX-License-Identifier: Apache-2.0 */
#include "volume/quota.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/mem.h"
#include "volume/dirbuf.h"
#include "volume/host.h"

#define QUOTA_DEPTH_MAX 512u
#define QUOTA_BLOCK 512u

uint64_t share_blocks(const struct share *s, int fd)
{
	struct statx st;

	return s->quota && !host_stat(fd, &st) ? st.stx_blocks : 0;
}

void share_charge(struct share *s, int fd, uint64_t before)
{
	struct statx st;

	if (!s->quota || host_stat(fd, &st))
		return;
	if (st.stx_blocks >= before)
		s->used += (st.stx_blocks - before) * QUOTA_BLOCK;
	else if (s->used >= (before - st.stx_blocks) * QUOTA_BLOCK)
		s->used -= (before - st.stx_blocks) * QUOTA_BLOCK;
	else
		s->used = 0;
}

bool share_has_room(const struct share *s, uint64_t bytes)
{
	return !s->quota || (s->used <= s->quota && bytes <= s->quota - s->used);
}

static void quota_free(struct share *s, uint64_t blocks)
{
	uint64_t bytes = blocks * QUOTA_BLOCK;

	s->used -= bytes < s->used ? bytes : s->used;
}

void quota_unlink(struct share *s, struct inode *i, const struct statx *st)
{
	if (!s->quota || (st->stx_nlink > 1 && !S_ISDIR(st->stx_mode)))
		return;
	if (!i)
		quota_free(s, st->stx_blocks);
}

void quota_forget(struct share *s, struct inode *i, uint64_t n)
{
	struct statx st;

	/* Our descriptor is the last hold on it: its space is free with it. */
	if (s->quota && i->unlinked && n >= i->lookups && !i->pins && !i->children && i->fd >= 0 &&
	    !host_stat(i->fd, &st) && (!st.stx_nlink || S_ISDIR(st.stx_mode)))
		quota_free(s, st.stx_blocks);
	table_forget(&s->table, i, n);
}

void quota_close(struct share *s, struct inode *i)
{
	struct statx st;

	if (s->quota && i->unlinked && !i->lookups && i->pins == 1 && i->fd >= 0 &&
	    !host_stat(i->fd, &st) && !st.stx_nlink)
		quota_free(s, st.stx_blocks);
}

struct quota_level {
	int fd;
	uint64_t at;
	struct dirbuf *buf;
};

static int quota_enter(struct quota_level *l, int dirfd)
{
	*l = (struct quota_level){ .fd = host_reopen(dirfd, O_RDONLY | O_DIRECTORY) };
	return l->fd < 0 ? l->fd : 0;
}

static void quota_leave(struct quota_level *l)
{
	close_fd(&l->fd);
	dirbuf_free(l->buf);
}

/* One entry; goes down into a directory by filling @next. Return: 1 = it did. */
static int quota_entry(struct share *s, int dirfd, const struct dirbuf_entry *d,
		       struct quota_level *next)
{
	auto_close int fd = -1;
	struct statx st;

	if (d->name[0] == '.' && (!d->name[1] || (d->name[1] == '.' && !d->name[2])))
		return 0;
	fd = host_open_entry(dirfd, d->name);
	if (fd < 0 || host_stat(fd, &st))
		return 0; /* it has gone meanwhile */
	/* Of a file with several names, each counts its part. */
	s->used += st.stx_blocks * QUOTA_BLOCK /
		   (S_ISDIR(st.stx_mode) || !st.stx_nlink ? 1 : st.stx_nlink);
	return S_ISDIR(st.stx_mode) && !quota_enter(next, fd);
}

int quota_scan(struct share *s, struct err *e)
{
	auto_free struct quota_level *stack = calloc(QUOTA_DEPTH_MAX, sizeof(*stack));
	unsigned depth = 0;
	int rc;

	if (!stack)
		return err_errno(e, ENOMEM, "volume %u", s->number);
	rc = quota_enter(&stack[0], s->table.root->fd);
	if (rc)
		return err_errno(e, -rc, "volume %u: count what is in it", s->number);
	for (depth = 1; depth;) {
		struct quota_level *l = &stack[depth - 1];
		struct dirbuf_entry d;

		rc = dirbuf_read(&l->buf, l->fd, l->at, &d);
		if (rc <= 0) {
			quota_leave(l);
			depth--;
			continue;
		}
		l->at = d.next;
		if (depth < QUOTA_DEPTH_MAX && quota_entry(s, l->fd, &d, l + 1))
			depth++;
	}
	return 0;
}
