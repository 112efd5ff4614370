/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DOC: The upper: a sandbox's writable disk, formatted in milliseconds
 *
 * The file is fresh and sparse, so everything that would have to be zero is zero
 * already: inode tables are marked as zeroed (the kernel then starts no lazy
 * initialisation), block groups without content as uninitialised, and the journal,
 * if there is one, gets its superblock only.  Metadata checksums stay off: under an
 * emulated CPU they cost more than the rest of a small write.  UUID and hash seed
 * are random, the rest is fixed.
 */
#include "image/rootimage_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"

#define UPPER_MIN (4ull << 20)
#define UPPER_MAX (16ull << 40)
#define UPPER_INODE_RATIO 16384u /* bytes an inode, as mke2fs has it */
#define UPPER_JOURNAL_SHARE 64u /* the disk's size divided by this, in bounds */
#define UPPER_JOURNAL_MIN 1024u
#define UPPER_JOURNAL_MAX 8192u

static int upper_fail(struct err *e, errcode_t code, const char *what)
{
	int n = code > 0 && code < 1024 ? (int)code : EIO;

	return err_set(e, n, "format the sandbox's disk: %s: %s", what, error_message(code));
}

static int upper_open(int fd, uint64_t size, bool journal, ext2_filsys *out, struct err *e)
{
	struct ext2_super_block p = { 0 };
	char name[16];
	errcode_t code;

	p.s_rev_level = EXT2_DYNAMIC_REV;
	p.s_log_block_size = 2;
	p.s_inode_size = 256;
	p.s_log_groups_per_flex = 4;
	ext2fs_blocks_count_set(&p, size / ROOTIMAGE_BLOCK);
	p.s_inodes_count = (uint32_t)min_u64(size / UPPER_INODE_RATIO, 1u << 26);
	if (p.s_inodes_count < 1024)
		p.s_inodes_count = 1024;
	p.s_feature_compat = EXT2_FEATURE_COMPAT_EXT_ATTR | EXT2_FEATURE_COMPAT_DIR_INDEX |
			     (journal ? EXT3_FEATURE_COMPAT_HAS_JOURNAL : 0);
	p.s_feature_incompat = EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_EXTENTS |
			       EXT4_FEATURE_INCOMPAT_FLEX_BG;
	p.s_feature_ro_compat =
		EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT2_FEATURE_RO_COMPAT_LARGE_FILE |
		EXT4_FEATURE_RO_COMPAT_HUGE_FILE | EXT4_FEATURE_RO_COMPAT_GDT_CSUM |
		EXT4_FEATURE_RO_COMPAT_DIR_NLINK | EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE;
	/* libext2fs closes the descriptor that it is given. */
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(e, errno, "format the sandbox's disk");
	snprintf(name, sizeof(name), "%d", fd);
	code = ext2fs_initialize(name, EXT2_FLAG_64BITS, &p, unixfd_io_manager, out);
	return code ? upper_fail(e, code, "lay it out") : 0;
}

static int upper_set_identity(ext2_filsys fs, struct err *e)
{
	struct ext2_super_block *s = fs->super;
	struct {
		uint8_t uuid[16];
		uint32_t seed[4];
	} r;

	if (getrandom(&r, sizeof(r), 0) != (ssize_t)sizeof(r))
		return err_errno(e, errno, "format the sandbox's disk: getrandom");
	r.uuid[6] = (uint8_t)((r.uuid[6] & 0x0f) | 0x40); /* RFC 4122 §4.4: random */
	r.uuid[8] = (uint8_t)((r.uuid[8] & 0x3f) | 0x80);
	memcpy(s->s_uuid, r.uuid, sizeof(r.uuid));
	memcpy(s->s_hash_seed, r.seed, sizeof(r.seed));
	memcpy(s->s_volume_name, "upper", 5);
	s->s_def_hash_version = EXT2_HASH_HALF_MD4;
	s->s_flags = EXT2_FLAGS_UNSIGNED_HASH;
	s->s_max_mnt_count = -1;
	s->s_want_extra_isize = s->s_min_extra_isize =
		sizeof(struct ext2_inode_large) - EXT2_GOOD_OLD_INODE_SIZE;
	return 0;
}

