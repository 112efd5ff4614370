/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_LAYER_H
#define MSB_IMAGE_LAYER_H

/* Reads one layer and applies it to a root image. */

#include <stdint.h>

#include "base/err.h"
#include "image/digest.h"
#include "image/rootimage.h"

struct layer_result {
	uint8_t diff_id[DIGEST_BYTES]; /* SHA-256 of the uncompressed stream */
	uint64_t bytes; /* of that stream */
	uint32_t entries;
	uint32_t xattrs_dropped; /* access control lists in a form that is not supported */
};

/**
 * layer_apply() - read a tar, plain or compressed with gzip or zstd, to its end
 * @fd:        file or pipe, read from where it stands
 * @max_bytes: limit of the uncompressed stream
 * @known:     SHA-256 of the bytes of @fd, which is the diff_id too if the layer is plain: then
 *             nothing is hashed here.  NULL = not known
 * @progress:  called now and then with the number of bytes read from @fd
 *
 * Return: 0, -EINVAL (not such an archive, damaged, or refused by the tree), -EFBIG,
 * or what writing the image returned.
 */
int layer_apply(int fd, struct rootimage *r, uint64_t max_bytes, const uint8_t *known,
		void (*progress)(void *ctx, uint64_t bytes), void *ctx, struct layer_result *out,
		struct err *e);

#endif
