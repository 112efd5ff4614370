/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: Root image: an image's files as one ext4 file system
 *
 * Purpose.  Layers in, one sparse ext4 file out, in one pass, with no root rights
 * and without unpacking to a directory.
 *
 * How.  The layers are applied bottom first to a tree in memory (tree.h) while the
 * bytes of their files go to the data area as they come (rootimage_data.c), so no
 * layer is read twice and a layer can be written while it is still arriving.  When
 * all are in, the rest is laid out behind the data:
 *
 *   block 0      superblock
 *   1 ..         group descriptors, with room for the largest size allowed
 *   first_data   files, directories, long symbolic links, extent index blocks
 *   then         blocks of extended attributes (as many as there could be)
 *   then         block bitmaps, inode bitmaps and inode tables of all groups
 *
 * With flex_bg a group's bitmaps and tables may be anywhere, so the file's data
 * never has to step around them, and nothing must be known beforehand.  libext2fs
 * writes the superblock, descriptors, bitmaps, inodes and extended attributes.
 *
 * Same layers, same bytes.  Inode numbers follow the sorted tree, breadth first;
 * UUID, hash seed and every time are fixed or come from the content.
 *
 * No journal, no checksums, no spare blocks, no backup superblocks
 * (sparse_super2): the image is mounted read-only and never changes.  Group
 * descriptors and the superblock are guarded by rootimage_check().
 *
 * Trust boundary.  Runs in the jailed converter on what an image says.  Only numbers
 * and names that tree.c and rootimage_data.c have checked come here.
 *
 * Limits.  One extended attribute block an inode: about 4 KB of attributes; more is
 * an error.  Size and entry count: struct rootimage_limits.
 */
#include "image/rootimage_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/mem.h"

#define FIRST_INODE 11u
#define INODE_SIZE 256u
#define INODES_PER_BLOCK (ROOTIMAGE_BLOCK / INODE_SIZE)
#define BLOCKS_PER_GROUP 32768u /* bits of one bitmap block */
#define DESC_SIZE 32u
#define DESC_PER_BLOCK (ROOTIMAGE_BLOCK / DESC_SIZE)
#define FAST_LINK_MAX 60u /* a shorter target lives in the inode */
#define EXTENTS_IN_INODE 4u
#define EXTENTS_IN_BLOCK ((ROOTIMAGE_BLOCK - 12u) / 12u)
#define FIXED_TIME 1 /* libext2fs takes 0 for "now" */

/* "msb" and a constant: any fixed seed does, the names are sorted by its hash. */
const uint32_t rootimage_hash_seed[4] = { 0x0062736d, 0x9e3779b9, 0x7f4a7c15, 0x85ebca6b };

struct tree *rootimage_tree(struct rootimage *r)
{
	return r->tree;
}

int rootimage_create(int fd, const struct rootimage_limits *limits, struct rootimage **out,
		     struct err *e)
{
	struct rootimage *r = calloc(1, sizeof(*r));
	uint64_t blocks = limits->max_bytes / ROOTIMAGE_BLOCK, groups;
	int rc;

	if (!r)
		return err_errno(e, ENOMEM, "write the root image");
	r->fd = fd;
	r->limits = *limits;
	/* Half of the 32-bit block numbers, so that sums of them do not overflow. */
	r->max_blocks = (uint32_t)min_u64(blocks, INT32_MAX / 2);
	groups = 2ull * r->max_blocks / BLOCKS_PER_GROUP + limits->max_entries / BLOCKS_PER_GROUP +
		 2;
	r->first_data = 1 + (uint32_t)((groups + DESC_PER_BLOCK - 1) / DESC_PER_BLOCK);
	r->next = r->out_first = r->first_data;
	r->out = malloc((size_t)ROOTIMAGE_OUT_BLOCKS * ROOTIMAGE_BLOCK);
	rc = r->out ? tree_create(limits->max_entries, 1ull << 30, &r->tree, e)
		    : err_errno(e, ENOMEM, "write the root image");
	if (rc) {
		rootimage_destroy(r);
		return rc;
	}
	*out = r;
	return 0;
}

void rootimage_destroy(struct rootimage *r)
{
	if (!r)
		return;
	tree_destroy(r->tree);
	free(r->out);
	free(r->extents);
	free(r);
}

