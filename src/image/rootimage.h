/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_ROOTIMAGE_H
#define MSB_IMAGE_ROOTIMAGE_H

/* The ext4 files that a sandbox mounts: the image (read-only) and its upper. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "image/tree.h"

#define ROOTIMAGE_BLOCK 4096u

struct rootimage_limits {
	uint32_t max_entries; /* names, and inodes, of all layers together */
	uint64_t max_bytes; /* of file data and directories in the finished image */
};

#define ROOTIMAGE_LIMITS_DEFAULT \
	{ \
		.max_entries = 4u << 20, .max_bytes = 64ull << 30 \
	}

struct rootimage;

/**
 * rootimage_create() - start writing an image
 * @fd:  an empty regular file, readable and writable; stays the caller's and must
 *       outlive the object
 *
 * Entries go into rootimage_tree(); each regular file's bytes follow at once, as
 * the archive delivers them.
 */
int rootimage_create(int fd, const struct rootimage_limits *limits, struct rootimage **out,
		     struct err *e);
void rootimage_destroy(struct rootimage *r);

struct tree *rootimage_tree(struct rootimage *r);

/*
 * The bytes of @inode: begin, any number of pieces with rising offsets (a gap is a
 * hole), end with the file's size.  Return: 0, -ENOSPC, -EFBIG (limit), …
 */
int rootimage_file_begin(struct rootimage *r, uint32_t inode, struct err *e);
int rootimage_file_data(struct rootimage *r, uint64_t offset, const void *p, size_t n,
			struct err *e);
int rootimage_file_end(struct rootimage *r, uint64_t size, struct err *e);

struct rootimage_stats {
	uint64_t bytes; /* of the file, holes included */
	uint32_t inodes;
	uint32_t xattrs_dropped; /* of name spaces that ext4 has not */
};

/* Writes everything but the data. @id: goes into the UUID; nothing else tells images apart. */
int rootimage_finish(struct rootimage *r, const uint8_t id[16], struct rootimage_stats *stats,
		     struct err *e);

/**
 * rootimage_check() - is this a whole image of that identity?
 *
 * Looks at the superblock and the file's size only (microseconds).
 * Return: 0, or -EUCLEAN with what is wrong ("is truncated: …").
 */
int rootimage_check(int fd, const uint8_t id[16], struct err *e);

/**
 * rootimage_make_upper() - format a sandbox's writable disk
 * @fd:      an empty regular file, readable and writable; grown to @size, sparse
 * @size:    bytes, 4 MiB to 16 TiB; rounded down to whole blocks
 * @journal: for a disk that must survive a crash of its sandbox; not for a
 *           throw-away one
 *
 * The root directory holds `upper` and `work`, as overlayfs wants them.  Not synced.
 */
int rootimage_make_upper(int fd, uint64_t size, bool journal, struct err *e);

#endif
