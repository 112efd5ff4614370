/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Root image: the data area
 *
 * Blocks are handed out in the order in which the archive delivers its files, so
 * a file is one extent (or one per 128 MiB) and the output is one sequential
 * stream.  Sixteen or more blocks of zeros in a row become a hole, whether the
 * archive called them sparse or not, so that a file of zeros costs nothing.  A
 * file that a later entry replaced keeps its blocks until the end, when they are
 * punched out of the file and left free.
 */
#include "image/rootimage_internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/mem.h"

#define HOLE_MIN_BLOCKS 16u
#define EXTENT_MAX_BLOCKS 32768u
/* ext4 counts logical blocks in 32 bits; the last number means "none". */
#define FILE_SIZE_MAX (((uint64_t)UINT32_MAX - 1) * ROOTIMAGE_BLOCK)

static const uint8_t zero_block[ROOTIMAGE_BLOCK];

static bool rootimage_is_zero(const uint8_t *p)
{
	/* Most data differs within the first bytes. */
	return !p[0] && !p[1] && !memcmp(p, zero_block, ROOTIMAGE_BLOCK);
}

int rootimage_flush(struct rootimage *r, struct err *e)
{
	size_t n = (size_t)r->out_n * ROOTIMAGE_BLOCK, done = 0;
	off_t at = (off_t)r->out_first * ROOTIMAGE_BLOCK;

	while (done < n) {
		ssize_t k = pwrite(r->fd, r->out + done, n - done, at + (off_t)done);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return err_errno(e, k ? errno : EIO, "write the root image");
		done += (size_t)k;
	}
	r->out_first = r->next;
	r->out_n = 0;
	return 0;
}

int rootimage_put_block(struct rootimage *r, const uint8_t *block, uint32_t *at, struct err *e)
{
	uint8_t *to;
	int rc;

	if (r->next - r->first_data >= r->max_blocks)
		return err_set(e, EFBIG, "the image is larger than the limit of %llu MiB",
			       (unsigned long long)(r->limits.max_bytes >> 20));
	if (r->out_n == ROOTIMAGE_OUT_BLOCKS && (rc = rootimage_flush(r, e)))
		return rc;
	to = r->out + (size_t)r->out_n * ROOTIMAGE_BLOCK;
	if (block)
		memcpy(to, block, ROOTIMAGE_BLOCK);
	else
		memset(to, 0, ROOTIMAGE_BLOCK);
	r->out_n++;
	*at = r->next++;
	return 0;
}

static int rootimage_extent_add(struct rootimage *r, uint32_t pblk, struct err *e)
{
	struct tree_inode *ino = tree_inode(r->tree, r->inode);
	struct rootimage_extent *x = ino->extent_count ? &r->extents[r->n_extents - 1] : NULL;

	if (x && x->len < EXTENT_MAX_BLOCKS && x->lblk + x->len == r->lblk &&
	    x->pblk + x->len == pblk) {
		x->len++;
		return 0;
	}
	if (r->n_extents == r->cap_extents) {
		uint32_t want = r->cap_extents ? r->cap_extents * 2 : 1024;
		void *p = reallocarray(r->extents, want, sizeof(*r->extents));

		if (!p)
			return err_errno(e, ENOMEM, "write the root image");
		r->extents = p;
		r->cap_extents = want;
	}
	if (!ino->extent_count++)
		ino->extent_first = r->n_extents;
	r->extents[r->n_extents++] = (struct rootimage_extent){ r->lblk, pblk, 1 };
	return 0;
}

int rootimage_put_file_block(struct rootimage *r, const uint8_t *block, struct err *e)
{
	uint32_t at;
	int rc = rootimage_put_block(r, block, &at, e);

	if (!rc)
		rc = rootimage_extent_add(r, at, e);
	if (!rc)
		r->lblk++;
	return rc;
}

/* Takes the next whole block of the file. */
static int rootimage_take_block(struct rootimage *r, const uint8_t *block, struct err *e)
{
	int rc;

	if (rootimage_is_zero(block)) {
		r->zero_run++;
		return 0;
	}
	if (r->zero_run >= HOLE_MIN_BLOCKS) {
		r->lblk += (uint32_t)r->zero_run;
		r->zero_run = 0;
	}
	for (; r->zero_run; r->zero_run--) {
		rc = rootimage_put_file_block(r, NULL, e);
		if (rc)
			return rc;
	}
	return rootimage_put_file_block(r, block, e);
}

static int rootimage_take(struct rootimage *r, const uint8_t *p, size_t n, struct err *e)
{
	int rc;

	while (n) {
		size_t used = r->pos % ROOTIMAGE_BLOCK, k = ROOTIMAGE_BLOCK - used;

		if (!used && n >= ROOTIMAGE_BLOCK) {
			rc = rootimage_take_block(r, p, e);
			if (rc)
				return rc;
		} else {
			if (k > n)
				k = n;
			memcpy(r->part + used, p, k);
			if (used + k == ROOTIMAGE_BLOCK &&
			    (rc = rootimage_take_block(r, r->part, e)))
				return rc;
		}
		r->pos += k;
		p += k;
		n -= k;
	}
	return 0;
}

/* A gap: zeros up to @offset, without touching each of them. */
static int rootimage_skip_to(struct rootimage *r, uint64_t offset, struct err *e)
{
	uint64_t gap = offset - r->pos, used = r->pos % ROOTIMAGE_BLOCK;
	int rc;

	if (used) {
		uint64_t k = min_u64(gap, ROOTIMAGE_BLOCK - used);

		rc = rootimage_take(r, zero_block, (size_t)k, e);
		if (rc)
			return rc;
		gap -= k;
	}
	r->zero_run += gap / ROOTIMAGE_BLOCK;
	r->pos += gap - gap % ROOTIMAGE_BLOCK;
	return rootimage_take(r, zero_block, (size_t)(gap % ROOTIMAGE_BLOCK), e);
}

int rootimage_file_begin(struct rootimage *r, uint32_t inode, struct err *e)
{
	(void)e;
	r->inode = inode;
	r->pos = 0;
	r->zero_run = 0;
	r->lblk = 0;
	return 0;
}

int rootimage_file_data(struct rootimage *r, uint64_t offset, const void *p, size_t n, struct err *e)
{
	uint64_t end;
	int rc;

	if (offset < r->pos || !checked_add(offset, n, &end) || end > FILE_SIZE_MAX)
		return err_set(e, EINVAL,
			       "malformed archive: a file's pieces are out of order or too far");
	if (offset > r->pos) {
		rc = rootimage_skip_to(r, offset, e);
		if (rc)
			return rc;
	}
	return rootimage_take(r, p, n, e);
}

int rootimage_file_end(struct rootimage *r, uint64_t size, struct err *e)
{
	size_t used;
	int rc;

	if (size < r->pos || size > FILE_SIZE_MAX)
		return err_set(e, EINVAL, "malformed archive: a file's size is wrong or too large");
	if (size > r->pos && (rc = rootimage_skip_to(r, size, e)))
		return rc;
	used = r->pos % ROOTIMAGE_BLOCK;
	if (used) {
		memset(r->part + used, 0, ROOTIMAGE_BLOCK - used);
		rc = rootimage_take_block(r, r->part, e);
		if (rc)
			return rc;
	}
	/* Zeros at the end need no block. */
	r->zero_run = 0;
	tree_inode(r->tree, r->inode)->size = size;
	return 0;
}