/* ---- numbering ---- */

/* What finish() knows about the whole tree. */
struct rootimage_plan {
	uint32_t *dirs; /* node indices, breadth first */
	uint32_t n_dirs;
	uint32_t *inodes; /* inode indices; number - FIRST_INODE is the position */
	uint32_t n_inodes;
	uint32_t *children; /* scratch for tree_children() */
	size_t cap_children;
};

static void rootimage_plan_fini(struct rootimage_plan *p)
{
	free(p->dirs);
	free(p->inodes);
	free(p->children);
}

static int rootimage_number(struct rootimage *r, struct rootimage_plan *p, struct err *e)
{
	p->dirs = reallocarray(NULL, tree_node_count(r->tree), sizeof(*p->dirs));
	p->inodes = reallocarray(NULL, tree_inode_count(r->tree), sizeof(*p->inodes));
	if (!p->dirs || !p->inodes)
		return err_errno(e, ENOMEM, "write the root image");
	p->dirs[p->n_dirs++] = TREE_ROOT;
	tree_inode(r->tree, TREE_ROOT)->number = EXT2_ROOT_INO;
	for (uint32_t i = 0; i < p->n_dirs; i++) {
		int64_t n = tree_children(r->tree, p->dirs[i], &p->children, &p->cap_children);

		if (n < 0)
			return err_errno(e, ENOMEM, "write the root image");
		for (int64_t k = 0; k < n; k++) {
			uint32_t index = tree_node(r->tree, p->children[k])->inode;
			struct tree_inode *ino = tree_inode(r->tree, index);

			if (S_ISDIR(ino->mode))
				p->dirs[p->n_dirs++] = p->children[k];
			if (ino->number)
				continue;
			ino->number = FIRST_INODE + p->n_inodes;
			p->inodes[p->n_inodes++] = index;
		}
	}
	return 0;
}

/* ---- blocks that are neither data nor libext2fs's ---- */

static uint8_t rootimage_type(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return EXT2_FT_DIR;
	case S_IFLNK:
		return EXT2_FT_SYMLINK;
	case S_IFCHR:
		return EXT2_FT_CHRDEV;
	case S_IFBLK:
		return EXT2_FT_BLKDEV;
	case S_IFIFO:
		return EXT2_FT_FIFO;
	case S_IFSOCK:
		return EXT2_FT_SOCK;
	default:
		return EXT2_FT_REG_FILE;
	}
}

static int rootimage_put_dir_block(void *ctx, const uint8_t *block, struct err *e)
{
	return rootimage_put_file_block(ctx, block, e);
}

static int rootimage_write_dir(struct rootimage *r, struct rootimage_plan *p, uint32_t node,
			       struct rootimage_dirent *v, bool *indexed, struct err *e)
{
	struct tree_node *self = tree_node(r->tree, node);
	uint32_t parent = tree_inode(r->tree, tree_node(r->tree, self->parent)->inode)->number;
	struct tree_inode *ino = tree_inode(r->tree, self->inode);
	int64_t n = tree_children(r->tree, node, &p->children, &p->cap_children), blocks;
	uint32_t subdirs = 0;

	for (int64_t k = 0; k < n; k++) {
		const struct tree_node *c = tree_node(r->tree, p->children[k]);
		const struct tree_inode *i = tree_inode(r->tree, c->inode);

		v[k] = (struct rootimage_dirent){ tree_bytes(r->tree, c->name), i->number,
						  c->name_len, rootimage_type(i->mode) };
		subdirs += S_ISDIR(i->mode);
	}
	rootimage_file_begin(r, self->inode, e);
	blocks = rootimage_dir_blocks(v, (uint32_t)n, ino->number, parent, rootimage_hash_seed,
				      rootimage_put_dir_block, r, indexed, e);
	if (blocks < 0)
		return (int)blocks;
	ino->size = (uint64_t)blocks * ROOTIMAGE_BLOCK;
	/* dir_nlink: 1 means "more than can be counted". */
	ino->links = subdirs + 2 > TREE_LINKS_MAX ? 1 : subdirs + 2;
	return 0;
}

static int rootimage_write_dirs(struct rootimage *r, struct rootimage_plan *p, uint8_t *indexed,
				struct err *e)
{
	auto_free struct rootimage_dirent *v =
		reallocarray(NULL, tree_node_count(r->tree), sizeof(*v));

