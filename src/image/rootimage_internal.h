/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_ROOTIMAGE_INTERNAL_H
#define MSB_IMAGE_ROOTIMAGE_INTERNAL_H

#include <ext2fs/ext2_fs.h>
#include <ext2fs/ext2fs.h>

#include "image/rootimage.h"

#define ROOTIMAGE_OUT_BLOCKS 256u /* 1 MiB a write */
#define ROOTIMAGE_LABEL "msb-root"

/* A run of blocks of one file: ext4's limit of an extent is 32768 blocks. */
struct rootimage_extent {
	uint32_t lblk, pblk, len;
};

struct rootimage {
	int fd;
	struct rootimage_limits limits;
	struct tree *tree;

	/* Blocks are handed out in order; those not written yet are in out[]. */
	uint8_t *out;
	uint32_t out_first; /* block number of out[0] */
	uint32_t out_n;
	uint32_t next; /* = out_first + out_n */
	uint32_t first_data;
	uint32_t max_blocks;

	struct rootimage_extent *extents;
	uint32_t n_extents, cap_extents;

	/* The file being written. */
	uint32_t inode;
	uint64_t pos; /* bytes taken so far, holes included */
	uint64_t zero_run; /* blocks of zeros at the end that are not decided yet */
	uint32_t lblk; /* next logical block after the decided ones */
	uint8_t part[ROOTIMAGE_BLOCK]; /* pos % block size bytes of it are valid */

	uint32_t xattrs_dropped;
};

/* Appends one block (NULL = zeros) to the output; *@at is its number. */
int rootimage_put_block(struct rootimage *r, const uint8_t *block, uint32_t *at, struct err *e);

/* Appends the next block of the current inode's contents. */
int rootimage_put_file_block(struct rootimage *r, const uint8_t *block, struct err *e);

/* Writes what is in out[]. */
int rootimage_flush(struct rootimage *r, struct err *e);

/* rootimage_dir.c: the blocks of a directory (nodes sorted by name), through @put. */
struct rootimage_dirent {
	const char *name;
	uint32_t number; /* inode number */
	uint8_t name_len;
	uint8_t type; /* EXT2_FT_* */
};
typedef int (*rootimage_put_fn)(void *ctx, const uint8_t *block, struct err *e);

/*
 * *@indexed tells whether the blocks are an htree.  Return: number of blocks or a
 * negative errno.
 */
int64_t rootimage_dir_blocks(const struct rootimage_dirent *v, uint32_t n, uint32_t self,
			     uint32_t parent, const uint32_t seed[4], rootimage_put_fn put,
			     void *ctx, bool *indexed, struct err *e);

extern const uint32_t rootimage_hash_seed[4];

#endif
