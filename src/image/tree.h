/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_TREE_H
#define MSB_IMAGE_TREE_H

/*
 * DOC: The file tree of an image, in memory
 *
 * Purpose.  Layers are applied to it in order, bottom first, entry by entry, as a
 * container engine would apply them to a directory: what it holds afterwards is
 * the image's file system, without the files' bytes.
 *
 * Spec.  OCI image-spec 1.1, layer.md: whiteouts (`.wh.NAME`), opaque directories
 * (`.wh..wh..opq`), hard links.  A whiteout acts on lower layers only, wherever in
 * its layer it stands.
 *
 * Trust boundary.  Every name, link and number comes from an image that nobody
 * trusts.  Names are resolved inside this tree and nowhere else, so that nothing
 * can lead outside; what is refused is refused with an error that names the entry:
 * a `..` in a name, a component of more than 255 bytes, a path deeper than
 * TREE_DEPTH_MAX, a parent that is a file, a hard link to what is not there or to
 * a directory, more than 65,000 links, more entries than the limit.  A leading `/`
 * is dropped.  A parent that is a symbolic link is followed inside the tree (`/`
 * and `..` end at its root).  A directory entry replaces a file or symbolic link
 * of its name; any other entry replaces whatever has its name.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TREE_NONE UINT32_MAX
#define TREE_ROOT 0u /* index of the root's node and of its inode */
#define TREE_DEPTH_MAX 1024u
#define TREE_PATH_MAX 4096u
#define TREE_NAME_MAX 255u
#define TREE_LINKS_MAX 65000u
#define TREE_XATTRS_MAX 65536u /* bytes of names and values an inode */

struct tree_xattr {
	const char *name; /* with its namespace: "user.x" */
	size_t name_len;
	const void *value;
	size_t value_len;
};

struct tree_attr {
	uint32_t mode; /* type (S_IFMT) and permissions */
	uint32_t uid, gid;
	int64_t mtime; /* seconds since 1970 */
	uint32_t mtime_nsec;
	uint32_t major, minor; /* of a device */
	const char *link; /* target of a symbolic link */
	size_t link_len;
	const struct tree_xattr *xattrs;
	size_t n_xattrs;
};

struct tree_node {
	uint32_t parent, first_child, next, prev; /* node indices */
	uint32_t inode;
	uint32_t hash, hash_next;
	uint64_t name; /* offset in the arena */
	uint16_t layer;
	uint16_t depth;
	uint8_t name_len;
	bool live;
};

struct tree_inode {
	uint32_t mode, uid, gid, mtime_nsec, major, minor;
	int64_t mtime;
	uint32_t links; /* names; 0 = nothing refers to it any more */
	uint32_t n_xattrs;
	uint64_t xattrs; /* arena offset, see tree_xattr_next() */
	uint64_t link;
	uint32_t link_len;
	/* Kept for the writer of the file system; the tree does not use them. */
	uint64_t size;
	uint32_t extent_first, extent_count;
	uint32_t number;
};

struct tree;

/* @max_entries: names and inodes, all layers together; @max_bytes: of names and attributes. */
int tree_create(uint32_t max_entries, uint64_t max_bytes, struct tree **out, struct err *e);
void tree_destroy(struct tree *t);

/* Starts the next layer. Must be called before the first entry. */
int tree_layer_begin(struct tree *t, struct err *e);

/**
 * tree_add() - one entry of the current layer that is no hard link
 * @path:  as in the archive, any bytes but NUL
 * @inode: the new inode, or TREE_NONE if the entry was a whiteout
 *
 * Return: 0, -EINVAL (malformed or refused), -E2BIG (limit), -ENOMEM.
 */
int tree_add(struct tree *t, const char *path, size_t len, const struct tree_attr *attr,
	     uint32_t *inode, struct err *e);

/* A hard link: @path becomes another name of what @target names now. */
int tree_link(struct tree *t, const char *path, size_t len, const char *target, size_t target_len,
	      struct err *e);

/* The node of a path, symbolic links in its parents followed; TREE_NONE if absent. */
uint32_t tree_find(struct tree *t, const char *path);

uint32_t tree_node_count(const struct tree *t); /* dead ones included */
uint32_t tree_inode_count(const struct tree *t);
struct tree_node *tree_node(struct tree *t, uint32_t index);
struct tree_inode *tree_inode(struct tree *t, uint32_t index);
const char *tree_bytes(const struct tree *t, uint64_t offset);

/* Fills @x from the attribute at *@at and moves *@at to the next one. Sorted by name. */
void tree_xattr_next(const struct tree *t, uint64_t *at, struct tree_xattr *x);

/*
 * The children of @dir, sorted by name bytes.  *@out (of *@cap elements) is
 * enlarged as needed and owned by the caller.  Return: their number or -ENOMEM.
 */
int64_t tree_children(struct tree *t, uint32_t dir, uint32_t **out, size_t *cap);

/* A name for a message: control bytes, quotes and bytes beyond @size are not shown. */
const char *tree_quote(char *to, size_t size, const char *name, size_t len);

#endif