	if (!v)
		return err_errno(e, ENOMEM, "write the root image");
	for (uint32_t i = 0; i < p->n_dirs; i++) {
		bool is = false;
		int rc = rootimage_write_dir(r, p, p->dirs[i], v, &is, e);

		if (rc)
			return rc;
		indexed[tree_node(r->tree, p->dirs[i])->inode] = is;
	}
	return 0;
}

static int rootimage_write_links(struct rootimage *r, struct rootimage_plan *p, struct err *e)
{
	for (uint32_t i = 0; i < p->n_inodes; i++) {
		struct tree_inode *ino = tree_inode(r->tree, p->inodes[i]);
		uint8_t b[ROOTIMAGE_BLOCK] = { 0 };
		int rc;

		if (!S_ISLNK(ino->mode))
			continue;
		ino->size = ino->link_len;
		if (ino->link_len < FAST_LINK_MAX)
			continue;
		/* link_len < TREE_PATH_MAX = one block */
		memcpy(b, tree_bytes(r->tree, ino->link), ino->link_len);
		rootimage_file_begin(r, p->inodes[i], e);
		rc = rootimage_put_file_block(r, b, e);
		if (rc)
			return rc;
	}
	return 0;
}

/* ---- extent trees ---- */

static void rootimage_extent_header(struct ext3_extent_header *h, uint32_t n, uint32_t max,
				    uint32_t depth)
{
	h->eh_magic = ext2fs_cpu_to_le16(EXT3_EXT_MAGIC);
	h->eh_entries = ext2fs_cpu_to_le16((uint16_t)n);
	h->eh_max = ext2fs_cpu_to_le16((uint16_t)max);
	h->eh_depth = ext2fs_cpu_to_le16((uint16_t)depth);
	h->eh_generation = 0;
}

static void rootimage_extent_leaf(struct ext3_extent_header *h, const struct rootimage_extent *v,
				  uint32_t n, uint32_t max)
{
	struct ext3_extent *x = (struct ext3_extent *)(h + 1);

	rootimage_extent_header(h, n, max, 0);
	for (uint32_t i = 0; i < n; i++) {
		x[i].ee_block = ext2fs_cpu_to_le32(v[i].lblk);
		x[i].ee_len = ext2fs_cpu_to_le16((uint16_t)v[i].len);
		x[i].ee_start_hi = 0;
		x[i].ee_start = ext2fs_cpu_to_le32(v[i].pblk);
	}
}

static void rootimage_extent_index(struct ext3_extent_header *h, const struct rootimage_extent *v,
				   uint32_t n, uint32_t max, uint32_t depth)
{
	struct ext3_extent_idx *x = (struct ext3_extent_idx *)(h + 1);

	rootimage_extent_header(h, n, max, depth);
	for (uint32_t i = 0; i < n; i++) {
		x[i].ei_block = ext2fs_cpu_to_le32(v[i].lblk);
		x[i].ei_leaf = ext2fs_cpu_to_le32(v[i].pblk);
		x[i].ei_leaf_hi = 0;
		x[i].ei_unused = 0;
	}
}

/*
 * Fills i_block.  Index blocks, where an inode needs them, are appended to the
 * output: levels are built upwards until one fits the inode.  *@meta: their number.
 */
