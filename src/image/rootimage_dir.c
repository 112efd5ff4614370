/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Root image: the blocks of a directory
 *
 * Purpose.  All names of a directory are known when it is written, so its blocks
 * are made in one go instead of by searching them for a free place once a name.
 *
 * Spec.  Linux Documentation/filesystems/ext4/directory.rst: linear directories
 * (up to LINEAR_MAX_BLOCKS) and hash tree directories of one or two levels, with
 * the hash half-MD4 over unsigned characters.
 */
#include "image/rootimage_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define LINEAR_MAX_BLOCKS 2u
#define ENTRY_HEAD 8u /* inode, rec_len, name_len, file type */

#define DX_ENTRY 8u /* hash, block */
#define DX_ROOT_AT 32u /* dot, dotdot, dx_root_info */
#define DX_NODE_AT 8u /* the fake entry that hides the node from linear readers */
#define DX_ROOT_LIMIT ((ROOTIMAGE_BLOCK - DX_ROOT_AT) / DX_ENTRY)
#define DX_NODE_LIMIT ((ROOTIMAGE_BLOCK - DX_NODE_AT) / DX_ENTRY)

struct dir_hash {
	uint32_t hash, minor, index;
};

struct dir_leaf {
	uint32_t hash; /* of its first name; bit 0: the one before has names of this hash too */
	uint32_t first, count; /* in the sorted order */
};

static void dir_put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static void dir_put32(uint8_t *p, uint32_t v)
{
	dir_put16(p, v);
	dir_put16(p + 2, v >> 16);
}

static uint32_t dir_entry_size(uint8_t name_len)
{
	return (ENTRY_HEAD + name_len + 3u) & ~3u;
}

static void dir_put_entry(uint8_t *p, uint32_t number, uint32_t rec_len, const char *name,
			  uint8_t name_len, uint8_t type)
{
	dir_put32(p, number);
	dir_put16(p + 4, rec_len);
	p[6] = name_len;
	p[7] = type;
	memcpy(p + 8, name, name_len);
}

/* One block being filled; the last entry's length is stretched to the end. */
struct dir_block {
	uint8_t bytes[ROOTIMAGE_BLOCK];
	uint32_t used, last;
};

static bool dir_block_add(struct dir_block *b, uint32_t number, const char *name, uint8_t name_len,
			  uint8_t type)
{
	uint32_t size = dir_entry_size(name_len);

	if (b->used + size > ROOTIMAGE_BLOCK)
		return false;
	dir_put_entry(b->bytes + b->used, number, size, name, name_len, type);
	b->last = b->used;
	b->used += size;
	return true;
}

static int dir_block_end(struct dir_block *b, rootimage_put_fn put, void *ctx, struct err *e)
{
	int rc;

	if (!b->used) /* an empty leaf: one unused entry over the whole block */
		dir_put16(b->bytes + 4, ROOTIMAGE_BLOCK);
	else
		dir_put16(b->bytes + b->last + 4, ROOTIMAGE_BLOCK - b->last);
	rc = put(ctx, b->bytes, e);
	memset(b, 0, sizeof(*b));
	return rc;
}

static int64_t dir_linear(const struct rootimage_dirent *v, uint32_t n, uint32_t self,
			  uint32_t parent, rootimage_put_fn put, void *ctx, struct err *e)
{
	struct dir_block b = { .used = 0 };
	int64_t blocks = 1;
	int rc;

	dir_block_add(&b, self, ".", 1, EXT2_FT_DIR);
	dir_block_add(&b, parent, "..", 2, EXT2_FT_DIR);
	for (uint32_t i = 0; i < n; i++) {
		if (dir_block_add(&b, v[i].number, v[i].name, v[i].name_len, v[i].type))
			continue;
		rc = dir_block_end(&b, put, ctx, e);
		if (rc)
			return rc;
		blocks++;
		dir_block_add(&b, v[i].number, v[i].name, v[i].name_len, v[i].type);
	}
	rc = dir_block_end(&b, put, ctx, e);
	return rc ? rc : blocks;
}

static int dir_hash_order(const void *a, const void *b)
{
	const struct dir_hash *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	if (x->minor != y->minor)
		return x->minor < y->minor ? -1 : 1;
	return x->index < y->index ? -1 : 1;
}

/* Cuts the sorted names into leaves that are as full as they can be. */
static uint32_t dir_cut_leaves(const struct rootimage_dirent *v, const struct dir_hash *h,
			       uint32_t n, struct dir_leaf *leaves)
{
	uint32_t count = 0, used = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t size = dir_entry_size(v[h[i].index].name_len);

		if (!i || used + size > ROOTIMAGE_BLOCK) {
			/* The first leaf takes everything from 0 on. */
			uint32_t hash = i ? h[i].hash : 0;

			if (i && h[i - 1].hash == hash)
				hash |= 1;
			leaves[count++] = (struct dir_leaf){ hash, i, 0 };
			used = 0;
		}
		used += size;
		leaves[count - 1].count++;
	}
	return count;
}