/*
 * The tables are zero because the file is.  Which groups have bitmaps and inodes
 * that need not be on disk, libext2fs knows (gdt_csum) and keeps up to date.
 */
static void upper_mark_zeroed(ext2_filsys fs)
{
	for (dgrp_t g = 0; g < fs->group_desc_count; g++) {
		ext2fs_bg_flags_set(fs, g, EXT2_BG_INODE_ZEROED);
		ext2fs_group_desc_csum_set(fs, g);
	}
}

static errcode_t upper_mkdir(ext2_filsys fs, ext2_ino_t number, const char *name, uint16_t mode)
{
	struct ext2_inode_large big = { 0 };
	struct ext2_inode *inode = (struct ext2_inode *)&big;
	ext2_ino_t made;
	errcode_t code = ext2fs_mkdir(fs, EXT2_ROOT_INO, number, name);

	if (!code && number)
		made = number;
	else if (!code)
		code = ext2fs_lookup(fs, EXT2_ROOT_INO, name, (int)strlen(name), NULL, &made);
	if (!code)
		code = ext2fs_read_inode_full(fs, made, inode, sizeof(big));
	if (code)
		return code;
	inode->i_mode = (uint16_t)(LINUX_S_IFDIR | mode);
	return ext2fs_write_inode_full(fs, made, inode, sizeof(big));
}

static errcode_t upper_populate(ext2_filsys fs)
{
	errcode_t code = ext2fs_mkdir(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, NULL);

	for (ext2_ino_t i = 1; !code && i < EXT2_GOOD_OLD_FIRST_INO; i++)
		if (i != EXT2_ROOT_INO)
			ext2fs_inode_alloc_stats2(fs, i, 1, 0);
	if (!code)
		code = upper_mkdir(fs, 0, "upper", 0755);
	if (!code)
		code = upper_mkdir(fs, 0, "work", 0755);
	return code;
}

static errcode_t upper_add_journal(ext2_filsys fs)
{
	uint64_t blocks = ext2fs_blocks_count(fs->super) / UPPER_JOURNAL_SHARE;
	struct ext2fs_journal_params p = { .num_fc_blocks = 0 };

	if (blocks < UPPER_JOURNAL_MIN)
		blocks = UPPER_JOURNAL_MIN;
	if (blocks > UPPER_JOURNAL_MAX)
		blocks = UPPER_JOURNAL_MAX;
	p.num_journal_blocks = (blk_t)blocks;
	return ext2fs_add_journal_inode3(fs, &p, ~0ull,
					 EXT2_MKJOURNAL_LAZYINIT | EXT2_MKJOURNAL_NO_MNT_CHECK);
}

int rootimage_make_upper(int fd, uint64_t size, bool journal, struct err *e)
{
	struct stat st;
	ext2_filsys fs;
	errcode_t code;
	int rc;

	size -= size % ROOTIMAGE_BLOCK;
	if (size < UPPER_MIN || (journal && size < 4 * UPPER_MIN) || size > UPPER_MAX)
		return err_set(e, EINVAL,
			       "a sandbox's disk has between %u MiB and 16 TiB, not %llu bytes",
			       journal ? 16u : 4u, (unsigned long long)size);
	if (fstat(fd, &st) < 0)
		return err_errno(e, errno, "format the sandbox's disk");
	if (!S_ISREG(st.st_mode) || st.st_size)
		return err_set(e, EINVAL, "format the sandbox's disk: the file is not empty");
	if (ftruncate(fd, (off_t)size) < 0)
		return err_errno(e, errno, "size the sandbox's disk");
	rc = upper_open(fd, size, journal, &fs, e);
	if (rc)
		return rc;
	rc = upper_set_identity(fs, e);
	if (!rc) {
		const char *what = "place its tables";

		code = ext2fs_allocate_tables(fs);
		if (!code) {
			what = "make its directories";
			upper_mark_zeroed(fs);
			code = upper_populate(fs);
		}
		if (!code && journal) {
			what = "make its journal";
			code = upper_add_journal(fs);
		}
		if (!code) {
			what = "write it";
			code = ext2fs_flush2(fs, EXT2_FLAG_FLUSH_NO_SYNC);
		}
		if (code)
			rc = upper_fail(e, code, what);
	}
	ext2fs_free(fs);
	return rc;
}