static int rootimage_write_extents(struct rootimage *r, const struct tree_inode *ino,
				   uint32_t *i_block, uint32_t *meta, struct err *e)
{
	struct ext3_extent_header *root = (void *)i_block;
	const struct rootimage_extent *v =
		ino->extent_count ? &r->extents[ino->extent_first] : NULL;
	auto_free struct rootimage_extent *level = NULL;
	uint32_t n = ino->extent_count, depth = 0;

	*meta = 0;
	while (n > EXTENTS_IN_INODE) {
		uint32_t parents = (n + EXTENTS_IN_BLOCK - 1) / EXTENTS_IN_BLOCK;
		struct rootimage_extent *up = reallocarray(NULL, parents, sizeof(*up));

		if (!up)
			return err_errno(e, ENOMEM, "write the root image");
		for (uint32_t i = 0; i < parents; i++) {
			uint8_t b[ROOTIMAGE_BLOCK] __attribute__((aligned(8))) = { 0 };
			uint32_t first = i * EXTENTS_IN_BLOCK, at;
			uint32_t k = n - first < EXTENTS_IN_BLOCK ? n - first : EXTENTS_IN_BLOCK;
			int rc;

			if (!depth)
				rootimage_extent_leaf((void *)b, v + first, k, EXTENTS_IN_BLOCK);
			else
				rootimage_extent_index((void *)b, v + first, k, EXTENTS_IN_BLOCK,
						       depth);
			rc = rootimage_put_block(r, b, &at, e);
			if (rc) {
				free(up);
				return rc;
			}
			up[i] = (struct rootimage_extent){ v[first].lblk, at, 0 };
		}
		*meta += parents;
		free(level);
		level = up;
		v = up;
		n = parents;
		depth++;
	}
	if (!depth)
		rootimage_extent_leaf(root, v, n, EXTENTS_IN_INODE);
	else
		rootimage_extent_index(root, v, n, EXTENTS_IN_INODE, depth);
	return 0;
}

/* ---- inodes ---- */

static uint32_t rootimage_time_extra(int64_t sec, uint32_t nsec)
{
	/* Bits 0-1: the seconds beyond the signed 32-bit range, up to the year 2446. */
	uint32_t epoch = (uint32_t)((uint64_t)(sec - (int32_t)sec) >> 32) & 3;

	return nsec << 2 | epoch;
}

static void rootimage_set_times(struct ext2_inode_large *d, const struct tree_inode *ino)
{
	int64_t sec = ino->mtime;
	uint32_t nsec = ino->mtime_nsec, extra;

	if (sec < INT32_MIN || sec >= 0x37fffffffLL) {
		sec = sec < INT32_MIN ? INT32_MIN : 0x37ffffffeLL;
		nsec = 0;
	}
	extra = rootimage_time_extra(sec, nsec);
	d->i_atime = d->i_ctime = d->i_mtime = d->i_crtime = (uint32_t)sec;
	d->i_atime_extra = d->i_ctime_extra = d->i_mtime_extra = d->i_crtime_extra = extra;
}

/* Linux's encodings of a device number: 8:8 bits, or 12:20 in the second word. */
static void rootimage_set_device(struct ext2_inode_large *d, const struct tree_inode *ino)
{
	if (ino->major < 256 && ino->minor < 256)
		d->i_block[0] = ino->major << 8 | ino->minor;
	else
		d->i_block[1] = (ino->minor & 0xff) | ino->major << 8 | (ino->minor & ~0xffu) << 12;
}

static int rootimage_make_inode(struct rootimage *r, const struct tree_inode *ino, bool indexed,
				struct ext2_inode_large *d, struct err *e)
{
	uint64_t sectors = 0;
	uint32_t meta = 0;
	int rc = 0;

	memset(d, 0, sizeof(*d));
	d->i_mode = (uint16_t)ino->mode;
	d->i_uid = (uint16_t)ino->uid;
	d->i_gid = (uint16_t)ino->gid;
	ext2fs_set_i_uid_high(*d, ino->uid >> 16);
	ext2fs_set_i_gid_high(*d, ino->gid >> 16);
	d->i_links_count = (uint16_t)ino->links;
	d->i_size = (uint32_t)ino->size;
	d->i_size_high = (uint32_t)(ino->size >> 32);
	d->i_extra_isize = sizeof(*d) - EXT2_GOOD_OLD_INODE_SIZE;
	rootimage_set_times(d, ino);
	switch (ino->mode & S_IFMT) {
	case S_IFCHR:
	case S_IFBLK:
		rootimage_set_device(d, ino);
		return 0;
	case S_IFLNK:
		if (ino->link_len < FAST_LINK_MAX) {
			memcpy(d->i_block, tree_bytes(r->tree, ino->link), ino->link_len);
			return 0;
		}
		break;
	case S_IFREG:
	case S_IFDIR:
		break;
	default:
		return 0;
	}
	d->i_flags = EXT4_EXTENTS_FL | (indexed ? EXT2_INDEX_FL : 0);
	rc = rootimage_write_extents(r, ino, d->i_block, &meta, e);
	for (uint32_t i = 0; i < ino->extent_count; i++)
		sectors += r->extents[ino->extent_first + i].len;
	sectors = (sectors + meta) * (ROOTIMAGE_BLOCK / 512);
	d->i_blocks = (uint32_t)sectors;
	d->osd2.linux2.l_i_blocks_hi = (uint16_t)(sectors >> 32);
	return rc;
}