/* The count-and-limit header and the entries of an index block. */
static void dir_put_index(uint8_t *at, uint32_t limit, const struct dir_leaf *leaves, uint32_t n,
			  uint32_t first_block, uint32_t stride)
{
	dir_put16(at, limit);
	dir_put16(at + 2, n);
	dir_put32(at + 4, first_block);
	for (uint32_t i = 1; i < n; i++) {
		dir_put32(at + i * DX_ENTRY, leaves[(size_t)i * stride].hash);
		dir_put32(at + i * DX_ENTRY + 4, first_block + i);
	}
}

static void dir_put_root(uint8_t *p, uint32_t self, uint32_t parent, uint8_t levels)
{
	dir_put_entry(p, self, 12, ".", 1, EXT2_FT_DIR);
	dir_put_entry(p + 12, parent, ROOTIMAGE_BLOCK - 12, "..", 2, EXT2_FT_DIR);
	p[28] = EXT2_HASH_HALF_MD4;
	p[29] = 8; /* length of this header */
	p[30] = levels;
}

/* Index blocks: the root alone, or the root and one level of nodes. Return: their number. */
static int64_t dir_put_indices(const struct dir_leaf *leaves, uint32_t n, uint32_t self,
			       uint32_t parent, rootimage_put_fn put, void *ctx, struct err *e)
{
	uint32_t nodes = n <= DX_ROOT_LIMIT ? 0 : (n + DX_NODE_LIMIT - 1) / DX_NODE_LIMIT;
	uint8_t b[ROOTIMAGE_BLOCK] = { 0 };
	int rc;

	if (nodes > DX_ROOT_LIMIT)
		return err_set(e, E2BIG, "a directory of the image has too many entries");
	dir_put_root(b, self, parent, nodes ? 1 : 0);
	dir_put_index(b + DX_ROOT_AT, DX_ROOT_LIMIT, leaves, nodes ? nodes : n, 1,
		      nodes ? DX_NODE_LIMIT : 1);
	rc = put(ctx, b, e);
	for (uint32_t i = 0; !rc && i < nodes; i++) {
		uint32_t first = i * DX_NODE_LIMIT;
		uint32_t k = n - first < DX_NODE_LIMIT ? n - first : DX_NODE_LIMIT;

		memset(b, 0, sizeof(b));
		dir_put16(b + 4, ROOTIMAGE_BLOCK);
		dir_put_index(b + DX_NODE_AT, DX_NODE_LIMIT, leaves + first, k, 1 + nodes + first,
			      1);
		rc = put(ctx, b, e);
	}
	return rc ? rc : 1 + (int64_t)nodes;
}

static int64_t dir_htree(const struct rootimage_dirent *v, uint32_t n, uint32_t self,
			 uint32_t parent, const uint32_t seed[4], rootimage_put_fn put, void *ctx,
			 struct err *e)
{
	auto_free struct dir_hash *h = reallocarray(NULL, n, sizeof(*h));
	auto_free struct dir_leaf *leaves = reallocarray(NULL, n, sizeof(*leaves));
	struct dir_block b = { .used = 0 };
	uint32_t key[4], count;
	int64_t blocks;

	if (!h || !leaves)
		return err_errno(e, ENOMEM, "write a directory of the root image");
	memcpy(key, seed, sizeof(key));
	for (uint32_t i = 0; i < n; i++) {
		ext2_dirhash_t hash = 0, minor = 0;

		ext2fs_dirhash2(EXT2_HASH_HALF_MD4_UNSIGNED, v[i].name, v[i].name_len, NULL, 0, key,
				&hash, &minor);
		h[i] = (struct dir_hash){ hash, minor, i };
	}
	qsort(h, n, sizeof(*h), dir_hash_order);
	count = dir_cut_leaves(v, h, n, leaves);
	blocks = dir_put_indices(leaves, count, self, parent, put, ctx, e);
	if (blocks < 0)
		return blocks;
	for (uint32_t i = 0; i < count; i++) {
		for (uint32_t k = 0; k < leaves[i].count; k++) {
			const struct rootimage_dirent *d = &v[h[leaves[i].first + k].index];

			dir_block_add(&b, d->number, d->name, d->name_len, d->type);
		}
		int rc = dir_block_end(&b, put, ctx, e);

		if (rc)
			return rc;
	}
	return blocks + count;
}

int64_t rootimage_dir_blocks(const struct rootimage_dirent *v, uint32_t n, uint32_t self,
			     uint32_t parent, const uint32_t seed[4], rootimage_put_fn put,
			     void *ctx, bool *indexed, struct err *e)
{
	uint64_t bytes = 24;

	for (uint32_t i = 0; i < n; i++)
		bytes += dir_entry_size(v[i].name_len);
	*indexed = bytes > LINEAR_MAX_BLOCKS * ROOTIMAGE_BLOCK;
	return *indexed ? dir_htree(v, n, self, parent, seed, put, ctx, e)
			: dir_linear(v, n, self, parent, put, ctx, e);
}
