/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_STORE_H
#define MSB_IMAGE_STORE_H

/*
 * DOC: The image store
 *
 * Purpose.  All images of a user, below $MICROSANDBOX_HOME/images:
 *
 *   oci-layout, index.json, blobs/sha256/<hex>   an OCI image layout
 *   rootfs/<hex>.ext4    root images, named after the chain of their diff_ids
 *   tmp/                 files being written; each is locked by its writer
 *   lock, index.lock     see "Locks"
 *
 * Spec.  OCI image-spec 1.1, image-layout.md; other tools may read and write it.
 * An image is an entry of index.json with an org.opencontainers.image.ref.name,
 * which holds the full name ("microsandbox/python:latest").  No file holds an
 * absolute path: a copy of the store is a store.
 *
 * States.  Every file is written under tmp/, synced, and renamed; what has a name
 * is whole.  Order: blobs, root image, index.json.  After kill -9 there may be files
 * in tmp/ (the next writer removes those that nobody has locked) and blobs that
 * nothing refers to (the next removal of an image collects them).
 *
 * Locks.  flock() on `lock`: shared by whoever adds files, exclusive for whoever
 * removes unreferenced ones.  On `index.lock`: exclusive around reading, changing
 * and replacing index.json.  Readers take none: they open files that are whole.
 *
 * Trust boundary.  Blobs come from registries and archives; they are bounded and
 * checked as src/codec/manifest.h says.  Sizes are compared with the descriptors;
 * digests were checked when a blob was written.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "codec/manifest.h"
#include "image/rootimage.h"

struct store;

/**
 * store_open() - open the store of @home
 * @home: MICROSANDBOX_HOME, see parts_home()
 *
 * Creates nothing; a store that does not exist yet is an empty one.
 */
int store_open(const char *home, struct store **out, struct err *e);
void store_close(struct store *s);

struct image {
	char reference[REFERENCE_MAX]; /* full name in the store; "" if found by digest only */
	char digest[DIGEST_SIZE]; /* of the manifest */
	char config_digest[DIGEST_SIZE];
	uint64_t size; /* bytes of all blobs, layers as stored */
	char *rootfs; /* absolute path of the root image; it may not exist yet */
	struct image_config config;
};

/**
 * store_resolve() - find an image
 * @name: as a user gives it: "python", "microsandbox/python", "mine:tag",
 *        "docker.io/library/x", "sha256:…", "name@sha256:…"
 * @out:  to be freed with image_free()
 *
 * Return: 0; -ENOENT if the store has no such image; -EINVAL for a malformed name or
 * document.
 */
int store_resolve(struct store *s, const char *name, struct image **out, struct err *e);
void image_free(struct image *img);

/*
 * The manifest of an image (manifest_fini()) and the text of its configuration (malloc'ed),
 * which has been checked.
 */
int store_documents(struct store *s, const char *name, struct manifest *m, char **config,
		    size_t *len, struct err *e);

/**
 * rootimage_open() - open a root image for reading, if it is whole
 * @path: image->rootfs
 *
 * While the descriptor or a copy of it is open, the file is not removed from the store.
 *
 * Return: 0; -ENOENT if it is not there, -EUCLEAN if it is truncated or corrupt, both
 * with an error that says how to write it again.
 */
int rootimage_open(const char *path, int *fd, struct err *e);

/* Does a sandbox have the root image @path, seen from folder @dir? */
bool rootimage_in_use(int dir, const char *path);

/* Notes that a sandbox gets the image now. */
void store_touch(const struct image *img);

/* What the store takes of the disk, in bytes. */
struct store_usage {
	uint64_t blobs, rootfs;
	uint64_t unfinished; /* of pulls that were cut off, and of what is being written now */
	uint32_t n_blobs, n_rootfs;
};

int store_measure(struct store *s, struct store_usage *out, struct err *e);

struct store_entry {
	char name[REFERENCE_MAX]; /* "" = only a digest */
	char digest[DIGEST_SIZE];
	char created[40]; /* RFC 3339, or "" */
	uint64_t size; /* bytes of all blobs; 0 if they are damaged */
	uint64_t rootfs_bytes; /* disk space of the root image; 0 = none */
	int64_t used; /* when a sandbox got it last, seconds since the epoch; 0 = no root image */
	bool in_use; /* a sandbox runs it */
};

/* All images, by name. The caller frees *@out. */
int store_list(struct store *s, struct store_entry **out, size_t *n, struct err *e);

/**
 * recipe_find() - is there a recipe that stands for this image name?
 * @dir:  folder of recipes, parts_path("recipes")
 * @name: as a user gives it; "python" and "microsandbox/python" stand for python
 * @path: malloc'ed path of the recipe
 *
 * Return: 0 or -ENOENT (no error is set: the caller knows what was asked for).
 */
int recipe_find(const char *dir, const char *name, char **path);

#endif