/* ---- the file system around them ---- */

struct rootimage_layout {
	uint32_t ea_blocks, ea_first;
	uint32_t meta_first; /* bitmaps and tables */
	uint32_t groups, blocks_per_group, inodes_per_group, table_blocks;
	uint32_t blocks;
};

/*
 * How many groups, and of what size, so that all inodes fit?  A group holds at most
 * as many inodes as its bitmap block has bits, so many small files need more (and
 * smaller) groups than their blocks would.
 */
static int rootimage_lay_out(struct rootimage *r, uint32_t n_inodes, uint32_t ea_blocks,
			     struct rootimage_layout *l, struct err *e)
{
	uint32_t total = FIRST_INODE - 1 + n_inodes, groups;

	l->ea_blocks = ea_blocks;
	l->ea_first = r->next;
	l->meta_first = r->next + ea_blocks;
	groups = (total + BLOCKS_PER_GROUP - 1) / BLOCKS_PER_GROUP;
	for (;; groups++) {
		uint64_t need;
		uint32_t ipg = (total + groups - 1) / groups;

		ipg = (ipg + INODES_PER_BLOCK - 1) / INODES_PER_BLOCK * INODES_PER_BLOCK;
		l->table_blocks = ipg / INODES_PER_BLOCK;
		need = (uint64_t)l->meta_first + (uint64_t)groups * (2 + l->table_blocks);
		if (need > (uint64_t)groups * BLOCKS_PER_GROUP)
			continue;
		/* libext2fs drops a last group that is too small to be of use: leave none. */
		l->blocks_per_group = (uint32_t)((need + groups - 1) / groups + 7) & ~7u;
		if (l->blocks_per_group < 256 + 2 * l->table_blocks)
			l->blocks_per_group = (256 + 2 * l->table_blocks + 7) & ~7u;
		if (l->blocks_per_group > BLOCKS_PER_GROUP)
			continue;
		l->groups = groups;
		l->inodes_per_group = ipg;
		l->blocks = groups * l->blocks_per_group;
		break;
	}
	if (1 + (l->groups + DESC_PER_BLOCK - 1) / DESC_PER_BLOCK > r->first_data)
		return err_set(e, EFBIG, "the image is larger than the limit of %llu MiB",
			       (unsigned long long)(r->limits.max_bytes >> 20));
	return 0;
}

static int rootimage_fs_error(struct err *e, errcode_t code, const char *what)
{
	int n = code > 0 && code < 1024 ? (int)code : EIO;

	return err_set(e, n, "%s: %s", what, error_message(code));
}

