/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_IMAGE_PULL_LAYERS_H
#define MSB_IMAGE_PULL_LAYERS_H

#include "codec/manifest.h"
#include "image/fetch.h"
#include "image/store_write.h"

struct pull_layers {
	struct store_writer *w;
	struct fetch *fetch; /* NULL = only what is there already, the root image is missing */
	const struct manifest *m;
	const struct image_config *c;
	unsigned parallel;
	uint64_t max_unpacked; /* bytes of the layers' contents; 0 = as for any image */
	uint64_t fetched; /* bytes that came */
};

/*
 * pull_layers_run() - all layers that are missing, and the root image if it is
 *
 * Nothing is named in the store before all of it is right.  After a failure that may pass,
 * what has come stays for the next try.
 */
int pull_layers_run(struct pull_layers *job, struct err *e);

#endif
