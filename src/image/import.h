/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_IMPORT_H
#define MSB_IMAGE_IMPORT_H

/* Making images: of a tar, of a layer that was put together here, of blobs that are there. */

#include "base/err.h"
#include "image/store_write.h"

struct import_result {
	char digest[DIGEST_SIZE]; /* of the manifest */
	char chain[DIGEST_SIZE];
	uint64_t layer_bytes, rootfs_bytes;
	uint32_t inodes, xattrs_dropped, sockets_dropped;
};

/**
 * import_tar() - one layer read from a descriptor
 * @fd:     file or pipe with a tar, plain, gzip or zstd; kept as it is as the blob
 * @config: without diff_ids; those are filled in
 * @name:   full name for index.json
 */
int import_tar(struct store_writer *w, int fd, struct image_config *config, const char *name,
	       struct import_result *out, struct err *e);

/* As import_tar(), of a directory's tree. */
int import_dir(struct store_writer *w, const char *path, struct image_config *config,
	       const char *name, struct import_result *out, struct err *e);

/* As import_tar(), of a temporary file of the store, which becomes the blob. */
int import_layer(struct store_writer *w, struct store_temp *layer, struct image_config *config,
		 const char *name, struct import_result *out, struct err *e);

/*
 * As import_tar(), of a layer over those of the image @base.  @config: empty but for what is to
 * be other than the base's: lists that are not NULL take the place of its lists, labels are
 * added to its labels.
 */
int import_over(struct store_writer *w, const char *base, int fd, struct image_config *config,
		const char *name, struct import_result *out, struct err *e);

/* Writes the root image of an image of the store if it is absent or damaged (or always: @force). */
int import_prepare(struct store_writer *w, const char *name, bool force, struct err *e);

#endif