static int rootimage_open_fs(struct rootimage *r, const struct rootimage_layout *l,
			     const uint8_t id[16], ext2_filsys *out, struct err *e)
{
	struct ext2_super_block p = { 0 };
	char name[16];
	ext2_filsys fs;
	errcode_t code;
	int fd;

	p.s_rev_level = EXT2_DYNAMIC_REV;
	p.s_log_block_size = 2;
	p.s_inode_size = INODE_SIZE;
	p.s_blocks_per_group = l->blocks_per_group;
	/* One flexible group of all of them. */
	p.s_log_groups_per_flex = 1;
	while (1u << p.s_log_groups_per_flex < l->groups)
		p.s_log_groups_per_flex++;
	p.s_inodes_count = l->groups * l->inodes_per_group;
	ext2fs_blocks_count_set(&p, l->blocks);
	p.s_feature_compat = EXT2_FEATURE_COMPAT_EXT_ATTR | EXT2_FEATURE_COMPAT_DIR_INDEX |
			     EXT4_FEATURE_COMPAT_SPARSE_SUPER2;
	p.s_feature_incompat = EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_EXTENTS |
			       EXT4_FEATURE_INCOMPAT_FLEX_BG;
	p.s_feature_ro_compat =
		EXT2_FEATURE_RO_COMPAT_LARGE_FILE | EXT4_FEATURE_RO_COMPAT_HUGE_FILE |
		EXT4_FEATURE_RO_COMPAT_DIR_NLINK | EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE;
	/* libext2fs closes the descriptor that it is given. */
	fd = fcntl(r->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(e, errno, "write the root image");
	snprintf(name, sizeof(name), "%d", fd);
	code = ext2fs_initialize(name, EXT2_FLAG_64BITS, &p, unixfd_io_manager, &fs);
	if (code)
		return rootimage_fs_error(e, code, "lay out the root image");
	if (fs->group_desc_count != l->groups || ext2fs_blocks_count(fs->super) != l->blocks ||
	    fs->super->s_inodes_per_group != l->inodes_per_group ||
	    fs->super->s_blocks_per_group != l->blocks_per_group) {
		ext2fs_free(fs);
		return err_set(e, EPROTO,
			       "libext2fs laid the root image out in another way than asked for");
	}
	fs->now = FIXED_TIME;
	fs->super->s_mkfs_time = fs->super->s_lastcheck = FIXED_TIME;
	fs->super->s_max_mnt_count = -1;
	fs->super->s_def_hash_version = EXT2_HASH_HALF_MD4;
	fs->super->s_flags = EXT2_FLAGS_UNSIGNED_HASH;
	fs->super->s_want_extra_isize = fs->super->s_min_extra_isize =
		sizeof(struct ext2_inode_large) - EXT2_GOOD_OLD_INODE_SIZE;
	memcpy(fs->super->s_hash_seed, rootimage_hash_seed, sizeof(rootimage_hash_seed));
	memcpy(fs->super->s_uuid, id, 16);
	memcpy(fs->super->s_volume_name, ROOTIMAGE_LABEL, sizeof(ROOTIMAGE_LABEL));
	*out = fs;
	return 0;
}

/* Marks what is in use and places bitmaps and tables; free areas of the file are punched. */
static void rootimage_mark_blocks(struct rootimage *r, ext2_filsys fs,
				  const struct rootimage_layout *l)
{
	uint32_t at = l->meta_first;

	ext2fs_mark_block_bitmap_range2(fs->block_map, r->first_data, l->ea_first - r->first_data);
	for (uint32_t i = 0; i < tree_inode_count(r->tree); i++) {
		const struct tree_inode *ino = tree_inode(r->tree, i);

		for (uint32_t k = 0; !ino->links && k < ino->extent_count; k++) {
			const struct rootimage_extent *x = &r->extents[ino->extent_first + k];

			ext2fs_unmark_block_bitmap_range2(fs->block_map, x->pblk, x->len);
			/* A file system that cannot punch only keeps the space. */
			(void)fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					(off_t)x->pblk * ROOTIMAGE_BLOCK,
					(off_t)x->len * ROOTIMAGE_BLOCK);
		}
	}
	for (dgrp_t g = 0; g < l->groups; g++) {
		ext2fs_block_bitmap_loc_set(fs, g, at++);
		ext2fs_inode_bitmap_loc_set(fs, g, at++);
	}
	for (dgrp_t g = 0; g < l->groups; g++) {
		ext2fs_inode_table_loc_set(fs, g, at);
		at += l->table_blocks;
	}
	ext2fs_mark_block_bitmap_range2(fs->block_map, l->meta_first, at - l->meta_first);
}

static int rootimage_write_xattrs(struct rootimage *r, ext2_filsys fs, const struct tree_inode *ino,
				  struct err *e)
{
	static const char *const known[] = { "user.", "security.", "trusted.", "system.posix_acl_" };
	struct ext2_xattr_handle *h;
	uint64_t at = ino->xattrs;
	errcode_t code = ext2fs_xattrs_open(fs, ino->number, &h);

	if (code)
		return rootimage_fs_error(e, code, "write extended attributes");
	for (uint32_t i = 0; !code && i < ino->n_xattrs; i++) {
		char name[512];
		struct tree_xattr x;
		bool ok = false;

		tree_xattr_next(r->tree, &at, &x);
		for (size_t k = 0; k < ARRAY_SIZE(known); k++)
			ok |= x.name_len > strlen(known[k]) &&
			      !memcmp(x.name, known[k], strlen(known[k]));
		if (!ok || x.name_len >= 255) {
			r->xattrs_dropped++;
			continue;
		}
		memcpy(name, x.name, x.name_len);
		name[x.name_len] = '\0';
		code = ext2fs_xattr_set(h, name, x.value, x.value_len);
		if (code)
			err_set(e, E2BIG,
				"extended attribute %s of %zu bytes: an inode has room for about "
				"4000 bytes of them (%s)",
				name, x.value_len, error_message(code));
	}
	ext2fs_xattrs_close(&h);
	return code ? -E2BIG : 0;
}

