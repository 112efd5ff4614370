/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_PULL_H
#define MSB_IMAGE_PULL_H

/*
 * DOC: Pulling an image
 *
 * Purpose.  An image of a registry becomes one of the store, ready to run.
 *
 * Spec.  OCI distribution-spec 1.1 and image-spec 1.1; Docker manifests of schema 2.
 *
 * How.  msb-fetch (a process of its own) asks the registry; this one hashes all that
 * comes, writes it to the store, and passes each layer on to the converter while it is
 * still coming (pull_layers.c), so that the root image is there soon after the last byte.
 *
 * States.  Layers lie under partial/ until all of them have their digest and the root
 * image is written; then blobs, root image, documents and the index's entry follow, in
 * this order.  What a broken connection or a killed process leaves there, the next pull
 * goes on with; what turns out not to be what the manifest says is removed.
 *
 * Trust boundary.  Nothing of what the registry sends is believed but by its digest: the
 * manifest's is given by the user, or the registry's word for a tag; each other document
 * and layer is named by one above it; the layers' contents are compared with the
 * configuration's diff_ids.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "image/registry.h"
#include "image/store_write.h"

struct pull_args {
	struct registry_args registry;
	const char *platform; /* "linux/amd64"; NULL = this machine */
	uint64_t max_unpacked; /* bytes of the layers' contents; 0 = as for any image */
};

struct pull_result {
	char name[REFERENCE_MAX];
	char digest[DIGEST_SIZE]; /* of the image's manifest */
	uint64_t fetched; /* bytes of layers */
	bool unchanged; /* all was there */
};

/* @name: as a user gives it; without a registry, Docker Hub is meant. */
int pull_image(const char *home, struct store_writer *w, const char *name,
	       const struct pull_args *args, struct pull_result *out, struct err *e);

#endif