/* Makes the disk inodes; extent index blocks are appended on the way. */
static int rootimage_make_inodes(struct rootimage *r, const struct rootimage_plan *p,
				 const uint8_t *indexed, struct ext2_inode_large **out,
				 struct err *e)
{
	auto_free struct ext2_inode_large *v = reallocarray(NULL, p->n_inodes + 1, sizeof(*v));
	int rc;

	if (!v)
		return err_errno(e, ENOMEM, "write the root image");
	rc = rootimage_make_inode(r, tree_inode(r->tree, TREE_ROOT), indexed[TREE_ROOT], &v[0], e);
	for (uint32_t i = 0; !rc && i < p->n_inodes; i++)
		rc = rootimage_make_inode(r, tree_inode(r->tree, p->inodes[i]),
					  indexed[p->inodes[i]], &v[i + 1], e);
	if (!rc)
		*out = take_ptr(&v);
	return rc;
}

static int rootimage_write_inodes(struct rootimage *r, ext2_filsys fs,
				  const struct rootimage_plan *p, struct ext2_inode_large *v,
				  struct err *e)
{
	for (uint32_t i = 0; i < p->n_inodes + 1; i++) {
		const struct tree_inode *ino =
			tree_inode(r->tree, i ? p->inodes[i - 1] : (uint32_t)TREE_ROOT);
		uint8_t full[INODE_SIZE] __attribute__((aligned(8))) = { 0 };
		errcode_t code;
		int rc;

		memcpy(full, &v[i], sizeof(v[i]));
		code = ext2fs_write_inode_full(fs, ino->number, (void *)full, INODE_SIZE);
		if (code)
			return rootimage_fs_error(e, code, "write an inode of the root image");
		ext2fs_inode_alloc_stats2(fs, ino->number, 1, S_ISDIR(ino->mode));
		if (ino->n_xattrs) {
			rc = rootimage_write_xattrs(r, fs, ino, e);
			if (rc)
				return rc;
		}
	}
	for (ext2_ino_t i = 1; i < FIRST_INODE; i++)
		if (i != EXT2_ROOT_INO)
			ext2fs_inode_alloc_stats2(fs, i, 1, 0);
	return 0;
}

/* Free block counts, from the bitmap as it is at the end. */
static int rootimage_count_free(ext2_filsys fs, struct err *e)
{
	uint64_t total = 0, all = ext2fs_blocks_count(fs->super);
	uint8_t bits[ROOTIMAGE_BLOCK];

	for (dgrp_t g = 0; g < fs->group_desc_count; g++) {
		blk64_t first = ext2fs_group_first_block2(fs, g);
		uint32_t n = (uint32_t)min_u64(fs->super->s_blocks_per_group, all - first), used;
		errcode_t code = ext2fs_get_block_bitmap_range2(fs->block_map, first, n, bits);

		if (code)
			return rootimage_fs_error(e, code, "count the root image's blocks");
		used = ext2fs_bitcount(bits, (n + 7) / 8);
		ext2fs_bg_free_blocks_count_set(fs, g, n - used);
		total += n - used;
	}
	ext2fs_free_blocks_count_set(fs->super, total);
	return 0;
}

/* The superblock's checksum field, which ext4 does not use without metadata_csum. */
static uint32_t rootimage_super_sum(const struct ext2_super_block *s)
{
	return ext2fs_crc32c_le(~0u, (const unsigned char *)s,
				offsetof(struct ext2_super_block, s_checksum));
}

static int rootimage_seal(int fd, struct err *e)
{
	struct ext2_super_block s;

	if (pread(fd, &s, sizeof(s), SUPERBLOCK_OFFSET) != (ssize_t)sizeof(s))
		return err_errno(e, EIO, "read the root image back");
	s.s_checksum = ext2fs_cpu_to_le32(rootimage_super_sum(&s));
	if (pwrite(fd, &s, sizeof(s), SUPERBLOCK_OFFSET) != (ssize_t)sizeof(s))
		return err_errno(e, errno, "write the root image");
	return 0;
}

static int rootimage_write_fs(struct rootimage *r, const struct rootimage_plan *p,
			      struct ext2_inode_large *inodes, const uint8_t id[16],
			      struct rootimage_stats *stats, struct err *e)
{
	struct rootimage_layout l;
	uint32_t ea_blocks = 0;
	ext2_filsys fs;
	errcode_t code;
	int rc;

	for (uint32_t i = 0; i < p->n_inodes; i++)
		ea_blocks += tree_inode(r->tree, p->inodes[i])->n_xattrs > 0;
	ea_blocks += tree_inode(r->tree, TREE_ROOT)->n_xattrs > 0;
	rc = rootimage_lay_out(r, p->n_inodes, ea_blocks, &l, e);
	if (rc)
		return rc;
	if (ftruncate(r->fd, (off_t)l.blocks * ROOTIMAGE_BLOCK) < 0)
		return err_errno(e, errno, "size the root image");
	rc = rootimage_open_fs(r, &l, id, &fs, e);
	if (rc)
		return rc;
	rootimage_mark_blocks(r, fs, &l);
	rc = rootimage_write_inodes(r, fs, p, inodes, e);
	if (!rc)
		rc = rootimage_count_free(fs, e);
	if (rc) {
		ext2fs_free(fs);
		return rc;
	}
	ext2fs_mark_super_dirty(fs);
	ext2fs_mark_ib_dirty(fs);
	ext2fs_mark_bb_dirty(fs);
	/* Whoever gives the file its name syncs it. */
	code = ext2fs_close2(fs, EXT2_FLAG_FLUSH_NO_SYNC);
	if (code) {
		ext2fs_free(fs);
		return rootimage_fs_error(e, code, "write the root image");
	}
	stats->bytes = (uint64_t)l.blocks * ROOTIMAGE_BLOCK;
	stats->inodes = p->n_inodes + 1;
	stats->xattrs_dropped = r->xattrs_dropped;
	return rootimage_seal(r->fd, e);
}

int rootimage_finish(struct rootimage *r, const uint8_t id[16], struct rootimage_stats *stats,
		     struct err *e)
{
	auto_free uint8_t *indexed = calloc(tree_inode_count(r->tree), 1);
	auto_free struct ext2_inode_large *inodes = NULL;
	struct rootimage_plan p = { 0 };
	int rc;

	if (!indexed)
		return err_errno(e, ENOMEM, "write the root image");
	rc = rootimage_number(r, &p, e);
	if (!rc)
		rc = rootimage_write_dirs(r, &p, indexed, e);
	if (!rc)
		rc = rootimage_write_links(r, &p, e);
	if (!rc)
		rc = rootimage_make_inodes(r, &p, indexed, &inodes, e);
	if (!rc)
		rc = rootimage_flush(r, e);
	if (!rc)
		rc = rootimage_write_fs(r, &p, inodes, id, stats, e);
	rootimage_plan_fini(&p);
	return rc;
}

int rootimage_check(int fd, const uint8_t id[16], struct err *e)
{
	struct ext2_super_block s;
	struct stat st;
	uint64_t want;

	if (fstat(fd, &st) < 0)
		return err_errno(e, errno, "look at the root image");
	if (pread(fd, &s, sizeof(s), SUPERBLOCK_OFFSET) != (ssize_t)sizeof(s))
		return err_set(e, EUCLEAN, "is truncated: it has %lld bytes", (long long)st.st_size);
	if (ext2fs_le16_to_cpu(s.s_magic) != EXT2_SUPER_MAGIC ||
	    ext2fs_le32_to_cpu(s.s_checksum) != rootimage_super_sum(&s))
		return err_set(e, EUCLEAN, "is corrupt: it has no valid superblock");
	want = (uint64_t)ext2fs_le32_to_cpu(s.s_blocks_count) * ROOTIMAGE_BLOCK;
	if ((uint64_t)st.st_size != want)
		return err_set(e, EUCLEAN, "is truncated: it has %lld of %llu bytes",
			       (long long)st.st_size, (unsigned long long)want);
	if (memcmp(s.s_uuid, id, 16))
		return err_set(e, EUCLEAN, "is corrupt: it belongs to another image");
	return 0;
}
